//! Several controllers beside each other, as people run them: a control plane, a Git repository, `plumbline-sync` that applies
//! it, and whatever else is started. The controllers do not know of one another; only the tests here and the demo know more
//! than one.

mod unsealer;

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams};
use kube::{Api, Client};
use plumbline_testkit::git::Repository;
use plumbline_testkit::{BUILT_VARIABLE, ControlPlane, Leash, target_dir, wait_for, workspace_dir};
use serde_json::json;

pub use unsealer::Unsealer;

/// How long anything may take on a machine that is busy compiling.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// Namespace of the GitRepository and the Kustomization, as `flux bootstrap` has it.
pub const NAMESPACE: &str = "flux-system";
/// Name of both.
pub const NAME: &str = "estate";

/// The packages of the controllers. They are always built together: alone, one of them would have its dependencies compiled
/// once more, with fewer features.
pub const PACKAGES: [&str; 3] = ["plumbline-sync", "plumbline-reloader", "plumbline-sealed-secrets"];

/// Where a program of the controllers is; builds all of them, unless `cargo xtask test` has.
pub fn program(name: &str) -> anyhow::Result<PathBuf> {
    let built = target_dir().join("debug").join(name);
    if std::env::var_os(BUILT_VARIABLE).is_some() {
        ensure!(built.is_file(), "{} is not there", built.display());
        return Ok(built);
    }
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .current_dir(workspace_dir())
        .env("CARGO_TARGET_DIR", target_dir())
        .args(["build", "--quiet", "--bins"])
        .args(PACKAGES.map(|package| format!("--package={package}")));
    let status = Leash::new()?.run(&mut command)?;
    ensure!(status.success(), "the controllers do not build: see above");
    Ok(built)
}

/// A control plane on which `plumbline-sync` applies everything in a Git repository.
#[derive(Debug)]
pub struct Estate {
    /// The control plane. Programs that [`ControlPlane::start_program`] starts end with it.
    pub plane: ControlPlane,
    /// What is applied, from the root of its work tree.
    pub repository: Repository,
}

impl Estate {
    /// Starts everything; nothing has been committed yet.
    pub fn start() -> anyhow::Result<Self> {
        let syncer = program("plumbline-sync")?;
        let plane = ControlPlane::start_temporary()?;
        let work = plane.dir().join(ControlPlane::WORK);
        fs::create_dir_all(&work).with_context(|| format!("cannot create {}", work.display()))?;
        let repository = Repository::init(&work)?;
        let estate = Self { plane, repository };
        estate.install_crds(Command::new(&syncer).args(["crd", "--allow-file-urls"]))?;
        estate.plane.start_program(
            "plumbline-sync",
            Command::new(syncer)
                .env("KUBECONFIG", estate.plane.kubeconfig())
                .arg("--storage-path")
                .arg(work.join("mirrors"))
                .args(["--allow-file-urls", "--health-addr=0", "--metrics-addr=0"]),
        )?;
        Ok(estate)
    }

    /// Starts `plumbline-reloader` for every namespace.
    pub fn start_reloader(&self) -> anyhow::Result<()> {
        let reloader = program("plumbline-reloader")?;
        let mut command = Command::new(reloader);
        command
            .env_clear()
            .env("POD_NAMESPACE", "kube-system")
            .arg("--listen-address=0")
            .arg(format!("--kubeconfig={}", self.plane.kubeconfig().display()));
        self.plane.start_program("plumbline-reloader", &mut command)
    }

    /// An administrator's client.
    pub async fn client(&self) -> anyhow::Result<Client> {
        plumbline_testkit::client(&self.plane.kubeconfig(), "plumbline-test").await
    }

    /// Runs the real kubectl.
    pub fn kubectl(&self, arguments: &[&str], input: &str) -> anyhow::Result<String> {
        plumbline_testkit::kubectl(self.plane.dir(), "", arguments, input)
    }

    /// Installs the CustomResourceDefinitions that `command` prints.
    pub fn install_crds(&self, command: &mut Command) -> anyhow::Result<()> {
        let output = command
            .output()
            .with_context(|| format!("cannot run {command:?}"))?;
        ensure!(output.status.success(), "{command:?} failed");
        self.kubectl(
            &["apply", "--server-side", "-f", "-"],
            &String::from_utf8(output.stdout)?,
        )?;
        let established = "--for=condition=Established";
        self.kubectl(&["wait", established, "crd", "--all", "--timeout=30s"], "")
            .map(drop)
    }

    /// Makes the GitRepository and the Kustomization that apply the repository. There has to be a commit.
    pub fn follow_repository(&self) -> anyhow::Result<()> {
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

    /// Commits what is in the work tree and has it looked at, as a webhook would; returns once it is applied.
    pub async fn push(&self, message: &str) -> anyhow::Result<()> {
        let commit = self.repository.commit(message)?;
        let client = self.client().await?;
        self.ask(&client).await?;
        self.applied(&client, &commit).await
    }

    /// Asks for a look at the repository now, as `flux reconcile source git` and webhooks do.
    pub async fn ask(&self, client: &Client) -> anyhow::Result<()> {
        let now = k8s_openapi::jiff::Timestamp::now().to_string();
        let asked = json!({"metadata": {"annotations": {"reconcile.fluxcd.io/requestedAt": now}}});
        git_repositories(client)
            .patch(NAME, &PatchParams::default(), &Patch::Merge(&asked))
            .await?;
        Ok(())
    }

    /// Waits until `commit` is applied.
    pub async fn applied(&self, client: &Client, commit: &str) -> anyhow::Result<()> {
        let kustomizations = kustomizations(client);
        wait_for("the commit to be applied", PATIENCE, async || {
            self.plane.check_alive().map_err(|error| format!("{error:#}"))?;
            let found = kustomizations
                .get(NAME)
                .await
                .map_err(|error| error.to_string())?;
            let status = found.data.get("status").cloned().unwrap_or_default();
            match status["lastAppliedRevision"].as_str() {
                Some(revision) if revision.ends_with(commit) => Ok(()),
                _ => Err(status["conditions"].to_string()),
            }
        })
        .await
    }
}

/// The Kustomizations of [`NAMESPACE`].
pub fn kustomizations(client: &Client) -> Api<DynamicObject> {
    api(client, "kustomize.toolkit.fluxcd.io", "Kustomization")
}

fn git_repositories(client: &Client) -> Api<DynamicObject> {
    api(client, "source.toolkit.fluxcd.io", "GitRepository")
}

fn api(client: &Client, group: &str, kind: &str) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", kind));
    Api::namespaced_with(client.clone(), NAMESPACE, &resource)
}
