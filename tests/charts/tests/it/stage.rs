//! The control plane that these tests share. It is not the one of other packages: the charts' CustomResourceDefinitions are
//! Helm's here.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use plumbline_charts::{Chart, Helm};
use plumbline_testkit::{ControlPlane, kubectl, wait_for};
use serde_json::Value;
use tokio::sync::{Mutex, MutexGuard};

/// How long anything may take on a machine that is busy compiling.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// Namespace and name of the releases that bring the kinds.
pub(crate) const FIRST: &str = "first";

/// The control plane and a helm for it.
pub(crate) struct Stage {
    plane: ControlPlane,
    pub(crate) helm: Helm,
}

impl Stage {
    /// The one of this process.
    pub(crate) fn shared() -> &'static Self {
        static STAGE: OnceLock<Stage> = OnceLock::new();
        STAGE.get_or_init(|| {
            let stage = Self::start();
            stage.install_first();
            stage
        })
    }

    /// The one of this process, for a test whose controllers work in every namespace: one such test at a time, because two
    /// controllers of a kind would do each other's work.
    pub(crate) async fn alone() -> (MutexGuard<'static, ()>, &'static Self) {
        static TURN: Mutex<()> = Mutex::const_new(());
        let turn = TURN.lock().await;
        // Starting takes seconds, and blocks.
        let stage = tokio::task::spawn_blocking(Self::shared).await.unwrap();
        (turn, stage)
    }

    /// On a cluster that knows none of the kinds: each chart with one command.
    fn install_first(&self) {
        for namespace in ["home", "monitoring"] {
            self.kubectl(&["create", "namespace", namespace]);
        }
        let install = |chart, release: &str, sets: &[&str]| {
            let mut arguments = vec!["--create-namespace"];
            arguments.extend(sets.iter().flat_map(|set| ["--set", set]));
            self.helm
                .chart("install", chart, release, FIRST, &arguments)
                .unwrap();
        };
        let git = [
            "git.url=https://git.example/you/estate",
            "git.branch=main",
            "git.path=deploy",
            "git.interval=3m",
            "git.prune=true",
            "fullnameOverride=first-sync",
        ];
        install(Chart::Sync, FIRST, &git);
        install(Chart::SealedSecrets, "first-sealed-secrets", &[]);
    }

    fn start() -> Self {
        let plane = ControlPlane::start_temporary().unwrap();
        let home = plane.dir().join(ControlPlane::WORK).join("helm");
        std::fs::create_dir_all(&home).unwrap();
        let helm = Helm::new(&home, Some(plane.kubeconfig())).unwrap();
        Self { plane, helm }
    }

    pub(crate) fn cluster(&self) -> &Path {
        self.plane.dir()
    }

    pub(crate) fn plane(&self) -> &ControlPlane {
        &self.plane
    }

    /// A directory of a test, which goes with the control plane.
    pub(crate) fn work(&self, name: &str) -> PathBuf {
        let dir = self.plane.dir().join(ControlPlane::WORK).join(name);
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }

    pub(crate) fn kubectl(&self, arguments: &[&str]) -> String {
        self.kubectl_with(arguments, "")
    }

    pub(crate) fn kubectl_with(&self, arguments: &[&str], input: &str) -> String {
        kubectl(self.cluster(), "", arguments, input).unwrap()
    }

    /// `kubectl get … -o json`
    pub(crate) fn get(&self, arguments: &[&str]) -> Value {
        let text = self.kubectl(&[&["get", "-o", "json"], arguments].concat());
        serde_json::from_str(&text).unwrap()
    }

    pub(crate) fn exists(&self, arguments: &[&str]) -> bool {
        let all = [&["get", "--ignore-not-found", "-o", "name"], arguments].concat();
        !self.kubectl(&all).trim().is_empty()
    }

    /// Waits until the JSON of an object is as wanted.
    pub(crate) async fn until(&self, arguments: &[&str], wanted: impl Fn(&Value) -> bool) -> Value {
        wait_for(&format!("{arguments:?}"), PATIENCE, async || {
            let all = [&["get", "-o", "json"], arguments].concat();
            let text = kubectl(self.cluster(), "", &all, "").map_err(|error| format!("{error:#}"))?;
            let value: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
            if wanted(&value) { Ok(value) } else { Err(text) }
        })
        .await
        .unwrap()
    }
}
