//! Changes of a few sources that one Deployment uses.

use std::time::Duration;

use anyhow::Context as _;
use serde_json::json;

use super::{
    Scale, process,
    stage::{NAMESPACE, Stage},
};
use crate::bench::figures::{Figures, Goal, number, percentile};

/// Between two changes.
const PAUSE: Duration = Duration::from_millis(50);

/// A ConfigMap changes, without debounce: when has the template changed?
pub(super) async fn one_to_one(scale: &Scale, figures: &mut Figures) -> anyhow::Result<()> {
    let stage = Stage::set_up().await?;
    stage.map(NAMESPACE, "own", "0").await?;
    let uses = [json!({"configMapRef": {"name": "own"}})];
    stage.deployment(NAMESPACE, "single", &uses).await?;
    let reloader = process::start(&stage.plane, &["--debounce=0s"])?;
    let measured = async {
        stage.adopted(1).await?;
        stage.settled().await?;
        let mut took = vec![];
        for round in 1..=scale.changes {
            let last = stage.change("own", &round.to_string(), 1).await?;
            took.push(last.as_secs_f64() * 1e3);
            tokio::time::sleep(PAUSE).await;
        }
        let of = |percent| percentile(&took, percent).context("nothing was measured");
        let note = format!(
            "{} changes; best {:.1}, worst {:.1} ms",
            took.len(),
            of(1)?,
            of(100)?
        );
        figures.add(
            "change to patch seen, p50",
            of(50)?,
            "ms",
            Some(Goal::Below(15.0)),
            note,
        );
        figures.add(
            "change to patch seen, p99",
            of(99)?,
            "ms",
            Some(Goal::Below(60.0)),
            "",
        );
        anyhow::Ok(())
    };
    measured.await.with_context(|| reloader.last_words())
}

/// Four sources are updated twenty times within a second, with the debounce that is the default.
pub(super) async fn twenty_of_four(figures: &mut Figures) -> anyhow::Result<()> {
    let stage = Stage::set_up().await?;
    let names = ["one", "two", "three", "four"];
    for name in names {
        stage.map(NAMESPACE, name, "0").await?;
    }
    let uses = names.map(|name| json!({"configMapRef": {"name": name}}));
    stage.deployment(NAMESPACE, "single", &uses).await?;
    let reloader = process::start(&stage.plane, &[])?;
    let measured = async {
        stage.adopted(1).await?;
        stage.settled().await?;
        let replica_sets = stage.replica_sets().await?;
        let mut tick = tokio::time::interval(Duration::from_millis(50));
        for round in 0..5 {
            for name in names {
                tick.tick().await;
                stage.set(name, &format!("value {round}")).await?;
            }
        }
        tokio::time::sleep(Duration::from_secs(5)).await;
        let rollouts = stage.replica_sets().await?.saturating_sub(replica_sets);
        figures.add(
            "20 updates of 4 sources in a second",
            number(rollouts),
            "rollouts",
            Some(Goal::Exactly(1.0)),
            "counted by the Deployment's ReplicaSets",
        );
        anyhow::Ok(())
    };
    measured.await.with_context(|| reloader.last_words())
}
