//! What tenants try with the rights that they have: on shared objects, on themselves, and out of their namespace.

use kube::api::{DeleteParams, Patch, PatchParams};
use plumbline_testkit::wait_for;
use serde_json::{Value, json};

use crate::bench::{APP, Bench, EVERYTHING, LIMIT, entries, ready, tenant};

const PREFIX: &str = "kustomize.toolkit.fluxcd.io/";

async fn annotate(bench: &Bench, name: &str, annotations: Value) -> anyhow::Result<()> {
    let patch = json!({ "metadata": { "annotations": annotations } });
    bench
        .config_maps()
        .patch(name, &PatchParams::default(), &Patch::Merge(&patch))
        .await?;
    Ok(())
}

async fn annotation(bench: &Bench, name: &str, key: &str) -> Result<Option<String>, String> {
    let object = bench.config_maps().get(name).await.map_err(|it| it.to_string())?;
    let mut annotations = object.metadata.annotations.unwrap_or_default();
    Ok(annotations.remove(&format!("{PREFIX}{key}")))
}

#[tokio::test]
async fn annotations_on_a_shared_object_give_nobody_more_than_git_does() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let ns = bench.namespace();
    let object = |name: &str, annotations: Value, value: &str, immutable: bool| {
        let mut object = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "data": { "key": value },
            "metadata": { "name": name, "namespace": ns, "annotations": annotations },
        });
        if immutable {
            object["immutable"] = true.into();
        }
        bench
            .repository
            .write(&format!("deploy/{name}.yaml"), object.to_string())
    };
    let kept = json!({ format!("{PREFIX}prune"): "disabled" });
    object("kept", kept.clone(), "1", false)?;
    object("forced", json!({}), "1", true)?;
    object("adopted", json!({}), "1", false)?;
    bench.write_config_map("plain", "1")?;
    let first = bench.commit()?;
    bench.app().await?;
    let mut syncer = bench.start(&[])?;
    bench.applied(&first).await?;

    // Who takes Git's `prune: disabled` away does not get the object deleted: it is put back at once (KC#1724).
    annotate(&bench, "kept", json!({ format!("{PREFIX}prune"): null })).await?;
    wait_for("the annotation to be back", LIMIT, async || {
        match annotation(&bench, "kept", "prune").await? {
            Some(text) if text == "disabled" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    // Who writes `force: enabled` on the live object does not get it replaced: only Git can say that.
    annotate(&bench, "forced", json!({ format!("{PREFIX}force"): "enabled" })).await?;
    let uid = bench.config_maps().get("forced").await?.metadata.uid;
    object("forced", json!({}), "2", true)?;
    let second = bench.push().await?;
    let message = bench.fails(&second, "ReconciliationFailed").await?;
    assert!(
        message.contains("/forced:") && message.contains("annotate it in Git"),
        "{message}"
    );
    assert_eq!(bench.config_maps().get("forced").await?.metadata.uid, uid);
    object("forced", json!({}), "1", true)?;
    let third = bench.push().await?;
    bench.applied(&third).await?;

    // The same while the syncer is away, in the very moment in which Git drops the object.
    syncer.kill();
    annotate(&bench, "kept", json!({ format!("{PREFIX}prune"): null })).await?;
    // A mark that is not ours keeps an object, and deletes none.
    annotate(&bench, "adopted", json!({ "plumbline.dev/adopted": "true" })).await?;
    for name in ["kept", "adopted"] {
        bench.repository.remove(&format!("deploy/{name}.yaml"))?;
    }
    let fourth = bench.commit()?;
    std::fs::remove_dir_all(bench.world.dir().join("storage-syncer-0"))?;
    let mut syncer = bench.start(&[])?;
    let object = bench.applied(&fourth).await?;
    assert!(
        bench.value("kept").await?.is_some(),
        "it was deleted because somebody took away what Git had said"
    );
    assert!(bench.value("adopted").await?.is_some());
    assert_eq!(entries(&object).len(), 2, "{:?}", entries(&object));

    // At the end of the Kustomization, too.
    bench.repository.write(
        "deploy/kept.yaml",
        json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "kept", "namespace": ns, "annotations": kept },
        })
        .to_string(),
    )?;
    let fifth = bench.push().await?;
    bench.applied(&fifth).await?;
    syncer.kill();
    annotate(&bench, "kept", json!({ format!("{PREFIX}prune"): null })).await?;
    bench
        .kustomizations()
        .delete(APP, &DeleteParams::default())
        .await?;
    let _syncer = bench.start(&[])?;
    bench.until_value("plain", None).await?;
    wait_for("the Kustomization to be gone", LIMIT, async || {
        match bench.kustomizations().get_opt(APP).await {
            Ok(None) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    assert!(bench.config_maps().get_opt("kept").await?.is_some());
    Ok(())
}

#[tokio::test]
async fn a_tenant_reaches_neither_other_namespaces_nor_more_rights() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let ns = bench.namespace();
    bench
        .world
        .kubectl_with(&["apply", "--server-side", "-f", "-"], &tenant(EVERYTHING))?;
    let kustomization = |account: Value| {
        json!({
            "apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization",
            "metadata": { "name": APP, "namespace": ns },
            "spec": {
                "sourceRef": { "kind": "GitRepository", "name": APP }, "interval": "1h", "retryInterval": "5s",
                "prune": true, "path": "./deploy", "serviceAccountName": account,
            },
        })
    };
    let forbidden = [
        // Itself as somebody else.
        ("itself.yaml", kustomization(json!("default"))),
        (
            "system.yaml",
            json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": ns, "namespace": "kube-system" } }),
        ),
        (
            "role.yaml",
            json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": { "name": ns },
                "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin" },
                "subjects": [{ "kind": "ServiceAccount", "name": "tenant", "namespace": ns }],
            }),
        ),
        (
            "webhook.yaml",
            json!({
                "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
                "metadata": { "name": ns }, "webhooks": [],
            }),
        ),
        (
            "crd.yaml",
            json!({
                "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
                "metadata": { "name": "kustomizations.kustomize.toolkit.fluxcd.io" }, "spec": {
                    "group": "kustomize.toolkit.fluxcd.io", "scope": "Namespaced",
                    "names": { "plural": "kustomizations", "kind": "Kustomization" }, "versions": [],
                },
            }),
        ),
    ];
    for (file, object) in &forbidden {
        bench
            .repository
            .write(&format!("deploy/{file}"), object.to_string())?;
    }
    bench.write_config_map("a", "1")?;
    let first = bench.commit()?;
    bench.source(json!({})).await?;
    bench
        .kustomization(APP, json!({ "serviceAccountName": "tenant" }))
        .await?;
    let _syncer = bench.start(&[])?;
    let message = bench.fails(&first, "ReconciliationFailed").await?;
    assert!(message.contains("5 problems"), "{message}");
    for (file, _) in &forbidden {
        assert!(message.contains(&format!("deploy/{file}:1")), "{file}: {message}");
    }
    assert_eq!(message.matches("is forbidden").count(), 5, "{message}");
    let object = bench.kustomizations().get(APP).await?;
    assert_eq!(object.spec.service_account_name.as_deref(), Some("tenant"));
    assert_eq!(bench.value("a").await?.as_deref(), Some("1"));
    Ok(())
}

