//! What goes with what Git dropped: the objects of a Kustomization, and all that is in a namespace or of a kind.

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
    bench::{APP, Bench, LIMIT, entries, manifest, ready},
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

async fn is_gone(bench: &Bench, name: &str) -> anyhow::Result<()> {
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
    for i in 0..HELD {
        let name = format!("s{i:02}");
        bench
            .repository
            .write(&format!("shop/{name}.yaml"), bench.manifest(&name, "1"))?;
    }
    bench.write_config_map("a", "1")?;
    bench.write_config_map("b", "1")?;
    write_child(&bench, "shop", "./shop")?;
    let first = bench.commit()?;
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

fn space(name: &str) -> String {
    format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n")
}

/// Whether a cluster-scoped object is there and stays.
fn stays(bench: &Bench, object: &str) -> anyhow::Result<()> {
    let time = bench
        .world
        .kubectl(&["get", object, "-o", "jsonpath={.metadata.deletionTimestamp}"])?;
    anyhow::ensure!(time.is_empty(), "{object} is being deleted since {time}");
    Ok(())
}

async fn goes(bench: &Bench, object: &str) -> anyhow::Result<()> {
    wait_for(&format!("{object} to go"), LIMIT, async || {
        match stays(bench, object) {
            Ok(()) => Err("it stays".to_owned()),
            Err(_) => Ok(()),
        }
    })
    .await
}

#[tokio::test]
async fn a_namespace_and_a_kind_stay_as_long_as_others_have_something_in_them() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let ns = bench.namespace();
    let group = format!("{ns}.example.org");
    let at = |suffix: &str| format!("{ns}-{suffix}");
    let crd = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": format!("widgets.{group}") },
        "spec": {
            "group": group, "scope": "Namespaced", "names": { "plural": "widgets", "kind": "Widget" },
            "versions": [{ "name": "v1", "served": true, "storage": true, "schema": { "openAPIV3Schema": { "type": "object" } } }],
        },
    });
    let widget = json!({
        "apiVersion": format!("{group}/v1"), "kind": "Widget", "metadata": { "name": "w", "namespace": ns },
    });
    let write = |path: &str, text: String| bench.repository.write(path, text);
    for name in ["theirs", "opted", "own", "late"] {
        write(&format!("one/{name}.yaml"), space(&at(name)))?;
    }
    write("one/crd.yaml", crd.to_string())?;
    write(
        "one/opted-map.yaml",
        manifest(&at("opted"), "x", "1").replace(
            "metadata:",
            "metadata:\n  annotations: {kustomize.toolkit.fluxcd.io/prune: disabled}",
        ),
    )?;
    write("one/own-map.yaml", manifest(&at("own"), "x", "1"))?;
    write("one/stays.yaml", bench.manifest("stays", "1"))?;
    write("two/map.yaml", manifest(&at("theirs"), "x", "1"))?;
    write("two/late.yaml", manifest(&at("late"), "x", "1"))?;
    write("two/widget.yaml", widget.to_string())?;
    write("two/stays.yaml", bench.manifest("stays-too", "1"))?;
    let first = bench.commit()?;
    bench.source(json!({})).await?;
    bench.kustomization("one", json!({ "path": "./one" })).await?;
    bench
        .kustomization("two", json!({ "path": "./two", "retryInterval": "1s" }))
        .await?;
    let _syncer = bench.start(&["--deletion-budget-percentage=100"])?;
    bench.applied_by("one", &first).await?;
    bench.applied_by("two", &first).await?;

    for gone in ["theirs", "own", "opted", "opted-map", "crd"] {
        bench.repository.remove(&format!("one/{gone}.yaml"))?;
    }
    let second = bench.push().await?;
    let message = bench.fails_by("one", &second, "ReconciliationFailed").await?;
    let crd = format!("crd/widgets.{group}");
    let because = |object: String, what: String| {
        let expected =
            format!("{object}: is no longer in Git, and is not deleted, because {what} would go with it");
        assert!(message.contains(&expected), "{expected}\n{message}");
    };
    because(
        format!("Namespace/{}", at("theirs")),
        format!("1 object(s) of the Kustomization {ns}/two"),
    );
    because(
        format!("CustomResourceDefinition/widgets.{group}"),
        format!("1 object(s) of the Kustomization {ns}/two"),
    );
    because(
        format!("Namespace/{}", at("own")),
        format!("ConfigMap/{}/x", at("own")),
    );
    let event = format!("Namespace/{} kept: something is in it that stays", at("opted"));
    bench.event("Kustomization", "Progressing", &event).await?;
    for name in ["theirs", "opted", "own"] {
        stays(&bench, &format!("namespace/{}", at(name)))?;
    }
    stays(&bench, &crd)?;

    // Theirs go, and somebody lets go of the other one.
    let own = format!("namespace/{}", at("own"));
    bench
        .world
        .kubectl(&["annotate", &own, "kustomize.toolkit.fluxcd.io/prune=disabled"])?;
    bench.repository.remove("two/map.yaml")?;
    bench.repository.remove("two/widget.yaml")?;
    let third = bench.push().await?;
    bench.applied_by("two", &third).await?;
    bench.applied_by("one", &third).await?;
    goes(&bench, &format!("namespace/{}", at("theirs"))).await?;
    goes(&bench, &crd).await?;
    stays(&bench, &own)?;

    // A Kustomization that ends does not wait for others, and takes nothing of theirs.
    bench
        .kustomizations()
        .delete("one", &DeleteParams::default())
        .await?;
    is_gone(&bench, "one").await?;
    stays(&bench, &format!("namespace/{}", at("late")))?;
    let event = format!(
        "Namespace/{} kept: another Kustomization has objects in it",
        at("late")
    );
    bench
        .event("Kustomization", "ReconciliationSucceeded", &event)
        .await?;
    bench.until_value("stays", None).await?;
    assert_eq!(bench.value("stays-too").await?.as_deref(), Some("1"));
    Ok(())
}

