//! One ConfigMap that many Deployments use.

use std::time::Duration;

use anyhow::Context as _;
use serde_json::json;

use super::{
    Scale,
    process::{Reloader, USER_AGENT},
    stage::{NAMESPACE, Stage, many},
};
use crate::bench::figures::{Figures, Goal, number, percentile};

/// How long events and the controllers of the cluster may lag behind.
const SETTLE: Duration = Duration::from_secs(15);

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
        stage.deployment(NAMESPACE, &format!("web-{at}"), &uses).await
    })
    .await?;
    let reloader = Reloader::start(&stage.plane, &["--debounce=0s"])?;
    let measured = async {
        stage.adopted(deployments).await?;
        let mut took = vec![];
        let log = stage.plane.audit_log().since_now()?;
        for round in 1..=scale.rounds {
            tokio::time::sleep(SETTLE).await;
            let last = stage.change("shared", &round.to_string(), deployments).await?;
            took.push(last.as_secs_f64());
        }
        tokio::time::sleep(SETTLE).await;
        let all: Vec<String> = took.iter().map(|one| format!("{one:.2}")).collect();
        figures.add(
            format!("one ConfigMap to {deployments} Deployments, last patch"),
            percentile(&took, 50).context("nothing was measured")?,
            "s",
            goal(deployments),
            format!("median of {}", all.join(" ")),
        );
        let asked = log
            .requests(USER_AGENT)?
            .without_watches_and_leases()
            .by_verb_and_resource();
        let of = |verb: &str, resource: &str| {
            let key = (verb.to_owned(), resource.to_owned());
            asked.get(&key).copied().unwrap_or_default()
        };
        let (patches, events) = (
            of("patch", "deployments"),
            of("create", "events") + of("patch", "events"),
        );
        let others = asked.values().sum::<usize>() - patches - events;
        let rounds = scale.rounds;
        figures.add(
            format!("{rounds} such change(s): patches of Deployments"),
            number(patches),
            "requests",
            Some(Goal::Exactly(number(deployments * rounds))),
            format!("{events} events"),
        );
        figures.add(
            format!("{rounds} such change(s): requests beside patches and events"),
            number(others),
            "requests",
            Some(Goal::Exactly(0.0)),
            "no LIST, no GET",
        );
        anyhow::Ok(())
    };
    measured.await.with_context(|| reloader.last_words())
}
