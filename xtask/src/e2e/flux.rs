//! Flux's own command line, on what the chart installed: what needs pods is seen only here.

use std::path::PathBuf;

use anyhow::ensure;
use plumbline_testkit::Flux;

use super::{charts::SYNC, stage::Stage};
use crate::demo::timeline::Timeline;

pub(super) fn tell(stage: &Stage, timeline: &mut Timeline) -> anyhow::Result<()> {
    let home: PathBuf = stage.node.plane().dir().join("work");
    let flux = Flux::new(&home, stage.node.plane().kubeconfig())?;
    let run = |arguments: &[&str], parts: &[&str]| {
        let output = flux.command(SYNC.namespace, arguments).output()?;
        let said = String::from_utf8([output.stdout, output.stderr].concat())?;
        ensure!(output.status.success(), "flux {arguments:?}: {said}");
        for part in parts {
            ensure!(
                said.contains(part),
                "flux {arguments:?} does not say {part:?}: {said}"
            );
        }
        anyhow::Ok(said)
    };
    let since = timeline.action("flux check; flux reconcile kustomization sync --with-source; flux logs");
    run(&["check"], &["sync: deployment ready", "all checks passed"])?;
    let reconcile = ["reconcile", "kustomization", SYNC.name, "--with-source"];
    run(
        &reconcile,
        &["fetched revision main@sha1:", "applied revision main@sha1:"],
    )?;
    let kind = "Kustomization/sync.flux-system - ";
    run(
        &["logs", "--level=info", "--kind=Kustomization", "--name=sync"],
        &["Z info ", kind],
    )?;
    timeline.effect("it finds the controller, waits for it and shows its log", since);
    Ok(())
}
