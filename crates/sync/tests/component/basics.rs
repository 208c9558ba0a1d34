//! Apply, update, prune, and what the status says about it.

use anyhow::Context as _;
use kube::api::DeleteParams;
use plumbline_testkit::wait_for;
use serde_json::json;

use crate::bench::{APP, Bench, LIMIT, entries, last_applied, patches, ready};

#[tokio::test]
async fn what_is_committed_is_applied_updated_and_pruned() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let ns = bench.namespace();
    let two = format!("{}---\n{}", bench.manifest("a", "1"), bench.manifest("b", "1"));
    bench.repository.write("deploy/two.yaml", two)?;
    bench.write_config_map("c", "1")?;
    bench.repository.write("README.md", "not: a manifest")?;
    let first = bench.commit()?;
    bench.app().await?;
    let _syncer = bench.start(&[])?;
    let object = bench.applied(&first).await?;

    for name in ["a", "b", "c"] {
        let map = bench.config_maps().get(name).await?;
        let labels = map.metadata.labels.unwrap_or_default();
        assert_eq!(labels["kustomize.toolkit.fluxcd.io/name"], APP);
        assert_eq!(labels["kustomize.toolkit.fluxcd.io/namespace"], ns);
        assert_eq!(map.data.unwrap_or_default()["key"], "1");
    }
    let status = object.status.clone().context("no status")?;
    let expected = ["a", "b", "c"].map(|name| (format!("{ns}_{name}__ConfigMap"), "v1".to_owned()));
    assert_eq!(entries(&object), expected);
    assert_eq!(status.last_attempted_revision.as_deref(), Some(&*first));
    assert_eq!(status.observed_generation, object.metadata.generation);
    assert_eq!(
        object.metadata.finalizers,
        Some(vec!["finalizers.fluxcd.io".to_owned()])
    );
    assert_eq!(ready(&object).1, "ReconciliationSucceeded");
    assert_eq!(ready(&object).2, format!("Applied revision: {first}"));
    assert_eq!(status.history.len(), 1);
    assert_eq!(
        status.history[0].last_reconciled_status,
        "ReconciliationSucceeded"
    );
    assert_eq!(
        status.history[0].metadata.clone().unwrap_or_default()["revision"],
        first
    );
    bench.event("GitRepository", "NewArtifact", &first).await?;
    bench
        .event(
            "Kustomization",
            "Progressing",
            &format!("ConfigMap/{ns}/c created"),
        )
        .await?;

    // Only what changed is sent.
    let log = bench.world.audit_log().since_now()?;
    let two = format!("{}---\n{}", bench.manifest("a", "1"), bench.manifest("b", "2"));
    bench.repository.write("deploy/two.yaml", two)?;
    let second = bench.push().await?;
    bench.applied(&second).await?;
    assert_eq!(bench.value("b").await?.as_deref(), Some("2"));
    wait_for("the audit log to show the patch", LIMIT, async || {
        let requests = bench.requests(&log).map_err(|error| error.to_string())?;
        match patches(&requests, "configmaps") {
            1 => Ok(()),
            _ => Err(format!("{:?}", requests.by_verb_and_resource())),
        }
    })
    .await?;

    let log = bench.world.audit_log().since_now()?;
    bench.repository.remove("deploy/c.yaml")?;
    let third = bench.push().await?;
    let object = bench.applied(&third).await?;
    assert_eq!(bench.value("c").await?, None);
    assert_eq!(entries(&object), expected[..2]);
    bench
        .event(
            "Kustomization",
            "Progressing",
            &format!("ConfigMap/{ns}/c deleted"),
        )
        .await?;
    assert_eq!(patches(&bench.requests(&log)?, "configmaps"), 0);
    assert_eq!(object.status.context("no status")?.history.len(), 3);

    let asked = bench.request(APP).await?;
    bench
        .until(APP, "the request to be handled", |object| {
            let handled = object.status.as_ref();
            handled.and_then(|it| it.last_handled_reconcile_at.as_deref()) == Some(&asked)
        })
        .await?;
    Ok(())
}

