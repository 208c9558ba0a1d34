//! `spec.force` and `force: enabled`: an object is replaced when that is proved to work, and never lost.

use kube::api::{DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};

use crate::bench::{APP, Bench};

const FORCE: &str = "kustomize.toolkit.fluxcd.io/force";

/// A ConfigMap whose data may not change.
fn sealed(bench: &Bench, name: &str, value: &str, annotations: &Value) -> String {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap", "immutable": true, "data": { "key": value },
        "metadata": { "name": name, "namespace": bench.namespace(), "annotations": annotations },
    })
    .to_string()
}

fn deployment(bench: &Bench, selector: &str, replicas: &Value) -> String {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web", "namespace": bench.namespace() },
        "spec": {
            "replicas": replicas, "selector": { "matchLabels": { "app": selector } },
            "template": {
                "metadata": { "labels": { "app": selector } },
                "spec": { "containers": [{ "name": "main", "image": "x" }] },
            },
        },
    })
    .to_string()
}

async fn uid(
    bench: &Bench,
    group: &str,
    version: &str,
    kind: &str,
    name: &str,
) -> anyhow::Result<Option<String>> {
    let found: Option<DynamicObject> = bench.api(group, version, kind).get_opt(name).await?;
    Ok(found.and_then(|object| object.metadata.uid))
}

#[tokio::test]
async fn an_immutable_field_is_replaced_where_that_is_asked_for_and_proved() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let ns = bench.namespace();
    let write = |path: &str, content: String| bench.repository.write(path, content);
    write(
        "deploy/asked.yaml",
        sealed(&bench, "asked", "1", &json!({ FORCE: "Enabled" })),
    )?;
    write(
        "deploy/not-asked.yaml",
        sealed(&bench, "not-asked", "1", &json!({})),
    )?;
    let first = bench.commit()?;
    bench.app().await?;
    let _syncer = bench.start(&[])?;
    bench.applied(&first).await?;
    let before = uid(&bench, "", "v1", "ConfigMap", "asked").await?;
    let other = uid(&bench, "", "v1", "ConfigMap", "not-asked").await?;

    write(
        "deploy/asked.yaml",
        sealed(&bench, "asked", "2", &json!({ FORCE: "Enabled" })),
    )?;
    write(
        "deploy/not-asked.yaml",
        sealed(&bench, "not-asked", "2", &json!({})),
    )?;
    let second = bench.push().await?;
    let message = bench.fails(&second, "ReconciliationFailed").await?;
    assert!(
        message.contains("deploy/not-asked.yaml:1")
            && message.contains("immutable")
            && message.contains(FORCE),
        "{message}"
    );
    assert!(!message.contains("deploy/asked.yaml"), "{message}");
    assert_eq!(bench.value("asked").await?.as_deref(), Some("2"));
    let after = uid(&bench, "", "v1", "ConfigMap", "asked").await?;
    assert!(after.is_some() && after != before);
    assert_eq!(bench.value("not-asked").await?.as_deref(), Some("1"));
    assert_eq!(uid(&bench, "", "v1", "ConfigMap", "not-asked").await?, other);
    let event = format!("ConfigMap/{ns}/asked deleted and created anew");
    bench.event("Kustomization", "Progressing", &event).await?;

    bench.set_spec(APP, json!({ "force": true })).await?;
    bench.applied(&second).await?;
    assert_eq!(bench.value("not-asked").await?.as_deref(), Some("2"));
    Ok(())
}

