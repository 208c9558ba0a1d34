//! A control plane with workloads, and what happens to their templates.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use futures::{
    StreamExt as _, TryStreamExt as _,
    stream::{self, BoxStream},
};
use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    core::v1::{ConfigMap, Namespace, Secret},
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams},
};
use plumbline_testkit::{ControlPlane, wait_for};
use serde_json::{Value, json};

/// Where the workloads are that are measured one by one.
pub(super) const NAMESPACE: &str = "shop";
/// The annotation that a workload has from its adoption on.
const SOURCES: &str = "reloader.plumbline.dev/sources";
/// The template's annotation that changes with each rollout.
const HASH: &str = "reloader.plumbline.dev/config-hash";
/// The same of the bare client.
const BARE: &str = "bench/hash";
/// The reloader's default for `--concurrency`.
const CONCURRENCY: usize = 8;
/// How often to look whether something has happened that is not measured.
const LOOK: Duration = Duration::from_secs(1);
/// What takes longer has failed.
const PATIENCE: Duration = Duration::from_mins(5);
/// Objects that are made at the same time.
const AT_ONCE: usize = 16;

/// A control plane and a client.
pub(super) struct Stage {
    pub(super) plane: ControlPlane,
    client: Client,
}

impl Stage {
    pub(super) async fn set_up() -> anyhow::Result<Self> {
        let plane = ControlPlane::start_temporary()?;
        let options = plumbline_common::client::ClientOptions {
            kubeconfig: Some(plane.kubeconfig()),
            context: None,
        };
        plumbline_common::client::install_crypto_provider();
        // Without Nagle's delay, which would be measured too.
        let client = plumbline_common::client::connect(&options, "plumbline-bench").await?;
        let stage = Self { plane, client };
        stage.namespace(NAMESPACE).await?;
        Ok(stage)
    }

    pub(super) async fn namespace(&self, name: &str) -> anyhow::Result<()> {
        let api: Api<Namespace> = Api::all(self.client.clone());
        create(&api, json!({"metadata": {"name": name}})).await
    }

    pub(super) fn maps(&self, namespace: &str) -> Api<ConfigMap> {
        Api::namespaced(self.client.clone(), namespace)
    }

    pub(super) fn secrets(&self, namespace: &str) -> Api<Secret> {
        Api::namespaced(self.client.clone(), namespace)
    }

    pub(super) fn deployments(&self, namespace: &str) -> Api<Deployment> {
        Api::namespaced(self.client.clone(), namespace)
    }

    pub(super) async fn map(&self, namespace: &str, name: &str, value: &str) -> anyhow::Result<()> {
        let object = json!({"metadata": {"name": name}, "data": {"key": value}});
        create(&self.maps(namespace), object).await
    }

    pub(super) async fn secret(&self, namespace: &str, name: &str, value: &str) -> anyhow::Result<()> {
        let object = json!({"metadata": {"name": name}, "stringData": {"key": value}});
        create(&self.secrets(namespace), object).await
    }

    /// A Deployment that wants no pods and uses what is given.
    pub(super) async fn deployment(&self, namespace: &str, name: &str, uses: &[Value]) -> anyhow::Result<()> {
        create(&self.deployments(namespace), deployment(name, uses)).await
    }

    /// As [`Stage::deployment`], and paused: the cluster's own controllers have little to do with it.
    pub(super) async fn paused(&self, namespace: &str, name: &str, uses: &[Value]) -> anyhow::Result<()> {
        let mut object = deployment(name, uses);
        object["spec"]["paused"] = true.into();
        create(&self.deployments(namespace), object).await
    }

    pub(super) async fn set(&self, name: &str, value: &str) -> anyhow::Result<()> {
        let patch = Patch::Merge(json!({"data": {"key": value}}));
        self.maps(NAMESPACE)
            .patch(name, &PatchParams::default(), &patch)
            .await?;
        Ok(())
    }

    /// Waits until as many Deployments of all namespaces have been adopted. Asks for their metadata only: to look must
    /// not cost more than what is looked at.
    pub(super) async fn adopted(&self, count: usize) -> anyhow::Result<()> {
        let api: Api<Deployment> = Api::all(self.client.clone());
        wait_for("every Deployment to be adopted", PATIENCE, async || {
            let list = api.list_metadata(&ListParams::default()).await;
            let list = list.map_err(|error| error.to_string())?;
            let adopted = list
                .items
                .iter()
                .filter(|item| item.annotations().contains_key(SOURCES))
                .count();
            tokio::time::sleep(LOOK).await;
            if adopted == count {
                Ok(())
            } else {
                Err(adopted.to_string())
            }
        })
        .await
    }

