//! The controller: what is known, what waits, and the loop that looks at one workload after the other.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use k8s_openapi::jiff::Timestamp;
use kube::Client;
use plumbline_common::backoff::Backoff;
use tokio::{sync::Notify, task::JoinSet};

use crate::{
    act::Writer,
    config::{Cap, Config, Namespaces},
    decide::{self, Observed, Plan},
    digest::Keyer,
    error::Error,
    index::{Index, News, Scope, SeenSource},
    kinds::{Progress, WorkloadKind},
    observe,
    patch::Writing,
    pause,
    queue::Queue,
    report::Reporter,
    rerun::Runner,
    source::{SourceKey, SourceKind},
    step::{Blocked, Step, Write},
    workload::{Reading, Workload, WorkloadKey},
};

const BACKOFF: Backoff = Backoff {
    base: Duration::from_millis(500),
    max: Duration::from_secs(30),
};
/// How often to look whether a rollout may start that had to wait for others.
const CAP_PAUSE: Duration = Duration::from_millis(500);
/// How long a write may take in all, kube's own retries included.
const WRITE_LIMIT: Duration = Duration::from_mins(1);
/// A rollout that takes longer does not hold others back any more: a Deployment's default deadline.
const ROLLOUT_LIMIT: Duration = Duration::from_mins(10);

/// Everything the tasks of the reloader share.
#[derive(Debug)]
pub struct Controller {
    config: Config,
    keyer: Keyer,
    reading: Reading,
    writer: Writer,
    reporter: Reporter,
    state: Mutex<State>,
    wake: Notify,
}

#[derive(Debug)]
struct State {
    index: Index,
    queue: Queue,
    memory: HashMap<WorkloadKey, Memory>,
    // Workloads whose rollout is being written.
    rolling: HashSet<WorkloadKey>,
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
    pub fn new(config: Config, keyer: Keyer, runner: Runner, client: Client, reporter: Reporter) -> Self {
        let reading = Reading {
            keys: config.keys.clone(),
            key_id: keyer.id().to_owned(),
        };
        let kinds = config.sources.iter().map(|kind| kind.kind());
        let kinds: Vec<_> = kinds
            .chain(config.workloads.iter().map(|kind| kind.kind()))
            .collect();
        let starting = scopes(&config.namespaces)
            .iter()
            .flat_map(|scope| {
                kinds
                    .iter()
                    .map(|kind| observe::stream_name(kind, scope.as_deref()))
            })
            .collect();
        let state = State {
            index: Index::new(config.auto_all),
            queue: Queue::new(config.debounce),
            memory: HashMap::new(),
            rolling: HashSet::new(),
            starting,
        };
        Self {
            writer: Writer::new(client, reading.clone(), runner),
            config,
            keyer,
            reading,
            reporter,
            state: Mutex::new(state),
            wake: Notify::new(),
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

    /// Looks at workloads as they become due, for ever.
    pub async fn work(self: Arc<Self>) {
        self.started().await;
        self.writer.runner().recover().await;
        let mut tasks = JoinSet::new();
        loop {
            let now = Instant::now();
            let next = {
                let mut state = self.state();
                while tasks.len() < self.config.concurrency {
                    let Some((key, _)) = state.queue.take(now) else {
                        break;
                    };
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
                () = self.wake.notified() => {}
                () = due => {}
                Some(ended) = tasks.join_next() => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "looking at a workload panicked");
                    }
                }
            }
        }
    }

    async fn look(&self, key: &WorkloadKey) {
        let start = Instant::now();
        let step = self.decide(key, start);
        let result = match step {
            None => "nothing",
            Some(Step::Wait(due)) => {
                self.state().queue.at(key.clone(), due);
                "waiting"
            }
            Some(Step::Blocked(workload, blocked)) => {
                self.block(&workload, blocked, start);
                "blocked"
            }
            Some(Step::Act(write)) => self.write(*write).await,
        };
        let metrics = &self.reporter.metrics;
        metrics
            .reconciled
            .get_or_create(&vec![("result", result.to_owned())])
            .inc();
        metrics.reconcile_duration.observe(start.elapsed().as_secs_f64());
        let mut state = self.state();
        state.rolling.remove(key);
        state.queue.done(key, Instant::now());
        drop(state);
        self.wake.notify_one();
    }

