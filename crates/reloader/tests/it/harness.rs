//! Starts the binary in a namespace of its own, and looks at what it does.

use std::{
    collections::BTreeMap,
    fs::File,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Event;
use kube::{
    Api,
    api::{DynamicObject, ListParams, Patch, PatchParams, PostParams},
    core::{ApiResource, GroupVersionKind},
};
use plumbline_testkit::{Leash, World, wait_for};
use serde_json::{Value, json};

/// How long anything may take on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_mins(1);
/// How long it takes until what should not happen would have happened.
pub(crate) const QUIET: Duration = Duration::from_secs(3);

pub(crate) const SOURCES: &str = "reloader.plumbline.dev/sources";
pub(crate) const HASH: &str = "reloader.plumbline.dev/config-hash";
pub(crate) const AUTO: (&str, &str) = ("reloader.stakater.com/auto", "true");

pub(crate) struct Bench {
    pub(crate) world: World,
    leash: Leash,
}

/// A running reloader; dropping it kills it.
pub(crate) struct Reloader {
    child: Child,
    pub(crate) log: std::path::PathBuf,
}

impl Drop for Reloader {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Reloader {
    /// kill -9.
    pub(crate) fn kill(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Bench {
    pub(crate) async fn new() -> anyhow::Result<Self> {
        Ok(Self {
            world: World::new().await?,
            leash: Leash::new()?,
        })
    }

    /// Starts the binary for this namespace, and waits until it is ready.
    pub(crate) async fn start(&self, arguments: &[&str]) -> anyhow::Result<Reloader> {
        self.start_as(&self.world.kubeconfig(), arguments).await
    }

    pub(crate) async fn start_as(
        &self,
        kubeconfig: &std::path::Path,
        arguments: &[&str],
    ) -> anyhow::Result<Reloader> {
        let reloader = self.spawn(kubeconfig, arguments)?;
        wait_for("the reloader to be ready", LIMIT, async || {
            let log = reloader.log();
            if log.contains("ready") { Ok(()) } else { Err(log) }
        })
        .await?;
        Ok(reloader)
    }

    pub(crate) fn spawn(&self, kubeconfig: &std::path::Path, arguments: &[&str]) -> anyhow::Result<Reloader> {
        self.spawn_with(kubeconfig, &[("POD_NAME", "reloader-0")], arguments)
    }

    /// Starts a replica with a Pod's name, and does not wait for it.
    pub(crate) fn spawn_named(
        &self,
        kubeconfig: &std::path::Path,
        pod: &str,
        arguments: &[&str],
    ) -> anyhow::Result<Reloader> {
        self.spawn_with(kubeconfig, &[("POD_NAME", pod)], arguments)
    }

    /// Starts the binary with these variables, and does not wait for it.
    pub(crate) fn spawn_with(
        &self,
        kubeconfig: &std::path::Path,
        variables: &[(&str, &str)],
        arguments: &[&str],
    ) -> anyhow::Result<Reloader> {
        let number = std::fs::read_dir(self.world.dir())?.count();
        let log = self.world.dir().join(format!("reloader-{number}.log"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_plumbline-reloader"));
        command
            .args(["--listen-address=0", "--log-level=debug", "--log-format=text"])
            .arg(format!("--namespaces={}", self.world.namespace()))
            .arg(format!("--kubeconfig={}", kubeconfig.display()))
            .args(arguments)
            .env("POD_NAMESPACE", self.world.namespace())
            .envs(variables.iter().copied())
            .env_remove("KUBECONFIG")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?);
        Ok(Reloader {
            child: self.leash.spawn(&mut command)?,
            log,
        })
    }

    /// What `explain` prints.
    pub(crate) fn explain(&self, workload: &str) -> anyhow::Result<String> {
        let output = Command::new(env!("CARGO_BIN_EXE_plumbline-reloader"))
            .args(["explain", workload, "--namespace", self.world.namespace()])
            .arg(format!("--kubeconfig={}", self.world.kubeconfig().display()))
            .env("POD_NAMESPACE", self.world.namespace())
            .output()?;
        anyhow::ensure!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8(output.stdout)?)
    }

    pub(crate) fn api(&self, kind: &str) -> Api<DynamicObject> {
        let (group, version) = match kind {
            "Deployment" | "StatefulSet" | "DaemonSet" => ("apps", "v1"),
            "CronJob" | "Job" => ("batch", "v1"),
            _ => ("", "v1"),
        };
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        Api::namespaced_with(self.world.client(), self.world.namespace(), &resource)
    }

    pub(crate) async fn create(&self, object: Value) -> anyhow::Result<DynamicObject> {
        let kind = object["kind"].as_str().context("no kind")?.to_owned();
        let object: DynamicObject = serde_json::from_value(object)?;
        Ok(self.api(&kind).create(&PostParams::default(), &object).await?)
    }

    pub(crate) async fn config_map(&self, name: &str, content: &str) -> anyhow::Result<()> {
        self.create(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"key": content}}))
            .await
            .map(drop)
    }

    pub(crate) async fn secret(&self, name: &str, content: &str) -> anyhow::Result<()> {
        let data = json!({ "key": content });
        self.create(
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data}),
        )
        .await
        .map(drop)
    }

    pub(crate) async fn merge(&self, kind: &str, name: &str, change: Value) -> anyhow::Result<DynamicObject> {
        let patch = Patch::Merge(&change);
        Ok(self
            .api(kind)
            .patch(name, &PatchParams::default(), &patch)
            .await?)
    }

    pub(crate) async fn set(&self, kind: &str, name: &str, content: &str) -> anyhow::Result<()> {
        let change = if kind == "Secret" {
            json!({"stringData": {"key": content}})
        } else {
            json!({"data": {"key": content}})
        };
        self.merge(kind, name, change).await.map(drop)
    }

    pub(crate) async fn get(&self, kind: &str, name: &str) -> anyhow::Result<Value> {
        Ok(serde_json::to_value(self.api(kind).get(name).await?)?)
    }

    pub(crate) async fn template(&self, kind: &str, name: &str) -> anyhow::Result<Value> {
        Ok(self.get(kind, name).await?["spec"]["template"].clone())
    }

    /// Waits until the workload's state holds these sources.
    pub(crate) async fn adopted(&self, kind: &str, name: &str, sources: &[&str]) -> anyhow::Result<()> {
        wait_for("the workload to be adopted", LIMIT, async || {
            let object = self.get(kind, name).await.map_err(|error| error.to_string())?;
            let state = object["metadata"]["annotations"][SOURCES]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            let all = state.starts_with("v1:") && sources.iter().all(|source| state.contains(source));
            if all { Ok(()) } else { Err(object.to_string()) }
        })
        .await
    }

    /// Waits until the template is another than before, and returns the new one.
    pub(crate) async fn rolled(&self, kind: &str, name: &str, before: &Value) -> anyhow::Result<Value> {
        wait_for("the workload to be rolled", LIMIT, async || {
            let template = self
                .template(kind, name)
                .await
                .map_err(|error| error.to_string())?;
            if template == *before {
                Err(template.to_string())
            } else {
                Ok(template)
            }
        })
        .await
    }

    /// Fails if the template changes within a while.
    pub(crate) async fn stays(&self, kind: &str, name: &str, before: &Value) -> anyhow::Result<()> {
        tokio::time::sleep(QUIET).await;
        let template = self.template(kind, name).await?;
        anyhow::ensure!(template == *before, "rolled: {template}");
        Ok(())
    }

    /// How often we have rolled a workload, by its own record.
    pub(crate) async fn count(&self, kind: &str, name: &str) -> anyhow::Result<u64> {
        let object = self.get(kind, name).await?;
        let Some(text) = object["metadata"]["annotations"]["reloader.plumbline.dev/last-trigger"].as_str()
        else {
            return Ok(0);
        };
        let last: Value = serde_json::from_str(text)?;
        last["count"].as_u64().context("no count")
    }

    /// Waits for an event with this reason about a workload.
    pub(crate) async fn event(&self, name: &str, reason: &str) -> anyhow::Result<String> {
        let api: Api<Event> = Api::namespaced(self.world.client(), self.world.namespace());
        wait_for(&format!("the event {reason}"), LIMIT, async || {
            let events = api
                .list(&ListParams::default())
                .await
                .map_err(|error| error.to_string())?;
            let told = events.items.iter().find(|event| {
                event.involved_object.name.as_deref() == Some(name) && event.reason.as_deref() == Some(reason)
            });
            let all = || {
                events
                    .items
                    .iter()
                    .map(|e| e.reason.clone().unwrap_or_default())
                    .collect::<Vec<_>>()
                    .join(" ")
            };
            told.map(|event| event.message.clone().unwrap_or_default())
                .ok_or_else(all)
        })
        .await
    }
}

/// A pod template that uses ConfigMap `app` and Secret `db`.
pub(crate) fn template() -> Value {
    json!({
        "metadata": {"labels": {"app": "web"}},
        "spec": {"restartPolicy": "Always", "containers": [{
            "name": "a",
            "image": "example.com/nothing:1",
            "envFrom": [{"configMapRef": {"name": "app", "optional": true}}, {"secretRef": {"name": "db", "optional": true}}],
        }]},
    })
}

pub(crate) fn workload(kind: &str, name: &str, annotations: &[(&str, &str)]) -> Value {
    let annotations: BTreeMap<_, _> = annotations.iter().copied().collect();
    let mut object = json!({
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": name, "annotations": annotations},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": template()},
    });
    if kind == "StatefulSet" {
        object["spec"]["serviceName"] = json!("web");
    }
    object
}
