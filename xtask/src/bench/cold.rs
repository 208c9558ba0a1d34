//! Objects that are applied for the first time, beside a bare client.

use std::time::Instant;

use anyhow::Context as _;
use kube::Client;

use super::{
    Scale, bare,
    figures::{Figures, Goal, number, percentile},
    process::Process,
    requests::Asked,
    stage::{self, Stage},
};

/// Patches with which the API server, etcd and the bare client warm up.
const WARM_UP: usize = 500;
/// Requests beside one for each object that a cold apply may make, whatever the number of objects.
const CONSTANT: f64 = 30.0;

/// The small Kustomizations, one after the other, each between two runs of the bare client.
pub(crate) async fn small(
    stage: &Stage,
    client: &Client,
    syncer: &Process,
    scale: &Scale,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    let bare = bare_client(stage).await?;
    floor(client, &bare, "warm-up", WARM_UP).await?;
    stage::fetched(client).await?;
    let count = scale.small;
    let (mut rates, mut floors, mut ratios) = (vec![], vec![], vec![]);
    let mut before = floor(client, &bare, "bare-small", count).await?;
    for round in 0..scale.rounds {
        let name = stage::small(round);
        let log = stage.plane.audit_log().since_now()?;
        let rate = applied(client, &name, count).await?;
        if round == 0 {
            let what = format!("peak memory, {count} objects");
            figures.add(what, syncer.peak()?, "MiB", Some(Goal::Below(30.0)), "");
            requests(&Asked::read(&log).await?, count, figures);
        }
        let after = floor(client, &bare, &format!("bare-small-{round}"), count).await?;
        let around = f64::midpoint(before, after);
        rates.push(rate);
        floors.push(around);
        ratios.push(rate / around);
        before = after;
        stage::delete(client, &name).await?;
    }
    let what = format!("cold apply of {count}: rate beside the bare client");
    let all: Vec<String> = ratios.iter().map(|ratio| format!("{ratio:.2}")).collect();
    let note = format!(
        "medians: {:.0} objects/s, bare {:.0}/s; ratios {}",
        median(&rates)?,
        median(&floors)?,
        all.join(" ")
    );
    figures.add(what, median(&ratios)?, "", Some(Goal::AtLeast(0.7)), note);
    Ok(())
}

/// The large Kustomization, between two runs of the bare client.
pub(crate) async fn large(
    stage: &Stage,
    client: &Client,
    syncer: &Process,
    scale: &Scale,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    let count = scale.large;
    let bare = bare_client(stage).await?;
    let before = floor(client, &bare, "bare-large-before", count).await?;
    stage::fetched(client).await?;
    let log = stage.plane.audit_log().since_now()?;
    let rate = applied(client, stage::LARGE, count).await?;
    let what = format!("peak memory, {count} objects, applied");
    figures.add(what, syncer.peak()?, "MiB", Some(Goal::Below(60.0)), "");
    requests(&Asked::read(&log).await?, count, figures);
    let after = floor(client, &bare, "bare-large-after", count).await?;
    let around = f64::midpoint(before, after);
    let note = format!(
        "{rate:.0} objects/s, {:.1} s; bare {before:.0}/s before, {after:.0}/s after",
        number(count) / rate
    );
    let what = format!("cold apply of {count}: rate beside the bare client");
    figures.add(what, rate / around, "", None, note);
    Ok(())
}

/// Objects a second of a Kustomization, from its creation until it is Ready.
async fn applied(client: &Client, name: &str, count: usize) -> anyhow::Result<f64> {
    stage::namespace(client, name).await?;
    let begin = Instant::now();
    stage::apply(client, name).await?;
    Ok(number(count) / begin.elapsed().as_secs_f64())
}

/// Objects a second of the bare client.
async fn floor(client: &Client, bare: &Client, namespace: &str, count: usize) -> anyhow::Result<f64> {
    stage::namespace(client, namespace).await?;
    let took = bare::apply(bare, namespace, count)
        .await
        .context("the bare client failed")?;
    Ok(number(count) / took.as_secs_f64())
}

async fn bare_client(stage: &Stage) -> anyhow::Result<Client> {
    plumbline_testkit::client(&stage.plane.kubeconfig(), "bare-client").await
}

fn requests(asked: &Asked, count: usize, figures: &mut Figures) {
    let patches = number(asked.patches());
    figures.add(
        format!("cold apply of {count}: patches of objects"),
        patches,
        "requests",
        Some(Goal::Exactly(number(count))),
        "",
    );
    figures.add(
        format!("cold apply of {count}: other requests"),
        number(asked.total()) - patches,
        "requests",
        Some(Goal::Below(CONSTANT)),
        asked.others(),
    );
}

fn median(values: &[f64]) -> anyhow::Result<f64> {
    percentile(values, 50).context("nothing was measured")
}
