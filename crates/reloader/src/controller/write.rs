//! What is written, and what is told of it.

use std::time::{Duration, Instant};

use k8s_openapi::jiff::Timestamp;
use plumbline_common::backoff::Backoff;

use super::{Controller, State};
use crate::{
    error::Error,
    evict::{self, Eviction},
    kinds::WorkloadKind,
    step::{Blocked, Write},
    workload::Workload,
};

const BACKOFF: Backoff = Backoff {
    base: Duration::from_millis(500),
    max: Duration::from_secs(30),
};
/// How long a write may take in all, kube's own retries included.
const WRITE_LIMIT: Duration = Duration::from_mins(1);

impl Controller {
    pub(super) async fn write(&self, write: Write) -> &'static str {
        let key = write.workload.key.clone();
        if self.config.dry_run {
            self.would_write(&write);
            return "dry_run";
        }
        let start = Instant::now();
        let writing = self.reporter.doing.begin();
        let performed =
            tokio::time::timeout(WRITE_LIMIT, write.perform(&self.writer, &self.config.keys)).await;
        let outcome = performed.unwrap_or_else(|_| Err(Error::Timeout(key.clone(), WRITE_LIMIT)));
        let outcome = self.remember_instead(&write, outcome);
        drop(writing);
        let took = start.elapsed();
        match outcome {
            Ok(after) => {
                let mut state = self.state();
                // What the answer tells, a later event will only repeat.
                if let Some(after) = after {
                    state.index.written(after);
                }
                state.pending.remove(&key);
                if let Some(memory) = state.memory.get_mut(&key) {
                    memory.failures = 0;
                    // What is wrong with its annotations is so still.
                    let problems = &write.workload.policy.problems;
                    memory
                        .told
                        .retain(|told| problems.iter().any(|problem| problem.to_string() == *told));
                }
                if write.changes.is_empty() {
                    drop(state);
                } else {
                    let memory = state.memory.entry(key).or_default();
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
        match outcome {
            Err(error) if batch && error.is_forbidden_patch() && write.baseline.is_some() => {
                tracing::debug!(workload = %write.workload.key, %error, "the state is kept in memory");
                self.remember(write);
                Ok(None)
            }
            outcome => outcome,
        }
    }

    // Tells what a dry run leaves undone, and goes on as if it had been done: the next change is told too.
    fn would_write(&self, write: &Write) {
        let stale = write.recorded.as_ref().map(|(_, stale)| stale.as_slice());
        self.reporter
            .would_write(&write.workload, &write.changes, stale.unwrap_or_default());
        self.remember(write);
        self.state().pending.remove(&write.workload.key);
    }

    fn remember(&self, write: &Write) {
        if let Some(unwritten) = write.unwritten(Timestamp::now()) {
            let workload = &write.workload;
            let mut state = self.state();
            state.index.remember(&workload.key, &workload.uid, unwritten);
        }
    }

    /// Evicts the next pod of a workload whose pods are to be replaced that way.
    pub(super) async fn evict(&self, workload: &Workload) -> &'static str {
        if self.config.dry_run {
            return "dry_run";
        }
        let key = &workload.key;
        let outcome = tokio::time::timeout(WRITE_LIMIT, evict::next(&self.writer, workload)).await;
        let outcome = outcome.unwrap_or_else(|_| Err(Error::Timeout(key.clone(), WRITE_LIMIT)));
        let (again, result) = match outcome {
            Ok(Eviction::Done) => match self.writer.evicted(workload).await {
                Ok(after) => {
                    self.state().index.written(after);
                    return "success";
                }
                Err(error) => (self.evicting_failed(workload, &error), "error"),
            },
            Ok(Eviction::Evicted(pod)) => {
                tracing::info!(workload = %key, pod, "evicted");
                (evict::PAUSE, "success")
            }
            Ok(Eviction::Waiting) => (evict::PAUSE, "waiting"),
            Ok(Eviction::Refused { pod, why }) => {
                let message = format!(
                    "The pod {pod} may not be evicted now and is tried again: {why}. \
                     A PodDisruptionBudget decides: see kubectl get poddisruptionbudgets"
                );
                let mut state = self.state();
                self.tell(
                    &mut state,
                    workload,
                    "eviction_refused",
                    "EvictionRefused",
                    message,
                );
                (evict::REFUSED_PAUSE, "waiting")
            }
            Err(error) => (self.evicting_failed(workload, &error), "error"),
        };
        self.state().queue.at(key.clone(), Instant::now() + again);
        result
    }

    fn evicting_failed(&self, workload: &Workload, error: &Error) -> Duration {
        let mut state = self.state();
        let memory = state.memory.entry(workload.key.clone()).or_default();
        memory.failures += 1;
        let again = BACKOFF.delay(memory.failures);
        let message = format!("Its pods cannot be evicted, which is tried again: {error}");
        self.tell(&mut state, workload, "eviction_failed", "ReloadFail", message);
        again
    }

    pub(super) fn block(&self, workload: &Workload, blocked: Blocked, now: Instant) {
        let mut state = self.state();
        if let Some(wait) = blocked.wait {
            state.queue.at(workload.key.clone(), now + wait);
        }
        self.tell(
            &mut state,
            workload,
            blocked.metric,
            blocked.event,
            blocked.message,
        );
    }

    /// Tells what is wrong with a workload's annotations.
    pub(super) fn tell_problems(&self, state: &mut State, workload: &Workload) {
        for problem in &workload.policy.problems {
            self.tell(
                state,
                workload,
                "invalid_annotation",
                "InvalidAnnotation",
                problem.to_string(),
            );
        }
        let unshared: Vec<_> = state.index.unshared(workload).map(ToString::to_string).collect();
        for source in unshared {
            let message = format!(
                "{source} does not roll this workload: its owner has to allow it with the annotation {}: {}",
                crate::keys::SHARED_WITH,
                workload.key.namespace
            );
            self.tell(state, workload, "not_shared", "NotShared", message);
        }
    }

    /// Tells something, once as long as it stays the same.
    pub(super) fn tell(
        &self,
        state: &mut State,
        workload: &Workload,
        metric: &'static str,
        event: &'static str,
        message: String,
    ) {
        let memory = state.memory.entry(workload.key.clone()).or_default();
        if memory.told.insert(message.clone()) {
            self.reporter.held(workload, metric, event, message);
        }
    }
}
