//! A namespace of its own, and what happens in it.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Event;
use kube::{
    Api,
    api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams},
    core::{ApiResource, GroupVersionKind},
};
use plumbline_testkit::{ControlPlane, Leash, World, wait_for};
use serde_json::{Value, json};

use crate::process::Reloader;

/// How long anything may take on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_mins(1);
/// How long it takes until what should not happen would have happened.
pub(crate) const QUIET: Duration = Duration::from_secs(3);

pub(crate) const SOURCES: &str = "reloader.plumbline.dev/sources";
pub(crate) const HASH: &str = "reloader.plumbline.dev/config-hash";
pub(crate) const AUTO: (&str, &str) = ("reloader.stakater.com/auto", "true");

pub(crate) struct Bench {
    pub(crate) world: World,
    pub(crate) leash: Leash,
}

impl Bench {
    pub(crate) async fn new() -> anyhow::Result<Self> {
        Ok(Self {
            world: World::new().await?,
            leash: Leash::new()?,
        })
    }

    /// ConfigMap `app`, and Deployment `web` that uses it and has been adopted; with its template.
    pub(crate) async fn web(arguments: &[&str]) -> anyhow::Result<(Self, Reloader, Value)> {
        let bench = Self::new().await?;
        bench.config_map("app", "v1").await?;
        bench.create(workload("Deployment", "web", &[AUTO])).await?;
        let reloader = bench.start(arguments).await?;
        bench.adopted("Deployment", "web", &["cm/app"]).await?;
        let template = bench.template("Deployment", "web").await?;
        Ok((bench, reloader, template))
    }

    /// On a control plane of its own.
    pub(crate) async fn on(plane: &ControlPlane) -> anyhow::Result<Self> {
        Ok(Self {
            world: World::on(plane).await?,
            leash: Leash::new()?,
        })
    }

    pub(crate) fn api(&self, kind: &str) -> Api<DynamicObject> {
        let (group, version) = match kind {
            "Deployment" | "StatefulSet" | "DaemonSet" => ("apps", "v1"),
            "CronJob" | "Job" => ("batch", "v1"),
            "Lease" => ("coordination.k8s.io", "v1"),
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

    pub(crate) async fn merge_lists(&self, kind: &str, name: &str, change: Value) -> anyhow::Result<()> {
        let patch = Patch::Strategic(&change);
        self.api(kind)
            .patch(name, &PatchParams::default(), &patch)
            .await?;
        Ok(())
    }

    pub(crate) async fn delete(&self, kind: &str, name: &str) -> anyhow::Result<()> {
        self.api(kind).delete(name, &DeleteParams::default()).await?;
        Ok(())
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

    /// Fails if we have written anything to a workload. The cluster's own controllers may have.
    pub(crate) async fn untouched(&self, kind: &str, name: &str, before: &Value) -> anyhow::Result<()> {
        let object = self.get(kind, name).await?;
        let annotations = object["metadata"]["annotations"].to_string();
        anyhow::ensure!(!annotations.contains("reloader.plumbline.dev"), "{annotations}");
        anyhow::ensure!(object["spec"] == before["spec"], "{object}");
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

    /// For which sources we have rolled a workload last.
    pub(crate) async fn rolled_for(&self, kind: &str, name: &str) -> anyhow::Result<Vec<String>> {
        let object = self.get(kind, name).await?;
        let last = object["metadata"]["annotations"]["reloader.plumbline.dev/last-trigger"].as_str();
        let Some(last) = last else { return Ok(vec![]) };
        let last: Value = serde_json::from_str(last)?;
        Ok(serde_json::from_value(last["sources"].clone())?)
    }

    /// The messages of events with this reason about a workload.
    pub(crate) async fn events(&self, name: &str, reason: &str) -> anyhow::Result<Vec<String>> {
        let api: Api<Event> = Api::namespaced(self.world.client(), self.world.namespace());
        let events = api.list(&ListParams::default()).await?.items.into_iter();
        let events = events.filter(|event| {
            event.involved_object.name.as_deref() == Some(name) && event.reason.as_deref() == Some(reason)
        });
        Ok(events.filter_map(|event| event.message).collect())
    }

    /// Waits for an event with this reason about a workload.
    pub(crate) async fn event(&self, name: &str, reason: &str) -> anyhow::Result<String> {
        wait_for(&format!("the event {reason}"), LIMIT, async || {
            let events = self.events(name, reason).await;
            let first = events.map_err(|error| error.to_string())?.into_iter().next();
            first.ok_or_else(|| "there is none".to_owned())
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
