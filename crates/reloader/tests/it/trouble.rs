//! One workload in trouble does not stop the others, and what could not be done is done later.

use plumbline_testkit::wait_for;
use serde_json::json;

use crate::{
    admission::Policy,
    harness::{AUTO, Bench, LIMIT, workload},
};

#[tokio::test]
async fn admission_that_denies_one_workload_does_not_stop_the_others() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    bench.config_map("app", "v1").await?;
    for name in ["good", "denied"] {
        bench.create(workload("Deployment", name, &[AUTO])).await?;
    }
    let _reloader = bench.start(&["--debounce=0s"]).await?;
    for name in ["good", "denied"] {
        bench.adopted("Deployment", name, &["cm/app"]).await?;
    }
    let (good, denied) = (
        bench.template("Deployment", "good").await?,
        bench.template("Deployment", "denied").await?,
    );
    let label = json!({"metadata": {"labels": {"probe": "1"}}});
    let policy = Policy::deny(
        &bench,
        "deployments",
        "UPDATE",
        "object.metadata.name == 'denied'",
        async || bench.merge("Deployment", "denied", label.clone()).await.map(drop),
    )
    .await?;
    bench.set("ConfigMap", "app", "v2").await?;
    bench.rolled("Deployment", "good", &good).await?;
    let told = bench.event("denied", "ReloadFail").await?;
    assert!(
        told.contains("ConfigMap app") && told.contains("not today"),
        "{told}"
    );
    bench.stays("Deployment", "denied", &denied).await?;
    policy.lift().await?;
    bench.rolled("Deployment", "denied", &denied).await?;
    assert_eq!(bench.count("Deployment", "denied").await?, 1);
    Ok(())
}

#[tokio::test]
async fn an_invalid_pause_period_blocks_its_deployment_until_it_is_right() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let key = "deployment.reloader.stakater.com/pause-period";
    bench.config_map("app", "v1").await?;
    bench
        .create(workload("Deployment", "wrong", &[AUTO, (key, "5 minutes")]))
        .await?;
    bench.create(workload("Deployment", "other", &[AUTO])).await?;
    let _reloader = bench.start(&["--debounce=0s"]).await?;
    bench.adopted("Deployment", "wrong", &["cm/app"]).await?;
    bench.adopted("Deployment", "other", &["cm/app"]).await?;
    let (wrong, other) = (
        bench.template("Deployment", "wrong").await?,
        bench.template("Deployment", "other").await?,
    );
    bench.set("ConfigMap", "app", "v2").await?;
    bench.rolled("Deployment", "other", &other).await?;
    let told = bench.event("wrong", "InvalidAnnotation").await?;
    assert!(told.contains(key) && told.contains("5 minutes"), "{told}");
    bench.stays("Deployment", "wrong", &wrong).await?;
    bench
        .merge(
            "Deployment",
            "wrong",
            json!({"metadata": {"annotations": { key: null }}}),
        )
        .await?;
    bench.rolled("Deployment", "wrong", &wrong).await.map(drop)
}

#[tokio::test]
async fn a_pause_survives_a_kill_and_ends() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let key = "deployment.reloader.stakater.com/pause-period";
    bench.config_map("app", "v1").await?;
    bench
        .create(workload("Deployment", "web", &[AUTO, (key, "8s")]))
        .await?;
    let mut reloader = bench.start(&["--debounce=0s"]).await?;
    bench.adopted("Deployment", "web", &["cm/app"]).await?;
    let before = bench.template("Deployment", "web").await?;
    bench.set("ConfigMap", "app", "v2").await?;
    let first = bench.rolled("Deployment", "web", &before).await?;
    let object = bench.get("Deployment", "web").await?;
    assert_eq!(object["spec"]["paused"], true);
    assert!(object["metadata"]["annotations"]["deployment.reloader.stakater.com/paused-at"].is_string());
    // A second change while it is paused: the template moves on, the pause stays.
    bench.set("ConfigMap", "app", "v3").await?;
    bench.rolled("Deployment", "web", &first).await?;
    assert_eq!(bench.get("Deployment", "web").await?["spec"]["paused"], true);
    reloader.kill();
    let _reloader = bench.start(&["--debounce=0s"]).await?;
    wait_for("the pause to end", LIMIT, async || {
        let object = bench
            .get("Deployment", "web")
            .await
            .map_err(|error| error.to_string())?;
        let marker = &object["metadata"]["annotations"]["deployment.reloader.stakater.com/paused-at"];
        if object["spec"]["paused"].is_null() && marker.is_null() {
            Ok(())
        } else {
            Err(object.to_string())
        }
    })
    .await
}

