//! One ConfigMap that many Deployments use.

use std::time::Duration;

use anyhow::Context as _;
use plumbline_testkit::{AuditLog, wait_for};
use serde_json::json;

use super::{
    Scale,
    process::{self, USER_AGENT},
    stage::{NAMESPACE, Stage, many},
};
use crate::bench::figures::{Figures, Goal, number, percentile};

/// How long events may lag behind.
const LAG: Duration = Duration::from_secs(30);

/// The sizes of the contract have goals; in seconds.
fn goal(deployments: usize) -> Option<Goal> {
    match deployments {
        200 => Some(Goal::Below(1.0)),
        1_000 => Some(Goal::Below(3.0)),
        _ => None,
    }
}

/// Each size on a control plane of its own.
pub(super) async fn measure(scale: &Scale, figures: &mut Figures) -> anyhow::Result<()> {
    for deployments in scale.fan_outs {
        one_size(scale, deployments, figures).await?;
    }
    Ok(())
}

async fn one_size(scale: &Scale, deployments: usize, figures: &mut Figures) -> anyhow::Result<()> {
    let stage = Stage::set_up().await?;
    stage.map(NAMESPACE, "shared", "0").await?;
    let uses = [json!({"configMapRef": {"name": "shared"}})];
    many(deployments, async |at| {
        stage.deployment(NAMESPACE, &name(at), &uses).await
    })
    .await?;
    stage.settled().await?;
    let mut floors = vec![];
    for round in 0..scale.rounds {
        let floor = stage.bare(name, deployments, &round.to_string()).await?;
        floors.push(floor.as_secs_f64());
        stage.settled().await?;
    }
    let reloader = process::start(&stage.plane, &["--debounce=0s"])?;
    let measured = async {
        stage.adopted(deployments).await?;
        stage.settled().await?;
        let mut took = vec![];
        let log = stage.plane.audit_log().since_now()?;
        for round in 1..=scale.rounds {
            let last = stage.change("shared", &round.to_string(), deployments).await?;
            took.push(last.as_secs_f64());
            stage.settled().await?;
        }
        let (last, floor) = (median(&took)?, median(&floors)?);
        figures.add(
            format!("one ConfigMap to {deployments} Deployments, last patch"),
            last,
            "s",
            goal(deployments),
            format!("median of {}", list(&took)),
        );
        figures.add(
            format!("the same {deployments} patches by a bare client"),
            floor,
            "s",
            None,
            format!(
                "median of {}; ours takes {:.2} times as long",
                list(&floors),
                last / floor
            ),
        );
        requests(&log, deployments * scale.rounds, figures).await
    };
    measured.await.with_context(|| reloader.last_words())
}

async fn requests(log: &AuditLog, wanted: usize, figures: &mut Figures) -> anyhow::Result<()> {
    let count = || -> anyhow::Result<_> {
        let asked = log
            .requests(USER_AGENT)?
            .without_watches_and_leases()
            .by_verb_and_resource();
        let of = |verb: &str, resource: &str| {
            let key = (verb.to_owned(), resource.to_owned());
            asked.get(&key).copied().unwrap_or_default()
        };
        let events = of("create", "events") + of("patch", "events");
        let patches = of("patch", "deployments");
        Ok((patches, events, asked.values().sum::<usize>() - patches - events))
    };
    // Events are sent one after the other, behind the patches.
    drop(
        wait_for("the events", LAG, async || match count() {
            Ok((_, events, _)) if events >= wanted => Ok(()),
            Ok((_, events, _)) => Err(events.to_string()),
            Err(error) => Err(error.to_string()),
        })
        .await,
    );
    let (patches, events, others) = count()?;
    figures.add(
        "  patches of Deployments",
        number(patches),
        "requests",
        Some(Goal::Exactly(number(wanted))),
        "",
    );
    figures.add(
        "  events",
        number(events),
        "requests",
        Some(Goal::Exactly(number(wanted))),
        "",
    );
    figures.add(
        "  requests beside these",
        number(others),
        "requests",
        Some(Goal::Exactly(0.0)),
        "no LIST, no GET",
    );
    Ok(())
}

fn name(at: usize) -> String {
    format!("web-{at}")
}

fn median(values: &[f64]) -> anyhow::Result<f64> {
    percentile(values, 50).context("nothing was measured")
}

fn list(values: &[f64]) -> String {
    let values: Vec<String> = values.iter().map(|one| format!("{one:.2}")).collect();
    values.join(" ")
}
