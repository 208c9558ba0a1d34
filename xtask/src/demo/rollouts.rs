//! What pods are told: a ConfigMap and a sealed Secret change in Git, and the Deployment that uses them rolls, once for each.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use plumbline_testkit::wait_for;

use super::{
    shop::{deployments, maps},
    stage::{PATIENCE, Stage, short},
    timeline::Timeline,
};

/// Where the reloader keeps what it has seen of the ConfigMaps and Secrets of a workload.
const MEMORY: &str = "reloader.plumbline.dev/sources";
/// A second rollout would have come by then.
const QUIET: Duration = Duration::from_secs(3);

pub(super) async fn tell(stage: &Stage, timeline: &mut Timeline) -> anyhow::Result<()> {
    remembered(stage, "web").await?;
    edit(stage, timeline).await?;
    seal(stage, timeline).await?;
    reseal(stage, timeline).await?;
    unseal(stage, timeline).await
}

/// The reloader remembers a source from when it first sees it: a rollout is for what changes after.
async fn remembered(stage: &Stage, source: &str) -> anyhow::Result<()> {
    wait_for("the reloader to know the Deployment", PATIENCE, async || {
        let found = deployments(stage).get("web").await;
        let notes = found.map_err(|error| error.to_string())?.metadata.annotations;
        match notes.unwrap_or_default().get(MEMORY) {
            Some(memory) if memory.contains(source) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
}

async fn edit(stage: &Stage, timeline: &mut Timeline) -> anyhow::Result<()> {
    let before = generation(stage).await?;
    let edited = include_str!("shop/web.yaml").replace("greeting: hello", "greeting: good morning");
    stage.estate.repository.write("web.yaml", edited)?;
    let commit = stage.estate.repository.commit("Another greeting")?;
    let since = timeline.action(&format!("git commit {}: another greeting", short(&commit)));
    stage.estate.ask(&stage.client).await?;
    wait_for("the new greeting", PATIENCE, async || {
        let map = maps(stage).get("web").await.map_err(|error| error.to_string())?;
        match map.data.as_ref().and_then(|data| data.get("greeting")) {
            Some(text) if text == "good morning" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    timeline.effect("the ConfigMap has it", since);
    rolled_once(stage, timeline, before, since).await?;
    stage.attempted(&commit).await.map(drop)
}

async fn seal(stage: &Stage, timeline: &mut Timeline) -> anyhow::Result<()> {
    let since = commit_sealed(stage, timeline, "s3cret", "a sealed login")?;
    stage.estate.ask(&stage.client).await?;
    password(stage, b"s3cret").await?;
    timeline.effect("the Secret is there, opened", since);
    remembered(stage, "login").await
}

async fn reseal(stage: &Stage, timeline: &mut Timeline) -> anyhow::Result<()> {
    let before = generation(stage).await?;
    let since = commit_sealed(stage, timeline, "next", "another password, sealed")?;
    stage.estate.ask(&stage.client).await?;
    password(stage, b"next").await?;
    timeline.effect("the Secret has it", since);
    rolled_once(stage, timeline, before, since).await
}

async fn unseal(stage: &Stage, timeline: &mut Timeline) -> anyhow::Result<()> {
    stage.estate.repository.remove("login.yaml")?;
    let commit = stage.estate.repository.commit("No login")?;
    let since = timeline.action(&format!("git commit {}: login.yaml removed", short(&commit)));
    stage.estate.ask(&stage.client).await?;
    wait_for("the Secret to go", PATIENCE, async || {
        match secrets(stage).get_opt("login").await {
            Ok(None) => Ok(()),
            Ok(Some(_)) => Err("still there".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    })
    .await?;
    timeline.effect("the SealedSecret is pruned, its Secret is gone", since);
    Timeline::quote(
        "Kubernetes' garbage collector deletes it; in a cluster this young it needs up to 30 s to learn of new kinds",
    );
    stage.attempted(&commit).await.map(drop)
}

fn commit_sealed(
    stage: &Stage,
    timeline: &mut Timeline,
    password: &str,
    what: &str,
) -> anyhow::Result<Instant> {
    let literal = format!("password={password}");
    let sealed = stage
        .unsealer
        .seal(&stage.estate, "shop", "login", &["user=admin", &literal])?;
    ensure!(!sealed.contains(password), "the password is legible: {sealed}");
    stage.estate.repository.write("login.yaml", &sealed)?;
    let commit = stage.estate.repository.commit(what)?;
    Ok(timeline.action(&format!(
        "kubectl create secret … --dry-run=client | kubeseal > login.yaml; git commit {}: {what}",
        short(&commit)
    )))
}

async fn password(stage: &Stage, expected: &[u8]) -> anyhow::Result<()> {
    wait_for("the password", PATIENCE, async || {
        let found = secrets(stage).get_opt("login").await;
        let data = found
            .map_err(|error| error.to_string())?
            .and_then(|secret| secret.data);
        match data.as_ref().and_then(|data| data.get("password")) {
            Some(value) if value.0 == expected => Ok(()),
            Some(_) => Err("still the old one".to_owned()),
            None => Err("not there".to_owned()),
        }
    })
    .await
}

/// The generation of a Deployment counts the changes of its spec, to which the pod template belongs.
async fn generation(stage: &Stage) -> anyhow::Result<i64> {
    let found = deployments(stage).get("web").await?;
    found
        .metadata
        .generation
        .context("the Deployment has no generation")
}

async fn rolled_once(
    stage: &Stage,
    timeline: &mut Timeline,
    before: i64,
    since: Instant,
) -> anyhow::Result<()> {
    wait_for("the Deployment to roll", PATIENCE, async || {
        match generation(stage).await.map_err(|error| error.to_string())? {
            now if now > before => Ok(()),
            _ => Err("its template is as it was".to_owned()),
        }
    })
    .await?;
    let took = since.elapsed();
    tokio::time::sleep(QUIET).await;
    let rolls = generation(stage).await? - before;
    ensure!(rolls == 1, "the Deployment rolled {rolls} times");
    timeline.effect_after("the Deployment that uses it rolls, once", took);
    Ok(())
}

fn secrets(stage: &Stage) -> Api<Secret> {
    Api::namespaced(stage.client.clone(), "shop")
}
