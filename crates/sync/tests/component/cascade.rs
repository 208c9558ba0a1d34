//! What goes with a Kustomization that Git dropped, and with a source.

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Event;
use kube::{
    Api,
    api::{DeleteParams, ListParams},
};
use plumbline_sync::api::{UrlSchemes, crds_yaml};
use plumbline_testkit::wait_for;
use serde_json::json;

use crate::{
    bench::{APP, Bench, LIMIT, entries, ready},
    far::{Far, give, there},
};

const HELD: usize = 20;

/// `deploy/<name>.yaml`: a Kustomization of `./<path>`.
fn write_child(bench: &Bench, name: &str, path: &str) -> anyhow::Result<()> {
    let child = json!({
        "apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization",
        "metadata": { "name": name, "namespace": bench.namespace() },
        "spec": {
            "sourceRef": { "kind": "GitRepository", "name": APP }, "interval": "1h", "retryInterval": "5s",
            "prune": true, "path": path,
        },
    });
    bench
        .repository
        .write(&format!("deploy/{name}.yaml"), child.to_string())
}

/// Two ConfigMaps, and a Kustomization that holds much.
fn commit_parent_and_child(bench: &Bench) -> anyhow::Result<String> {
    for i in 0..HELD {
        let name = format!("s{i:02}");
        bench
            .repository
            .write(&format!("shop/{name}.yaml"), bench.manifest(&name, "1"))?;
    }
    bench.write_config_map("a", "1")?;
    bench.write_config_map("b", "1")?;
    write_child(bench, "shop", "./shop")?;
    bench.commit()
}

pub(crate) async fn is_gone(bench: &Bench, name: &str) -> anyhow::Result<()> {
    wait_for(&format!("{name} to be gone"), LIMIT, async || {
        match bench.kustomizations().get_opt(name).await {
            Ok(None) => Ok(()),
            Ok(Some(object)) => Err(format!("{:?}", ready(&object))),
            Err(error) => Err(error.to_string()),
        }
    })
    .await
}

#[tokio::test]
async fn a_kustomization_that_git_drops_weighs_what_it_holds() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let ns = bench.namespace();
    let first = commit_parent_and_child(&bench)?;
    bench.app().await?;
    // Most of what the child holds is not in its status.
    let _syncer = bench.start(&["--inventory-status-limit=5"])?;
    bench.applied(&first).await?;
    bench.applied_by("shop", &first).await?;
    let uid = bench.config_maps().get("s19").await?.metadata.uid;

    bench.repository.remove("deploy/shop.yaml")?;
    bench.write_config_map("b", "2")?;
    let second = bench.push().await?;
    let message = bench.fails(&second, "DeletionHeld").await?;
    let expected = format!(
        "21 of 23 objects are gone from Git at revision {second}, including {HELD} object(s) of the Kustomization {ns}/shop,"
    );
    assert!(message.starts_with(&expected), "{message}");
    assert_eq!(
        bench.value("b").await?.as_deref(),
        Some("2"),
        "the rest is applied"
    );

    // What it holds cannot be read: then it is not known how much would go.
    let shards = ListParams::default().labels("app.kubernetes.io/managed-by=plumbline-sync");
    let shard = bench.config_maps().list(&shards).await?.items;
    let mut shard = shard.into_iter().next().context("no shard")?;
    let name = shard.metadata.name.clone().unwrap_or_default();
    bench
        .config_maps()
        .delete(&name, &DeleteParams::default())
        .await?;
    bench.request(APP).await?;
    let unknown = format!("it is not known how many objects would go with the Kustomization {ns}/shop");
    bench
        .until(APP, "the unknown weight to be said", |object| {
            let (_, reason, message) = ready(object);
            reason == "DeletionHeld" && message.contains(&unknown)
        })
        .await?;
    shard.metadata.resource_version = None;
    shard.metadata.managed_fields = None;
    bench
        .config_maps()
        .create(&kube::api::PostParams::default(), &shard)
        .await?;
    let message = bench
        .until(APP, "the weight to be known again", |object| {
            ready(object).2.starts_with("21 of 23")
        })
        .await?;
    let message = ready(&message).2;
    assert_eq!(bench.config_maps().get("s19").await?.metadata.uid, uid);

    // Under another name with the same objects: they are handed over, and that is no deletion.
    write_child(&bench, "store", "./shop")?;
    let third = bench.push().await?;
    let object = bench.applied(&third).await?;
    assert_eq!(entries(&object).len(), 3);
    is_gone(&bench, "shop").await?;
    let store = bench.applied_by("store", &third).await?;
    assert_eq!(store.status.map(|status| status.inventory.is_some()), Some(true));
    assert_eq!(bench.config_maps().get("s19").await?.metadata.uid, uid);
    // And from there again, at once: that is not even said to be held.
    let events: Api<Event> = Api::namespaced(bench.world.client(), ns);
    let held = async || {
        let all = events.list(&ListParams::default()).await?.items;
        let held = all
            .iter()
            .filter(|event| event.reason.as_deref() == Some("DeletionHeld"));
        anyhow::Ok(held.count())
    };
    let before = held().await?;
    bench.repository.remove("deploy/store.yaml")?;
    write_child(&bench, "mall", "./shop")?;
    let fourth = bench.push().await?;
    bench.applied(&fourth).await?;
    is_gone(&bench, "store").await?;
    bench.applied_by("mall", &fourth).await?;
    assert_eq!(bench.config_maps().get("s19").await?.metadata.uid, uid);
    assert_eq!(held().await?, before);

    // What somebody confirms goes.
    bench.repository.remove("deploy/mall.yaml")?;
    let fifth = bench.push().await?;
    bench.fails(&fifth, "DeletionHeld").await?;
    let (_, command) = message.split_once("kubectl ").context("no command")?;
    let command = command.replace(&second, &fifth);
    let words: Vec<&str> = command.split_whitespace().collect();
    bench.world.kubectl(&words)?;
    bench.applied(&fifth).await?;
    is_gone(&bench, "mall").await?;
    bench.until_value("s19", None).await
}

