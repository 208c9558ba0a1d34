//! A node that is not there: kwok says in its name that it is ready, and that the pods on it run.

use std::{
    fs::File,
    path::PathBuf,
    process::{Child, Command},
};

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Node;
use kube::{
    Api,
    api::{DeleteParams, PostParams},
};
use serde_json::json;

use crate::{
    binaries::{self, Tool},
    leash::Leash,
    world::World,
};

/// Says which nodes are whose: several tests have one each on the same control plane.
const LABEL: &str = "plumbline.dev/test";

/// A node for the pods of one namespace. They have to name it themselves (`spec.nodeName`): there is no scheduler.
#[derive(Debug)]
pub struct FakeNode {
    program: PathBuf,
    kubeconfig: PathBuf,
    directory: PathBuf,
    name: String,
    leash: Leash,
    running: Option<Child>,
}

impl FakeNode {
    /// Makes the node, named as the namespace, and starts kwok for it.
    pub async fn start(world: &World) -> anyhow::Result<Self> {
        let program = tokio::task::spawn_blocking(|| Tool::Kwok.path())
            .await
            .context("building kwok panicked")??;
        let name = world.namespace().to_owned();
        let nodes: Api<Node> = Api::all(world.client());
        let node = serde_json::from_value(json!({
            "metadata": {"name": name, "labels": {LABEL: name}},
            "status": {"allocatable": {"cpu": "1k", "memory": "1Ti", "pods": "10k"}, "capacity": {"cpu": "1k", "memory": "1Ti", "pods": "10k"}},
        }))?;
        nodes.create(&PostParams::default(), &node).await?;
        let mut started = Self {
            program,
            kubeconfig: world.kubeconfig(),
            directory: world.dir().to_owned(),
            name,
            leash: Leash::new()?,
            running: None,
        };
        started.resume()?;
        Ok(started)
    }

    /// The name for `spec.nodeName`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Stops kwok: pods that come from now on never start.
    pub fn pause(&mut self) {
        if let Some(mut child) = self.running.take() {
            drop(child.kill());
            drop(child.wait());
        }
    }

    /// Starts kwok again.
    pub fn resume(&mut self) -> anyhow::Result<()> {
        let path = self.directory.join("kwok.log");
        let log = File::options().create(true).append(true).open(&path)?;
        let mut command = Command::new(&self.program);
        command
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .arg(format!(
                "--manage-nodes-with-label-selector={LABEL}={}",
                self.name
            ))
            .arg("--config")
            .arg(binaries::kwok_stages())
            // Nothing of this machine's user.
            .env("HOME", &self.directory)
            .current_dir(&self.directory)
            .stdout(log.try_clone()?)
            .stderr(log);
        self.running = Some(self.leash.spawn(&mut command)?);
        Ok(())
    }

    /// What kwok said.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.join("kwok.log")).unwrap_or_default()
    }

    /// Ends it, and removes the node.
    pub async fn stop(mut self, world: &World) -> anyhow::Result<()> {
        self.pause();
        let nodes: Api<Node> = Api::all(world.client());
        nodes.delete(&self.name, &DeleteParams::default()).await?;
        Ok(())
    }
}

impl Drop for FakeNode {
    fn drop(&mut self) {
        self.pause();
    }
}