    /// Waits until the cluster's own controllers have done what follows from the Deployments that are measured.
    pub(super) async fn settled(&self) -> anyhow::Result<()> {
        let api = self.deployments(NAMESPACE);
        wait_for("every Deployment to be seen", PATIENCE, async || {
            tokio::time::sleep(LOOK).await;
            let list = api.list(&ListParams::default()).await;
            let list = list.map_err(|error| error.to_string())?;
            let behind = list.items.iter().filter(|item| {
                let seen = item.status.as_ref().and_then(|status| status.observed_generation);
                seen != item.metadata.generation
            });
            match behind.count() {
                0 => Ok(()),
                behind => Err(behind.to_string()),
            }
        })
        .await?;
        tokio::time::sleep(LOOK * 2).await;
        Ok(())
    }

    /// A client that does nothing but change the templates of so many Deployments, as the reloader does and as many at a
    /// time: what the API server and the cluster's controllers allow on this machine.
    pub(super) async fn bare(
        &self,
        name: fn(usize) -> String,
        count: usize,
        round: &str,
    ) -> anyhow::Result<Duration> {
        let watched = Watched::begin(self, BARE).await?;
        let api = self.deployments(NAMESPACE);
        let params = PatchParams::apply("plumbline-bench").force();
        let begin = Instant::now();
        let patched = stream::iter(0..count)
            .map(async |at| {
                let name = name(at);
                // As long as what the reloader writes.
                let text = format!("{round}:{}", "x".repeat(150));
                let body = json!({
                    "apiVersion": "apps/v1", "kind": "Deployment",
                    "metadata": {"name": name, "annotations": {"bench/state": text, "bench/last": text}},
                    "spec": {"template": {"metadata": {"annotations": {BARE: text, "bench/record": text}}}},
                });
                api.patch(&name, &params, &Patch::Apply(&body)).await.map(drop)
            })
            .buffer_unordered(CONCURRENCY)
            .try_collect::<()>();
        let (patched, seen) = tokio::join!(patched, watched.changed(count));
        patched?;
        seen?;
        Ok(begin.elapsed())
    }

    /// How many ReplicaSets there are where the workloads are: one for each template a Deployment has had.
    pub(super) async fn replica_sets(&self) -> anyhow::Result<usize> {
        let api: Api<ReplicaSet> = Api::namespaced(self.client.clone(), NAMESPACE);
        Ok(api.list(&ListParams::default()).await?.items.len())
    }

    /// Changes a ConfigMap. Returns how long after that as many templates had changed.
    pub(super) async fn change(&self, name: &str, value: &str, templates: usize) -> anyhow::Result<Duration> {
        let watched = Watched::begin(self, HASH).await?;
        let begin = Instant::now();
        self.set(name, value).await?;
        watched.changed(templates).await?;
        Ok(begin.elapsed())
    }
}

/// The templates of all Deployments, and a watch from then on.
struct Watched {
    annotation: &'static str,
    before: HashMap<String, Option<String>>,
    events: BoxStream<'static, kube::Result<WatchEvent<Deployment>>>,
}

impl Watched {
    async fn begin(stage: &Stage, annotation: &'static str) -> anyhow::Result<Self> {
        let api = stage.deployments(NAMESPACE);
        let list = api.list(&ListParams::default()).await?;
        let version = list.metadata.resource_version.unwrap_or_default();
        let before = list.items.iter();
        let before = before.map(|item| (item.name_any(), value(item, annotation)));
        Ok(Self {
            annotation,
            before: before.collect(),
            events: api.watch(&WatchParams::default(), &version).await?.boxed(),
        })
    }

    /// Waits until this annotation of as many templates has changed.
    async fn changed(mut self, templates: usize) -> anyhow::Result<()> {
        let mut changed = HashSet::new();
        while changed.len() < templates {
            let event = tokio::time::timeout(PATIENCE, self.events.next()).await?;
            if let WatchEvent::Modified(item) = event.context("the watch has ended")??
                && self.before.get(&item.name_any()) != Some(&value(&item, self.annotation))
            {
                changed.insert(item.name_any());
            }
        }
        Ok(())
    }
}

fn value(item: &Deployment, annotation: &str) -> Option<String> {
    let template = &item.spec.as_ref()?.template;
    let annotations = template.metadata.as_ref()?.annotations.as_ref()?;
    annotations.get(annotation).cloned()
}

fn deployment(name: &str, uses: &[Value]) -> Value {
    json!({
        "metadata": {"name": name, "annotations": {"reloader.stakater.com/auto": "true"}},
        "spec": {"replicas": 0, "selector": {"matchLabels": {"app": name}}, "template": {
            "metadata": {"labels": {"app": name}},
            "spec": {"containers": [{"name": "a", "image": "example.com/nothing:1", "envFrom": uses}]}}},
    })
}

async fn create<K>(api: &Api<K>, object: Value) -> anyhow::Result<()>
where
    K: Clone + std::fmt::Debug + k8s_openapi::serde::de::DeserializeOwned + k8s_openapi::serde::Serialize,
{
    let object = serde_json::from_value(object)?;
    api.create(&PostParams::default(), &object).await?;
    Ok(())
}

/// Does something `count` times, several at once.
pub(super) async fn many(
    count: usize,
    work: impl AsyncFn(usize) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    stream::iter(0..count)
        .map(|number| work(number))
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}
