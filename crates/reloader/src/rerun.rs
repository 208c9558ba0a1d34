//! Act on CronJobs and Jobs: run now, and delete and make anew without ever losing one.
//!
//! Between the deletion of a Job and its creation its manifest stands in a Secret of our own namespace (its variables may
//! hold plaintext). Whoever starts next finishes what a killed process began.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::{ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, DynamicObject, ListParams, PostParams, Preconditions},
    core::{ApiResource, GroupVersionKind},
};
use plumbline_common::backoff::Backoff;
use serde_json::{Map, Value};

use crate::{
    batch,
    error::Error,
    owned::MANAGER,
    workload::{Workload, WorkloadKey},
};

const LABEL: &str = "reloader.plumbline.dev/backup";
const MANIFEST: &str = "manifest";
const UID: &str = "uid";
/// The first attempts to make a Job anew are waited for; the old one may take a moment to go.
const QUICK: Backoff = Backoff {
    base: Duration::from_millis(50),
    max: Duration::from_secs(1),
};
const QUICK_ATTEMPTS: u32 = 8;
const SLOW: Backoff = Backoff {
    base: Duration::from_secs(2),
    max: Duration::from_secs(30),
};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Real,
    DryRun,
}

/// Runs CronJobs and Jobs again.
#[derive(Clone)]
pub struct Runner {
    client: Client,
    // Where manifests are kept meanwhile.
    own_namespace: String,
}

impl std::fmt::Debug for Runner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runner")
            .field("own_namespace", &self.own_namespace)
            .finish_non_exhaustive()
    }
}

impl Runner {
    /// A runner that keeps manifests in this namespace.
    pub fn new(client: Client, own_namespace: String) -> Self {
        Self {
            client,
            own_namespace,
        }
    }

    /// Runs a CronJob now, once for this trigger.
    pub async fn run_now(&self, cron_job: &Workload, trigger: u64, state: &str) -> Result<(), Error> {
        let key = &cron_job.key;
        let failed = |verb| move |source| failure(verb, key, source);
        let object = self
            .api("CronJob", &key.namespace)
            .get(&key.name)
            .await
            .map_err(failed("get"))?;
        if object.uid().as_deref() != Some(&cron_job.uid) {
            return Err(Error::Gone(key.clone()));
        }
        let name = batch::job_name(&key.name, &cron_job.uid, trigger, state);
        let job = batch::run_now(&value(&object), &name);
        match self.create(&key.namespace, &job, Mode::Real).await {
            // It was created before a crash.
            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
            other => other.map_err(failed("run")),
        }
    }

    /// Deletes a Job and makes it anew with these annotations.
    pub async fn rerun(&self, job: &Workload, annotations: &Map<String, Value>) -> Result<(), Error> {
        let key = &job.key;
        let failed = |verb| move |source| failure(verb, key, source);
        let api = self.api("Job", &key.namespace);
        let object = api.get(&key.name).await.map_err(failed("get"))?;
        if object.uid().as_deref() != Some(&job.uid) {
            return Err(Error::Gone(key.clone()));
        }
        let manifest = batch::anew(&value(&object), annotations);
        // What admission would refuse is not deleted first.
        let mut probe = manifest.clone();
        probe["metadata"]["name"] = batch::job_name("probe", &job.uid, 0, "").into();
        self.create(&key.namespace, &probe, Mode::DryRun)
            .await
            .map_err(failed("recreate"))?;
        match self.keep(job, &manifest).await {
            Ok(()) => {}
            Err(kube::Error::Api(status)) if status.is_forbidden() => {
                tracing::debug!(workload = %key, "no copy of the Job may be kept while it is made anew");
            }
            Err(error) => return Err(failed("keep a copy of")(error)),
        }
        // In a task of its own: giving up on the answer must not leave it half done.
        let replaced = tokio::spawn(self.clone().replace(key.clone(), job.uid.clone(), manifest)).await;
        replaced.unwrap_or_else(|_| Err(Error::Gone(key.clone())))
    }

    async fn replace(self, key: WorkloadKey, uid: String, manifest: Value) -> Result<(), Error> {
        let preconditions = Preconditions {
            uid: Some(uid.clone()),
            resource_version: None,
        };
        let parameters = DeleteParams::background().preconditions(preconditions);
        match self
            .api("Job", &key.namespace)
            .delete(&key.name, &parameters)
            .await
        {
            Ok(_) => {}
            // Gone since it was read, a moment ago, perhaps by an attempt of ours whose answer was lost.
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            Err(error) => {
                // Whether it is gone is not known: it is made anew only if it is.
                tokio::spawn(self.finish(key.clone(), uid, manifest));
                return Err(failure("delete", &key, error));
            }
        }
        for attempt in 1..=QUICK_ATTEMPTS {
            if self.create(&key.namespace, &manifest, Mode::Real).await.is_ok() {
                self.forget(&uid).await;
                return Ok(());
            }
            tokio::time::sleep(QUICK.delay(attempt)).await;
        }
        // No worker waits for it: the others go on.
        tokio::spawn(self.finish(key, uid, manifest));
        Ok(())
    }

