//! The story: install, commit, change, re-seal, drift, crashes, deletion, upgrade.

use anyhow::ensure;
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, Secret},
};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use plumbline_testkit::wait_for;
use serde_json::json;

use super::{
    PATIENCE,
    charts::{CHARTS, RELOADER, SYNC, UNSEALER},
    estate::{self, APP, CONFIG_MAP, NAMESPACE, REPLICAS, SECRET, Values},
    flux,
    stage::Stage,
};
use crate::demo::timeline::Timeline;

const BRANCH: &str = "deploy";

pub(super) async fn tell(stage: &mut Stage, timeline: &mut Timeline) -> anyhow::Result<()> {
    install(stage, timeline).await?;
    let values = first_commit(stage, timeline).await?;
    let values = changes(stage, timeline, values).await?;
    flux::tell(stage, timeline)?;
    drift(stage, timeline, values).await?;
    let values = crashes(stage, timeline, values).await?;
    upgrade(stage, timeline, values).await?;
    deletion(stage, timeline, values).await
}

async fn install(stage: &Stage, timeline: &mut Timeline) -> anyhow::Result<()> {
    // The syncer is told of a repository that has something in it.
    stage
        .repository
        .write("README", "The estate of the end-to-end test\n")?;
    stage.repository.write(
        &format!("{BRANCH}/namespace.yaml"),
        estate::restricted_namespace(NAMESPACE),
    )?;
    stage.push("A namespace").await?;
    let names: Vec<_> = CHARTS.iter().map(|chart| chart.namespace).collect();
    for name in names {
        stage.restricted_namespace(name)?;
    }
    for chart in CHARTS {
        let since = timeline.action(&format!("helm install {} --wait", chart.name));
        stage.helm("install", chart, &[])?;
        timeline.effect("its pods are ready", since);
    }
    // What the syncer runs as children, as its user and on a root filesystem that cannot be written to.
    for child in [
        &["ssh", "-V"][..],
        &["kustomize", "version"],
        &["sh", "-c", "cat </dev/null"],
    ] {
        let exec = ["exec", "-n", SYNC.namespace, "deployment/sync", "--"];
        stage.kubectl(&[&exec[..], child].concat(), "")?;
    }
    timeline.note("   ssh, sh, cat and kustomize run in the syncer's pod");
    Ok(())
}

async fn first_commit(stage: &Stage, timeline: &mut Timeline) -> anyhow::Result<Values> {
    let values = Values {
        greeting: "hello",
        password: "s3cret",
    };
    let since = timeline.action("kubectl create secret --dry-run=client | kubeseal");
    let sealed = stage.seal(values.password)?;
    timeline.effect(
        "sealed with the certificate of the controller in the cluster",
        since,
    );
    let write = |name: &str, text: &str| stage.repository.write(&format!("{BRANCH}/{name}"), text);
    write("secret.yaml", &sealed)?;
    write("configmap.yaml", &estate::config_map(values.greeting))?;
    write("deployment.yaml", &estate::deployment())?;
    let since = timeline.action("git push: a Deployment, its ConfigMap and its SealedSecret");
    stage.push("The shop").await?;
    stage.shows(values).await?;
    timeline.effect("its pods run and print both values", since);
    stage.rolled(1).await?;
    timeline.note("   it was rolled out once");
    Ok(values)
}

async fn changes(stage: &Stage, timeline: &mut Timeline, mut values: Values) -> anyhow::Result<Values> {
    values.greeting = "good-morning";
    let since = timeline.action("git push: another value in the ConfigMap");
    config_map(stage, values)?;
    stage.push("Another greeting").await?;
    stage.shows(values).await?;
    timeline.effect("the pods were restarted and print the new value", since);
    stage.rolled(2).await?;

    values.password = "n3xt";
    let since = timeline.action("git push: the Secret sealed again, with another value");
    reseal(stage, values)?;
    stage.push("Another password").await?;
    stage.shows(values).await?;
    timeline.effect(
        "the pods were restarted once more and print the new secret",
        since,
    );
    stage.rolled(3).await?;
    Ok(values)
}

/// Somebody changes things by hand.
async fn drift(stage: &Stage, timeline: &mut Timeline, values: Values) -> anyhow::Result<()> {
    let since = timeline.action("kubectl scale deployment web --replicas=5");
    let object = format!("deployment/{APP}");
    stage.kubectl(&["scale", &object, "-n", NAMESPACE, "--replicas=5"], "")?;
    let deployments: Api<Deployment> = Api::namespaced(stage.client.clone(), NAMESPACE);
    wait_for("the number of replicas to be put right", PATIENCE, async || {
        let found = deployments.get(APP).await.map_err(|error| error.to_string())?;
        let replicas = found.spec.and_then(|spec| spec.replicas).unwrap_or_default();
        match usize::try_from(replicas) {
            Ok(REPLICAS) => Ok(()),
            _ => Err(format!("{replicas} replicas")),
        }
    })
    .await?;
    timeline.effect("put right", since);

    let since = timeline.action("kubectl delete configmap foo-configmap");
    stage.kubectl(&["delete", "configmap", CONFIG_MAP, "-n", NAMESPACE], "")?;
    let maps: Api<ConfigMap> = Api::namespaced(stage.client.clone(), NAMESPACE);
    wait_for("the ConfigMap to be made again", PATIENCE, async || {
        maps.get(CONFIG_MAP).await
    })
    .await?;
    timeline.effect("made again", since);

    let since = timeline.action("kubectl patch secret foo-secret: another password");
    let secrets: Api<Secret> = Api::namespaced(stage.client.clone(), NAMESPACE);
    let patch = json!({"stringData": {"PASSWORD": "by-hand"}});
    secrets
        .patch(SECRET, &PatchParams::default(), &Patch::Merge(&patch))
        .await?;
    wait_for("the Secret to be put right", PATIENCE, async || {
        let data = secrets.get(SECRET).await.map_err(|error| error.to_string())?.data;
        match data.unwrap_or_default().get("PASSWORD") {
            Some(found) if found.0 == values.password.as_bytes() => Ok(()),
            _ => Err("another password".to_owned()),
        }
    })
    .await?;
    timeline.effect("put right", since);
    // Pods that were started with what was there by hand, if any, are restarted too.
    stage.shows(values).await
}

