//! The syncer as the process that is measured.

use std::{process::Command, time::Duration};

use plumbline_testkit::ControlPlane;

use super::{
    Scale,
    figures::{Figures, Goal},
    process::{Process, program},
};

/// How its user agent begins, by which its requests are found in the audit log.
pub(crate) const USER_AGENT: &str = "plumbline-sync/";

/// Starts one.
pub(crate) fn start(plane: &ControlPlane) -> anyhow::Result<Process> {
    let mut command = Command::new(program("plumbline-sync"));
    command
        .env("KUBECONFIG", plane.kubeconfig())
        .arg("--storage-path")
        .arg(plane.dir().join(ControlPlane::WORK).join("mirrors"))
        .args(["--allow-file-urls", "--health-addr=0", "--metrics-addr=0"]);
    Process::start(plane, "plumbline-sync", &mut command)
}

/// Measures its memory before it has anything to do but follow a repository.
pub(crate) async fn idle(syncer: &Process, figures: &mut Figures) -> anyhow::Result<()> {
    tokio::time::sleep(Duration::from_secs(3)).await;
    let peak = syncer.peak()?;
    figures.add("peak memory, idle", peak, "MiB", Some(Goal::Below(15.0)), "");
    Ok(())
}

/// Measures its memory at the end, against the goal for the large Kustomization.
pub(crate) fn peak_after_everything(
    syncer: &Process,
    scale: &Scale,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    let what = format!("peak memory, {} objects, after all of it", scale.large);
    let now = format!("{:.1} MiB at the end", syncer.resident()?);
    figures.add(what, syncer.peak()?, "MiB", Some(Goal::Below(60.0)), now);
    Ok(())
}