#[tokio::test]
async fn a_flapping_secret_is_held_and_told() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    bench.secret("db", "v0").await?;
    bench.create(workload("Deployment", "web", &[AUTO])).await?;
    let _reloader = bench
        .start(&["--debounce=0s", "--flap-limit=3", "--flap-window=8s"])
        .await?;
    bench.adopted("Deployment", "web", &["sec/db"]).await?;
    let mut template = bench.template("Deployment", "web").await?;
    for round in 1..=3 {
        bench.set("Secret", "db", &format!("v{round}")).await?;
        template = bench.rolled("Deployment", "web", &template).await?;
    }
    bench.set("Secret", "db", "v4").await?;
    let told = bench.event("web", "Flapping").await?;
    assert!(told.contains("sec/db"), "{told}");
    assert_eq!(bench.count("Deployment", "web").await?, 3);
    // The latest content is applied when the window is over.
    bench.rolled("Deployment", "web", &template).await?;
    assert_eq!(bench.count("Deployment", "web").await?, 4);
    Ok(())
}

#[tokio::test]
async fn no_more_rollouts_are_in_progress_than_allowed() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    bench.config_map("app", "v1").await?;
    let names = ["a", "b", "c"];
    for name in names {
        bench.create(workload("Deployment", name, &[AUTO])).await?;
    }
    let _reloader = bench.start(&["--debounce=0s", "--max-rollouts=1"]).await?;
    for name in names {
        bench.adopted("Deployment", name, &["cm/app"]).await?;
    }
    bench.set("ConfigMap", "app", "v2").await?;
    // There is no node: a rollout goes on until its Deployment wants no pods.
    for done in 1..=names.len() {
        let rolled = rolled_of(&bench, &names, done).await?;
        tokio::time::sleep(crate::harness::QUIET).await;
        assert_eq!(rolled_of(&bench, &names, done).await?, rolled, "one at a time");
        for name in rolled {
            bench
                .merge("Deployment", &name, json!({"spec": {"replicas": 0}}))
                .await?;
        }
    }
    Ok(())
}

// Waits until so many were rolled, and fails if more were.
async fn rolled_of(bench: &Bench, names: &[&str], wanted: usize) -> anyhow::Result<Vec<String>> {
    let rolled = wait_for("rollouts", LIMIT, async || {
        let mut rolled = Vec::new();
        for name in names {
            if bench
                .count("Deployment", name)
                .await
                .map_err(|error| error.to_string())?
                == 1
            {
                rolled.push((*name).to_owned());
            }
        }
        if rolled.len() < wanted {
            Err(format!("{rolled:?}"))
        } else {
            Ok(rolled)
        }
    })
    .await?;
    anyhow::ensure!(rolled.len() == wanted, "{rolled:?} instead of {wanted}");
    Ok(rolled)
}

#[tokio::test]
async fn who_was_paused_by_hand_stays_paused() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let period = ("deployment.reloader.stakater.com/pause-period", "1s");
    bench.config_map("app", "v1").await?;
    let mut object = workload("Deployment", "web", &[AUTO, period]);
    object["spec"]["paused"] = json!(true);
    bench.create(object).await?;
    let _reloader = bench.start(&["--debounce=0s"]).await?;
    bench.adopted("Deployment", "web", &["cm/app"]).await?;
    let before = bench.template("Deployment", "web").await?;
    bench.set("ConfigMap", "app", "v2").await?;
    let after = bench.rolled("Deployment", "web", &before).await?;
    bench.stays("Deployment", "web", &after).await?;
    let object = bench.get("Deployment", "web").await?;
    assert_eq!(object["spec"]["paused"], true);
    let marker = &object["metadata"]["annotations"]["deployment.reloader.stakater.com/paused-at"];
    assert!(marker.is_null(), "{marker}");
    Ok(())
}

#[tokio::test]
async fn a_pause_that_stakaters_left_behind_is_ended() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let key = "deployment.reloader.stakater.com/";
    let (period, marker) = (format!("{key}pause-period"), format!("{key}paused-at"));
    bench.config_map("app", "v1").await?;
    let marks = [AUTO, (&period, "5m"), (&marker, "2026-01-01T00:00:00Z")];
    let mut object = workload("Deployment", "web", &marks);
    object["spec"]["paused"] = json!(true);
    bench.create(object).await?;
    let _reloader = bench.start(&[]).await?;
    wait_for("the pause to end", LIMIT, async || {
        let object = bench.get("Deployment", "web").await;
        let object = object.map_err(|error| error.to_string())?;
        let marker = &object["metadata"]["annotations"][&marker];
        if object["spec"]["paused"].is_null() && marker.is_null() {
            Ok(())
        } else {
            Err(object.to_string())
        }
    })
    .await?;
    assert_eq!(bench.count("Deployment", "web").await?, 0);
    Ok(())
}
