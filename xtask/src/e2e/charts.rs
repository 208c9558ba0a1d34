//! The three charts, and what one does with them.

use std::process::Command;

use anyhow::{Context as _, bail, ensure};
use plumbline_testkit::workspace_dir;

use super::{PATIENCE, stage::Stage};

/// A chart, and what people call its release.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chart {
    /// The release.
    pub(super) name: &'static str,
    /// In the directory `charts`.
    pub(super) directory: &'static str,
    pub(super) namespace: &'static str,
    /// Deployment and ServiceAccount.
    pub(super) object: &'static str,
    /// What runs in its pod.
    pub(super) program: &'static str,
    pub(super) values: &'static [&'static str],
}

pub(super) const SYNC: Chart = Chart {
    name: "sync",
    directory: "sync",
    namespace: "flux-system",
    object: "sync",
    program: "plumbline-sync",
    values: &[
        "--set",
        "git.url=http://git.git.svc.cluster.local/estate.git",
        "--set",
        "git.branch=main",
        "--set",
        "git.path=deploy",
        "--set",
        "git.interval=3m",
        "--set",
        "git.prune=true",
    ],
};
pub(super) const RELOADER: Chart = Chart {
    name: "reloader",
    directory: "reloader",
    namespace: "reloader",
    object: "reloader-reloader",
    program: "plumbline-reloader",
    values: &[],
};
pub(super) const UNSEALER: Chart = Chart {
    name: "sealed-secrets",
    directory: "sealed-secrets",
    namespace: "kube-system",
    object: "sealed-secrets-controller",
    program: "plumbline-unsealer",
    values: &["--set-string", "fullnameOverride=sealed-secrets-controller"],
};
pub(super) const CHARTS: [Chart; 3] = [UNSEALER, RELOADER, SYNC];

impl Stage {
    /// `helm install` or `helm upgrade`, waiting until the chart's pods are ready.
    pub(super) fn helm(&self, verb: &str, chart: Chart, more: &[&str]) -> anyhow::Result<String> {
        let path = workspace_dir().join("charts").join(chart.directory);
        let path = path
            .to_str()
            .context("the checkout has a name that is not text")?;
        let timeout = format!("{}s", PATIENCE.as_secs());
        let mut arguments = vec![verb, chart.name, path, "--wait", "--timeout", &timeout];
        arguments.extend(chart.values);
        arguments.extend(more);
        self.run_helm(chart, &arguments)
    }

    /// Any other helm command for the chart's namespace.
    pub(super) fn run_helm(&self, chart: Chart, arguments: &[&str]) -> anyhow::Result<String> {
        let home = self.node.plane().dir().join("work/helm");
        let output = Command::new(&self.helm)
            .args(arguments)
            .args(["--namespace", chart.namespace, "--kubeconfig"])
            .arg(self.node.plane().kubeconfig())
            // Nothing of this machine's user.
            .env("HOME", home)
            .output()
            .context("cannot start helm")?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            let complaint = String::from_utf8_lossy(&output.stderr);
            bail!("helm {} failed: {said}{complaint}", arguments.join(" "));
        }
        Ok(said)
    }

    /// Kills a chart's pod as a crash would, without a word before.
    pub(super) fn kill(&self, chart: Chart) -> anyhow::Result<()> {
        let selector = format!("app.kubernetes.io/instance={}", chart.name);
        let delete = [
            "delete",
            "pod",
            "-n",
            chart.namespace,
            "-l",
            &selector,
            "--force",
            "--grace-period=0",
        ];
        let said = self.kubectl(&delete, "")?;
        ensure!(
            said.contains("deleted"),
            "no pod of {} was there to kill: {said}",
            chart.name
        );
        Ok(())
    }
}