#[tokio::test]
async fn an_object_without_its_namespace_is_named_and_what_was_applied_stays() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    bench.write_config_map("a", "1")?;
    bench.write_config_map("b", "1")?;
    // A namespace on an object that is in none means nothing.
    let role = format!("{}-reader", bench.namespace());
    bench.repository.write(
        "deploy/role.yaml",
        format!(
            "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {{name: {role}, namespace: kube-system}}\n\
             rules: []\n"
        ),
    )?;
    let first = bench.commit()?;
    bench.app().await?;
    let _syncer = bench.start(&[])?;
    let object = bench.applied(&first).await?;
    assert!(
        entries(&object)
            .iter()
            .any(|(id, _)| *id == format!("_{role}_rbac.authorization.k8s.io_ClusterRole")),
        "{:?}",
        entries(&object)
    );

    bench.repository.write(
        "deploy/a.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {key: \"2\"}\n",
    )?;
    bench.write_config_map("b", "2")?;
    let second = bench.push().await?;
    let message = bench.fails(&second, "BuildFailed").await?;
    assert!(
        message.contains("deploy/a.yaml:1") && message.contains("needs a metadata.namespace"),
        "{message}"
    );
    assert_eq!(
        bench.value("a").await?.as_deref(),
        Some("1"),
        "neither changed nor deleted"
    );
    assert_eq!(bench.value("b").await?.as_deref(), Some("2"), "the others go on");
    let object = bench.kustomizations().get(APP).await?;
    assert_eq!(entries(&object).len(), 3, "{:?}", ready(&object));
    bench.write_config_map("a", "2")?;
    bench.repository.remove("deploy/role.yaml")?;
    let third = bench.push().await?;
    bench.applied(&third).await?;
    bench.until_value("a", Some("2")).await
}
