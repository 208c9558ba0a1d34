//! The cluster, the repository and the controllers of a demo.

use std::{fs, process::Command, time::Duration};

use anyhow::{Context as _, ensure};
use kube::Client;
use plumbline_testkit::wait_for;
use plumbline_together::{Estate, NAME, NAMESPACE, Unsealer, kustomizations};
use serde_json::{Value, json};

use super::timeline::Timeline;

/// What the controllers call themselves, in the audit log and as names of their own logs.
pub(crate) const CONTROLLERS: [&str; 3] = ["plumbline-sync", "plumbline-unsealer", "plumbline-reloader"];
/// A step that takes longer has failed.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);

/// Everything a demo plays on.
pub(crate) struct Stage {
    pub(crate) estate: Estate,
    pub(crate) unsealer: Unsealer,
    pub(crate) client: Client,
}

impl Stage {
    pub(crate) async fn set_up(timeline: &mut Timeline) -> anyhow::Result<Self> {
        timeline.note("starting etcd, kube-apiserver and kube-controller-manager");
        let estate = Estate::start()?;
        timeline.note(&format!(
            "a real cluster is ready in {}",
            estate.plane.dir().display()
        ));
        // So that `git` works in the work tree of a demo that is kept.
        let repository = &estate.repository;
        repository.config("core.bare", "false")?;
        repository.config("core.worktree", "../work")?;
        fs::write(repository.work_tree().join(".git"), "gitdir: ../repository.git\n")?;
        let unsealer = Unsealer::start(&estate).await?;
        estate.start_reloader()?;
        timeline.note(
            "plumbline-sync, -unsealer and -reloader are running, outside the cluster, with KUBECONFIG",
        );
        Ok(Self {
            client: plumbline_testkit::client(&estate.plane.kubeconfig(), "plumbline-demo").await?,
            unsealer,
            estate,
        })
    }

    /// Waits until the Kustomization has tried `commit` to the end; returns its status and its Ready condition.
    pub(crate) async fn attempted(&self, commit: &str) -> anyhow::Result<(Value, Value)> {
        let kustomizations = kustomizations(&self.client);
        let what = format!("the Kustomization to try {}", short(commit));
        wait_for(&what, PATIENCE, async || {
            self.estate
                .plane
                .check_alive()
                .map_err(|error| format!("{error:#}"))?;
            let found = kustomizations
                .get(NAME)
                .await
                .map_err(|error| error.to_string())?;
            let status = found.data.get("status").cloned().unwrap_or_default();
            let tried = status["lastAttemptedRevision"].as_str().unwrap_or_default();
            let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
            let of_type = |kind: &str| conditions.iter().find(|one| one["type"] == kind);
            let ready = of_type("Ready").cloned().unwrap_or_default();
            let settled = ready["status"] != "Unknown"
                && of_type("Reconciling").is_none_or(|one| one["reason"] == "ProgressingWithRetry");
            if tried.ends_with(commit) && settled && !ready.is_null() {
                Ok((status, ready))
            } else {
                Err(format!(
                    "lastAttemptedRevision {tried:?}, conditions {}",
                    json!(conditions)
                ))
            }
        })
        .await
    }

    /// The objects that the Kustomization says it has applied.
    pub(crate) async fn delete_kustomization(&self) -> anyhow::Result<()> {
        let kustomizations = kustomizations(&self.client);
        kustomizations
            .delete(NAME, &kube::api::DeleteParams::default())
            .await?;
        wait_for(
            "the Kustomization's finalizer",
            PATIENCE,
            async || match kustomizations.get_opt(NAME).await {
                Ok(None) => Ok(()),
                Ok(Some(found)) => Err(found.data["status"]["conditions"].to_string()),
                Err(error) => Err(error.to_string()),
            },
        )
        .await
    }

    /// Runs `kubectl edit` as a person would, with sed at the keyboard.
    pub(crate) fn edit(&self, arguments: &[&str], script: &str) -> anyhow::Result<()> {
        let output = Command::new(self.estate.plane.dir().join("bin/kubectl"))
            .arg("--kubeconfig")
            .arg(self.estate.plane.kubeconfig())
            .arg("edit")
            .args(arguments)
            .env("KUBE_EDITOR", format!("sed -i '{script}'"))
            .output()
            .context("cannot start kubectl")?;
        let said = String::from_utf8_lossy(&output.stdout);
        ensure!(
            output.status.success() && said.contains("edited"),
            "kubectl edit failed: {said}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }

    /// Adds the ends of the controllers' logs to an error.
    pub(crate) fn explain(&self, error: anyhow::Error) -> anyhow::Error {
        let ends = CONTROLLERS.map(|program| {
            let path = self
                .estate
                .plane
                .dir()
                .join("logs")
                .join(format!("{program}.log"));
            let log = fs::read_to_string(path).unwrap_or_default();
            let lines: Vec<_> = log.lines().collect();
            let tail = lines.get(lines.len().saturating_sub(20)..).unwrap_or_default();
            format!("the end of {program}'s log:\n{}\n\n", tail.join("\n"))
        });
        error.context(format!("{}this did not happen", ends.concat()))
    }

    /// Leaves cluster and syncer to the user.
    pub(crate) fn leave_running(self) -> anyhow::Result<()> {
        let dir = self.estate.plane.dir().to_owned();
        println!("\nEverything is still running. To look around:");
        println!("  export KUBECONFIG={}", self.estate.plane.kubeconfig().display());
        println!(
            "  {}/bin/kubectl get gitrepositories,kustomizations -A",
            dir.display()
        );
        println!("  tail -f {}/logs/plumbline-*.log", dir.display());
        println!(
            "To change something, commit in {} and ask for a look:",
            self.estate.repository.work_tree().display()
        );
        println!(
            "  kubectl -n {NAMESPACE} annotate --overwrite gitrepository {NAME} reconcile.fluxcd.io/requestedAt=\"$(date +%s%N)\""
        );
        println!("To end it: cargo xtask cluster down --dir {}\n", dir.display());
        self.estate.plane.leave_running()
    }
}

/// The first digits of a commit, enough for people.
pub(crate) fn short(commit: &str) -> &str {
    commit.get(..7).unwrap_or(commit)
}
