//! The built-in story: a small shop, and everything that happens to it.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, Service},
};
use kube::Api;
use plumbline_testkit::wait_for;

use super::{
    rollouts,
    stage::{CONTROLLERS, PATIENCE, Stage, short},
    timeline::Timeline,
};

/// For so long nothing may be asked of the API server when nothing changes.
const IDLE: Duration = Duration::from_secs(5);

pub(crate) async fn tell(stage: &Stage, timeline: &mut Timeline) -> anyhow::Result<()> {
    create(stage, timeline).await?;
    rollouts::tell(stage, timeline).await?;
    remove(stage, timeline).await?;
    drift(stage, timeline).await?;
    break_and_mend(stage, timeline).await?;
    idle(stage, timeline).await
}

async fn create(stage: &Stage, timeline: &mut Timeline) -> anyhow::Result<()> {
    let repository = &stage.estate.repository;
    repository.write("namespace.yaml", include_str!("shop/namespace.yaml"))?;
    repository.write("web.yaml", include_str!("shop/web.yaml"))?;
    repository.write("service.yaml", include_str!("shop/service.yaml"))?;
    let commit = repository.commit("A shop")?;
    let since = timeline.action(&format!(
        "git commit {}: a Namespace, a ConfigMap, a Deployment, a Service",
        short(&commit)
    ));
    stage.estate.follow_repository()?;
    let (_, ready) = stage.attempted(&commit).await?;
    ensure!(
        ready["status"] == "True",
        "the Kustomization is not ready: {ready}"
    );
    maps(stage).get("web").await.context("the ConfigMap")?;
    deployments(stage).get("web").await.context("the Deployment")?;
    services(stage).get("web").await.context("the Service")?;
    timeline.effect("all four exist, the Namespace first", since);
    Timeline::quote(ready["message"].as_str().unwrap_or_default());
    Ok(())
}

async fn remove(stage: &Stage, timeline: &mut Timeline) -> anyhow::Result<()> {
    stage.estate.repository.remove("service.yaml")?;
    let commit = stage.estate.repository.commit("No Service")?;
    let since = timeline.action(&format!("git commit {}: service.yaml removed", short(&commit)));
    stage.estate.ask(&stage.client).await?;
    wait_for("the Service to go", PATIENCE, async || {
        match services(stage).get_opt("web").await {
            Ok(None) => Ok(()),
            Ok(Some(_)) => Err("still there".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    })
    .await?;
    timeline.effect("the Service is pruned", since);
    stage.attempted(&commit).await?;
    deployments(stage)
        .get("web")
        .await
        .context("the Deployment must stay")?;
    Ok(())
}

async fn drift(stage: &Stage, timeline: &mut Timeline) -> anyhow::Result<()> {
    let before = deployments(stage).get("web").await?.metadata.generation;
    let since = timeline.action("kubectl edit deployment web: 5 replicas, past Git");
    stage.edit(
        &["-n", "shop", "deployment", "web"],
        "s/  replicas: 2/  replicas: 5/",
    )?;
    wait_for("the Deployment to be corrected", PATIENCE, async || {
        let found = deployments(stage)
            .get("web")
            .await
            .map_err(|error| error.to_string())?;
        let replicas = found.spec.and_then(|spec| spec.replicas);
        let changes = found
            .metadata
            .generation
            .zip(before)
            .map_or(0, |(now, then)| now - then);
        // Two changes: the one past Git, and the correction.
        if replicas == Some(2) && changes >= 2 {
            Ok(())
        } else {
            Err(format!("{replicas:?} replicas"))
        }
    })
    .await?;
    timeline.effect("back to 2 replicas, as Git says", since);

    let old = maps(stage).get("web").await?.metadata.uid;
    let since = timeline.action("kubectl delete configmap web, past Git");
    stage
        .estate
        .kubectl(&["-n", "shop", "delete", "configmap", "web"], "")?;
    wait_for("the ConfigMap to come back", PATIENCE, async || {
        match maps(stage).get_opt("web").await {
            Ok(Some(map)) if map.metadata.uid != old => Ok(()),
            Ok(other) => Err(format!("{:?}", other.map(|map| map.metadata.uid))),
            Err(error) => Err(error.to_string()),
        }
    })
    .await?;
    timeline.effect("it is back", since);
    Ok(())
}

async fn break_and_mend(stage: &Stage, timeline: &mut Timeline) -> anyhow::Result<()> {
    stage
        .estate
        .repository
        .write("broken.yaml", include_str!("shop/broken.yaml"))?;
    let commit = stage.estate.repository.commit("Broken")?;
    let since = timeline.action(&format!(
        "git commit {}: one bad object, one good",
        short(&commit)
    ));
    stage.estate.ask(&stage.client).await?;
    let (_, ready) = stage.attempted(&commit).await?;
    let message = ready["message"].as_str().unwrap_or_default();
    ensure!(
        ready["status"] == "False",
        "the bad object is not reported: {ready}"
    );
    ensure!(
        message.contains("broken.yaml"),
        "the message does not name the file: {message}"
    );
    maps(stage)
        .get("still-applied")
        .await
        .context("the good object must be applied")?;
    timeline.effect("the bad one is reported, the good one applied", since);
    Timeline::quote(message);

    stage.estate.repository.remove("broken.yaml")?;
    let commit = stage.estate.repository.commit("Mended")?;
    let since = timeline.action(&format!("git commit {}: the file removed again", short(&commit)));
    stage.estate.ask(&stage.client).await?;
    let (_, ready) = stage.attempted(&commit).await?;
    ensure!(
        ready["status"] == "True",
        "the Kustomization is not ready: {ready}"
    );
    timeline.effect("ready again", since);
    Timeline::quote(ready["message"].as_str().unwrap_or_default());
    Ok(())
}

async fn idle(stage: &Stage, timeline: &mut Timeline) -> anyhow::Result<()> {
    // What was still on its way, such as Events.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let all = stage.estate.plane.audit_log();
    for name in CONTROLLERS {
        ensure!(
            all.requests(name)?.count() > 0,
            "no request of {name} is in the audit log"
        );
    }
    let log = all.since_now()?;
    let since = timeline.action("nothing changes");
    tokio::time::sleep(IDLE).await;
    for name in CONTROLLERS {
        let asked = log.requests(name)?.without_watches_and_leases();
        ensure!(
            asked.count() == 0,
            "requests of {name} while nothing changed: {:?}",
            asked.by_verb_and_resource()
        );
    }
    timeline.effect("not one request to the API server, of any of the three", since);
    Ok(())
}

pub(super) fn maps(stage: &Stage) -> Api<ConfigMap> {
    Api::namespaced(stage.client.clone(), "shop")
}

pub(super) fn deployments(stage: &Stage) -> Api<Deployment> {
    Api::namespaced(stage.client.clone(), "shop")
}

fn services(stage: &Stage) -> Api<Service> {
    Api::namespaced(stage.client.clone(), "shop")
}
