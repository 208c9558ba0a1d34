//! `--repo DIR`: somebody's own manifests.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use kube::{Api, Discovery, api::DynamicObject, core::GroupVersionKind};
use plumbline_testkit::wait_for;
use serde_json::Value;

use super::{
    stage::{PATIENCE, Stage, short},
    timeline::Timeline,
};

/// After so long without a change, what is not applied will not be.
const SETTLE: Duration = Duration::from_secs(5);

pub(crate) async fn tell(stage: &Stage, timeline: &mut Timeline, dir: &Path) -> anyhow::Result<()> {
    copy(dir, stage.estate.repository.work_tree())?;
    let commit = stage.estate.repository.commit("Manifests")?;
    let since = timeline.action(&format!("git commit {}: {}", short(&commit), dir.display()));
    stage.estate.follow_repository()?;
    let (status, ready, reached) = settled(stage, &commit).await?;
    let took = reached - since;
    let entries = status["inventory"]["entries"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let message = ready["message"].as_str().unwrap_or_default();
    ensure!(!entries.is_empty(), "nothing was applied: {message}");
    let (found, missing) = look_up(stage, &entries).await?;
    if ready["status"] == "True" {
        ensure!(
            missing.is_empty(),
            "in the inventory, but not in the cluster: {missing:?}"
        );
        timeline.effect_after(&format!("all {found} objects are in the cluster"), took);
    } else {
        let text = format!("{found} objects are in the cluster; not everything could be applied");
        timeline.effect_after(&text, took);
        // Each of the others must be accounted for.
        for name in &missing {
            ensure!(
                message.contains(name.as_str()),
                "{name} is missing and not reported: {message}"
            );
        }
    }
    Timeline::quote(message);

    let since = timeline.action("the Kustomization is deleted");
    stage.delete_kustomization().await?;
    // Discovery fails for a moment while a group goes away with its CRDs.
    wait_for(
        "all objects to be gone or going",
        PATIENCE,
        async || match look_up(stage, &entries).await {
            Ok((0, _)) => Ok(()),
            Ok((left, _)) => Err(format!("{left} objects are left")),
            Err(error) => Err(format!("{error:#}")),
        },
    )
    .await?;
    timeline.effect(
        &format!("all {found} objects are deleted or being deleted"),
        since,
    );
    Ok(())
}

/// The status and Ready condition once ready, or unchanged for a while: what waits for a CRD of the same commit
/// comes up by itself. Also when that was reached.
async fn settled(stage: &Stage, commit: &str) -> anyhow::Result<(Value, Value, Instant)> {
    let mut last = Value::Null;
    let mut changed = Instant::now();
    loop {
        let (status, ready) = stage.attempted(commit).await?;
        if ready["message"] != last["message"] {
            (last, changed) = (ready.clone(), Instant::now());
        }
        if ready["status"] == "True" || changed.elapsed() > SETTLE {
            return Ok((status, ready, changed));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Counts the inventory's objects that the API server has and is not deleting, and names the others.
async fn look_up(stage: &Stage, entries: &[Value]) -> anyhow::Result<(usize, Vec<String>)> {
    // The aggregated form answers even where an APIService has no server behind it.
    let discovery = Discovery::new(stage.client.clone()).run_aggregated().await?;
    let (mut found, mut missing) = (0, vec![]);
    for entry in entries {
        let (id, version) = (&entry["id"], &entry["v"]);
        let id = id.as_str().context("an inventory entry has no id")?;
        let (namespace, name, group, kind) = parse(id).with_context(|| format!("inventory id {id:?}"))?;
        let gvk = GroupVersionKind::gvk(group, version.as_str().unwrap_or_default(), kind);
        // Unknown kinds are those whose CRD is gone.
        let live = match discovery.resolve_gvk(&gvk) {
            None => None,
            Some((resource, _)) if namespace.is_empty() => {
                let api: Api<DynamicObject> = Api::all_with(stage.client.clone(), &resource);
                api.get_opt(&name).await?
            }
            Some((resource, _)) => {
                let api: Api<DynamicObject> =
                    Api::namespaced_with(stage.client.clone(), namespace, &resource);
                api.get_opt(&name).await?
            }
        };
        if live.is_some_and(|live| live.metadata.deletion_timestamp.is_none()) {
            found += 1;
        } else {
            missing.push(name);
        }
    }
    Ok((found, missing))
}

/// Flux's form: `namespace_name_group_kind`, with `__` for the colons that RBAC names may have.
fn parse(id: &str) -> Option<(&str, String, &str, &str)> {
    let (rest, kind) = id.rsplit_once('_')?;
    let (rest, group) = rest.rsplit_once('_')?;
    let (namespace, name) = rest.split_once('_')?;
    Some((namespace, name.replace("__", ":"), group, kind))
}

/// Copies a tree; `.git` is left out, because the demo has a repository of its own.
fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let entries = fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot read {}", from.display()))?;
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_name() == ".git" {
            continue;
        }
        let copied = if entry.file_type()?.is_dir() {
            fs::create_dir_all(&target)?;
            copy(&path, &target)
        } else if entry.file_type()?.is_symlink() {
            Ok(std::os::unix::fs::symlink(fs::read_link(&path)?, &target)?)
        } else {
            fs::copy(&path, &target).map(drop).map_err(Into::into)
        };
        copied.with_context(|| format!("cannot copy {}", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inventory_ids_have_four_parts() {
        let parsed = parse("shop_web_apps_Deployment").unwrap();
        assert_eq!(parsed, ("shop", "web".into(), "apps", "Deployment"));
        let parsed = parse("_system__reader_rbac.authorization.k8s.io_ClusterRole").unwrap();
        assert_eq!(parsed.1, "system:reader");
        assert_eq!(
            parse("_shop__Namespace").unwrap(),
            ("", "shop".into(), "", "Namespace")
        );
        assert!(parse("nonsense").is_none());
    }
}
