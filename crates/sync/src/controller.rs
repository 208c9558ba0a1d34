//! The controller of Kustomizations: observe → decide → act → report.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{Stream, StreamExt as _};
use k8s_openapi::jiff::Timestamp;
use kube::{
    Api, ResourceExt as _,
    runtime::{
        controller::{self, Action, Controller},
        reflector::{ObjectRef, Store},
        watcher,
    },
};
use plumbline_common::{conditions, duration, events, shutdown::Stopping};

use crate::{
    api::{FINALIZER, Kustomization, KustomizationSpec, REQUESTED_AT},
    cluster::live::Owner,
    context::{Context, Error, Memory},
    depends,
    metrics::Ending,
    reconcile,
    report::About,
    source::SourceKey,
    suspend::Suspension,
};

/// The kind, as metrics name it.
const KIND: &str = "Kustomization";

/// The Kustomizations that use a source.
pub fn users_of(store: &Store<Kustomization>, key: &SourceKey) -> Vec<ObjectRef<Kustomization>> {
    let mut users = Vec::new();
    for object in store.state() {
        let namespace = object.namespace().unwrap_or_default();
        if source_key(&object.spec, &namespace) == *key {
            users.push(ObjectRef::from_obj(object.as_ref()));
        }
    }
    users
}

/// The source that a spec names.
pub fn source_key(spec: &KustomizationSpec, namespace: &str) -> SourceKey {
    let source = &spec.source_ref;
    (
        source
            .namespace
            .clone()
            .filter(|n| !n.is_empty())
            .unwrap_or_else(|| namespace.to_owned()),
        source.name.clone(),
    )
}

/// Runs until the process stops. `wakes` names Kustomizations that must look at their objects, `changed` sources that have
/// something new.
pub async fn run(
    api: Api<Kustomization>,
    selector: &str,
    concurrency: u16,
    wakes: impl Stream<Item = Owner> + Send + 'static,
    changed: impl Stream<Item = SourceKey> + Send + 'static,
    context: Arc<Context>,
    stopping: Stopping,
) {
    let mut config = watcher::Config::default();
    if !selector.is_empty() {
        config = config.labels(selector);
    }
    let controller =
        Controller::new(api, config).with_config(controller::Config::default().concurrency(concurrency));
    let store = controller.store();
    // `Err`: it is set already, which only a second controller in one context could do.
    drop(context.store.set(store.clone()));
    let by_source = {
        let (store, context) = (store.clone(), Arc::clone(&context));
        changed.flat_map(move |key| {
            let mut users = users_of(&store, &key);
            // They may have waited for the source to be asked.
            let waiting = context.wishes.take_waiting().into_iter();
            users.extend(waiting.map(|owner| ObjectRef::new(&owner.name).within(&owner.namespace)));
            futures::stream::iter(users)
        })
    };
    controller
        .reconcile_on(wakes.map(|owner| ObjectRef::new(&owner.name).within(&owner.namespace)))
        .reconcile_on(by_source)
        .graceful_shutdown_on(stopping.wait())
        .run(
            reconcile_one,
            |object, error, _| error_policy(&object, error),
            Arc::clone(&context),
        )
        .for_each(async |result| {
            if let Err(controller::Error::ObjectNotFound(gone)) = &result {
                let owner = Owner {
                    namespace: gone.namespace.clone().unwrap_or_default(),
                    name: gone.name.clone(),
                };
                let reference = ObjectRef::<Kustomization>::new(&owner.name).within(&owner.namespace);
                if store.get(&reference).is_none() {
                    context.forget(&owner);
                }
            }
        })
        .await;
}

fn error_policy(object: &Kustomization, error: &Error) -> Action {
    tracing::warn!(%error, name = object.name_any(), "will be tried again");
    Action::requeue(Duration::from_secs(2))
}

