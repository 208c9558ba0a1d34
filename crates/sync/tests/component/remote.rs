//! Kustomizations that are applied to another cluster.

use anyhow::Context as _;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use plumbline_testkit::wait_for;
use serde_json::json;

use crate::{
    bench::{APP, Bench, LIMIT, entries, ready},
    command_line::command,
    far::{Far, give, give_as, there},
};

#[tokio::test]
async fn it_is_applied_watched_waited_for_and_pruned_on_the_cluster_of_its_kubeconfig() -> anyhow::Result<()>
{
    let bench = Bench::new().await?;
    let far = Far::shared(&bench).await?;
    for name in ["a", "b"] {
        bench.write_config_map(name, "1")?;
    }
    let first = bench.commit()?;
    bench.source(json!({})).await?;
    give(&bench, &far.kubeconfig()?).await?;
    let checks = json!([{ "apiVersion": "v1", "kind": "ConfigMap", "current": "has(data.healthy)" }]);
    let spec = json!({ "kubeConfig": there(), "wait": true, "timeout": "10m", "healthCheckExprs": checks });
    bench.kustomization(APP, spec).await?;
    let mut syncer = bench.start(&[])?;

    // Health is that of the objects there, by watch.
    bench
        .until(APP, "it to wait", |object| ready(object).1 == "Progressing")
        .await?;
    far.until_value("a", Some("1")).await?;
    for name in ["a", "b"] {
        far.edit(name, json!({ "healthy": "yes" })).await?;
    }
    let object = bench.applied(&first).await?;
    assert_eq!(bench.value("a").await?, None, "nothing is applied at home");
    assert_eq!(entries(&object).len(), 2);
    let condition = object.status.context("no status")?.conditions;
    let condition = condition.iter().find(|c| c.type_ == "RemoteCluster");
    let condition = condition.context("the cluster is not recorded")?;
    assert!(condition.message.contains("https://127.0.0.1:"), "{condition:?}");

    far.edit("a", json!({ "key": "edited" })).await?;
    far.until_value("a", Some("1")).await?;
    bench
        .event("Kustomization", "DriftCorrected", "ConfigMap")
        .await?;
    far.config_maps().delete("b", &DeleteParams::default()).await?;
    far.until_value("b", Some("1")).await?;
    far.edit("b", json!({ "healthy": "yes" })).await?;

    // A new process finds all as it was left.
    syncer.kill();
    let log = far.audit_log().since_now()?;
    let _syncer = bench.start(&[])?;
    bench.request(APP).await?;
    bench.repository.remove("deploy/b.yaml")?;
    let second = bench.push().await?;
    bench.applied(&second).await?;
    far.until_value("b", None).await?;
    assert_eq!(far.value("a").await?.as_deref(), Some("1"));
    let applies = far.requests(&log)?;
    let applies = applies.0.iter().filter(|it| it.verb == "patch");
    assert_eq!(applies.count(), 0, "what is as Git has it is not applied again");

    bench
        .kustomizations()
        .delete(APP, &DeleteParams::default())
        .await?;
    far.until_value("a", None).await
}

#[tokio::test]
async fn kustomizations_of_one_kubeconfig_share_a_connection_and_the_last_one_closes_it() -> anyhow::Result<()>
{
    let bench = Bench::new().await?;
    let far = Far::shared(&bench).await?;
    let log = far.audit_log().since_now()?;
    for name in ["one", "two"] {
        let path = format!("{name}/{name}.yaml");
        bench.repository.write(&path, bench.manifest(name, "1"))?;
    }
    let revision = bench.commit()?;
    bench.source(json!({})).await?;
    give_as(&bench, "value.yaml", &serde_yaml::to_string(&far.kubeconfig()?)?).await?;
    for name in ["one", "two"] {
        let spec = json!({ "path": format!("./{name}"), "kubeConfig": there() });
        bench.kustomization(name, spec).await?;
    }
    let syncer = bench.start(&[])?;
    for name in ["one", "two"] {
        bench.applied_by(name, &revision).await?;
    }
    let requests = far.requests(&log)?;
    let count = |verb: &str, resource: &str| {
        let same = requests
            .0
            .iter()
            .filter(|it| it.verb == verb && it.resource == resource);
        same.count()
    };
    assert_eq!(count("watch", "configmaps"), 1, "{requests:?}");

    // What moves from one to the other is handed over there as at home.
    let uid = far.config_maps().get("one").await?.metadata.uid;
    bench.repository.remove("one/one.yaml")?;
    bench
        .repository
        .write("one/other.yaml", bench.manifest("other", "1"))?;
    bench
        .repository
        .write("two/one.yaml", bench.manifest("one", "1"))?;
    let revision = bench.push().await?;
    for name in ["one", "two"] {
        bench.applied_by(name, &revision).await?;
    }
    assert_eq!(
        far.config_maps().get("one").await?.metadata.uid,
        uid,
        "it was made anew"
    );

    for name in ["one", "two"] {
        bench
            .kustomizations()
            .delete(name, &DeleteParams::default())
            .await?;
    }
    far.until_value("two", None).await?;
    wait_for("the connection to be closed", LIMIT, async || {
        if syncer.log().contains("is closed") {
            return Ok(());
        }
        Err("it is open")
    })
    .await
}

