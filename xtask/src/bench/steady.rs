//! The large Kustomization once it has been applied: nothing changes, one file changes, somebody else changes things.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::json;

use super::{
    Scale,
    figures::{Figures, Goal, number, percentile},
    requests::Asked,
    stage::{self, KEY, LARGE, Stage},
    values::Values,
};

/// After which the syncer has said all it has to say about what was before.
const SETTLED: Duration = Duration::from_secs(5);

/// Nothing changes, while source and Kustomization come to their intervals several times.
pub(crate) async fn quiet(stage: &Stage, scale: &Scale, figures: &mut Figures) -> anyhow::Result<()> {
    tokio::time::sleep(SETTLED).await;
    let log = stage.plane.audit_log().since_now()?;
    tokio::time::sleep(Duration::from_secs(scale.quiet)).await;
    let asked = Asked::read(&log).await?;
    figures.add(
        format!("nothing changes for {} s", scale.quiet),
        number(asked.total()),
        "requests",
        Some(Goal::Exactly(0.0)),
        format!("watches and leases aside; {}", asked.others()),
    );
    Ok(())
}

/// One file changes and the syncer is told, several times.
pub(crate) async fn pushes(
    stage: &Stage,
    client: &Client,
    scale: &Scale,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    let mut values = Values::follow(client, LARGE, scale.large).await?;
    let (mut took, mut last) = (vec![], None);
    for push in 0..scale.pushes {
        let (index, value) = (spread(push, scale), format!("push {push}"));
        let object = stage::config_map_with(LARGE, index, &value);
        stage
            .repository
            .write(&stage::path(LARGE, index), object.to_string())?;
        let log = stage.plane.audit_log().since_now()?;
        stage.repository.commit(&value)?;
        let begin = Instant::now();
        stage::look(client, &value).await?;
        let seen = values.holds(&stage::name(index), &value).await?;
        took.push((seen - begin).as_secs_f64());
        last = Some(Asked::read(&log).await?);
    }
    let asked = last.context("nothing was pushed")?;
    let what = format!("one of {} files changes", scale.large);
    figures.add(
        format!("{what}: patches of objects"),
        number(asked.patches()),
        "requests",
        Some(Goal::Exactly(1.0)),
        "",
    );
    figures.add(
        format!("{what}: beside status and events"),
        number(asked.surplus()),
        "requests",
        Some(Goal::Exactly(0.0)),
        format!("all beside the patch: {}", asked.others()),
    );
    let worst = percentile(&took, 100).unwrap_or_default();
    figures.add(
        format!("{what}: push to applied"),
        percentile(&took, 50).context("nothing was measured")?,
        "s",
        Some(Goal::Below(0.5)),
        format!("median of {}, worst {worst:.3} s", took.len()),
    );
    Ok(())
}

/// Objects are edited and deleted behind the syncer's back, one after the other.
pub(crate) async fn drift(client: &Client, scale: &Scale, figures: &mut Figures) -> anyhow::Result<()> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), LARGE);
    let mut values = Values::follow(client, LARGE, scale.large).await?;
    let (mut edits, mut deletes) = (vec![], vec![]);
    let editor = PatchParams {
        field_manager: Some("kubectl-edit".to_owned()),
        ..PatchParams::default()
    };
    for round in 0..scale.drifts {
        // Objects that no push changed: their value is the first one.
        let name = stage::name(spread(round, scale) + 1);
        let begin = Instant::now();
        let edit = json!({"data": {KEY: "edited"}});
        api.patch(&name, &editor, &Patch::Merge(&edit)).await?;
        values.holds(&name, "edited").await?;
        edits.push((values.leaves(&name, "edited").await? - begin).as_secs_f64());

        let name = stage::name(spread(round, scale) + 2);
        let begin = Instant::now();
        api.delete(&name, &DeleteParams::default()).await?;
        values.leaves(&name, stage::VALUE).await?;
        deletes.push((values.holds(&name, stage::VALUE).await? - begin).as_secs_f64());
    }
    let all = [edits.as_slice(), deletes.as_slice()].concat();
    let of = |values: &[f64], percent| percentile(values, percent).unwrap_or_default();
    let note = format!(
        "{} edits {:.3}/{:.3} s, {} deletions {:.3}/{:.3} s (p50/p99)",
        edits.len(),
        of(&edits, 50),
        of(&edits, 99),
        deletes.len(),
        of(&deletes, 50),
        of(&deletes, 99),
    );
    figures.add("drift corrected, p50", of(&all, 50), "s", None, "");
    let p99 = percentile(&all, 99).context("nothing was measured")?;
    figures.add("drift corrected, p99", p99, "s", Some(Goal::Below(1.0)), note);
    Ok(())
}

/// Objects from all over the Kustomization, at least three apart.
fn spread(round: usize, scale: &Scale) -> usize {
    let steps = scale.pushes.max(scale.drifts) + 1;
    round * (scale.large / steps)
}
