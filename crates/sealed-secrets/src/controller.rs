//! The loop: watches fill the index, the queue says what is next, workers reconcile.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use futures::stream::BoxStream;
use k8s_openapi::api::core::v1::Secret;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client};
use plumbline_common::backoff::Backoff;
use tokio::task::JoinSet;

use crate::api::SealedSecret;
use crate::context::{Context, lock};
use crate::observe::{Change, Key};
use crate::queue::{Queue, Urgency};
use crate::reconcile::{Ended, reconcile};

/// A reconciliation that takes longer is given up and tried again.
const TIMEOUT: Duration = Duration::from_mins(1);
/// Somebody who removes a Secret that was in our way may be about to replace it.
const GRACE_AFTER_REMOVAL: Duration = Duration::from_secs(1);
/// Between attempts at a write that fails.
const BACKOFF: Backoff = Backoff {
    base: Duration::from_millis(200),
    max: Duration::from_mins(5),
};

enum Observed {
    Sealed(Box<watcher::Event<DeserializeGuard<SealedSecret>>>),
    Secret(Box<watcher::Event<PartialObjectMeta<Secret>>>),
}

type Observations = BoxStream<'static, (String, watcher::Result<Observed>)>;

/// Both watches of one namespace, or of all (`""`).
fn observations(context: &Context, namespace: &str) -> Observations {
    fn api<K>(client: &Client, namespace: &str) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        if namespace.is_empty() {
            Api::all(client.clone())
        } else {
            Api::namespaced(client.clone(), namespace)
        }
    }
    let mut selected = watcher::Config::default();
    if !context.config.label_selector.is_empty() {
        selected = selected.labels(&context.config.label_selector);
    }
    let sealed = watcher(
        api::<DeserializeGuard<SealedSecret>>(&context.client, namespace),
        selected,
    )
    .default_backoff()
    .map(|event| event.map(|event| Observed::Sealed(Box::new(event))));
    let secrets = watcher(
        api::<PartialObjectMeta<Secret>>(&context.client, namespace),
        watcher::Config::default(),
    )
    .default_backoff()
    .map(|event| event.map(|event| Observed::Secret(Box::new(event))));
    let namespace = namespace.to_owned();
    futures::stream::select(sealed, secrets)
        .map(move |event| (namespace.clone(), event))
        .boxed()
}

/// The state of the loop besides the index.
#[derive(Default)]
struct State {
    queue: Queue,
    failures: HashMap<Key, u32>,
    waiting_for_keys: HashSet<Key>,
    blocked: HashSet<Key>,
    /// Watches whose first listing has not ended, by scope: a namespace, or `""` for all.
    unlisted: HashMap<String, u8>,
    /// How many scopes there are.
    scopes: usize,
    /// Scopes that cannot be listed for now; they must not keep the others waiting.
    unreachable: HashSet<String>,
    /// Objects whose scope is not listed yet: a Secret that is not listed yet is not a missing Secret.
    parked: HashSet<Key>,
}

impl State {
    fn is_listed(&self, key: &Key) -> bool {
        !self.unlisted.contains_key("") && !self.unlisted.contains_key(&key.namespace)
    }

    /// Whether everything that can be listed has been, and that is something.
    fn is_complete(&self) -> bool {
        self.unlisted.len() < self.scopes
            && self.unlisted.keys().all(|scope| self.unreachable.contains(scope))
    }

    /// One of the two listings of `scope` has ended.
    fn listed(&mut self, scope: &str) {
        if let Some(left) = self.unlisted.get_mut(scope) {
            *left = left.saturating_sub(1);
            if *left == 0 {
                self.unlisted.remove(scope);
            }
        }
        let (now, later) = std::mem::take(&mut self.parked)
            .into_iter()
            .partition(|key| self.is_listed(key));
        self.parked = later;
        let now: HashSet<Key> = now;
        for key in now {
            self.queue.add(key, Urgency::Backlog);
        }
    }
}

