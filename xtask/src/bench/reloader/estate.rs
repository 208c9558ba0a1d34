//! A large estate: memory, and a restart with nothing changed.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::json;

use super::{
    Scale,
    process::{self, USER_AGENT},
    stage::{Stage, many},
};
use crate::bench::figures::{Figures, Goal, number};

/// Sources and workloads are spread over so many namespaces.
const NAMESPACES: usize = 20;
/// The size of a ConfigMap's value.
const VALUE: usize = 20 << 10;
/// Of the allocator and of what is written in the background.
const SETTLE: Duration = Duration::from_secs(10);

pub(super) async fn measure(scale: &Scale, figures: &mut Figures) -> anyhow::Result<()> {
    let stage = Stage::set_up().await?;
    let begin = Instant::now();
    populate(&stage, scale).await?;
    let size = format!(
        "{} ConfigMaps of 20 KiB, {} Secrets, {} Deployments",
        scale.sources, scale.sources, scale.deployments
    );
    println!("  there are {size}, made within {} s", begin.elapsed().as_secs());

    let begin = Instant::now();
    let reloader = process::start(&stage.plane, &[])?;
    let measured = async {
        stage.adopted(scale.deployments).await?;
        let took = begin.elapsed().as_secs();
        tokio::time::sleep(SETTLE).await;
        let note = format!(
            "{:.1} MiB without the program itself; {size}; adopted within {took} s",
            reloader.own()?
        );
        let goal = (Goal::Below(60.0), Goal::Below(120.0));
        figures.add(
            "memory after adoption",
            reloader.resident()?,
            "MiB",
            Some(goal.0),
            note,
        );
        figures.add(
            "peak memory with adoption",
            reloader.peak()?,
            "MiB",
            Some(goal.1),
            "",
        );
        anyhow::Ok(())
    };
    measured.await.with_context(|| reloader.last_words())?;
    drop(reloader);

    let log = stage.plane.audit_log().since_now()?;
    let reloader = process::start(&stage.plane, &[])?;
    let measured = async {
        tokio::time::sleep(Duration::from_secs(scale.quiet)).await;
        let asked = log
            .requests(USER_AGENT)?
            .without_watches_and_leases()
            .by_verb_and_resource();
        let reads = ["get", "list"];
        let (read, written): (Vec<_>, Vec<_>) = asked
            .iter()
            .partition(|((verb, _), _)| reads.contains(&verb.as_str()));
        let sum = |counts: &[(&(String, String), &usize)]| counts.iter().map(|(_, count)| **count).sum();
        let note = format!("{} pages of lists and other reads", sum(&read));
        let writes: usize = sum(&written);
        figures.add(
            "restart, nothing changed",
            number(writes),
            "writes",
            Some(Goal::Exactly(0.0)),
            note,
        );
        figures.add(
            "memory after a restart",
            reloader.resident()?,
            "MiB",
            Some(Goal::Below(60.0)),
            "",
        );
        figures.add(
            "peak memory of a restart",
            reloader.peak()?,
            "MiB",
            Some(Goal::Below(120.0)),
            "",
        );
        anyhow::Ok(())
    };
    measured.await.with_context(|| reloader.last_words())
}

async fn populate(stage: &Stage, scale: &Scale) -> anyhow::Result<()> {
    let namespace = |at: usize| format!("estate-{}", at % NAMESPACES);
    for at in 0..NAMESPACES {
        stage.namespace(&namespace(at)).await?;
    }
    let value = "x".repeat(VALUE);
    many(scale.sources, async |at| {
        stage
            .map(&namespace(at), &format!("settings-{at}"), &value)
            .await?;
        stage
            .secret(&namespace(at), &format!("password-{at}"), "swordfish")
            .await
    })
    .await?;
    many(scale.deployments, async |at| {
        let uses = [
            json!({"configMapRef": {"name": format!("settings-{at}")}}),
            json!({"secretRef": {"name": format!("password-{at}")}}),
        ];
        stage.paused(&namespace(at), &format!("web-{at}"), &uses).await
    })
    .await
}