#[tokio::test]
async fn a_source_that_git_drops_takes_nothing_with_it() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let ns = bench.namespace();
    let source = json!({
        "apiVersion": "source.toolkit.fluxcd.io/v1", "kind": "GitRepository",
        "metadata": { "name": "other", "namespace": ns },
        "spec": { "url": bench.server.url(), "interval": "1h", "ref": { "branch": "main" } },
    });
    bench.repository.write("deploy/source.yaml", source.to_string())?;
    bench.write_config_map("a", "1")?;
    bench.repository.write("shop/b.yaml", bench.manifest("b", "1"))?;
    let first = bench.commit()?;
    bench.app().await?;
    let other = json!({ "sourceRef": { "kind": "GitRepository", "name": "other" }, "path": "./shop", "interval": "2s" });
    bench.kustomization("shop", other).await?;
    let _syncer = bench.start(&[])?;
    bench.applied(&first).await?;
    bench.applied_by("shop", &first).await?;
    bench.repository.remove("deploy/source.yaml")?;
    let second = bench.push().await?;
    bench.applied(&second).await?;
    assert!(bench.sources().get_opt("other").await?.is_none());
    let object = bench
        .until("shop", "the missing source to be said", |object| {
            ready(object).1 == "ArtifactFailed"
        })
        .await?;
    assert_eq!(entries(&object).len(), 1);
    assert_eq!(bench.value("b").await?.as_deref(), Some("1"));
    Ok(())
}

#[tokio::test]
async fn on_another_cluster_a_kustomization_is_an_object_as_any_other() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let far = Far::shared(&bench).await?;
    far.apply(&crds_yaml(UrlSchemes::WithFile)?)?;
    let first = commit_parent_and_child(&bench)?;
    bench.source(json!({})).await?;
    give(&bench, &far.kubeconfig()?).await?;
    bench.kustomization(APP, json!({ "kubeConfig": there() })).await?;
    // One of the same name here has much, which is none of that one's business.
    bench.kustomization("shop", json!({ "path": "./shop" })).await?;
    let _syncer = bench.start(&[])?;
    bench.applied(&first).await?;
    bench.applied_by("shop", &first).await?;
    bench.repository.remove("deploy/shop.yaml")?;
    let second = bench.push().await?;
    let object = bench.applied(&second).await?;
    assert_eq!(entries(&object).len(), 2);
    bench.applied_by("shop", &second).await?;
    assert!(bench.value("s19").await?.is_some());
    Ok(())
}
