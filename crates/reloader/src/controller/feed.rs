//! What the streams bring.

use std::{collections::HashSet, sync::MutexGuard, time::Instant};

use super::{Controller, State};
use crate::{
    index::{News, Scope, SeenSource},
    kinds::WorkloadKind,
    source::{SourceKey, SourceKind},
    workload::{Workload, WorkloadKey},
};

/// The body of `--webhook-url`, in Stakater's words.
const UPDATED: &str = r#"{"webhook":"update successful"}"#;

impl Controller {
    pub(crate) fn source_seen(&self, seen: SeenSource, news: News) {
        self.received(
            if news == News::Happened { "update" } else { "list" },
            seen.key.kind,
        );
        let mut state = self.state();
        if let Some(webhook) = &self.webhook {
            let before = state.index.digest(&seen.namespace, &seen.key);
            let created = self.config.settings.on_create && news == News::Happened;
            // A change that a list shows was made while the watch was interrupted.
            if before.map_or(created, |before| before != seen.digest) {
                webhook.post("application/json", UPDATED.into());
            }
        }
        let users = state.index.put_source(seen, news);
        self.changed(state, users);
    }

    pub(crate) fn source_gone(&self, namespace: &str, key: &SourceKey) {
        self.received("delete", key.kind);
        let mut state = self.state();
        if let Some(webhook) = self.webhook.as_ref().filter(|_| self.config.settings.on_delete)
            && state.index.digest(namespace, key).is_some()
        {
            webhook.post("application/json", UPDATED.into());
        }
        let users = state.index.remove_source(namespace, key);
        self.changed(state, users);
    }

    /// A source is not watched any more: nobody uses it.
    pub(crate) fn source_unwatched(&self, namespace: &str, key: &SourceKey) {
        self.state().index.unwatch(namespace, key);
    }

    pub(crate) fn sources_listed(&self, scope: Scope<SourceKind>, seen: &HashSet<(String, String)>) {
        let mut state = self.state();
        let only = scope.name.clone();
        let single = only.map(|name| {
            (
                scope.namespace.clone().unwrap_or_default(),
                SourceKey::new(scope.kind, name),
            )
        });
        let users = state.index.listed_sources(scope, seen);
        // What was unknown until now may have been missing all along.
        let now = Instant::now();
        let State { index, queue, .. } = &mut *state;
        match single {
            Some((namespace, source)) => {
                for workload in index.users(&namespace, &source) {
                    queue.now(workload.key.clone(), now);
                }
            }
            None => {
                for workload in index.workloads() {
                    queue.now(workload.key.clone(), now);
                }
            }
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
        let concerned = state.index.put_workload(workload, news);
        if concerned {
            state.queue.now(key, Instant::now());
        } else if state.index.workload(&key).is_none() {
            // Nothing rolls it any more.
            state.memory.remove(&key);
            state.pending.remove(&key);
        }
        drop(state);
        self.wake.notify_one();
        if self.config.by_name {
            self.used.notify_one();
        }
    }

    pub(crate) fn workload_gone(&self, key: &WorkloadKey) {
        let mut state = self.state();
        state.index.forget(key);
        state.memory.remove(key);
        state.pending.remove(key);
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
        let metrics = &self.reporter.metrics;
        metrics.events_received.get_or_create(&labels).inc();
        // Stakater's name and label: there is nothing that could go wrong with an event here.
        let labels = vec![
            ("event_type", "unknown".to_owned()),
            ("resource_type", kind.plural().to_owned()),
            ("result", "success".to_owned()),
        ];
        metrics.events_processed.get_or_create(&labels).inc();
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