#[tokio::test]
async fn an_inventory_is_never_taken_for_that_of_another_cluster() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let far = Far::shared(&bench).await?;
    for name in ["a", "b"] {
        bench.write_config_map(name, "1")?;
    }
    let first = bench.commit()?;
    bench.app().await?;
    // A part of the inventory is in a ConfigMap.
    let limited = ["--inventory-status-limit=1"];
    let syncer = bench.start(&limited)?;
    bench.applied(&first).await?;
    drop(syncer);
    let shards = async || {
        let all = bench.config_maps().list(&ListParams::default()).await?;
        let names = all.items.into_iter().filter_map(|map| map.metadata.name);
        anyhow::Ok(
            names
                .filter(|name| name.starts_with("plumbline-inventory-"))
                .count(),
        )
    };
    assert_eq!(shards().await?, 1);

    // The other cluster has objects of the same names and of the same owner: of its own syncer, for example.
    let labels = json!({ "kustomize.toolkit.fluxcd.io/name": APP, "kustomize.toolkit.fluxcd.io/namespace": bench.namespace() });
    let theirs = serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "b", "labels": labels }, "data": { "key": "theirs" },
    }))?;
    far.config_maps().create(&PostParams::default(), &theirs).await?;
    bench.repository.remove("deploy/b.yaml")?;
    let second = bench.commit()?;
    give(&bench, &far.kubeconfig()?).await?;
    bench.set_spec(APP, json!({ "kubeConfig": there() })).await?;
    // One with a directory of its own, which does not know the revision before.
    let syncer = bench.start_named("syncer-1", &limited)?;
    let object = bench.applied(&second).await?;
    assert_eq!(entries(&object).len(), 1, "{object:?}");
    bench
        .event("Kustomization", "ClusterChanged", "2 object(s) stay in")
        .await?;
    assert_eq!(shards().await?, 0);
    assert_eq!(far.value("a").await?.as_deref(), Some("1"));
    assert_eq!(
        far.value("b").await?.as_deref(),
        Some("theirs"),
        "it was not ours there"
    );
    assert_eq!(
        bench.value("a").await?.as_deref(),
        Some("1"),
        "what was at home stays"
    );

    // And back: what is at home by now is not deleted for want of it in Git.
    drop(syncer);
    bench.write_config_map("c", "1")?;
    bench.repository.remove("deploy/a.yaml")?;
    let third = bench.commit()?;
    bench.set_spec(APP, json!({ "kubeConfig": null })).await?;
    let _syncer = bench.start_named("syncer-2", &[])?;
    let object = bench.applied(&third).await?;
    assert_eq!(entries(&object).len(), 1);
    let conditions = object.status.context("no status")?.conditions;
    assert!(
        conditions.iter().all(|c| c.type_ != "RemoteCluster"),
        "{conditions:?}"
    );
    assert_eq!(bench.value("c").await?.as_deref(), Some("1"));
    assert_eq!(bench.value("a").await?.as_deref(), Some("1"));
    assert_eq!(far.value("a").await?.as_deref(), Some("1"));
    Ok(())
}

/// A Kustomization with an inventory that Flux wrote: `a`, and `gone`, which Git does not have.
async fn left_by_flux(bench: &Bench, far: &Far, name: &str, observed: i64) -> anyhow::Result<()> {
    let ns = bench.namespace();
    let gone = format!("{name}-gone");
    let labels =
        json!({ "kustomize.toolkit.fluxcd.io/name": name, "kustomize.toolkit.fluxcd.io/namespace": ns });
    let object = serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": gone, "labels": labels }, "data": { "key": "1" },
    }))?;
    far.config_maps().create(&PostParams::default(), &object).await?;
    let spec = json!({ "path": format!("./{name}"), "kubeConfig": there() });
    bench.kustomization(name, spec).await?;
    let entry = |name: &str| json!({ "id": format!("{ns}_{name}__ConfigMap"), "v": "v1" });
    let status = json!({ "status": {
        "observedGeneration": observed, "inventory": { "entries": [entry(name), entry(&gone)] },
    } });
    bench
        .kustomizations()
        .patch_status(name, &PatchParams::default(), &Patch::Merge(&status))
        .await?;
    Ok(())
}