    /// Finishes what was begun before this process started.
    pub async fn recover(&self) {
        for backup in self.left_over().await {
            let field = |name: &str| {
                backup
                    .data
                    .as_ref()
                    .and_then(|data| data.get(name))
                    .map(|value| &value.0)
            };
            let manifest = field(MANIFEST).and_then(|bytes| serde_json::from_slice::<Value>(bytes).ok());
            let uid = field(UID).and_then(|bytes| String::from_utf8(bytes.clone()).ok());
            let (Some(manifest), Some(uid)) = (manifest, uid) else {
                continue;
            };
            let text = |field: &str| {
                manifest["metadata"][field]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned()
            };
            let kind = crate::kinds::WorkloadKind::Job;
            let key = WorkloadKey {
                namespace: text("namespace"),
                kind,
                name: text("name"),
            };
            tracing::info!(workload = %key, "is made anew: an earlier process had begun to");
            tokio::spawn(self.clone().finish(key, uid, manifest));
        }
    }

    async fn left_over(&self) -> Vec<Secret> {
        let api = self.backups();
        for attempt in 1.. {
            match api.list(&ListParams::default().labels(LABEL)).await {
                Ok(list) => return list.items,
                // Who may not list them may not have made any.
                Err(kube::Error::Api(status)) if status.is_forbidden() => break,
                Err(error) => {
                    tracing::warn!(%error, "copies of Jobs cannot be listed yet, is tried again");
                    tokio::time::sleep(SLOW.delay(attempt)).await;
                }
            }
        }
        Vec::new()
    }

    // Until the Job is there. One that is there already, whoever made it, is left alone.
    async fn finish(self, key: WorkloadKey, uid: String, manifest: Value) {
        let api = self.api("Job", &key.namespace);
        for attempt in 1.. {
            match api.get_opt(&key.name).await {
                Ok(Some(job)) if job.metadata.deletion_timestamp.is_none() => {
                    self.forget(&uid).await;
                    return;
                }
                Ok(_) | Err(_) => match self.create(&key.namespace, &manifest, Mode::Real).await {
                    Ok(()) => {
                        tracing::info!(workload = %key, "made anew");
                        self.forget(&uid).await;
                        return;
                    }
                    Err(error) => {
                        tracing::warn!(workload = %key, %error, "cannot be made anew yet, is tried again");
                    }
                },
            }
            tokio::time::sleep(SLOW.delay(attempt)).await;
        }
    }

    async fn keep(&self, job: &Workload, manifest: &Value) -> kube::Result<()> {
        let data = [
            (MANIFEST, manifest.to_string().into_bytes()),
            (UID, job.uid.clone().into_bytes()),
        ];
        let secret = Secret {
            metadata: ObjectMeta {
                name: Some(backup_name(&job.uid)),
                labels: Some(BTreeMap::from([(LABEL.to_owned(), "job".to_owned())])),
                ..ObjectMeta::default()
            },
            data: Some(
                data.into_iter()
                    .map(|(field, bytes)| (field.to_owned(), ByteString(bytes)))
                    .collect(),
            ),
            ..Secret::default()
        };
        match self.backups().create(&parameters(Mode::Real), &secret).await {
            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
            other => other.map(drop),
        }
    }

    async fn forget(&self, uid: &str) {
        if let Err(error) = self
            .backups()
            .delete(&backup_name(uid), &DeleteParams::default())
            .await
        {
            tracing::debug!(%error, "the copy of a Job was not removed");
        }
    }

    async fn create(&self, namespace: &str, job: &Value, mode: Mode) -> kube::Result<()> {
        let job: DynamicObject = serde_json::from_value(job.clone()).map_err(kube::Error::SerdeError)?;
        self.api("Job", namespace)
            .create(&parameters(mode), &job)
            .await
            .map(drop)
    }

    fn api(&self, kind: &str, namespace: &str) -> Api<DynamicObject> {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("batch", "v1", kind));
        Api::namespaced_with(self.client.clone(), namespace, &resource)
    }

    fn backups(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), &self.own_namespace)
    }
}

fn backup_name(uid: &str) -> String {
    format!("plumbline-reloader-job-{uid}")
}

fn parameters(mode: Mode) -> PostParams {
    PostParams {
        dry_run: mode == Mode::DryRun,
        field_manager: Some(MANAGER.into()),
    }
}

fn failure(verb: &'static str, key: &WorkloadKey, source: kube::Error) -> Error {
    Error::Api {
        verb,
        workload: key.clone(),
        source: Box::new(source),
    }
}

fn value(object: &DynamicObject) -> Value {
    serde_json::to_value(object).unwrap_or_default()
}
