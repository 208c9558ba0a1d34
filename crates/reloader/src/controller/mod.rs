//! The controller: what is known, what waits, and the loop that looks at one workload after the other.

mod feed;
mod look;
mod write;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use kube::Client;
use plumbline_common::shutdown::Stopping;
use tokio::{sync::Notify, task::JoinSet};

use crate::{
    act::Writer,
    config::{Config, Namespaces},
    digest::Keyer,
    index::Index,
    observe,
    post::Poster,
    queue::Queue,
    report::Reporter,
    rerun::Runner,
    source::SourceKey,
    workload::{Reading, WorkloadKey},
};

/// How long what is being written may take when the process is to stop.
const LAST_WRITES: Duration = Duration::from_secs(5);

/// Everything the tasks of the reloader share.
#[derive(Debug)]
pub struct Controller {
    config: Config,
    keyer: Keyer,
    reading: Reading,
    writer: Writer,
    reporter: Reporter,
    // Where changes are told instead of rolling anything.
    webhook: Option<Poster>,
    state: Mutex<State>,
    wake: Notify,
    // Which sources are used may have changed.
    used: Notify,
}

#[derive(Debug)]
struct State {
    index: Index,
    queue: Queue,
    memory: HashMap<WorkloadKey, Memory>,
    // Workloads whose rollout is being written.
    rolling: HashSet<WorkloadKey>,
    // Workloads that differ from their sources and are not rolled yet.
    pending: HashSet<WorkloadKey>,
    // Streams that have neither been listed nor failed yet.
    starting: HashSet<String>,
}

// What is remembered of a workload beside its state; losing it costs at most one more event or rollout.
#[derive(Debug, Default)]
struct Memory {
    failures: u32,
    rolled: VecDeque<Instant>,
    told: HashSet<String>,
}

impl Controller {
    /// A controller that has seen nothing yet.
    pub fn new(
        config: Config,
        keyer: Keyer,
        runner: Runner,
        client: Client,
        reporter: Reporter,
        webhook: Option<Poster>,
    ) -> Self {
        let reading = Reading {
            keys: config.keys.clone(),
            key_id: keyer.id().to_owned(),
        };
        let state = State {
            index: Index::new(config.auto_all),
            queue: Queue::new(config.debounce),
            memory: HashMap::new(),
            rolling: HashSet::new(),
            pending: HashSet::new(),
            starting: starting(&config),
        };
        Self {
            writer: Writer::new(client, reading.clone(), runner),
            config,
            keyer,
            reading,
            reporter,
            webhook,
            state: Mutex::new(state),
            wake: Notify::new(),
            used: Notify::new(),
        }
    }

    /// Its configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    pub(crate) fn keyer(&self) -> &Keyer {
        &self.keyer
    }

    pub(crate) fn reading(&self) -> &Reading {
        &self.reading
    }

    pub(crate) fn client(&self) -> Client {
        self.writer.client()
    }

    /// Whether objects of a namespace are looked at at all.
    pub(crate) fn wanted(&self, namespace: &str) -> bool {
        match &self.config.namespaces {
            Namespaces::Only(_) => true,
            Namespaces::All { ignored, .. } => !ignored.contains(namespace),
        }
    }

    /// Waits until every stream has been listed, or has failed and will be read as soon as it can be.
    pub async fn started(&self) {
        loop {
            let notified = self.wake.notified();
            if self.state().starting.is_empty() {
                return;
            }
            notified.await;
        }
    }

    /// Waits until other sources than before may be used.
    pub(crate) async fn used_changed(&self) {
        self.used.notified().await;
    }

    /// The sources that somebody uses, with their namespaces.
    pub(crate) fn used(&self) -> HashSet<(String, SourceKey)> {
        self.state().index.used()
    }

    /// Looks at workloads as they become due, until the process is to stop.
    pub async fn work(self: Arc<Self>, stopping: Stopping) {
        let prepared = async {
            self.started().await;
            // First: what is begun from now on leaves copies too.
            self.writer.runner().recover().await;
        };
        let mut stop = std::pin::pin!(stopping.wait());
        tokio::select! {
            () = &mut stop => return,
            () = prepared => {}
        }
        let mut tasks = JoinSet::new();
        loop {
            let now = Instant::now();
            let next = {
                let mut state = self.state();
                while tasks.len() < self.config.concurrency {
                    let Some((key, due)) = state.queue.take(now) else {
                        break;
                    };
                    let waited = now.saturating_duration_since(due).as_secs_f64();
                    self.reporter.metrics.queue_latency.observe(waited);
                    let controller = self.clone();
                    tasks.spawn(async move { controller.look(&key).await });
                }
                self.count(&state);
                state.queue.next()
            };
            // With every worker busy only the end of one matters.
            let next = next.filter(|_| tasks.len() < self.config.concurrency);
            let due = async {
                match next {
                    Some(next) => tokio::time::sleep_until(next.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = &mut stop => break,
                () = self.wake.notified() => {}
                () = due => {}
                Some(ended) = tasks.join_next() => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "looking at a workload panicked");
                    }
                }
            }
        }
        // What is cut off after that is as if the process had been killed: the next one finishes it.
        let rest = async { while tasks.join_next().await.is_some() {} };
        drop(tokio::time::timeout(LAST_WRITES, rest).await);
    }

    fn count(&self, state: &State) {
        let metrics = &self.reporter.metrics;
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        metrics.queue_depth.set(number(state.queue.depth()));
        metrics.pending.set(number(state.pending.len()));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every critical section leaves the state whole: a panic elsewhere does not make it worse.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// The streams that are waited for before anything is decided.
fn starting(config: &Config) -> HashSet<String> {
    let sources = config.sources.iter().filter(|_| !config.by_name);
    let kinds = sources.map(|kind| kind.kind());
    let kinds: Vec<_> = kinds
        .chain(config.workloads.iter().map(|kind| kind.kind()))
        .collect();
    let scopes = scopes(&config.namespaces);
    let of_scope = |scope: &Option<String>| {
        let names = kinds
            .iter()
            .map(|kind| observe::stream_name(kind, scope.as_deref()));
        names.collect::<Vec<_>>()
    };
    scopes.iter().flat_map(of_scope).collect()
}

/// The namespaces whose streams are separate; `None`: all in one.
pub(crate) fn scopes(namespaces: &Namespaces) -> Vec<Option<String>> {
    match namespaces {
        Namespaces::Only(only) => only.iter().cloned().map(Some).collect(),
        Namespaces::All { .. } => vec![None],
    }
}