#[tokio::test]
async fn an_inventory_of_flux_is_about_the_cluster_of_the_spec_that_it_was_written_for() -> anyhow::Result<()>
{
    let bench = Bench::new().await?;
    let far = Far::shared(&bench).await?;
    for name in ["same", "changed"] {
        bench
            .repository
            .write(&format!("{name}/{name}.yaml"), bench.manifest(name, "1"))?;
    }
    let revision = bench.commit()?;
    bench.source(json!({})).await?;
    // First without a cluster that could be reached: what is written meanwhile must not lose where the inventory is.
    left_by_flux(&bench, &far, "same", 1).await?;
    left_by_flux(&bench, &far, "changed", 0).await?;
    let _syncer = bench.start(&[])?;
    for name in ["same", "changed"] {
        bench
            .until(name, "the Secret to be missed", |object| {
                ready(object).2.contains("does not exist")
            })
            .await?;
    }
    give(&bench, &far.kubeconfig()?).await?;
    for name in ["same", "changed"] {
        bench.applied_by(name, &revision).await?;
    }
    far.until_value("same-gone", None).await?;
    assert_eq!(
        far.value("changed-gone").await?.as_deref(),
        Some("1"),
        "nobody knows whose it is"
    );
    bench
        .event(
            "Kustomization",
            "ClusterChanged",
            "2 object(s) stay in the cluster of the Kustomization",
        )
        .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_look_at_the_cluster_that_is_applied_to() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let far = Far::shared(&bench).await?;
    bench.write_config_map("a", "1")?;
    let revision = bench.commit()?;
    bench.source(json!({})).await?;
    give(&bench, &far.kubeconfig()?).await?;
    bench.kustomization(APP, json!({ "kubeConfig": there() })).await?;
    let (code, text, errors) = command(&bench, &["plan", APP])?;
    assert_eq!((code, text.contains("1 to create")), (2, true), "{text}{errors}");
    assert!(text.contains(" in the cluster at https://127.0.0.1:"), "{text}");
    let syncer = bench.start(&[])?;
    bench.applied(&revision).await?;
    drop(syncer);
    let (code, text, errors) = command(&bench, &["plan", APP])?;
    assert_eq!((code, text.contains("1 unchanged")), (0, true), "{text}{errors}");
    let (code, text, errors) = command(&bench, &["status", APP])?;
    assert!(
        code == 0 && text.contains("deploy/a.yaml:1") && !text.contains("Missing"),
        "{text}{errors}"
    );
    assert!(
        text.contains("1 object in the cluster at https://127.0.0.1:"),
        "{text}"
    );
    far.config_maps().delete("a", &DeleteParams::default()).await?;
    let (_, text, errors) = command(&bench, &["status", APP])?;
    assert!(text.contains("Missing"), "{text}{errors}");

    let mut away = far.kubeconfig()?;
    away["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1".into();
    give(&bench, &away).await?;
    let (code, text, errors) = command(&bench, &["plan", APP])?;
    assert!(
        code == 1
            && text.contains("the cluster at https://127.0.0.1:1")
            && text.contains("cannot be reached"),
        "{text}{errors}"
    );
    Ok(())
}

#[tokio::test]
async fn a_kubeconfig_that_leads_home_is_told_by_the_cluster_and_not_by_its_url() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    bench.write_config_map("a", "1")?;
    bench.write_config_map("b", "1")?;
    let first = bench.commit()?;
    bench.app().await?;
    let syncer = bench.start(&[])?;
    bench.applied(&first).await?;
    drop(syncer);
    let text = std::fs::read_to_string(bench.world.kubeconfig())?;
    give(&bench, &serde_yaml::from_str(&text)?).await?;
    bench.repository.remove("deploy/b.yaml")?;
    let second = bench.commit()?;
    bench.set_spec(APP, json!({ "kubeConfig": there() })).await?;
    // One with a directory of its own, which does not know the revision before: `b` is only in the inventory.
    let _syncer = bench.start_named("syncer-1", &[])?;
    bench.applied(&second).await?;
    bench.until_value("b", None).await?;
    assert_eq!(bench.value("a").await?.as_deref(), Some("1"));
    Ok(())
}