/// Each controller is killed when it has something to do.
async fn crashes(stage: &Stage, timeline: &mut Timeline, mut values: Values) -> anyhow::Result<Values> {
    let rollouts = stage.rollouts().await?;
    values.greeting = "after-a-crash-of-sync";
    let since = timeline.action("git push of another greeting; the syncer's pod is killed at once");
    config_map(stage, values)?;
    stage.push("Another greeting, and a crash").await?;
    stage.kill(SYNC)?;
    stage.shows(values).await?;
    timeline.effect("the pods print it", since);
    stage.rolled(rollouts + 1).await?;

    values.greeting = "after-a-crash-of-the-reloader";
    let since = timeline.action("git push of another greeting; the reloader's pod is killed at once");
    config_map(stage, values)?;
    stage
        .push("Another greeting, and a crash of the reloader")
        .await?;
    stage.kill(RELOADER)?;
    stage.shows(values).await?;
    timeline.effect("the pods print it", since);
    stage.rolled(rollouts + 2).await?;

    values.password = "after-a-crash";
    let since = timeline.action("git push of a re-sealed Secret; the unsealer's pod is killed at once");
    reseal(stage, values)?;
    stage.push("Another password, and a crash").await?;
    stage.kill(UNSEALER)?;
    stage.shows(values).await?;
    timeline.effect("the pods print it", since);
    stage.rolled(rollouts + 3).await?;
    Ok(values)
}

/// New pods of the controllers: nothing of the estate is touched.
async fn upgrade(stage: &Stage, timeline: &mut Timeline, values: Values) -> anyhow::Result<()> {
    let rollouts = stage.rollouts().await?;
    for chart in CHARTS {
        let since = timeline.action(&format!("helm upgrade {} --wait", chart.name));
        let note = match chart.name {
            "reloader" => "reloader.deployment.pod.annotations.upgraded=yes",
            _ => "podAnnotations.upgraded=yes",
        };
        stage.helm("upgrade", chart, &["--set-string", note])?;
        timeline.effect("its new pods are ready", since);
    }
    stage.shows(values).await?;
    stage.rolled(rollouts).await?;
    timeline.note("   the application was not rolled out");
    Ok(())
}

/// Files leave Git.
async fn deletion(stage: &Stage, timeline: &mut Timeline, values: Values) -> anyhow::Result<()> {
    let since = timeline.action("git push without the Deployment and its SealedSecret");
    for name in ["deployment.yaml", "secret.yaml"] {
        stage.repository.remove(&format!("{BRANCH}/{name}"))?;
    }
    stage.push("The shop closes").await?;
    for object in ["deployment/web", "sealedsecret/foo-secret", "secret/foo-secret"] {
        wait_for(&format!("{object} to go"), PATIENCE, async || gone(stage, object)).await?;
    }
    wait_for("the pods to go", PATIENCE, async || gone(stage, "pods")).await?;
    timeline.effect("Deployment, pods, SealedSecret and Secret are gone", since);
    let map = stage.kubectl(&["get", "configmap", CONFIG_MAP, "-n", NAMESPACE], "");
    ensure!(map.is_ok(), "the ConfigMap, which is still in Git, is gone too");

    let since = timeline.action("git push with both again");
    stage
        .repository
        .write(&format!("{BRANCH}/deployment.yaml"), estate::deployment())?;
    reseal(stage, values)?;
    stage.push("The shop opens again").await?;
    stage.shows(values).await?;
    timeline.effect("its pods run", since);
    Ok(())
}

fn config_map(stage: &Stage, values: Values) -> anyhow::Result<()> {
    let path = format!("{BRANCH}/configmap.yaml");
    stage.repository.write(&path, estate::config_map(values.greeting))
}

fn reseal(stage: &Stage, values: Values) -> anyhow::Result<()> {
    let sealed = stage.seal(values.password)?;
    stage.repository.write(&format!("{BRANCH}/secret.yaml"), sealed)
}

/// Says what of `objects` is still there.
pub(super) fn gone(stage: &Stage, objects: &str) -> Result<(), String> {
    let found = stage.kubectl(
        &[
            "get",
            objects,
            "-n",
            NAMESPACE,
            "--ignore-not-found",
            "-o",
            "name",
        ],
        "",
    );
    match found {
        Ok(names) if names.is_empty() => Ok(()),
        Ok(names) => Err(names),
        Err(error) => Err(format!("{error:#}")),
    }
}