/// What a team has: a Namespace, and in it a Kustomization with a ConfigMap.
#[tokio::test]
async fn a_namespace_goes_after_the_kustomization_in_it() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let ns = bench.namespace();
    let (team, ours) = (format!("{ns}-team"), format!("of={ns}"));
    let labels = json!({ "of": ns });
    let objects = [
        json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": team } }),
        json!({
            "apiVersion": "source.toolkit.fluxcd.io/v1", "kind": "GitRepository",
            "metadata": { "name": "team", "namespace": team, "labels": labels },
            "spec": { "url": bench.server.url(), "interval": "1h", "ref": { "branch": "main" } },
        }),
        json!({
            "apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization",
            "metadata": { "name": "team", "namespace": team, "labels": labels },
            "spec": {
                "sourceRef": { "kind": "GitRepository", "name": "team" }, "interval": "1h", "retryInterval": "5s",
                "prune": true, "path": "./team",
            },
        }),
    ];
    for (index, object) in objects.iter().enumerate() {
        bench
            .repository
            .write(&format!("deploy/team-{index}.yaml"), object.to_string())?;
    }
    bench.write_config_map("stays", "1")?;
    bench
        .repository
        .write("team/map.yaml", manifest(&team, "map", "1"))?;
    let first = bench.commit()?;
    bench.app().await?;
    bench
        .world
        .kubectl(&["label", "gitrepository/app", "kustomization/app", &ours])?;
    let selector = format!("--watch-label-selector={ours}");
    let _syncer = bench.start(&["--watch-all-namespaces=true", &selector])?;
    bench.applied(&first).await?;
    wait_for("the team's ConfigMap", LIMIT, async || {
        let read = bench
            .world
            .kubectl(&["get", "configmap", "map", "-n", &team, "-o", "name"]);
        read.map(drop).map_err(|error| error.to_string())
    })
    .await?;

    for index in 0..objects.len() {
        bench.repository.remove(&format!("deploy/team-{index}.yaml"))?;
    }
    let second = bench.push().await?;
    let object = bench.applied(&second).await?;
    assert_eq!(entries(&object).len(), 1, "{:?}", entries(&object));
    goes(&bench, &format!("namespace/{team}")).await?;
    let log = std::fs::read_to_string(bench.world.dir().join("syncer-0.log"))?;
    let (ended, went) = (
        log.find("finalized").context("its end is told")?,
        log.find(&format!("Namespace/{team} deleted"))
            .context("the Namespace's end is told")?,
    );
    assert!(ended < went, "{log}");
    Ok(())
}

#[tokio::test]
async fn on_another_cluster_a_kustomization_is_an_object_as_any_other() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let far = Far::shared(&bench).await?;
    far.apply(&crds_yaml(UrlSchemes::WithFile)?)?;
    for i in 0..HELD {
        let name = format!("s{i:02}");
        bench
            .repository
            .write(&format!("shop/{name}.yaml"), bench.manifest(&name, "1"))?;
    }
    bench.write_config_map("a", "1")?;
    bench.write_config_map("b", "1")?;
    write_child(&bench, "shop", "./shop")?;
    let first = bench.commit()?;
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