async fn reconcile_one(object: Arc<Kustomization>, context: Arc<Context>) -> Result<Action, Error> {
    let owner = Owner::of(&object);
    let begun = Instant::now();
    let mut memory = context.recall(&owner, object.uid());
    context
        .dependants
        .set(&owner, depends::dependencies(&object).collect());
    let signature = depends::signature(&object);
    if memory.signature.as_ref() != Some(&signature) {
        memory.signature = Some(signature);
        context.wake_dependants(&owner);
    } else if memory.version != object.resource_version() {
        context.wake_those_with_expressions(&owner);
    }
    memory.version = object.resource_version();
    let requested = object.annotations().get(REQUESTED_AT).cloned();
    if requested.is_some()
        && requested != memory.requested
        && let Some(cluster) = memory.cluster(&context.home)
    {
        cluster.live.retry_now(&owner);
    }
    let about = About {
        generation: object.metadata.generation.unwrap_or_default(),
        now: Timestamp::now(),
        requested: requested.as_deref(),
    };
    let step = reconcile::Step {
        context: &context,
        cluster: Arc::clone(&context.home),
        object: &object,
        owner: &owner,
        about,
        begun,
    };
    let result = if object.metadata.deletion_timestamp.is_some() {
        step.finalize(&mut memory).await
    } else {
        match suspended(&step, &mut memory).await {
            Ok(Some(waits)) => Ok(waits),
            Ok(None) => step.reconcile(&mut memory).await,
            Err(error) => Err(error),
        }
    };
    memory.requested.clone_from(&requested);
    measure(&step, &memory, &result);
    if !memory.finished {
        // What was done is remembered also when a later step failed.
        context.remember(&owner, memory);
    }
    result
}

/// What to do while it is suspended; `None` when it is not. Either is said in a condition.
async fn suspended(step: &reconcile::Step<'_>, memory: &mut Memory) -> Result<Option<Action>, Error> {
    let (object, about) = (step.object, step.about);
    let suspension = Suspension::of(object.spec.suspend, &object.metadata, about.now);
    let old = step.status(memory);
    let mut new = old.clone();
    suspension.mark(&mut new.conditions, about.generation, about.now);
    if new.conditions != old.conditions {
        if let Some((reason, message)) = suspension.news(&old.conditions) {
            step.context
                .tell(object, events::Kind::Normal, reason, message, "");
        }
        step.context.write_status(step.owner, memory, &old, new).await?;
    }
    let (name, namespace) = (step.owner.name.as_str(), step.owner.namespace.as_str());
    match suspension {
        Suspension::Active { look, .. } => {
            step.context.metrics.suspended(KIND, name, namespace);
            step.context.gates.leave(step.owner);
            Ok(Some(look.map_or_else(Action::await_change, Action::requeue)))
        }
        Suspension::None | Suspension::Ended { .. } => {
            step.context.metrics.resumed(KIND, name, namespace);
            Ok(None)
        }
    }
}

fn measure(step: &reconcile::Step<'_>, memory: &Memory, result: &Result<Action, Error>) {
    let (metrics, took) = (&step.context.metrics, step.begun.elapsed());
    let (name, namespace) = (step.owner.name.as_str(), step.owner.namespace.as_str());
    let ending = match result {
        Err(_) => Ending::Error,
        Ok(action) if *action == Action::await_change() => Ending::Done,
        Ok(_) => Ending::Again,
    };
    metrics.reconciled("kustomization", ending, took);
    if memory.finished {
        return;
    }
    metrics.observe(KIND, name, namespace, took);
    if let Some(status) = &memory.status {
        metrics.ready(
            KIND,
            name,
            namespace,
            conditions::is_true(&status.conditions, "Ready"),
        );
    }
}

/// Whether our finalizer is on the object.
pub fn has_finalizer(object: &Kustomization) -> bool {
    object.finalizers().iter().any(|name| name == FINALIZER)
}

/// What is wrong with a duration that the CRD's pattern let pass.
pub fn wrong_duration(spec: &KustomizationSpec) -> Option<String> {
    let fields = [
        ("spec.interval", Some(&spec.interval)),
        ("spec.retryInterval", spec.retry_interval.as_ref()),
        ("spec.timeout", spec.timeout.as_ref()),
    ];
    fields.into_iter().find_map(|(field, text)| {
        let error = duration::parse(text?).err()?;
        Some(format!("{field}: {error}"))
    })
}

/// `spec.interval`, at least a second.
pub fn interval(spec: &KustomizationSpec) -> Duration {
    duration::parse(&spec.interval)
        .unwrap_or(Duration::from_mins(10))
        .max(Duration::from_secs(1))
}

/// `spec.retryInterval`, by default the interval.
pub fn retry_interval(spec: &KustomizationSpec) -> Duration {
    let retry = spec
        .retry_interval
        .as_deref()
        .and_then(|text| duration::parse(text).ok());
    retry
        .unwrap_or_else(|| interval(spec))
        .max(Duration::from_secs(1))
}

/// `spec.timeout`, by default the interval less 30 s, at least 30 s.
pub fn timeout(spec: &KustomizationSpec) -> Duration {
    let least = Duration::from_secs(30);
    match spec
        .timeout
        .as_deref()
        .and_then(|text| duration::parse(text).ok())
    {
        Some(timeout) => timeout.max(Duration::from_secs(1)),
        None => interval(spec).saturating_sub(least).max(least),
    }
}