    // Everything but the clock and the lock is pure from here on.
    fn decide(&self, key: &WorkloadKey, now: Instant) -> Option<Step> {
        let mut state = self.state();
        let workload = state.index.workload(key)?;
        if !state.index.allows(&key.namespace) {
            return None;
        }
        let rolled: Vec<_> = state
            .memory
            .get(key)
            .into_iter()
            .flat_map(|memory| &memory.rolled)
            .collect();
        let rolled: Vec<_> = rolled
            .into_iter()
            .rev()
            .map(|then| now.saturating_duration_since(*then))
            .collect();
        let observed = Observed {
            workload,
            dependencies: state.index.dependencies(workload),
            rolled: &rolled,
        };
        let plan = decide::decide(&observed, &self.config.settings);
        let clock = Timestamp::now();
        match pause::standing(&workload.pause, clock) {
            pause::Standing::Over => return Some(Step::resume(workload)),
            pause::Standing::Paused(rest) if plan == Plan::Nothing => return Some(Step::Wait(now + rest)),
            pause::Standing::Paused(_) | pause::Standing::Running => {}
        }
        let rolls = matches!(plan, Plan::Roll { .. }) && !self.config.dry_run;
        if rolls && self.full(&state, workload, clock) {
            self.reporter.skipped("max_rollouts");
            return Some(Step::Wait(now + CAP_PAUSE));
        }
        let writing = Writing {
            keyer: &self.keyer,
            strategy: self.config.strategy,
            now: clock,
            paused_at: &self.config.keys.paused_at,
        };
        let step = Step::new(&writing, workload, plan);
        if rolls {
            state.rolling.insert(key.clone());
        }
        step
    }

    // Whether as many rollouts are in progress as may be, those that are being written included.
    fn full(&self, state: &State, workload: &Workload, now: Timestamp) -> bool {
        let cap = self.config.cap;
        if cap == Cap::default() {
            return false;
        }
        let in_progress = |other: &&Workload| {
            let since = other
                .last_trigger
                .as_ref()
                .and_then(|last| last.at.parse::<Timestamp>().ok());
            let recent = since.is_some_and(|since| {
                Duration::try_from(now.duration_since(since)).unwrap_or_default() < ROLLOUT_LIMIT
            });
            let running = other.progress == Progress::Running && recent;
            other.key != workload.key && (running || state.rolling.contains(&other.key))
        };
        let running: Vec<_> = state.index.workloads().filter(in_progress).collect();
        let here = running
            .iter()
            .filter(|other| other.key.namespace == workload.key.namespace)
            .count();
        (cap.overall != 0 && running.len() >= cap.overall)
            || (cap.per_namespace != 0 && here >= cap.per_namespace)
    }

