//! Rollouts that really happen: kwok says that the pods run. What waits for a rollout waits for as long as it takes.

use kube::api::ListParams;
use plumbline_testkit::{FakeNode, wait_for};
use serde_json::{Value, json};

use crate::harness::{AUTO, Bench, LIMIT, workload};

const CANARY: (&str, &str) = ("reloader.plumbline.dev/canary", "true");

/// A workload with pods on the node.
fn running(kind: &str, name: &str, node: &FakeNode, annotations: &[(&str, &str)]) -> Value {
    let mut object = workload(kind, name, annotations);
    object["spec"]["selector"]["matchLabels"] = json!({ "app": name });
    object["spec"]["template"]["metadata"]["labels"] = json!({ "app": name });
    object["spec"]["template"]["spec"]["nodeName"] = json!(node.name());
    object
}

/// Whether every pod runs the current template, as `kubectl rollout status` sees it.
fn complete(object: &Value) -> bool {
    let status = &object["status"];
    let number = |value: &Value| value.as_i64().unwrap_or(0);
    let seen = number(&status["observedGeneration"]) >= number(&object["metadata"]["generation"]);
    seen && match object["kind"].as_str() {
        Some("DaemonSet") => {
            let wanted = number(&status["desiredNumberScheduled"]);
            wanted > 0
                && number(&status["updatedNumberScheduled"]) >= wanted
                && number(&status["numberAvailable"]) >= wanted
        }
        Some("StatefulSet") => {
            number(&status["updatedReplicas"]) >= 1 && number(&status["readyReplicas"]) >= 1
        }
        _ => {
            number(&status["updatedReplicas"]) >= 1
                && number(&status["availableReplicas"]) >= 1
                && number(&status["replicas"]) <= number(&status["updatedReplicas"])
        }
    }
}

async fn completed(bench: &Bench, kind: &str, name: &str) -> anyhow::Result<()> {
    wait_for(&format!("{kind} {name} to be complete"), LIMIT, async || {
        let object = bench.get(kind, name).await.map_err(|error| error.to_string())?;
        if complete(&object) {
            Ok(())
        } else {
            Err(object["status"].to_string())
        }
    })
    .await
}

#[tokio::test]
async fn every_kind_gets_pods_of_its_new_template() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let node = FakeNode::start(&bench.world).await?;
    bench.config_map("app", "v1").await?;
    let kinds = ["Deployment", "StatefulSet", "DaemonSet"];
    for kind in kinds {
        let name = kind.to_lowercase();
        bench.create(running(kind, &name, &node, &[AUTO])).await?;
        completed(&bench, kind, &name).await?;
    }
    let _reloader = bench.start(&["--debounce=0s"]).await?;
    for kind in kinds {
        let name = kind.to_lowercase();
        bench.adopted(kind, &name, &["cm/app"]).await?;
    }
    bench.set("ConfigMap", "app", "v2").await?;
    for kind in kinds {
        let name = kind.to_lowercase();
        wait_for("the workload to be rolled", LIMIT, async || {
            match bench.count(kind, &name).await {
                Ok(1) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await?;
        completed(&bench, kind, &name).await?;
    }
    node.stop(&bench.world).await
}

#[tokio::test]
async fn no_more_rollouts_are_in_progress_than_may_be() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let node = FakeNode::start(&bench.world).await?;
    bench.config_map("app", "v1").await?;
    let names = ["a", "b", "c", "d", "e"];
    for name in names {
        bench.create(running("Deployment", name, &node, &[AUTO])).await?;
    }
    for name in names {
        completed(&bench, "Deployment", name).await?;
    }
    let _reloader = bench.start(&["--debounce=0s", "--max-rollouts=2"]).await?;
    for name in names {
        bench.adopted("Deployment", name, &["cm/app"]).await?;
    }
    let before = bench.template("Deployment", "a").await?["metadata"]["annotations"].clone();
    bench.set("ConfigMap", "app", "v2").await?;
    let mut most = 0;
    wait_for("all to be rolled", LIMIT, async || {
        let listed = bench.api("Deployment").list(&ListParams::default()).await;
        let list = listed.map_err(|error| error.to_string())?;
        // One answer shows all as they were at the same moment.
        let objects: Vec<Value> = list
            .items
            .iter()
            .filter_map(|item| serde_json::to_value(item).ok())
            .collect();
        let rolled = objects
            .iter()
            .filter(|object| object["spec"]["template"]["metadata"]["annotations"] != before);
        let rolled: Vec<_> = rolled.collect();
        most = most.max(rolled.iter().filter(|object| !complete(object)).count());
        if rolled.len() == names.len() && rolled.iter().all(|object| complete(object)) {
            Ok(())
        } else {
            Err(format!("{} are rolled", rolled.len()))
        }
    })
    .await?;
    assert!((1..=2).contains(&most), "{most} at the same time");
    node.stop(&bench.world).await
}

#[tokio::test]
async fn a_canary_that_does_not_get_well_holds_the_others_until_it_does() -> anyhow::Result<()> {
    held_until_well(&[AUTO, CANARY], &["--debounce=0s"]).await
}

#[tokio::test]
async fn a_failed_rollout_halts_the_others_until_it_is_well() -> anyhow::Result<()> {
    held_until_well(
        &[AUTO],
        &["--debounce=0s", "--halt-on-failure", "--max-rollouts=1"],
    )
    .await
}

async fn held_until_well(first: &[(&str, &str)], arguments: &[&str]) -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let mut node = FakeNode::start(&bench.world).await?;
    bench.config_map("app", "v1").await?;
    bench.create(running("Deployment", "a", &node, first)).await?;
    bench.create(running("Deployment", "b", &node, &[AUTO])).await?;
    for name in ["a", "b"] {
        completed(&bench, "Deployment", name).await?;
        let soon = json!({"spec": {"progressDeadlineSeconds": 2}});
        bench.merge("Deployment", name, soon).await?;
    }
    let _reloader = bench.start(arguments).await?;
    let mut templates = Vec::new();
    for name in ["a", "b"] {
        bench.adopted("Deployment", name, &["cm/app"]).await?;
        templates.push((name, bench.template("Deployment", name).await?));
    }
    // From here on no new pod gets ready.
    node.pause();
    bench.set("ConfigMap", "app", "v2").await?;
    let (failed, held) = wait_for("one to be rolled", LIMIT, async || {
        for (n, (name, before)) in templates.iter().enumerate() {
            let now = bench.template("Deployment", name).await;
            if now.map_err(|error| error.to_string())? != *before {
                return Ok((*name, &templates[1 - n]));
            }
        }
        Err("none is".to_owned())
    })
    .await?;
    let (held, before) = held;
    let told = bench.event(held, "Halted").await?;
    assert!(told.contains(&format!("Deployment/{failed}")), "{told}");
    bench.stays("Deployment", held, before).await?;
    node.resume()?;
    completed(&bench, "Deployment", failed).await?;
    bench.rolled("Deployment", held, before).await?;
    completed(&bench, "Deployment", held).await?;
    node.stop(&bench.world).await
}
