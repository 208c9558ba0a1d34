//! Objects that kubectl or Flux applied before us become ours, without a trace and without being made anew.

use kube::api::{DynamicObject, Patch, PatchParams};
use serde_json::json;

use crate::bench::{APP, Bench, entries};

/// Field managers of an object.
fn managers(object: &DynamicObject) -> Vec<String> {
    let entries = object.metadata.managed_fields.iter().flatten();
    entries
        .map(|entry| {
            format!(
                "{} {}",
                entry.manager.clone().unwrap_or_default(),
                entry.operation.clone().unwrap_or_default()
            )
        })
        .collect()
}

/// What stood in the cluster; Git has neither `old` nor the annotation.
fn before(name: &str, namespace: &str) -> serde_json::Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "name": name, "namespace": namespace, "annotations": { "old": "1" } },
        "data": { "key": "before", "old": "1" },
    })
}

#[tokio::test]
async fn kubectl_and_flux_are_taken_over() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let ns = bench.namespace();
    let api = bench.api("", "v1", "ConfigMap");
    let apply = |name: &str| before(name, ns).to_string();
    bench
        .world
        .kubectl_with(&["apply", "-f", "-"], &apply("client-side"))?;
    bench
        .world
        .kubectl_with(&["apply", "--server-side", "-f", "-"], &apply("server-side"))?;
    bench
        .world
        .kubectl_with(&["create", "-f", "-"], &apply("created"))?;
    let mut flux = before("flux", ns);
    flux["metadata"]["labels"] = json!({
        "kustomize.toolkit.fluxcd.io/name": APP, "kustomize.toolkit.fluxcd.io/namespace": ns,
    });
    api.patch(
        "flux",
        &PatchParams::apply("kustomize-controller").force(),
        &Patch::Apply(&flux),
    )
    .await?;
    // Someone else's field on one of them must survive.
    let params = PatchParams {
        field_manager: Some("operator".into()),
        ..PatchParams::default()
    };
    let theirs = json!({ "data": { "theirs": "1" } });
    api.patch("flux", &params, &Patch::Merge(&theirs)).await?;

    let names = ["client-side", "server-side", "created", "flux"];
    let mut uids = Vec::new();
    for name in names {
        uids.push(api.get(name).await?.metadata.uid);
        bench.write_config_map(name, "git")?;
    }
    let revision = bench.commit()?;
    bench.app().await?;
    let _syncer = bench.start(&[])?;
    let object = bench.applied(&revision).await?;
    assert_eq!(entries(&object).len(), 4);

    for (name, uid) in names.iter().zip(uids) {
        let now = api.get(name).await?;
        assert_eq!(now.metadata.uid, uid, "{name} was made anew");
        let managers = managers(&now);
        let strangers: Vec<_> = managers
            .iter()
            .filter(|it| {
                it.as_str() != "plumbline-sync Apply"
                    && it.as_str() != "operator Update"
                    && !it.starts_with("plumbline-adoption")
            })
            .collect();
        assert!(strangers.is_empty(), "{name}: {managers:?}");
        let data = now.data["data"].as_object().cloned().unwrap_or_default();
        assert_eq!(data["key"], "git", "{name}");
        assert!(!data.contains_key("old"), "{name}: {data:?}");
        assert_eq!(data.contains_key("theirs"), *name == "flux", "{name}: {data:?}");
        let annotations = now.metadata.annotations.unwrap_or_default();
        assert!(!annotations.contains_key("old"), "{name}: {annotations:?}");
        assert!(
            !annotations.contains_key("kubectl.kubernetes.io/last-applied-configuration"),
            "{name}: {annotations:?}"
        );
        // Flux's own is ours; what someone applied by hand stays when Git drops it.
        assert_eq!(
            annotations.contains_key("plumbline.dev/adopted"),
            *name != "flux",
            "{name}"
        );
    }

    bench.repository.remove("deploy/flux.yaml")?;
    bench.repository.remove("deploy/created.yaml")?;
    let revision = bench.push().await?;
    bench.applied(&revision).await?;
    assert_eq!(bench.value("flux").await?, None);
    assert_eq!(bench.value("created").await?.as_deref(), Some("git"));
    Ok(())
}

#[tokio::test]
async fn an_inventory_that_flux_wrote_is_pruned() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let ns = bench.namespace();
    let api = bench.api("", "v1", "ConfigMap");
    for name in ["keep", "gone"] {
        let mut object = before(name, ns);
        object["metadata"]["labels"] = json!({
            "kustomize.toolkit.fluxcd.io/name": APP, "kustomize.toolkit.fluxcd.io/namespace": ns,
        });
        let params = PatchParams::apply("kustomize-controller").force();
        api.patch(name, &params, &Patch::Apply(&object)).await?;
    }
    bench.write_config_map("keep", "git")?;
    let revision = bench.commit()?;
    bench.app().await?;
    let status = json!({ "status": { "inventory": { "entries": [
        { "id": format!("{ns}_gone__ConfigMap"), "v": "v1" }, { "id": format!("{ns}_keep__ConfigMap"), "v": "v1" },
    ] } } });
    bench
        .kustomizations()
        .patch_status(APP, &PatchParams::default(), &Patch::Merge(&status))
        .await?;
    let _syncer = bench.start(&[])?;
    let object = bench.applied(&revision).await?;
    assert_eq!(entries(&object).len(), 1);
    assert_eq!(bench.value("keep").await?.as_deref(), Some("git"));
    assert_eq!(bench.value("gone").await?, None);
    Ok(())
}
