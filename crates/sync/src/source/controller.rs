//! The controller of GitRepositories.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures::StreamExt as _;
use k8s_openapi::jiff::Timestamp;
use kube::{
    Api, Client, ResourceExt as _,
    api::{Patch, PatchParams},
    core::Resource as _,
    runtime::{
        controller::{self, Action, Controller},
        reflector::{ObjectRef, Store},
        watcher,
    },
};
use plumbline_common::{
    backoff::{self, Backoff},
    duration,
    events::{self, Recorder},
    shutdown::Stopping,
};

use tokio_stream::wrappers::UnboundedReceiverStream;

use super::{
    Artifact, SourceKey, Sources,
    error::FetchError,
    fetch::{Included, Look},
    report,
    settings::{self, Settings},
};
use crate::{
    api::{GitRepository, GitRepositoryInclude, GitRepositoryStatus, REQUESTED_AT},
    cluster::fields::MANAGER,
    git::{FileUrls, Mirrors},
    metrics::Metrics,
    status,
};

/// Delays after failures that may pass by themselves; never longer than the interval.
const RETRY: Backoff = Backoff {
    base: Duration::from_secs(2),
    max: Duration::from_mins(10),
};
/// Bound on writing a status.
const STATUS_TIMEOUT: Duration = Duration::from_secs(30);

/// What the controller works with.
pub struct Context {
    /// The Kubernetes API.
    pub client: Client,
    /// Where repositories are mirrored.
    pub mirrors: Mirrors,
    /// Who reads what is fetched.
    pub sources: Arc<Sources>,
    /// Where events go.
    pub recorder: Recorder,
    /// Durations and outcomes.
    pub metrics: Metrics,
    /// Whether `file://` URLs are taken.
    pub file_urls: FileUrls,
    /// Spread of the intervals in percent.
    pub jitter: u8,
    /// What is remembered of each object.
    pub memory: Mutex<HashMap<SourceKey, Memory>>,
}

/// What is remembered of a GitRepository between looks.
#[derive(Clone, Default)]
pub struct Memory {
    generation: i64,
    requested: Option<String>,
    due: Option<Instant>,
    failures: u32,
    settings: Option<Settings>,
    status: Option<GitRepositoryStatus>,
    /// Digests of the included artifacts that were last looked at.
    includes: Vec<Option<String>>,
}

/// An error that the condition of the object cannot carry, because it could not be written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refused the status.
    #[error("the status of GitRepository {0} cannot be written: {1}")]
    Status(String, kube::Error),
    /// The status cannot be expressed as JSON.
    #[error("the status cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// The blocking part panicked.
    #[error("the fetch ended abnormally: {0}")]
    Join(#[from] tokio::task::JoinError),
    /// The API server did not answer in time.
    #[error("the API server did not take the status within {} s", STATUS_TIMEOUT.as_secs())]
    Timeout,
}

/// Runs until the process stops.
pub async fn run(
    api: Api<GitRepository>,
    selector: &str,
    concurrency: u16,
    context: Arc<Context>,
    stopping: Stopping,
) {
    let mut config = watcher::Config::default();
    if !selector.is_empty() {
        config = config.labels(selector);
    }
    let controller = Controller::new(api, config)
        .with_config(controller::Config::default().concurrency(concurrency))
        .graceful_shutdown_on(stopping.wait());
    let store = controller.store();
    let includers = {
        let store = store.clone();
        UnboundedReceiverStream::new(context.sources.subscribe())
            .flat_map(move |key| futures::stream::iter(includers_of(&store, &key)))
    };
    controller
        .reconcile_on(includers)
        .run(
            reconcile,
            |object, error, context| error_policy(&object, error, &context),
            Arc::clone(&context),
        )
        .for_each(async |result| {
            if let Err(controller::Error::ObjectNotFound(gone)) = &result {
                let key = (gone.namespace.clone().unwrap_or_default(), gone.name.clone());
                if store.get(&ObjectRef::new(&key.1).within(&key.0)).is_none() {
                    context
                        .memory
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .remove(&key);
                    context.sources.remove(&key);
                }
            }
        })
        .await;
}

/// The sources that include this one.
fn includers_of(store: &Store<GitRepository>, key: &SourceKey) -> Vec<ObjectRef<GitRepository>> {
    store
        .state()
        .iter()
        .filter(|object| {
            object.namespace().unwrap_or_default() == key.0
                && object
                    .spec
                    .include
                    .iter()
                    .any(|include| include.repository.name == key.1)
        })
        .map(|object| ObjectRef::from_obj(&**object))
        .collect()
}

fn error_policy(object: &GitRepository, error: &Error, _: &Context) -> Action {
    tracing::warn!(%error, name = object.name_any(), "will be tried again");
    Action::requeue(Duration::from_secs(5))
}