/// D.3, row 3: Flux takes whatever is refused for an immutable field, deletes what is live, and only then finds out.
#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one story, told in order")]
async fn a_mistake_never_costs_what_is_live() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let ns = bench.namespace();
    let write = |path: &str, content: String| bench.repository.write(path, content);
    let service = |ports: Value| {
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": { "name": "web", "namespace": ns },
            "spec": { "selector": { "app": "web" }, "ports": ports },
        })
        .to_string()
    };
    let claim = |size: &str| {
        json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": { "name": "data", "namespace": ns },
            "spec": { "accessModes": ["ReadWriteOnce"], "storageClassName": size, "resources": { "requests": { "storage": "1Gi" } } },
        })
        .to_string()
    };
    let set = |name: &str| {
        json!({
            "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": { "name": "db", "namespace": ns },
            "spec": {
                "replicas": 0, "serviceName": name, "selector": { "matchLabels": { "app": "db" } },
                "template": {
                    "metadata": { "labels": { "app": "db" } }, "spec": { "containers": [{ "name": "main", "image": "x" }] },
                },
            },
        })
        .to_string()
    };
    write("deploy/service.yaml", service(json!([{ "port": 80 }])))?;
    write("deploy/deployment.yaml", deployment(&bench, "a", &json!(0)))?;
    write("deploy/claim.yaml", claim("one"))?;
    write("deploy/set.yaml", set("one"))?;
    write(
        "deploy/kept.yaml",
        sealed(
            &bench,
            "kept",
            "1",
            &json!({ "kustomize.toolkit.fluxcd.io/prune": "disabled" }),
        ),
    )?;
    // What was there before us is not ours to delete.
    let stranger = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "stranger" }, "immutable": true, "data": { "key": "1" } });
    bench
        .world
        .kubectl_with(&["create", "-f", "-"], &stranger.to_string())?;
    write(
        "deploy/stranger.yaml",
        sealed(&bench, "stranger", "1", &json!({})),
    )?;
    let first = bench.commit()?;
    bench.source(json!({})).await?;
    bench.kustomization(APP, json!({ "force": true })).await?;
    let _syncer = bench.start(&[])?;
    bench.applied(&first).await?;
    let objects = [
        ("", "v1", "Service", "web"),
        ("apps", "v1", "Deployment", "web"),
        ("", "v1", "PersistentVolumeClaim", "data"),
        ("apps", "v1", "StatefulSet", "db"),
        ("", "v1", "ConfigMap", "kept"),
        ("", "v1", "ConfigMap", "stranger"),
    ];
    let mut before = Vec::new();
    for (group, version, kind, name) in objects {
        before.push(uid(&bench, group, version, kind, name).await?);
    }

    write("deploy/service.yaml", service(json!([])))?;
    // Immutable, and wrong besides: the proof fails.
    write("deploy/deployment.yaml", deployment(&bench, "b", &json!(-1)))?;
    write("deploy/claim.yaml", claim("two"))?;
    write("deploy/set.yaml", set("two"))?;
    write(
        "deploy/kept.yaml",
        sealed(
            &bench,
            "kept",
            "2",
            &json!({ "kustomize.toolkit.fluxcd.io/prune": "disabled" }),
        ),
    )?;
    write(
        "deploy/stranger.yaml",
        sealed(&bench, "stranger", "2", &json!({})),
    )?;
    let second = bench.push().await?;
    let message = bench.fails(&second, "ReconciliationFailed").await?;
    let line = |file: &str| {
        let told = message.split("\ndeploy/").find(|told| told.starts_with(file));
        told.unwrap_or_default().to_owned()
    };
    assert!(message.starts_with("6 problems"), "{message}");
    assert!(
        line("service.yaml").contains("spec.ports: Required value"),
        "{message}"
    );
    assert!(
        line("deployment.yaml").contains("would not take the new one either"),
        "{message}"
    );
    assert!(
        line("claim.yaml").contains("spec.force is not enough"),
        "{message}"
    );
    assert!(line("set.yaml").contains("spec.force is not enough"), "{message}");
    assert!(line("kept.yaml").contains("pruning is disabled"), "{message}");
    assert!(line("stranger.yaml").contains("it was there before"), "{message}");
    for ((group, version, kind, name), uid_before) in objects.into_iter().zip(&before) {
        assert_eq!(
            &uid(&bench, group, version, kind, name).await?,
            uid_before,
            "{kind} {name}"
        );
    }

    // With the mistake mended, and the word said on the object itself, they are replaced.
    write("deploy/service.yaml", service(json!([{ "port": 81 }])))?;
    write("deploy/deployment.yaml", deployment(&bench, "b", &json!(0)))?;
    let word = format!("\"metadata\":{{\"annotations\":{{\"{FORCE}\":\"enabled\"}},");
    write(
        "deploy/set.yaml",
        set("two").replacen(
            "\"metadata\":{\"name\":\"db\"",
            &format!("{word}\"name\":\"db\""),
            1,
        ),
    )?;
    for name in ["claim", "kept", "stranger"] {
        bench.repository.remove(&format!("deploy/{name}.yaml"))?;
    }
    let third = bench.push().await?;
    bench.applied(&third).await?;
    for (index, replaced) in [(0, false), (1, true), (3, true)] {
        let (group, version, kind, name) = objects[index];
        let now = uid(&bench, group, version, kind, name).await?;
        assert_eq!(now != before[index], replaced, "{kind} {name}");
        assert!(now.is_some(), "{kind} {name}");
    }
    Ok(())
}

#[tokio::test]
async fn a_finalizer_holds_the_replacement_up_and_nothing_else() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let write = |name: &str, value: &str| {
        let content = sealed(&bench, name, value, &json!({ FORCE: "enabled" }));
        bench.repository.write(&format!("deploy/{name}.yaml"), content)
    };
    write("slow", "1")?;
    bench.write_config_map("other", "1")?;
    let first = bench.commit()?;
    bench.app().await?;
    let _syncer = bench.start(&[])?;
    bench.applied(&first).await?;
    let held = json!({ "metadata": { "finalizers": ["example.com/held"] } });
    bench
        .config_maps()
        .patch("slow", &PatchParams::default(), &Patch::Merge(&held))
        .await?;
    write("slow", "2")?;
    bench.write_config_map("other", "2")?;
    let second = bench.push().await?;
    let message = bench.fails(&second, "ReconciliationFailed").await?;
    assert!(
        message.contains("waits for the finalizers example.com/held"),
        "{message}"
    );
    assert_eq!(bench.value("other").await?.as_deref(), Some("2"));
    let let_go = json!({ "metadata": { "finalizers": null } });
    bench
        .config_maps()
        .patch("slow", &PatchParams::default(), &Patch::Merge(&let_go))
        .await?;
    bench.applied(&second).await?;
    assert_eq!(bench.value("slow").await?.as_deref(), Some("2"));
    Ok(())
}
