//! The real helm on the charts of this checkout.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use plumbline_testkit::{Tool, workspace_dir};
use serde_json::Value;

/// One of the charts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chart {
    /// `charts/sync`
    Sync,
    /// `charts/reloader`
    Reloader,
    /// `charts/sealed-secrets`
    SealedSecrets,
}

impl Chart {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Sync, Self::Reloader, Self::SealedSecrets];

    /// Its name, which is that of its directory.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sync => "sync",
            Self::Reloader => "reloader",
            Self::SealedSecrets => "sealed-secrets",
        }
    }

    /// Its directory.
    pub fn dir(self) -> PathBuf {
        workspace_dir().join("charts").join(self.name())
    }

    /// Its controller.
    pub(crate) const fn program(self) -> &'static str {
        match self {
            Self::Sync => "plumbline-sync",
            Self::Reloader => "plumbline-reloader",
            Self::SealedSecrets => "plumbline-unsealer",
        }
    }
}

/// The real helm, with caches of its own.
#[derive(Debug)]
pub struct Helm {
    program: PathBuf,
    home: PathBuf,
    kubeconfig: Option<PathBuf>,
}

impl Helm {
    /// A helm that keeps its files in `home`; with a kubeconfig it has a cluster.
    pub fn new(home: &Path, kubeconfig: Option<PathBuf>) -> anyhow::Result<Self> {
        Ok(Self {
            program: Tool::Helm.path()?,
            home: home.to_owned(),
            kubeconfig,
        })
    }

    /// What helm prints; its complaint as the error.
    pub fn run(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = Command::new(&self.program);
        command
            .args(arguments)
            .env("HELM_CACHE_HOME", self.home.join("cache"))
            .env("HELM_CONFIG_HOME", self.home.join("config"))
            .env("HELM_DATA_HOME", self.home.join("data"))
            .env("HOME", &self.home)
            .env_remove("KUBECONFIG");
        if let Some(kubeconfig) = &self.kubeconfig {
            command.env("KUBECONFIG", kubeconfig);
        }
        let output = command.output().context("cannot run helm")?;
        if !output.status.success() {
            bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
        }
        String::from_utf8(output.stdout).context("helm printed something that is not text")
    }

    /// `helm VERB RELEASE CHART --namespace NAMESPACE …`
    pub fn chart(
        &self,
        verb: &str,
        chart: Chart,
        release: &str,
        namespace: &str,
        arguments: &[&str],
    ) -> anyhow::Result<String> {
        let dir = chart.dir();
        let dir = dir.to_str().context("the checkout's path is no text")?;
        let mut all = vec![verb, release, dir, "--namespace", namespace];
        all.extend(arguments);
        self.run(&all)
            .with_context(|| format!("helm {verb} {release} {} {arguments:?}", chart.name()))
    }

    /// What `helm template` makes of it.
    pub fn template(
        &self,
        chart: Chart,
        release: &str,
        namespace: &str,
        arguments: &[&str],
    ) -> anyhow::Result<Vec<Value>> {
        documents(&self.chart("template", chart, release, namespace, arguments)?)
    }
}

/// The documents of a stream of YAML, without empty ones.
pub fn documents(text: &str) -> anyhow::Result<Vec<Value>> {
    let mut documents = vec![];
    for part in text.split("\n---") {
        let value: Value = serde_yaml::from_str(part).with_context(|| format!("no YAML: {part}"))?;
        if !value.is_null() {
            documents.push(value);
        }
    }
    Ok(documents)
}
