//! Many Kustomizations, and when all of them have applied a revision.

use std::{
    collections::HashSet,
    pin::pin,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use futures::StreamExt as _;
use kube::{
    Client, ResourceExt as _,
    api::{DynamicObject, PostParams},
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event},
    },
};
use serde_json::{Value, json};

use crate::bench::{
    requests::Asked,
    stage::{self, NAMESPACE, Stage},
};

/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_mins(15);
/// Requests that make Kustomizations at a time.
const CONCURRENCY: usize = 16;

/// The Kustomizations of a stage.
pub(crate) struct Fleet<'a> {
    pub(crate) stage: &'a Stage,
    pub(crate) client: &'a Client,
}

impl<'a> Fleet<'a> {
    pub(crate) fn new(stage: &'a Stage, client: &'a Client) -> Self {
        Self { stage, client }
    }

    /// Commits what was written; the revision as the status prints it.
    pub(crate) fn commit(&self, message: &str) -> anyhow::Result<String> {
        Ok(format!("main@sha1:{}", self.stage.repository.commit(message)?))
    }

    /// Makes a Kustomization for each path of this name; `spec` is added to what all have.
    pub(crate) async fn make(&self, names: &[String], spec: &Value) -> anyhow::Result<()> {
        let api = stage::kustomizations(self.client);
        let mut made = futures::stream::iter(names.iter().cloned())
            .map(|name| {
                let mut object = json!({
                    "apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization",
                    "metadata": { "name": name, "namespace": NAMESPACE },
                    "spec": {
                        "sourceRef": { "kind": "GitRepository", "name": "bench" },
                        "path": name, "prune": true, "interval": "1h", "timeout": "5m",
                    },
                });
                for (key, value) in spec.as_object().into_iter().flatten() {
                    object["spec"][key] = value.clone();
                }
                let api = api.clone();
                async move {
                    let object: DynamicObject = serde_json::from_value(object)?;
                    api.create(&PostParams::default(), &object).await?;
                    anyhow::Ok(())
                }
            })
            .buffer_unordered(CONCURRENCY);
        while let Some(one) = made.next().await {
            one?;
        }
        Ok(())
    }

    /// Waits until all of `names` are ready at `revision`; says when the last one was.
    pub(crate) async fn applied(&self, names: &[String], revision: &str) -> anyhow::Result<Instant> {
        let left: HashSet<&str> = names.iter().map(String::as_str).collect();
        self.until(left, |object| {
            object["status"]["lastAppliedRevision"] == revision && has(object, "Ready", "True")
        })
        .await
    }

    /// Waits until all of `names` wait for the health of their objects at `revision`.
    pub(crate) async fn waiting(&self, names: &[String], revision: &str) -> anyhow::Result<Instant> {
        let left: HashSet<&str> = names.iter().map(String::as_str).collect();
        self.until(left, |object| {
            object["status"]["lastAttemptedRevision"] == revision && !has(object, "Ready", "True")
        })
        .await
    }

    async fn until(
        &self,
        mut left: HashSet<&str>,
        is_done: impl Fn(&Value) -> bool,
    ) -> anyhow::Result<Instant> {
        let api = stage::kustomizations(self.client);
        let events = watcher::watcher(api, watcher::Config::default()).default_backoff();
        let all = async {
            let mut events = pin!(events);
            while let Some(event) = events.next().await {
                if let Event::Apply(object) | Event::InitApply(object) = event?
                    && is_done(&object.data)
                {
                    left.remove(object.name_any().as_str());
                    if left.is_empty() {
                        return anyhow::Ok(Instant::now());
                    }
                }
            }
            bail!("the watch on Kustomizations has ended")
        };
        let waited = tokio::time::timeout(PATIENCE, all).await;
        let missing = left.len();
        waited.with_context(|| format!("{missing} Kustomizations are not done after {PATIENCE:?}"))?
    }

    /// Commits, has the source look, and waits for all of `names`. How long it took, and what was asked meanwhile.
    pub(crate) async fn push(&self, names: &[String], what: &str) -> anyhow::Result<(Duration, Asked)> {
        let log = self.stage.plane.audit_log().since_now()?;
        let revision = self.commit(what)?;
        let begin = Instant::now();
        stage::look(self.client, what).await?;
        let end = self.applied(names, &revision).await?;
        Ok((end - begin, Asked::read(&log).await?))
    }
}

fn has(object: &Value, condition: &str, status: &str) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    conditions
        .into_iter()
        .flatten()
        .any(|one| one["type"] == condition && one["status"] == status)
}
