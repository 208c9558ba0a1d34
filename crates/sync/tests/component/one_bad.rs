//! One bad object is named, with its place and the server's words; the others are applied.

use plumbline_testkit::wait_for;
use serde_json::json;

use crate::bench::{APP, Bench, LIMIT, entries, ready};

pub(crate) fn crd(group: &str) -> String {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": format!("widgets.{group}") },
        "spec": {
            "group": group, "scope": "Namespaced",
            "names": { "plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList" },
            "versions": [{ "name": "v1", "served": true, "storage": true, "schema": { "openAPIV3Schema": {
                "type": "object",
                "properties": { "spec": { "type": "object", "properties": { "size": { "type": "integer" } } } },
            } } }],
        },
    })
    .to_string()
}

fn widget(bench: &Bench, group: &str) -> String {
    let ns = bench.namespace();
    format!(
        "apiVersion: {group}/v1\nkind: Widget\nmetadata: {{name: w, namespace: {ns}}}\nspec: {{size: 1}}\n"
    )
}

#[tokio::test]
async fn a_crd_and_its_resource_come_up_from_one_commit() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let group = format!("{}.example.com", bench.namespace());
    bench.repository.write("deploy/a.yaml", widget(&bench, &group))?;
    bench.repository.write("deploy/z.json.yaml", crd(&group))?;
    let revision = bench.commit()?;
    bench.app().await?;
    let _syncer = bench.start(&[])?;
    let object = bench.applied(&revision).await?;
    assert_eq!(entries(&object).len(), 2);
    let widget = bench.api(&group, "v1", "Widget").get("w").await?;
    assert_eq!(widget.data["spec"]["size"], 1);
    Ok(())
}

#[tokio::test]
async fn an_unknown_kind_is_named_and_released_when_it_comes() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let group = format!("{}.example.com", bench.namespace());
    bench.write_config_map("a", "1")?;
    bench.repository.write(
        "deploy/w.yaml",
        format!("{}---\n{}", bench.manifest("b", "1"), widget(&bench, &group)),
    )?;
    let revision = bench.commit()?;
    bench.app().await?;
    let _syncer = bench.start(&[])?;
    let message = bench.fails(&revision, "ReconciliationFailed").await?;
    for part in [
        "deploy/w.yaml:9 (document 2)",
        "no matches for kind \"Widget\"",
        &group,
    ] {
        assert!(message.contains(part), "{part:?} is not in {message}");
    }
    assert_eq!(bench.value("a").await?.as_deref(), Some("1"));
    assert_eq!(bench.value("b").await?.as_deref(), Some("1"));

    // Nobody pushes and nobody asks: the CRD alone does it.
    bench
        .world
        .kubectl_with(&["apply", "--server-side", "-f", "-"], &crd(&group))?;
    bench.applied(&revision).await?;
    bench.api(&group, "v1", "Widget").get("w").await?;
    Ok(())
}

fn policy(bench: &Bench) -> String {
    let ns = bench.namespace();
    json!({ "apiVersion": "v1", "kind": "List", "items": [
        {
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
            "metadata": { "name": format!("{ns}-no-evil") },
            "spec": {
                "matchConstraints": { "resourceRules": [{
                    "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["configmaps"],
                }] },
                "validations": [{ "expression": "object.metadata.name != 'evil'", "message": "evil is not for us" }],
            },
        },
        {
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": { "name": format!("{ns}-no-evil") },
            "spec": {
                "policyName": format!("{ns}-no-evil"), "validationActions": ["Deny"],
                "matchResources": { "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": ns } } },
            },
        },
    ] })
    .to_string()
}

