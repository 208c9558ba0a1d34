//! Kustomizations that never get healthy, beside others.

use serde_json::{Value, json};

use super::fleet::Fleet;
use crate::bench::{
    figures::{Figures, Goal, percentile},
    stage,
};

/// A Deployment whose Pods no node will ever run.
fn deployment(namespace: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": "never", "namespace": namespace },
        "spec": {
            "replicas": 1, "selector": { "matchLabels": { "app": "never" } },
            "template": {
                "metadata": { "labels": { "app": "never" } },
                "spec": { "containers": [{ "name": "never", "image": "example.org/never:1" }] },
            },
        },
    })
}

pub(crate) async fn measure(fleet: &Fleet<'_>, quick: bool, figures: &mut Figures) -> anyhow::Result<()> {
    let (well, ill, objects, rounds) = if quick { (18, 2, 2, 2) } else { (90, 10, 5, 5) };
    let healthy: Vec<String> = (0..well).map(|index| format!("well-{index:03}")).collect();
    let unhealthy: Vec<String> = (0..ill).map(|index| format!("ill-{index:03}")).collect();
    for name in healthy.iter().chain(&unhealthy) {
        stage::namespace(fleet.client, name).await?;
    }
    for name in &unhealthy {
        fleet
            .stage
            .repository
            .write(&format!("{name}/deployment.yaml"), deployment(name).to_string())?;
    }
    let write = |value: &str| -> anyhow::Result<()> {
        for name in &healthy {
            for index in 0..objects {
                let object = stage::config_map_with(name, index, value);
                fleet
                    .stage
                    .repository
                    .write(&stage::path(name, index), object.to_string())?;
            }
        }
        Ok(())
    };
    write("first")?;
    let revision = fleet.commit("everything")?;
    fleet.stage.follow_repository(fleet.client).await?;
    stage::fetched(fleet.client).await?;
    fleet.make(&healthy, &json!({ "wait": true })).await?;
    fleet.applied(&healthy, &revision).await?;

    let rounds_of = async |what: &str| -> anyhow::Result<Vec<f64>> {
        let mut took = Vec::new();
        for round in 0..rounds {
            let value = format!("{what} {round}");
            write(&value)?;
            took.push(fleet.push(&healthy, &value).await?.0.as_secs_f64());
        }
        Ok(took)
    };
    // The first round pays for what is cold.
    write("warm")?;
    fleet.push(&healthy, "warm").await?;
    let alone = rounds_of("alone").await?;
    fleet
        .make(
            &unhealthy,
            &json!({ "wait": true, "timeout": "30s", "retryInterval": "10s" }),
        )
        .await?;
    write("together")?;
    let (_, _) = fleet.push(&healthy, "together").await?;
    let revision = format!("main@sha1:{}", fleet.stage.repository.head()?);
    fleet.waiting(&unhealthy, &revision).await?;
    let beside = rounds_of("beside").await?;
    let median = |values: &[f64]| percentile(values, 50).unwrap_or_default();
    let what = format!("{well} healthy Kustomizations, all changed by a commit");
    figures.add(
        format!("{what}: alone"),
        median(&alone),
        "s",
        None,
        format!("median of {rounds}"),
    );
    figures.add(
        format!("{what}: beside {ill} that never get healthy"),
        median(&beside),
        "s",
        None,
        format!("median of {rounds}"),
    );
    figures.add(
        format!("{what}: ratio"),
        median(&beside) / median(&alone),
        "",
        Some(Goal::Below(1.25)),
        "",
    );
    Ok(())
}
