//! The controller of GitRepositories.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use futures::StreamExt as _;
use k8s_openapi::jiff::Timestamp;
use kube::{
    Api, Client, ResourceExt as _,
    runtime::{
        controller::{self, Action},
        reflector::{ObjectRef, Store},
    },
};
use plumbline_common::{
    backoff::{self, Backoff},
    conditions, duration,
    events::Recorder,
    shutdown::Stopping,
};
use tokio_stream::wrappers::UnboundedReceiverStream;

pub use super::prepare::fetch_once;
use super::{
    SourceKey, Sources,
    error::FetchError,
    fetch::Fetched,
    prepare::{self, Wish},
    report,
    rewind::{Held, Rewinds},
    settings::Settings,
    tell,
};
use crate::{
    api::{self, GitRepository, GitRepositoryStatus, OWN_PREFIX, REQUESTED_AT},
    cluster::watch,
    git::{FileUrls, Mirrors, UrlPolicy},
    metrics::{Ending, Metrics},
    suspend::Suspension,
};

/// The kind, as metrics name it.
const KIND: &str = "GitRepository";
/// Delays after failures that may pass by themselves; never longer than the interval.
const RETRY: Backoff = Backoff {
    base: Duration::from_secs(2),
    max: Duration::from_mins(10),
};

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
    /// Where repositories may be.
    pub policy: Arc<UrlPolicy>,
    /// What becomes of branches that are moved back.
    pub rewinds: Rewinds,
    /// Spread of the intervals in percent.
    pub jitter: u8,
    /// What is remembered of each object.
    pub memory: Mutex<HashMap<SourceKey, Memory>>,
    /// All GitRepositories, once the controller runs.
    pub store: OnceLock<Store<GitRepository>>,
}

