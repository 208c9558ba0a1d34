//! Another cluster that does not answer.

use anyhow::Context as _;
use kube::api::DeleteParams;
use plumbline_sync::api::Kustomization;
use plumbline_testkit::{ControlPlane, wait_for};
use serde_json::json;

use crate::{
    bench::{APP, Bench, LIMIT, entries, ready},
    far::{Far, Way, give, there},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_is_away_loses_nothing_and_holds_up_nobody() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let dir = tempfile::tempdir()?;
    let path = dir.path().to_owned();
    let plane = tokio::task::spawn_blocking(move || ControlPlane::start(&path)).await??;
    let (shared, far) = (Far::shared(&bench).await?, Far::on(&plane, &bench).await?);
    for name in ["a", "b"] {
        bench.write_config_map(name, "1")?;
    }
    bench.repository.write("home/h.yaml", bench.manifest("h", "1"))?;
    let first = bench.commit()?;
    bench.source(json!({})).await?;
    // First one cluster, then the Secret leads to another one.
    give(&bench, &shared.kubeconfig()?).await?;
    bench.kustomization(APP, json!({ "kubeConfig": there() })).await?;
    bench.kustomization("home", json!({ "path": "./home" })).await?;
    let _syncer = bench.start(&[])?;
    bench.applied(&first).await?;
    bench.applied_by("home", &first).await?;
    give(&bench, &far.kubeconfig()?).await?;
    far.until_value("a", Some("1")).await?;
    bench
        .event("Kustomization", "ClusterChanged", "2 object(s) stay in")
        .await?;
    assert_eq!(
        shared.value("a").await?.as_deref(),
        Some("1"),
        "it stays where it was"
    );
    bench.applied(&first).await?;
    let uid = far.config_maps().get("a").await?.metadata.uid;

    // It is away: the others go on, and the condition says which one it is.
    tokio::task::block_in_place(|| plane.stop_apiserver())?;
    bench.repository.write("home/h.yaml", bench.manifest("h", "2"))?;
    bench.write_config_map("a", "2")?;
    bench.repository.remove("deploy/b.yaml")?;
    let second = bench.push().await?;
    bench.applied_by("home", &second).await?;
    let object = bench
        .until(APP, "the outage to be said", |object| {
            ready(object).2.contains("(spec.kubeConfig) cannot be reached")
        })
        .await?;
    let (value, reason, message) = ready(&object);
    assert_eq!(
        (value.as_str(), reason.as_str()),
        ("False", "ReconciliationFailed")
    );
    assert!(message.contains("https://127.0.0.1:"), "{message}");
    assert_eq!(entries(&object).len(), 2, "nothing counts as deleted");

    // It is back: it goes on where it was.
    tokio::task::block_in_place(|| plane.start_apiserver())?;
    bench.applied(&second).await?;
    assert_eq!(far.value("a").await?.as_deref(), Some("2"));
    assert_eq!(far.value("b").await?, None);
    assert_eq!(
        far.config_maps().get("a").await?.metadata.uid,
        uid,
        "it was made anew"
    );
    far.edit("a", json!({ "key": "edited" })).await?;
    far.until_value("a", Some("2")).await?;

    // It is gone for good: the Kustomization says how to let go, and does then.
    tokio::task::block_in_place(|| plane.stop_apiserver())?;
    bench
        .kustomizations()
        .delete(APP, &DeleteParams::default())
        .await?;
    let object = bench
        .until(APP, "the way out to be said", |object| {
            let (_, reason, message) = ready(object);
            reason == "PruneFailed"
                && message.contains("deletionPolicy")
                && message.contains("cannot be reached")
        })
        .await?;
    assert_eq!(entries(&object).len(), 1);
    bench
        .event("Kustomization", "PruneFailed", "deletionPolicy")
        .await?;
    bench.set_spec(APP, json!({ "deletionPolicy": "Orphan" })).await?;
    let api = bench.kustomizations();
    wait_for("the Kustomization to go", LIMIT, async || {
        match api.get_opt(APP).await {
            Ok(None) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    tokio::task::spawn_blocking(move || plane.stop()).await?;
    Ok(())
}

#[tokio::test]
async fn a_cluster_that_stops_answering_holds_no_worker() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let far = Far::shared(&bench).await?;
    let names: Vec<String> = (0..8).map(|n| format!("far-{n}")).collect();
    for name in names.iter().map(String::as_str).chain(["home"]) {
        let path = format!("{name}/{name}.yaml");
        bench.repository.write(&path, bench.manifest(name, "1"))?;
    }
    let first = bench.commit()?;
    bench.source(json!({})).await?;
    let mut kubeconfig = far.kubeconfig()?;
    let server = kubeconfig["clusters"][0]["cluster"]["server"].as_str();
    let address = server
        .and_then(|url| url.strip_prefix("https://"))
        .context("no server")?;
    let way = Way::to(address.to_owned()).await?;
    kubeconfig["clusters"][0]["cluster"]["server"] = format!("https://127.0.0.1:{}", way.port).into();
    // At first it never answers: with one worker, eight that wait would take their time one after the other.
    way.block();
    give(&bench, &kubeconfig).await?;
    for name in &names {
        let spec = json!({ "path": format!("./{name}"), "kubeConfig": there() });
        bench.kustomization(name, spec).await?;
    }
    bench.kustomization("home", json!({ "path": "./home" })).await?;
    let _syncer = bench.start(&["--concurrent=1"])?;
    bench.applied_by("home", &first).await?;
    let says_so = |object: &Kustomization| {
        let (_, _, message) = ready(object);
        message.contains("cannot be reached: it does not answer in time")
    };
    for name in &names {
        bench.until(name, "the silence to be said", says_so).await?;
    }
    way.free();
    for name in &names {
        bench.applied_by(name, &first).await?;
    }

    // In the midst of work.
    way.block();
    for name in names.iter().map(String::as_str).chain(["home"]) {
        let path = format!("{name}/{name}.yaml");
        bench.repository.write(&path, bench.manifest(name, "2"))?;
    }
    let second = bench.push().await?;
    bench.applied_by("home", &second).await?;
    for name in &names {
        let object = bench.until(name, "the silence to be said", says_so).await?;
        assert_eq!(entries(&object).len(), 1);
    }
    way.free();
    for name in &names {
        bench.applied_by(name, &second).await?;
        assert_eq!(far.value(name).await?.as_deref(), Some("2"));
    }
    Ok(())
}
