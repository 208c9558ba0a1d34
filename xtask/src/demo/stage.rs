//! The cluster, the repository and the syncer of a demo.

use std::{fs, path::PathBuf, process::Command, time::Duration};

use anyhow::{Context as _, ensure};
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams},
};
use plumbline_testkit::{ControlPlane, git::Repository, target_dir, wait_for};
use serde_json::{Value, json};

use super::timeline::Timeline;

/// Namespace of the GitRepository and the Kustomization, as `flux bootstrap` has it.
const NAMESPACE: &str = "flux-system";
/// Name of both.
const NAME: &str = "demo";
/// A step that takes longer has failed.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);

/// Everything a demo plays on.
pub(crate) struct Stage {
    pub(crate) plane: ControlPlane,
    pub(crate) repository: Repository,
    pub(crate) client: Client,
}

impl Stage {
    pub(crate) async fn set_up(timeline: &mut Timeline) -> anyhow::Result<Self> {
        timeline.note("starting etcd, kube-apiserver and kube-controller-manager");
        let plane = ControlPlane::start_temporary()?;
        timeline.note(&format!("a real cluster is ready in {}", plane.dir().display()));
        let work = plane.dir().join(ControlPlane::WORK);
        fs::create_dir_all(&work).with_context(|| format!("cannot create {}", work.display()))?;
        let repository = Repository::init(&work)?;
        // So that `git` works in the work tree of a demo that is kept.
        repository.config("core.bare", "false")?;
        repository.config("core.worktree", "../work")?;
        fs::write(repository.work_tree().join(".git"), "gitdir: ../repository.git\n")?;
        let client = plumbline_testkit::client(&plane.kubeconfig(), "plumbline-demo").await?;
        let stage = Self {
            plane,
            repository,
            client,
        };
        let crds = Command::new(syncer())
            .args(["crd", "--allow-file-urls"])
            .output()
            .context("cannot run plumbline-sync")?;
        stage.kubectl(
            &["apply", "--server-side", "-f", "-"],
            &String::from_utf8(crds.stdout)?,
        )?;
        stage.kubectl(
            &[
                "wait",
                "--for=condition=Established",
                "crd",
                "--all",
                "--timeout=30s",
            ],
            "",
        )?;
        stage.plane.start_program(
            "plumbline-sync",
            Command::new(syncer())
                .env("KUBECONFIG", stage.plane.kubeconfig())
                .arg("--storage-path")
                .arg(work.join("mirrors"))
                .args(["--allow-file-urls", "--health-addr=0", "--metrics-addr=0"]),
        )?;
        timeline.note("plumbline-sync is running, outside the cluster, with KUBECONFIG");
        Ok(stage)
    }

    /// Tells the syncer about the repository.
    pub(crate) fn follow_repository(&self) -> anyhow::Result<()> {
        let url = format!("file://{}", self.repository.path().display());
        let objects = json!({"apiVersion": "v1", "kind": "List", "items": [
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
            {
                "apiVersion": "source.toolkit.fluxcd.io/v1", "kind": "GitRepository",
                "metadata": {"name": NAME, "namespace": NAMESPACE},
                "spec": {"url": url, "interval": "1h", "ref": {"branch": "main"}},
            },
            {
                "apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization",
                "metadata": {"name": NAME, "namespace": NAMESPACE},
                "spec": {
                    "sourceRef": {"kind": "GitRepository", "name": NAME},
                    "path": "./", "prune": true, "interval": "1h",
                },
            },
        ]});
        self.kubectl(&["apply", "--server-side", "-f", "-"], &objects.to_string())
            .map(drop)
    }

    /// Asks for a look at the repository now, as `flux reconcile source git` and webhooks do.
    pub(crate) async fn push(&self) -> anyhow::Result<()> {
        let now = k8s_openapi::jiff::Timestamp::now().to_string();
        let asked = json!({"metadata": {"annotations": {"reconcile.fluxcd.io/requestedAt": now}}});
        let repositories = self.api("source.toolkit.fluxcd.io", "GitRepository");
        let patch = Patch::Merge(&asked);
        repositories.patch(NAME, &PatchParams::default(), &patch).await?;
        Ok(())
    }

    /// Waits until the Kustomization has tried `commit` to the end; returns its status and its Ready condition.
    pub(crate) async fn attempted(&self, commit: &str) -> anyhow::Result<(Value, Value)> {
        let kustomizations = self.api("kustomize.toolkit.fluxcd.io", "Kustomization");
        let what = format!("the Kustomization to try {}", short(commit));
        wait_for(&what, PATIENCE, async || {
            self.plane.check_alive().map_err(|error| format!("{error:#}"))?;
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
        let kustomizations = self.api("kustomize.toolkit.fluxcd.io", "Kustomization");
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

    /// Runs the real kubectl.
    pub(crate) fn kubectl(&self, arguments: &[&str], input: &str) -> anyhow::Result<String> {
        plumbline_testkit::kubectl(self.plane.dir(), "", arguments, input)
    }

    /// Runs `kubectl edit` as a person would, with sed at the keyboard.
    pub(crate) fn edit(&self, arguments: &[&str], script: &str) -> anyhow::Result<()> {
        let output = Command::new(self.plane.dir().join("bin/kubectl"))
            .arg("--kubeconfig")
            .arg(self.plane.kubeconfig())
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

    /// Adds the end of the syncer's log to an error.
    pub(crate) fn explain(&self, error: anyhow::Error) -> anyhow::Error {
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        let tail = lines.get(lines.len().saturating_sub(20)..).unwrap_or_default();
        error.context(format!(
            "the end of plumbline-sync's log:\n{}\n\nthis did not happen",
            tail.join("\n")
        ))
    }

    /// Leaves cluster and syncer to the user.
    pub(crate) fn leave_running(self) -> anyhow::Result<()> {
        let (dir, log) = (self.plane.dir().to_owned(), self.log());
        println!("\nEverything is still running. To look around:");
        println!("  export KUBECONFIG={}", self.plane.kubeconfig().display());
        println!(
            "  {}/bin/kubectl get gitrepositories,kustomizations -A",
            dir.display()
        );
        println!("  tail -f {}", log.display());
        println!(
            "To change something, commit in {} and ask for a look:",
            self.repository.work_tree().display()
        );
        println!(
            "  kubectl -n {NAMESPACE} annotate --overwrite gitrepository {NAME} reconcile.fluxcd.io/requestedAt=\"$(date +%s%N)\""
        );
        println!("To end it: cargo xtask cluster down --dir {}\n", dir.display());
        self.plane.leave_running()
    }

    fn log(&self) -> PathBuf {
        self.plane.dir().join("logs").join("plumbline-sync.log")
    }

    fn api(&self, group: &str, kind: &str) -> Api<DynamicObject> {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", kind));
        Api::namespaced_with(self.client.clone(), NAMESPACE, &resource)
    }
}

/// The first digits of a commit, enough for people.
pub(crate) fn short(commit: &str) -> &str {
    commit.get(..7).unwrap_or(commit)
}

fn syncer() -> PathBuf {
    target_dir().join("debug").join("plumbline-sync")
}
