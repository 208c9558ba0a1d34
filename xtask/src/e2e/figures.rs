//! What the controllers' pods take, as kubelet says it and as the kernel does.

use std::{fs, time::Duration};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use super::{charts::CHARTS, stage::Stage};
use crate::{demo::timeline::Timeline, image::Profile};

/// Bytes that a controller may have at rest.
const GOAL: u64 = 15 << 20;
/// kubelet looks every ten seconds or so.
const REST: Duration = Duration::from_secs(25);

/// Prints the memory of each controller's pod at rest; a release build may not have more than the goal.
pub(super) async fn memory(stage: &Stage, timeline: &mut Timeline, profile: Profile) -> anyhow::Result<()> {
    timeline.action("resting for a while");
    tokio::time::sleep(REST).await;
    let stats = stage.kubectl(&["get", "--raw", "/api/v1/nodes/node1/proxy/stats/summary"], "")?;
    let stats: Value = serde_json::from_str(&stats).context("kubelet's statistics are no JSON")?;
    for chart in CHARTS {
        let (anonymous, working) = of(&stats, chart.namespace, chart.object)?;
        let resident = resident(chart.program)?;
        #[expect(clippy::cast_precision_loss, reason = "the memory of a pod is far below 2^52")]
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        timeline.note(&format!(
            "   memory of {:<26} {:>5.1} MiB in its control group, {:>5.1} of it anonymous; {:>5.1} resident with its program",
            chart.object,
            mib(working),
            mib(anonymous),
            mib(resident),
        ));
        ensure!(
            profile != Profile::Release || working <= GOAL,
            "the pod of {} takes more than {} MiB at rest",
            chart.object,
            GOAL >> 20
        );
    }
    Ok(())
}

/// Bytes that the program of a pod has in memory, those of its file included, whoever read them first.
fn resident(program: &str) -> anyhow::Result<u64> {
    for entry in fs::read_dir("/proc").context("cannot list the processes")? {
        let path = entry?.path();
        let read = |name: &str| fs::read_to_string(path.join(name)).unwrap_or_default();
        let words = read("cmdline");
        let first = words.split('\0').next().unwrap_or_default();
        // The same program may run on this machine beside the node.
        if first.rsplit('/').next() == Some(program) && read("cgroup").contains("/plumbline-node/") {
            let status = read("status");
            let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
            let kib = kib.and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
            return Ok(kib.with_context(|| format!("the kernel does not say how large {program} is"))? << 10);
        }
    }
    bail!("{program} does not run on the node")
}

/// Bytes that the pod of a Deployment has itself (`rss`), and with files that it uses (`workingSet`).
fn of(stats: &Value, namespace: &str, deployment: &str) -> anyhow::Result<(u64, u64)> {
    let pods = stats["pods"]
        .as_array()
        .context("no pods in kubelet's statistics")?;
    let mut of_it = pods.iter().filter(|pod| {
        let reference = &pod["podRef"];
        let name = reference["name"].as_str().unwrap_or_default();
        reference["namespace"] == namespace && name.starts_with(&format!("{deployment}-"))
    });
    let pod = of_it
        .next()
        .with_context(|| format!("kubelet has no statistics of {deployment}"))?;
    let containers = pod["containers"].as_array().context("a pod without containers")?;
    let sum = |field: &str| {
        containers
            .iter()
            .filter_map(|one| one["memory"][field].as_u64())
            .sum()
    };
    Ok((sum("rssBytes"), sum("workingSetBytes")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn statistics_are_those_of_the_deployment_in_its_namespace() {
        let pod = |namespace: &str, name: &str, rss: u64| {
            json!({
                "podRef": {"namespace": namespace, "name": name},
                "containers": [{"memory": {"rssBytes": rss, "workingSetBytes": rss + 1}}],
            })
        };
        let stats =
            json!({"pods": [pod("a", "sync-1-x", 1), pod("b", "sync-1-x", 2), pod("b", "other-1", 3)]});
        assert_eq!(of(&stats, "b", "sync").unwrap(), (2, 3));
        assert!(of(&stats, "c", "sync").is_err());
    }
}