#[tokio::test]
async fn cluster_scoped_objects_lists_and_ignored_files() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let ns = bench.namespace();
    let role = format!("plumbline:{ns}");
    bench.repository.write(
        "deploy/a.yaml",
        format!(
            "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: ConfigMap\n  metadata: {{name: inner, namespace: {ns}-x}}\n\
             - apiVersion: v1\n  kind: Namespace\n  metadata: {{name: {ns}-x}}\n\
             - apiVersion: rbac.authorization.k8s.io/v1\n  kind: ClusterRole\n  metadata: {{name: {role:?}}}\n  rules: []\n"
        ),
    )?;
    bench.repository.write(".sourceignore", "deploy/ignored/\n")?;
    bench.repository.write("deploy/ignored/broken.yaml", "kind: [")?;
    let revision = bench.commit()?;
    bench.app().await?;
    let _syncer = bench.start(&[])?;
    let object = bench.applied(&revision).await?;
    let mut ids: Vec<_> = entries(&object).into_iter().map(|(id, _)| id).collect();
    ids.sort();
    let mut expected = vec![
        format!("_plumbline__{ns}_rbac.authorization.k8s.io_ClusterRole"),
        format!("_{ns}-x__Namespace"),
        format!("{ns}-x_inner__ConfigMap"),
    ];
    expected.sort();
    assert_eq!(ids, expected);

    // Deleting the Kustomization takes all of it away, in reverse order.
    bench
        .kustomizations()
        .delete(APP, &DeleteParams::default())
        .await?;
    gone(&bench, APP).await?;
    wait_for("the namespace to be gone", LIMIT, async || {
        match bench.world.kubectl(&["get", "namespace", &format!("{ns}-x")]) {
            Err(error) if error.to_string().contains("NotFound") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    assert!(bench.world.kubectl(&["get", "clusterrole", &role]).is_err());
    Ok(())
}

async fn gone(bench: &Bench, name: &str) -> anyhow::Result<()> {
    wait_for(
        &format!("the Kustomization {name} to be gone"),
        LIMIT,
        async || match bench.kustomizations().get_opt(name).await {
            Ok(None) => Ok(()),
            other => Err(format!("{other:?}")),
        },
    )
    .await
}

#[tokio::test]
async fn prune_false_keeps_and_suspend_stops() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    bench.write_config_map("a", "1")?;
    bench.write_config_map("b", "1")?;
    let first = bench.commit()?;
    bench.source(json!({})).await?;
    bench.kustomization(APP, json!({ "prune": false })).await?;
    let _syncer = bench.start(&[])?;
    bench.applied(&first).await?;

    bench.repository.remove("deploy/b.yaml")?;
    let second = bench.push().await?;
    let object = bench.applied(&second).await?;
    assert_eq!(bench.value("b").await?.as_deref(), Some("1"));
    assert_eq!(entries(&object).len(), 2, "what stays is remembered");

    bench
        .set_spec(APP, json!({ "suspend": true, "prune": true }))
        .await?;
    bench.write_config_map("a", "2")?;
    let third = bench.push().await?;
    bench
        .source_is("True", "Succeeded")
        .await
        .context("the source is not suspended")?;
    wait_for("the source to be fetched", LIMIT, async || {
        let source = bench
            .sources()
            .get(APP)
            .await
            .map_err(|error| error.to_string())?;
        let revision = source.status.and_then(|s| s.artifact).map(|a| a.revision);
        if revision.as_ref() == Some(&third) {
            Ok(())
        } else {
            Err(format!("{revision:?}"))
        }
    })
    .await?;
    let asked = bench.request(APP).await?;
    // Another Kustomization shows when the new revision has been acted on.
    bench
        .kustomization("witness", json!({ "path": "./none", "retryInterval": "1h" }))
        .await?;
    bench.fails_by("witness", &third, "ArtifactFailed").await?;
    let object = bench.kustomizations().get(APP).await?;
    assert_eq!(last_applied(&object), second);
    assert_ne!(
        object.status.and_then(|s| s.last_handled_reconcile_at),
        Some(asked)
    );
    assert_eq!(bench.value("a").await?.as_deref(), Some("1"));

    // With pruning on again, what was kept goes too.
    bench.set_spec(APP, json!({ "suspend": false })).await?;
    bench.applied(&third).await?;
    assert_eq!(bench.value("a").await?.as_deref(), Some("2"));
    bench.until_value("b", None).await
}

#[tokio::test]
async fn deletion_policies() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let cases = [
        ("mirror", json!({ "prune": true }), false),
        (
            "mirror-keep",
            json!({ "prune": false, "deletionPolicy": "MirrorPrune" }),
            true,
        ),
        (
            "delete",
            json!({ "prune": false, "deletionPolicy": "Delete" }),
            false,
        ),
        (
            "wait",
            json!({ "prune": false, "deletionPolicy": "WaitForTermination" }),
            false,
        ),
        (
            "orphan",
            json!({ "prune": true, "deletionPolicy": "Orphan" }),
            true,
        ),
        (
            "suspended",
            json!({ "prune": true, "deletionPolicy": "Delete" }),
            true,
        ),
    ];
    for (name, ..) in &cases {
        bench
            .repository
            .write(&format!("{name}/it.yaml"), bench.manifest(name, "1"))?;
    }
    let revision = bench.commit()?;
    bench.source(json!({})).await?;
    for (name, spec, _) in &cases {
        let mut spec = spec.clone();
        spec["path"] = json!(name);
        bench.kustomization(name, spec).await?;
    }
    let _syncer = bench.start(&[])?;
    for (name, ..) in &cases {
        bench.applied_by(name, &revision).await?;
    }
    bench.set_spec("suspended", json!({ "suspend": true })).await?;
    for (name, ..) in &cases {
        bench
            .kustomizations()
            .delete(name, &DeleteParams::default())
            .await?;
    }
    for (name, _, stays) in &cases {
        gone(&bench, name).await?;
        bench.until_value(name, stays.then_some("1")).await?;
    }
    Ok(())
}
