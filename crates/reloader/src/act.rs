//! Act: the only file that writes to workloads.

use std::time::Duration;

use k8s_openapi::api::{
    apps::v1::{DaemonSet, Deployment, StatefulSet},
    batch::v1::{CronJob, Job},
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::{
    argo::Rollout,
    error::Error,
    keys::{self, Keys},
    kinds::{Rollable, WorkloadKind},
    owned::MANAGER,
    rerun::Runner,
    workload::{Reading, Workload, WorkloadKey},
};

/// How long one write may take, kube's own retries included.
pub const TIMEOUT: Duration = Duration::from_secs(30);

/// Writes with the identity of one process.
#[derive(Clone)]
pub struct Writer {
    client: Client,
    reading: Reading,
    runner: Runner,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer")
            .field("reading", &self.reading)
            .finish_non_exhaustive()
    }
}

impl Writer {
    /// A writer that reads its answers with these keys.
    pub fn new(client: Client, reading: Reading, runner: Runner) -> Self {
        Self {
            client,
            reading,
            runner,
        }
    }

    /// What runs CronJobs and Jobs.
    pub fn runner(&self) -> &Runner {
        &self.runner
    }

    /// The client to act with.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// One server-side apply. Returns the workload as it is now.
    pub async fn apply(&self, key: &WorkloadKey, body: &Value) -> Result<Workload, Error> {
        self.patch(key, &PatchParams::apply(MANAGER).force(), &Patch::Apply(body))
            .await
    }

    /// Ends a pause, whoever began it: takes away the field and its marker.
    pub async fn resume(&self, workload: &Workload, keys: &Keys) -> Result<Workload, Error> {
        let body = json!({
            "metadata": {"uid": workload.uid, "annotations": { &keys.paused_at: null }},
            "spec": {"paused": null},
        });
        self.patch(&workload.key, &named(), &Patch::Merge(&body)).await
    }

    /// One strategic merge. Returns the workload as it is now.
    pub async fn merge(&self, key: &WorkloadKey, body: &Value) -> Result<Workload, Error> {
        self.patch(key, &named(), &Patch::Strategic(body)).await
    }

    /// The last old pod of a workload is gone.
    pub async fn evicted(&self, workload: &Workload) -> Result<Workload, Error> {
        let body = json!({
            "metadata": {"uid": workload.uid, "annotations": { (keys::EVICTING): null }},
        });
        self.patch(&workload.key, &named(), &Patch::Merge(&body)).await
    }

    /// Reads a workload whose template another one uses.
    pub async fn read(&self, key: &WorkloadKey) -> Result<Workload, Error> {
        let read = async {
            match key.kind {
                WorkloadKind::Deployment => self.read_as::<Deployment>(key).await,
                WorkloadKind::StatefulSet => self.read_as::<StatefulSet>(key).await,
                WorkloadKind::DaemonSet => self.read_as::<DaemonSet>(key).await,
                WorkloadKind::CronJob | WorkloadKind::Job | WorkloadKind::Rollout => {
                    Err(Error::Gone(key.clone()))
                }
            }
        };
        tokio::time::timeout(TIMEOUT, read)
            .await
            .map_err(|_| Error::Timeout(key.clone(), TIMEOUT))?
    }

    async fn read_as<K: Rollable>(&self, key: &WorkloadKey) -> Result<Workload, Error> {
        let api: Api<K> = Api::namespaced(self.client.clone(), &key.namespace);
        let object = api.get(&key.name).await.map_err(|source| Error::Api {
            verb: "get",
            workload: key.clone(),
            source: Box::new(source),
        })?;
        Workload::read(&object, &self.reading).ok_or_else(|| Error::Gone(key.clone()))
    }

    async fn patch(
        &self,
        key: &WorkloadKey,
        parameters: &PatchParams,
        patch: &Patch<&Value>,
    ) -> Result<Workload, Error> {
        let write = async {
            match key.kind {
                WorkloadKind::Deployment => self.patch_as::<Deployment>(key, parameters, patch).await,
                WorkloadKind::StatefulSet => self.patch_as::<StatefulSet>(key, parameters, patch).await,
                WorkloadKind::DaemonSet => self.patch_as::<DaemonSet>(key, parameters, patch).await,
                WorkloadKind::CronJob => self.patch_as::<CronJob>(key, parameters, patch).await,
                WorkloadKind::Job => self.patch_as::<Job>(key, parameters, patch).await,
                WorkloadKind::Rollout => self.patch_as::<Rollout>(key, parameters, patch).await,
            }
        };
        tokio::time::timeout(TIMEOUT, write)
            .await
            .map_err(|_| Error::Timeout(key.clone(), TIMEOUT))?
    }

    async fn patch_as<K: Rollable>(
        &self,
        key: &WorkloadKey,
        parameters: &PatchParams,
        patch: &Patch<&Value>,
    ) -> Result<Workload, Error> {
        let api: Api<K> = Api::namespaced(self.client.clone(), &key.namespace);
        let object = api
            .patch(&key.name, parameters, patch)
            .await
            .map_err(|source| Error::Api {
                verb: "patch",
                workload: key.clone(),
                source: Box::new(source),
            })?;
        Workload::read(&object, &self.reading).ok_or_else(|| Error::Gone(key.clone()))
    }
}

fn named() -> PatchParams {
    PatchParams {
        field_manager: Some(MANAGER.into()),
        ..PatchParams::default()
    }
}