async fn reconcile(object: Arc<GitRepository>, context: Arc<Context>) -> Result<Action, Error> {
    let key = (object.namespace().unwrap_or_default(), object.name_any());
    if object.metadata.deletion_timestamp.is_some() {
        context.sources.remove(&key);
        return Ok(Action::await_change());
    }
    let mut memory = {
        let mut all = context.memory.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(key.clone()).or_default().clone()
    };
    let generation = object.metadata.generation.unwrap_or_default();
    let requested = object.annotations().get(REQUESTED_AT).cloned();
    let status = memory
        .status
        .clone()
        .or_else(|| object.status.clone())
        .unwrap_or_default();
    let spec_changed = memory.generation != generation;
    let asked = requested.is_some() && requested != memory.requested;
    if spec_changed || (asked && status.last_handled_reconcile_at != requested) {
        memory.settings = None;
    }
    if spec_changed
        && context
            .sources
            .find(&key)
            .is_none_or(|state| state.artifact.is_none())
    {
        recall(&object, &key, &status, &context).await?;
    }
    if object.spec.suspend == Some(true) {
        memory.generation = generation;
        remember(&context, key, memory);
        return Ok(Action::await_change());
    }
    let now = Instant::now();
    let include_digests = include_digests(&object, &key, &context);
    if !spec_changed
        && !asked
        && include_digests == memory.includes
        && let Some(due) = memory.due
        && due > now
    {
        return Ok(Action::requeue(due - now));
    }
    let outcome = look(&object, &key, &mut memory, &context).await?;
    let about = report::About {
        generation,
        now: Timestamp::now(),
        requested: requested.as_deref(),
    };
    let interval = duration::parse(&object.spec.interval)
        .unwrap_or(Duration::from_mins(1))
        .max(Duration::from_secs(1));
    let (new, delay) = match &outcome {
        Ok(artifact) => {
            memory.failures = 0;
            let included = included_artifacts(&object, &key, &context);
            (
                report::succeeded(&status, &object.spec, artifact, included, about),
                interval,
            )
        }
        Err(error) => {
            memory.failures += 1;
            // Credentials may have been renewed: read the Secret again.
            memory.settings = None;
            (
                report::failed(&status, error, about),
                RETRY.delay(memory.failures).min(interval),
            )
        }
    };
    tell(&object, &status, &outcome, &context);
    write(&object, &key, &status, &new, &context).await?;
    if let Ok(artifact) = outcome
        && context
            .sources
            .find(&key)
            .and_then(|s| s.artifact)
            .is_none_or(|old| !Arc::ptr_eq(&old, &artifact))
    {
        context.sources.publish(&key, artifact);
    }
    let delay = backoff::jitter(delay, context.jitter, rand::random());
    context
        .metrics
        .observe("GitRepository", &key.1, &key.0, now.elapsed());
    memory = Memory {
        generation,
        requested,
        due: Some(Instant::now() + delay),
        status: Some(new),
        includes: include_digests,
        ..memory
    };
    remember(&context, key, memory);
    Ok(Action::requeue(delay))
}

fn remember(context: &Context, key: SourceKey, memory: Memory) {
    context
        .memory
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .insert(key, memory);
}

async fn look(
    object: &GitRepository,
    key: &SourceKey,
    memory: &mut Memory,
    context: &Context,
) -> Result<Result<Arc<Artifact>, FetchError>, Error> {
    if let Err(error) = settings::refuse(&object.spec) {
        return Ok(Err(error));
    }
    let look = match prepare(object, key, memory, context).await {
        Ok(look) => look,
        Err(error) => return Ok(Err(error)),
    };
    let known = context.sources.find(key).and_then(|state| state.artifact);
    Ok(tokio::task::spawn_blocking(move || look.fetch(known)).await?)
}

/// Fetches a source once, for the command line, and publishes it. The error is what its Ready condition would say.
pub async fn fetch_once(object: &GitRepository, context: &Context) -> Result<Arc<Artifact>, String> {
    let key = (object.namespace().unwrap_or_default(), object.name_any());
    let fetched = look(object, &key, &mut Memory::default(), context).await;
    let artifact = fetched
        .map_err(|error| error.to_string())?
        .map_err(|error| error.to_string())?;
    context.sources.publish(&key, Arc::clone(&artifact));
    Ok(artifact)
}