    async fn write(&self, write: Write) -> &'static str {
        let key = write.workload.key.clone();
        if self.config.dry_run {
            if !write.changes.is_empty() {
                self.reporter.would_roll(&write.workload, &write.changes);
            }
            return "dry_run";
        }
        let start = Instant::now();
        let performed =
            tokio::time::timeout(WRITE_LIMIT, write.perform(&self.writer, &self.config.keys)).await;
        let outcome = performed.unwrap_or_else(|_| Err(Error::Timeout(key.clone(), WRITE_LIMIT)));
        let outcome = self.remember_instead(&write, outcome);
        let took = start.elapsed();
        match outcome {
            Ok(after) => {
                let mut state = self.state();
                // What the answer tells, a later event will only repeat.
                if let Some(after) = after {
                    state.index.put_workload(after, News::Happened);
                }
                let memory = state.memory.entry(key).or_default();
                memory.failures = 0;
                memory.told.clear();
                if write.changes.is_empty() {
                    drop(state);
                } else {
                    memory.rolled.push_back(start);
                    if memory.rolled.len() > self.config.settings.flap.limit.max(1) {
                        memory.rolled.pop_front();
                    }
                    drop(state);
                    self.reporter.rolled(&write.workload, &write.changes, took);
                }
                if let Some((why, stale)) = &write.recorded {
                    self.reporter.recorded(&write.workload, *why, stale, took);
                }
                self.tell_problems(&write.workload);
                "success"
            }
            Err(error) => {
                let again = {
                    let mut state = self.state();
                    let memory = state.memory.entry(key.clone()).or_default();
                    memory.failures += 1;
                    let again = BACKOFF.delay(memory.failures);
                    // A namesake or nothing is there now: its own event decides, this is for the case that none comes.
                    state.queue.at(key, Instant::now() + again);
                    again
                };
                self.reporter
                    .failed(&write.workload, &write.changes, &error, again, took);
                "error"
            }
        }
    }

    // Where a CronJob's or Job's metadata may not be written, its baseline lives as long as this process.
    fn remember_instead(
        &self,
        write: &Write,
        outcome: Result<Option<Workload>, Error>,
    ) -> Result<Option<Workload>, Error> {
        let batch = matches!(write.workload.key.kind, WorkloadKind::CronJob | WorkloadKind::Job);
        match (outcome, &write.baseline) {
            (Err(error), Some(baseline)) if batch && error.is_forbidden_patch() => {
                tracing::debug!(workload = %write.workload.key, %error, "the state is kept in memory");
                self.state()
                    .index
                    .remember(&write.workload.key, &write.workload.uid, baseline.clone());
                Ok(None)
            }
            (outcome, _) => outcome,
        }
    }

    fn block(&self, workload: &Workload, blocked: Blocked, now: Instant) {
        if let Some(wait) = blocked.wait {
            self.state().queue.at(workload.key.clone(), now + wait);
        }
        if self.is_news(&workload.key, &blocked.message) {
            self.reporter
                .held(workload, blocked.metric, blocked.event, blocked.message);
        }
    }

    fn tell_problems(&self, workload: &Workload) {
        for problem in &workload.policy.problems {
            let message = problem.to_string();
            if self.is_news(&workload.key, &message) {
                self.reporter
                    .held(workload, "invalid_annotation", "InvalidAnnotation", message);
            }
        }
    }

    fn is_news(&self, key: &WorkloadKey, message: &str) -> bool {
        let mut state = self.state();
        let memory = state.memory.entry(key.clone()).or_default();
        memory.told.insert(message.to_owned())
    }

    fn count(&self, state: &State) {
        let metrics = &self.reporter.metrics;
        metrics
            .queue_depth
            .set(i64::try_from(state.queue.depth()).unwrap_or(i64::MAX));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every critical section leaves the state whole: a panic elsewhere does not make it worse.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// What the streams bring.
impl Controller {
    pub(crate) fn source_seen(&self, seen: &SeenSource, news: News) {
        self.received(
            if news == News::Happened { "update" } else { "list" },
            seen.key.kind,
        );
        let mut state = self.state();
        let users = state.index.put_source(seen, news);
        self.changed(state, users);
    }

    pub(crate) fn source_gone(&self, namespace: &str, key: &SourceKey) {
        self.received("delete", key.kind);
        let mut state = self.state();
        let users = state.index.remove_source(namespace, key);
        self.changed(state, users);
    }

    pub(crate) fn sources_listed(&self, scope: Scope<SourceKind>, seen: &HashSet<(String, String)>) {
        let mut state = self.state();
        let users = state.index.listed_sources(scope, seen);
        // What was unknown until now may have been missing all along.
        let now = Instant::now();
        let State { index, queue, .. } = &mut *state;
        for workload in index.workloads() {
            queue.now(workload.key.clone(), now);
        }
        self.wake.notify_one();
        self.reporter
            .metrics
            .sources
            .set(i64::try_from(state.index.source_count()).unwrap_or(i64::MAX));
        self.changed(state, users);
    }

    pub(crate) fn workload_seen(&self, workload: Workload, news: News) {
        let key = workload.key.clone();
        let mut state = self.state();
        if state.index.put_workload(workload, news) {
            state.queue.now(key, Instant::now());
            drop(state);
            self.wake.notify_one();
        }
    }

    pub(crate) fn workload_gone(&self, key: &WorkloadKey) {
        let mut state = self.state();
        state.index.forget(key);
        state.memory.remove(key);
    }

    pub(crate) fn workloads_listed(&self, scope: &Scope<WorkloadKind>, seen: &HashSet<(String, String)>) {
        let mut state = self.state();
        state.index.listed_workloads(scope, seen);
        self.reporter
            .metrics
            .workloads
            .set(i64::try_from(state.index.workloads().count()).unwrap_or(i64::MAX));
    }

    /// From now on these namespaces are worked in.
    pub(crate) fn select(&self, namespaces: HashSet<String>) {
        let mut state = self.state();
        let users = state.index.select(namespaces);
        self.changed(state, users);
    }

    pub(crate) fn stream_listed(&self, name: &str) {
        if self.state().starting.remove(name) {
            tracing::debug!(stream = name, "listed");
            self.wake.notify_waiters();
        }
    }

    pub(crate) fn stream_failing(&self, name: &str, error: &str) {
        tracing::warn!(stream = name, error, "cannot be read, is tried again");
        self.reporter
            .metrics
            .errors
            .get_or_create(&vec![("type", "watch".to_owned())])
            .inc();
        if self.state().starting.remove(name) {
            self.wake.notify_waiters();
        }
    }

    fn received(&self, event: &'static str, kind: SourceKind) {
        let labels = vec![
            ("event_type", event.to_owned()),
            ("resource_type", kind.plural().to_owned()),
        ];
        self.reporter.metrics.events_received.get_or_create(&labels).inc();
    }

    fn changed(&self, mut state: MutexGuard<'_, State>, users: Vec<WorkloadKey>) {
        if users.is_empty() {
            return;
        }
        let now = Instant::now();
        self.reporter.metrics.queue_adds.inc_by(users.len() as u64);
        for key in users {
            // Adopting does not wait: what comes later would be taken for what its pods were started with.
            if state
                .index
                .workload(&key)
                .is_some_and(|workload| workload.baseline.is_none())
            {
                state.queue.now(key, now);
            } else {
                state.queue.changed(key, now);
            }
        }
        drop(state);
        self.wake.notify_one();
    }
}

/// The namespaces whose streams are separate; `None`: all in one.
pub(crate) fn scopes(namespaces: &Namespaces) -> Vec<Option<String>> {
    match namespaces {
        Namespaces::Only(only) => only.iter().cloned().map(Some).collect(),
        Namespaces::All { .. } => vec![None],
    }
}