/// What is remembered of a GitRepository between looks.
#[derive(Clone, Default)]
pub struct Memory {
    generation: i64,
    requested: Option<String>,
    /// Its annotations of ours.
    notes: BTreeMap<String, String>,
    due: Option<Instant>,
    failures: u32,
    pub(super) settings: Option<Settings>,
    status: Option<GitRepositoryStatus>,
    /// Digests of the included artifacts that were last looked at.
    includes: Vec<Option<String>>,
    /// A move of the branch that was found to take something back.
    pub(super) held: Option<Held>,
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
    #[error("the API server did not take the status in time")]
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
    let controller = watch::controller(api, selector)
        .with_config(controller::Config::default().concurrency(concurrency))
        .graceful_shutdown_on(stopping.wait());
    let store = controller.store();
    // `Err`: it is set already, which only a second controller in one context could do.
    drop(context.store.set(store.clone()));
    let includers = {
        let store = store.clone();
        UnboundedReceiverStream::new(context.sources.subscribe())
            .flat_map(move |key| futures::stream::iter(includers_of(&store, &key)))
    };
    controller
        .reconcile_on(includers)
        .run(
            measured,
            |object, error, context| error_policy(&object, error, &context),
            Arc::clone(&context),
        )
        .for_each(async |result| {
            if let Err(controller::Error::ObjectNotFound(gone)) = &result {
                let key = (gone.namespace.clone().unwrap_or_default(), gone.name.clone());
                if store.get(&ObjectRef::new(&key.1).within(&key.0)).is_none() {
                    let mut all = context.memory.lock().unwrap_or_else(PoisonError::into_inner);
                    all.remove(&key);
                    context.sources.remove(&key);
                    context.metrics.forget(KIND, &key.1, &key.0);
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

async fn measured(object: Arc<GitRepository>, context: Arc<Context>) -> Result<Action, Error> {
    let begun = Instant::now();
    let result = reconcile(object, &context).await;
    let ending = match &result {
        Err(_) => Ending::Error,
        Ok(action) if *action == Action::await_change() => Ending::Done,
        Ok(_) => Ending::Again,
    };
    context
        .metrics
        .reconciled("gitrepository", ending, begun.elapsed());
    result
}

async fn reconcile(object: Arc<GitRepository>, context: &Context) -> Result<Action, Error> {
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
    let notes = notes(&object);
    let status = memory
        .status
        .clone()
        .or_else(|| object.status.clone())
        .unwrap_or_default();
    let is_new = memory.generation == 0;
    let spec_changed = memory.generation != generation;
    let asked = requested.is_some() && requested != memory.requested;
    if spec_changed || (asked && status.last_handled_reconcile_at != requested) {
        memory.settings = None;
    }
    let has_nothing = context
        .sources
        .find(&key)
        .is_none_or(|state| state.artifact.is_none());
    if spec_changed && has_nothing {
        prepare::recall(&object, &key, &status, context).await?;
    }
    let about = report::About {
        generation,
        now: Timestamp::now(),
        requested: requested.as_deref(),
    };
    let suspension = Suspension::of(object.spec.suspend, &object.metadata, about.now);
    if let Suspension::Active { look, .. } = &suspension {
        let look = *look;
        memory.generation = generation;
        memory.status = Some(suspend(&object, &key, &status, &suspension, context).await?);
        // When it ends, what was asked meanwhile is looked at.
        memory.due = None;
        remember(context, key, memory);
        return Ok(look.map_or_else(Action::await_change, Action::requeue));
    }
    let now = Instant::now();
    let includes = prepare::include_digests(&object, &key, context);
    if !spec_changed
        && !asked
        && notes == memory.notes
        && includes == memory.includes
        && let Some(due) = memory.due
        && due > now
    {
        return Ok(Action::requeue(due - now));
    }
    let interval = interval(&object);
    // What another GitRepository of the same URL and credentials was just told is as good, unless somebody wants to know
    // what is there now.
    let fresh = asked || (spec_changed && !is_new);
    let age = if fresh { Duration::ZERO } else { interval / 2 };
    let wish = Wish {
        since: now.checked_sub(age).unwrap_or(now),
        status: &status,
        notes: &notes,
    };
    let outcome = prepare::look(&object, &key, &mut memory, &wish, context).await?;
    let parts = prepare::included_artifacts(&object, &key, context);
    let judged = judge(&object, &status, &outcome, &mut memory, parts, about);
    let (mut new, delay) = (judged.0, judged.1.min(interval));
    suspension.mark(&mut new.conditions, generation, about.now);
    if let Some((reason, message)) = suspension.news(&status.conditions) {
        tell::note(&object, reason, message, context);
    }
    tell_all(&object, &key, &status, &new, outcome, context).await?;
    let delay = backoff::jitter(delay, context.jitter, rand::random());
    context.metrics.observe(KIND, &key.1, &key.0, now.elapsed());
    memory = Memory {
        generation,
        requested,
        notes,
        due: Some(Instant::now() + delay),
        status: Some(new),
        includes,
        ..memory
    };
    remember(context, key, memory);
    Ok(Action::requeue(delay))
}

/// Tells what a look came to: events, the status, metrics, and those who use the source.
async fn tell_all(
    object: &GitRepository,
    key: &SourceKey,
    status: &GitRepositoryStatus,
    new: &GitRepositoryStatus,
    outcome: Result<Fetched, FetchError>,
    context: &Context,
) -> Result<(), Error> {
    tell::outcome(object, status, &outcome, context);
    // A status that cannot be written is no reason to keep what was fetched back: it may mend what is in the way.
    let written = tell::write(object, key, status, new, context).await;
    context.metrics.resumed(KIND, &key.1, &key.0);
    let is_ready = conditions::is_true(&new.conditions, "Ready");
    context.metrics.ready(KIND, &key.1, &key.0, is_ready);
    if let Ok(Fetched { artifact, .. }) = outcome {
        let known = context.sources.find(key).and_then(|state| state.artifact);
        if known.is_some_and(|known| Arc::ptr_eq(&known, &artifact)) {
            context.sources.same(key);
        } else {
            context.sources.publish(key, artifact);
        }
    }
    written
}

/// The status after a look, and when to look again.
fn judge(
    object: &GitRepository,
    status: &GitRepositoryStatus,
    outcome: &Result<Fetched, FetchError>,
    memory: &mut Memory,
    parts: Vec<api::Artifact>,
    about: report::About<'_>,
) -> (GitRepositoryStatus, Duration) {
    match outcome {
        Ok(fetched) => {
            memory.failures = 0;
            memory.held = None;
            let artifact = &fetched.artifact;
            let new = report::succeeded(status, &object.spec, artifact, parts, about);
            (new, interval(object).saturating_sub(fetched.listed.elapsed()))
        }
        Err(error) => {
            memory.failures += 1;
            // Credentials may have been renewed: read the Secret again.
            memory.settings = None;
            memory.held = match error {
                FetchError::Rewound(held) => Some(held.as_ref().clone()),
                _ => None,
            };
            let delay = match error {
                // Nothing passes by itself here.
                FetchError::Rewound(_) => interval(object),
                _ => RETRY.delay(memory.failures),
            };
            (report::failed(status, error, about), delay)
        }
    }
}

/// `spec.interval`, at least a second.
fn interval(object: &GitRepository) -> Duration {
    duration::parse(&object.spec.interval)
        .unwrap_or(Duration::from_mins(1))
        .max(Duration::from_secs(1))
}

/// The annotations that say how it is to be looked at.
fn notes(object: &GitRepository) -> BTreeMap<String, String> {
    object
        .annotations()
        .iter()
        .filter(|(name, _)| name.starts_with(OWN_PREFIX))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// Says that it is suspended; returns the status as it is then.
async fn suspend(
    object: &GitRepository,
    key: &SourceKey,
    old: &GitRepositoryStatus,
    suspension: &Suspension,
    context: &Context,
) -> Result<GitRepositoryStatus, Error> {
    let mut new = old.clone();
    let generation = object.metadata.generation.unwrap_or_default();
    suspension.mark(&mut new.conditions, generation, Timestamp::now());
    if let Some((reason, message)) = suspension.news(&old.conditions) {
        tell::note(object, reason, message, context);
    }
    tell::write(object, key, old, &new, context).await?;
    context.metrics.suspended(KIND, &key.1, &key.0);
    Ok(new)
}

fn remember(context: &Context, key: SourceKey, memory: Memory) {
    context
        .memory
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .insert(key, memory);
}