async fn prepare(
    object: &GitRepository,
    key: &SourceKey,
    memory: &mut Memory,
    context: &Context,
) -> Result<Look, FetchError> {
    // Who is trusted is asked at every look: a key that was taken out must not count any longer.
    let settings = if let Some(settings) = &memory.settings
        && settings.verification.is_none()
    {
        settings.clone()
    } else {
        let settings = settings::read(&context.client, &key.0, &object.spec, context.file_urls).await?;
        memory.settings.insert(settings).clone()
    };
    let mut includes = Vec::new();
    for include in &object.spec.include {
        let wanted = (key.0.clone(), include.repository.name.clone());
        let missing = |problem, reason| FetchError::Include {
            name: include.repository.name.clone(),
            problem,
            reason,
        };
        let state = context.sources.find(&wanted).ok_or_else(|| {
            missing(
                "does not exist in this namespace, or was not fetched yet",
                "NotFound",
            )
        })?;
        let artifact = state.artifact.ok_or_else(|| {
            missing(
                "has nothing that could be included: look at its status",
                "NoArtifact",
            )
        })?;
        includes.push(Included {
            include: include.clone(),
            key: wanted,
            artifact,
        });
    }
    Ok(Look {
        mirrors: context.mirrors.clone(),
        settings,
        file_urls: context.file_urls,
        key: key.clone(),
        spec: object.spec.clone(),
        includes,
        now: Timestamp::now(),
    })
}

/// What the included sources have right now.
fn include_digests(object: &GitRepository, key: &SourceKey, context: &Context) -> Vec<Option<String>> {
    let digest = |include: &GitRepositoryInclude| {
        let included = (key.0.clone(), include.repository.name.clone());
        Some(context.sources.find(&included)?.artifact?.digest.clone())
    };
    object.spec.include.iter().map(digest).collect()
}

fn included_artifacts(
    object: &GitRepository,
    key: &SourceKey,
    context: &Context,
) -> Vec<crate::api::Artifact> {
    object
        .spec
        .include
        .iter()
        .filter_map(|include| {
            let included = (key.0.clone(), include.repository.name.clone());
            let artifact = context.sources.find(&included)?.artifact?;
            Some(artifact.described.clone())
        })
        .collect()
}

/// After a restart: what the status names is used at once, if it is still on disk.
async fn recall(
    object: &GitRepository,
    key: &SourceKey,
    status: &GitRepositoryStatus,
    context: &Context,
) -> Result<(), Error> {
    let Some(described) = status.artifact.clone() else {
        return Ok(());
    };
    let Ok(look) = prepare(object, key, &mut Memory::default(), context).await else {
        return Ok(());
    };
    let recalled = tokio::task::spawn_blocking(move || look.recall(&described)).await?;
    if let Ok(Some(artifact)) = recalled {
        context.sources.publish(key, artifact);
    }
    Ok(())
}

fn tell(
    object: &GitRepository,
    old: &GitRepositoryStatus,
    outcome: &Result<Arc<Artifact>, FetchError>,
    context: &Context,
) {
    let (kind, reason, message) = match outcome {
        Ok(artifact)
            if old
                .artifact
                .as_ref()
                .is_none_or(|old| old.revision != artifact.revision) =>
        {
            let subject = artifact
                .snapshot
                .info()
                .map(|info| info.subject)
                .unwrap_or_default();
            let message = format!("stored artifact for commit '{subject}' ({})", artifact.revision);
            tracing::info!(
                name = object.name_any(),
                revision = artifact.revision,
                "new revision"
            );
            (events::Kind::Normal, "NewArtifact", message)
        }
        Ok(_) => return,
        Err(error) => {
            let message = error.to_string();
            tracing::warn!(
                name = object.name_any(),
                error = message,
                "the source cannot be fetched"
            );
            (events::Kind::Warning, error.reason(), message)
        }
    };
    context.recorder.record(events::Note {
        regarding: object.object_ref(&()),
        kind,
        reason: reason.to_owned(),
        message,
        annotations: std::collections::BTreeMap::new(),
    });
}

async fn write(
    object: &GitRepository,
    key: &SourceKey,
    old: &GitRepositoryStatus,
    new: &GitRepositoryStatus,
    context: &Context,
) -> Result<(), Error> {
    if let Some(condition) = new
        .conditions
        .iter()
        .find(|c| c.type_ == "Ready" && c.status != "True")
    {
        context.sources.fail(key, condition.message.clone());
    }
    let Some(patch) = status::patch(old, new)? else {
        return Ok(());
    };
    let api: Api<GitRepository> = Api::namespaced(context.client.clone(), &key.0);
    let params = PatchParams {
        field_manager: Some(MANAGER.into()),
        ..PatchParams::default()
    };
    let name = object.name_any();
    match tokio::time::timeout(
        STATUS_TIMEOUT,
        api.patch_status(&name, &params, &Patch::Merge(&patch)),
    )
    .await
    {
        Ok(Ok(_)) => Ok(()),
        // Deleted meanwhile.
        Ok(Err(kube::Error::Api(status))) if status.code == 404 => Ok(()),
        Ok(Err(error)) => Err(Error::Status(format!("{}/{name}", key.0), error)),
        Err(_) => Err(Error::Timeout),
    }
}