/// Has the API server refuse the object from now on.
async fn refuse(bench: &Bench, evil: &str) -> anyhow::Result<()> {
    bench
        .world
        .kubectl_with(&["apply", "--server-side", "-f", "-"], &policy(bench))?;
    wait_for("the admission policy to work", LIMIT, async || {
        let dry_run = ["apply", "--server-side", "--dry-run=server", "-f", "-"];
        match bench.world.kubectl_with(&dry_run, evil) {
            Err(error) if error.to_string().contains("evil is not for us") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
}

#[tokio::test]
async fn every_bad_object_is_named_at_once_and_the_others_are_applied() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let ns = bench.namespace();
    let evil = bench.manifest("evil", "1");
    refuse(&bench, &evil).await?;

    let service = |name: &str, spec: &str| {
        format!("apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: {ns}}}\nspec: {spec}\n")
    };
    for (file, text) in [
        ("denied", evil.clone()),
        ("duplicate", bench.manifest("good-1", "2")),
        (
            "generated",
            format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{generateName: x-, namespace: {ns}}}\n"),
        ),
        ("invalid", service("invalid", "{ports: [{port: 99999999}]}")),
        (
            "misspelt",
            format!(
                "{}---\n{}",
                bench.manifest("good-2", "1"),
                service("misspelt", "{prots: []}")
            ),
        ),
        (
            "nameless",
            format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{namespace: {ns}}}\n"),
        ),
        (
            "kindless",
            format!("apiVersion: v1\nmetadata: {{name: k, namespace: {ns}}}\n"),
        ),
        (
            "placeless",
            "# where?\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: placeless}\n".into(),
        ),
        ("syntax", "apiVersion: v1\nkind: [ConfigMap\n".into()),
    ] {
        bench.repository.write(&format!("deploy/{file}.yaml"), text)?;
    }
    for name in ["aaa", "good-3", "zzz"] {
        bench.write_config_map(name, "1")?;
    }
    // It sorts before the one that stands there twice.
    bench
        .repository
        .write("deploy/1.yaml", bench.manifest("good-1", "1"))?;
    let revision = bench.commit()?;
    bench.app().await?;
    let _syncer = bench.start(&[])?;
    let message = bench.fails(&revision, "BuildFailed").await?;
    for part in [
        "9 problems",
        &revision,
        "deploy/denied.yaml:1: ConfigMap/",
        "evil is not for us",
        "deploy/duplicate.yaml:1: ConfigMap \"good-1\" stands already in deploy/1.yaml:1",
        "deploy/generated.yaml:1: the ConfigMap has metadata.generateName",
        "deploy/invalid.yaml:1: Service/",
        "99999999",
        "deploy/misspelt.yaml:9 (document 2): Service/",
        "prots",
        "deploy/nameless.yaml:1: the ConfigMap has no metadata.name",
        "deploy/kindless.yaml:1: not a Kubernetes object: kind is missing",
        "deploy/placeless.yaml:2: ConfigMap \"placeless\" needs a metadata.namespace",
        "deploy/syntax.yaml:",
        "not valid YAML",
    ] {
        assert!(message.contains(part), "{part:?} is not in {message}");
    }
    for name in ["aaa", "good-1", "good-2", "good-3", "zzz"] {
        assert_eq!(bench.value(name).await?.as_deref(), Some("1"), "{name}");
    }
    bench.event("Kustomization", "BuildFailed", "9 problems").await?;

    // Each is mended: nothing is left to say.
    for file in [
        "denied",
        "duplicate",
        "generated",
        "invalid",
        "nameless",
        "kindless",
        "placeless",
        "syntax",
    ] {
        bench.repository.remove(&format!("deploy/{file}.yaml"))?;
    }
    bench
        .repository
        .write("deploy/misspelt.yaml", bench.manifest("good-2", "1"))?;
    let revision = bench.push().await?;
    let object = bench.applied(&revision).await?;
    assert_eq!(entries(&object).len(), 5);
    Ok(())
}

#[tokio::test]
async fn an_object_that_is_refused_is_tried_again_by_itself() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let ns = bench.namespace();
    // Its namespace is made by somebody else, later.
    bench.write_config_map("here", "1")?;
    bench.repository.write(
        "deploy/there.yaml",
        crate::bench::manifest(&format!("{ns}-later"), "there", "1"),
    )?;
    let revision = bench.commit()?;
    bench.app().await?;
    let _syncer = bench.start(&[])?;
    let message = bench.fails(&revision, "ReconciliationFailed").await?;
    assert!(message.contains("deploy/there.yaml:1"), "{message}");
    assert!(
        message.contains(&format!("namespaces \"{ns}-later\" not found")),
        "{message}"
    );
    assert_eq!(bench.value("here").await?.as_deref(), Some("1"));
    bench
        .world
        .kubectl(&["create", "namespace", &format!("{ns}-later")])?;
    let object = bench.applied(&revision).await?;
    assert_eq!(ready(&object).1, "ReconciliationSucceeded");
    bench.kustomizations().get(APP).await?;
    Ok(())
}
