//! One Kustomization of more objects than its status has room for.

use std::time::Instant;

use anyhow::Context as _;
use kube::api::DeleteParams;

use super::fleet::Fleet;
use crate::bench::{
    figures::{Figures, Goal, number},
    process::Process,
    requests::Asked,
    stage, syncer,
};

const NAME: &str = "single";
/// Requests beside one for each object: kinds, lists, the status, the shards of the inventory twice.
const CONSTANT: f64 = 60.0;

pub(crate) async fn measure(
    fleet: &Fleet<'_>,
    syncer: &mut Process,
    quick: bool,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    let count = if quick { 12_000 } else { 30_000 };
    let names = [NAME.to_owned()];
    stage::namespace(fleet.client, NAME).await?;
    for index in 0..count {
        let object = stage::config_map(NAME, index);
        let path = stage::path(NAME, index);
        fleet.stage.repository.write(&path, object.to_string())?;
    }
    let revision = fleet.commit("everything")?;
    fleet.stage.follow_repository(fleet.client).await?;
    stage::fetched(fleet.client).await?;
    let what = format!("one Kustomization of {count}");

    let log = fleet.stage.plane.audit_log().since_now()?;
    let begin = Instant::now();
    fleet
        .make(&names, &serde_json::json!({ "timeout": "15m" }))
        .await?;
    let took = fleet.applied(&names, &revision).await? - begin;
    let asked = Asked::read(&log).await?;
    figures.add(
        format!("{what}: install"),
        took.as_secs_f64(),
        "s",
        None,
        format!("{:.0} objects/s", number(count) / took.as_secs_f64()),
    );
    figures.add(
        format!("{what}: requests beside one an object"),
        number(asked.total()) - number(count),
        "requests",
        Some(Goal::Below(CONSTANT)),
        asked.others(),
    );
    figures.add(format!("{what}: peak memory"), syncer.peak()?, "MiB", None, "");

    let changed = stage::config_map_with(NAME, 0, "changed");
    let path = stage::path(NAME, 0);
    fleet.stage.repository.write(&path, changed.to_string())?;
    let (took, asked) = fleet.push(&names, "one object changes").await?;
    figures.add(
        format!("{what}: a commit that changes one"),
        took.as_secs_f64(),
        "s",
        Some(Goal::Below(5.0)),
        "",
    );
    figures.add(
        format!("{what}: … patches of objects"),
        number(asked.patches()),
        "requests",
        Some(Goal::Exactly(1.0)),
        asked.others(),
    );

    let log = fleet.stage.plane.audit_log().since_now()?;
    syncer.end();
    *syncer = syncer::start(&fleet.stage.plane)?;
    let changed = stage::config_map_with(NAME, 1, "changed");
    let path = stage::path(NAME, 1);
    fleet.stage.repository.write(&path, changed.to_string())?;
    let (took, _) = fleet.push(&names, "after a restart").await?;
    let asked = Asked::read(&log).await?;
    figures.add(
        format!("{what}: a restart, and a commit that changes one"),
        took.as_secs_f64(),
        "s",
        None,
        asked.others(),
    );
    figures.add(
        format!("{what}: … patches of objects"),
        number(asked.patches()),
        "requests",
        Some(Goal::Exactly(1.0)),
        "",
    );
    figures.add(
        format!("{what}: … peak memory"),
        syncer.peak()?,
        "MiB",
        None,
        "of the new process",
    );

    let begin = Instant::now();
    let api = stage::kustomizations(fleet.client);
    api.delete(NAME, &DeleteParams::default()).await?;
    stage::gone(fleet.client, NAME)
        .await
        .context("the Kustomization does not end")?;
    let took = begin.elapsed();
    figures.add(
        format!("{what}: deleted with its objects"),
        took.as_secs_f64(),
        "s",
        None,
        format!("{:.0} objects/s", number(count) / took.as_secs_f64()),
    );
    Ok(())
}
