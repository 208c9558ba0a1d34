use serde_json::{Value, json};

use super::*;

fn checked(kind: &str, resource: &Value, cross: CrossNamespace) -> Result<(Proof, Vec<Target>), Refusal> {
    let spec = json!({ "type": kind, "resources": [resource], "secretRef": { "name": "token" } });
    check(&serde_json::from_value(spec).unwrap(), "apps", cross)
}

#[test]
fn what_is_served_is_taken_apart() {
    let named = json!({ "kind": "GitRepository", "name": "app" });
    let (proof, targets) = checked("github", &named, CrossNamespace::Refused).unwrap();
    assert_eq!(proof, Proof::GitHub);
    let app = Target {
        kind: Kind::GitRepository,
        namespace: "apps".into(),
        select: Select::Name("app".into()),
    };
    assert_eq!(targets, [app]);
    let labelled = json!({
        "apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization", "name": "*", "namespace": "other",
        "matchLabels": { "team": "a" },
    });
    let (_, targets) = checked("generic", &labelled, CrossNamespace::Allowed).unwrap();
    assert_eq!(
        targets[0].select,
        Select::Labels([("team".into(), "a".into())].into())
    );
    let refusal = checked("generic", &labelled, CrossNamespace::Refused).unwrap_err();
    assert_eq!((refusal.reason, refusal.until), ("AccessDenied", Until::Changed));
}

#[test]
fn what_is_not_served_is_said() {
    for (kind, resource, reason) in [
        (
            "dockerhub",
            json!({ "kind": "GitRepository", "name": "app" }),
            "UnsupportedField",
        ),
        (
            "github",
            json!({ "kind": "HelmRepository", "name": "app" }),
            "UnsupportedField",
        ),
        (
            "github",
            json!({ "kind": "GitRepository", "name": "*" }),
            "InvalidField",
        ),
    ] {
        let refusal = checked(kind, &resource, CrossNamespace::Refused).unwrap_err();
        assert_eq!(refusal.reason, reason, "{refusal:?}");
    }
    let filtered = json!({
        "type": "github", "resources": [], "secretRef": { "name": "token" }, "resourceFilter": "true",
    });
    let spec = serde_json::from_value(filtered).unwrap();
    assert!(check(&spec, "apps", CrossNamespace::Refused).is_err());
}