/// Runs until a watch ends. `ready` is called once everything that exists has been listed.
pub async fn run(context: Arc<Context>, namespaces: Vec<String>, ready: impl FnOnce()) -> anyhow::Result<()> {
    let mut observations = futures::stream::select_all(
        namespaces
            .iter()
            .map(|namespace| observations(&context, namespace)),
    );
    let mut keyring = context.keyring.clone();
    let unlisted = namespaces
        .iter()
        .map(|namespace| (namespace.clone(), 2))
        .collect();
    let mut state = State {
        unlisted,
        scopes: namespaces.len(),
        ..State::default()
    };
    let mut ready = Some(ready);
    let mut workers: JoinSet<(Key, Ended)> = JoinSet::new();
    loop {
        if state.is_complete()
            && let Some(ready) = ready.take()
        {
            ready();
        }
        while workers.len() < usize::from(context.config.concurrency) {
            let Some(key) = state.queue.next(Instant::now()) else {
                break;
            };
            let context = Arc::clone(&context);
            workers.spawn(async move {
                let ended = tokio::time::timeout(TIMEOUT, reconcile(&context, &key)).await;
                (key, ended.unwrap_or(Ended::Retry))
            });
        }
        let deadline = state.queue.deadline();
        tokio::select! {
            observed = observations.next() => match observed {
                Some((namespace, Ok(observed))) => {
                    for change in take(&context, &mut state, &namespace, observed) {
                        consider(&context, &mut state, change);
                    }
                }
                Some((namespace, Err(error))) => {
                    tracing::warn!(namespace, %error, "watching: next attempt follows");
                    state.unreachable.insert(namespace);
                }
                None => anyhow::bail!("the watches ended"),
            },
            Some(finished) = workers.join_next() => {
                if let Ok((key, ended)) = finished {
                    settle(&context, &mut state, key, ended);
                }
            }
            changed = keyring.changed() => {
                changed?;
                keyring.mark_unchanged();
                for key in std::mem::take(&mut state.waiting_for_keys) {
                    state.queue.add(key, Urgency::Change);
                }
            }
            () = until(deadline) => {}
        }
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

fn take(context: &Context, state: &mut State, namespace: &str, observed: Observed) -> Vec<Change> {
    let (changes, ended) = {
        let mut index = lock(&context.index);
        match observed {
            Observed::Sealed(event) => {
                let ended = matches!(*event, watcher::Event::InitDone);
                (index.on_sealed(namespace, *event), ended)
            }
            Observed::Secret(event) => {
                let ended = matches!(*event, watcher::Event::InitDone);
                (index.on_secret(namespace, *event), ended)
            }
        }
    };
    if ended {
        state.listed(namespace);
    }
    changes
}

/// Puts into the queue what a change concerns.
fn consider(context: &Context, state: &mut State, change: Change) {
    let known = |key: &Key| lock(&context.index).sealed(key).is_some();
    match change {
        // Its listing is still under way, and ends with a look at everything.
        Change::Secret(key) | Change::SecretGone(key) if !state.is_listed(&key) => {}
        Change::Sealed(key) => {
            state.failures.remove(&key);
            if state.is_listed(&key) {
                state.queue.add(key, Urgency::Change);
            } else {
                state.parked.insert(key);
            }
        }
        Change::SealedGone(key) => {
            state.failures.remove(&key);
            state.waiting_for_keys.remove(&key);
            state.blocked.remove(&key);
            // The worker cleans up, in order with what may be under way for this key.
            state.queue.add(key, Urgency::Change);
        }
        Change::Secret(key) if known(&key) => state.queue.add(key, Urgency::Change),
        Change::SecretGone(key) if known(&key) => {
            if state.blocked.contains(&key) {
                state.queue.add_at(key, Instant::now() + GRACE_AFTER_REMOVAL);
            } else if !context.config.skip_recreate {
                state.queue.add(key, Urgency::Change);
            }
        }
        Change::Secret(_) | Change::SecretGone(_) => {}
    }
}

fn settle(context: &Context, state: &mut State, key: Key, ended: Ended) {
    state.queue.done(&key);
    state.waiting_for_keys.remove(&key);
    state.blocked.remove(&key);
    match ended {
        Ended::Done => drop(state.failures.remove(&key)),
        Ended::NeedsKeys => drop(state.waiting_for_keys.insert(key)),
        Ended::Blocked => drop(state.blocked.insert(key)),
        Ended::Retry => {
            let failures = state.failures.entry(key.clone()).or_default();
            *failures = failures.saturating_add(1);
            // After the quick attempts, slow ones for as long as it takes: nobody else would try again.
            let slow = if *failures > context.config.max_unseal_retries {
                8
            } else {
                1
            };
            let delay = BACKOFF.delay(failures.saturating_mul(slow));
            state.queue.add_at(key, Instant::now() + delay);
        }
    }
}
