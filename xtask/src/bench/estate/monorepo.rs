//! Many Kustomizations of many objects from one repository.

use std::time::{Duration, Instant};

use super::fleet::Fleet;
use crate::bench::{
    figures::{Figures, Goal, number},
    process::Process,
    requests::Asked,
    stage::{self},
};

/// After which the syncer has said all it has to say about what was before.
const SETTLED: Duration = Duration::from_secs(10);

pub(crate) async fn measure(
    fleet: &Fleet<'_>,
    syncer: &Process,
    quick: bool,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    let (count, objects, quiet) = if quick { (20, 20, 20) } else { (200, 50, 300) };
    let names: Vec<String> = (0..count).map(|index| format!("team-{index:03}")).collect();
    for name in &names {
        stage::namespace(fleet.client, name).await?;
        for index in 0..objects {
            let object = stage::config_map(name, index);
            fleet
                .stage
                .repository
                .write(&stage::path(name, index), object.to_string())?;
        }
    }
    let revision = fleet.commit("everything")?;
    fleet.stage.follow_repository(fleet.client).await?;
    stage::fetched(fleet.client).await?;
    let what = format!("{count} Kustomizations of {objects}");

    let log = fleet.stage.plane.audit_log().since_now()?;
    let begin = Instant::now();
    fleet.make(&names, &serde_json::json!({})).await?;
    let took = fleet.applied(&names, &revision).await? - begin;
    let asked = Asked::read(&log).await?;
    let all = count * objects;
    figures.add(
        format!("{what}: install"),
        took.as_secs_f64(),
        "s",
        None,
        format!("{:.0} objects/s", number(all) / took.as_secs_f64()),
    );
    figures.add(
        format!("{what}: patches of objects"),
        number(asked.patches()),
        "requests",
        Some(Goal::Exactly(number(all))),
        asked.others(),
    );

    fleet.stage.repository.write("README.md", "no manifest")?;
    let (took, asked) = fleet.push(&names, "nothing changes").await?;
    figures.add(
        format!("{what}: a commit that changes nothing"),
        took.as_secs_f64(),
        "s",
        Some(Goal::Below(2.0)),
        "",
    );
    let note = format!("one status each; {}", asked.others());
    figures.add(
        format!("{what}: … patches of objects"),
        number(asked.patches()),
        "requests",
        Some(Goal::Exactly(0.0)),
        note,
    );
    figures.add(
        format!("{what}: … beside status and events"),
        number(asked.surplus()),
        "requests",
        Some(Goal::Exactly(0.0)),
        "",
    );

    let changed = stage::config_map_with(&names[0], 0, "changed");
    fleet
        .stage
        .repository
        .write(&stage::path(&names[0], 0), changed.to_string())?;
    let (took, asked) = fleet.push(&names, "one path changes").await?;
    figures.add(
        format!("{what}: a commit that changes one"),
        took.as_secs_f64(),
        "s",
        Some(Goal::Below(2.0)),
        "until all have the revision",
    );
    figures.add(
        format!("{what}: … patches of objects"),
        number(asked.patches()),
        "requests",
        Some(Goal::Exactly(1.0)),
        asked.others(),
    );

    tokio::time::sleep(SETTLED).await;
    let log = fleet.stage.plane.audit_log().since_now()?;
    tokio::time::sleep(Duration::from_secs(quiet)).await;
    let asked = Asked::read(&log).await?;
    figures.add(
        format!("{what}: nothing changes for {quiet} s"),
        number(asked.total()),
        "requests",
        Some(Goal::Exactly(0.0)),
        asked.others(),
    );
    figures.add(format!("{what}: peak memory"), syncer.peak()?, "MiB", None, "");
    Ok(())
}
