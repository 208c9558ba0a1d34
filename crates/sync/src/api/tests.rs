use super::*;

#[test]
fn crds_print_as_three_yaml_documents() {
    let yaml = crds_yaml(UrlSchemes::Remote).unwrap();
    assert_eq!(yaml.matches("\nkind: CustomResourceDefinition\n").count(), 3);
    assert!(yaml.contains("pattern: ^(http|https|ssh)://.*$"));
    assert!(!yaml.contains("file)://"));
    assert!(
        crds_yaml(UrlSchemes::WithFile)
            .unwrap()
            .contains("pattern: ^(http|https|ssh|file)://.*$")
    );
}

#[test]
fn a_minimal_kustomization_has_the_contracts_defaults() {
    let spec: KustomizationSpec = serde_json::from_value(json!({
        "sourceRef": { "kind": "GitRepository", "name": "app" }, "interval": "10m", "prune": true,
    }))
    .unwrap();
    assert!(!spec.force && spec.path.is_none() && spec.suspend.is_none());
    let spec: GitRepositorySpec =
        serde_json::from_value(json!({ "url": "https://example.com/app", "interval": "1m" })).unwrap();
    assert_eq!(spec.timeout.as_deref(), Some("60s"));
}
