//! Metrics under Stakater's names, which dashboards read, and a few of our own.

use std::time::Duration;

use axum::http;
use plumbline_common::watched::Observer;
use prometheus_client::{
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

type Labels = Vec<(&'static str, String)>;

/// Every metric of the reloader. Cloning shares them.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// Rollouts by success.
    pub executed: Family<Labels, Counter>,
    /// Rollouts by success and namespace, if asked for. A gauge, because the library renames counters that do not end in `_total`.
    pub executed_by_namespace: Family<Labels, Gauge>,
    /// Workloads looked at, by result.
    pub reconciled: Family<Labels, Counter>,
    /// How long that took.
    pub reconcile_duration: Histogram,
    /// Writes by kind of workload and result.
    pub actions: Family<Labels, Counter>,
    /// How long they took, by kind of workload.
    pub action_latency: Family<Labels, Histogram, fn() -> Histogram>,
    /// Workloads that were not rolled, by reason.
    pub skipped: Family<Labels, Counter>,
    /// Errors by type.
    pub errors: Family<Labels, Counter>,
    /// Writes tried again.
    pub retries: Counter,
    /// Watch events by type and kind.
    pub events_received: Family<Labels, Counter>,
    /// Watch events taken in, by kind.
    pub events_processed: Family<Labels, Counter>,
    /// Workloads looked at, by kind.
    pub scanned: Family<Labels, Counter>,
    /// Workloads found to differ from their sources, by kind.
    pub matched: Family<Labels, Counter>,
    /// How long workloads wait beyond the time they are due.
    pub queue_latency: Histogram,
    /// Requests to the API server, by code, method and host.
    pub requests: Family<Labels, Counter>,
    /// How long they took to the head of the answer, by verb and host.
    pub request_duration: Family<Labels, Histogram, fn() -> Histogram>,
    /// Workloads that wait.
    pub queue_depth: Gauge,
    /// Workloads ever queued.
    pub queue_adds: Counter,
    /// Workloads that could be rolled.
    pub workloads: Gauge,
    /// Sources whose digest is known.
    pub sources: Gauge,
    /// Workloads adopted.
    pub adopted: Counter,
    /// Sources that had been missed when their workload was adopted.
    pub adopted_stale: Counter,
    /// Workloads that differ from their sources and could not be rolled yet.
    pub pending: Gauge,
}

impl Metrics {
    /// Registers all metrics.
    #[expect(clippy::too_many_lines, reason = "a list: one statement for each metric")]
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            executed: Family::default(),
            executed_by_namespace: Family::default(),
            reconciled: Family::default(),
            reconcile_duration: histogram(),
            actions: Family::default(),
            action_latency: Family::new_with_constructor(histogram),
            skipped: Family::default(),
            errors: Family::default(),
            retries: Counter::default(),
            events_received: Family::default(),
            events_processed: Family::default(),
            scanned: Family::default(),
            matched: Family::default(),
            queue_latency: histogram(),
            requests: Family::default(),
            request_duration: Family::new_with_constructor(histogram),
            queue_depth: Gauge::default(),
            queue_adds: Counter::default(),
            workloads: Gauge::default(),
            sources: Gauge::default(),
            adopted: Counter::default(),
            adopted_stale: Counter::default(),
            pending: Gauge::default(),
        };
        let m = &metrics;
        // The library appends `_total` to counters.
        registry.register(
            "reloader_reload_executed",
            "Rollouts triggered",
            m.executed.clone(),
        );
        registry.register(
            "reloader_reload_executed_total_by_namespace",
            "Rollouts triggered, by namespace",
            m.executed_by_namespace.clone(),
        );
        registry.register("reloader_reconcile", "Workloads looked at", m.reconciled.clone());
        registry.register(
            "reloader_reconcile_duration_seconds",
            "Time to look at a workload",
            m.reconcile_duration.clone(),
        );
        registry.register("reloader_action", "Writes to workloads", m.actions.clone());
        registry.register(
            "reloader_action_latency_seconds",
            "Time to write a workload",
            m.action_latency.clone(),
        );
        registry.register("reloader_skipped", "Workloads not rolled", m.skipped.clone());
        registry.register("reloader_errors", "Errors", m.errors.clone());
        registry.register("reloader_retries", "Writes tried again", m.retries.clone());
        registry.register(
            "reloader_events_received",
            "Watch events",
            m.events_received.clone(),
        );
        registry.register(
            "reloader_events_processed",
            "Watch events taken in",
            m.events_processed.clone(),
        );
        registry.register(
            "reloader_workloads_scanned",
            "Workloads looked at, by kind",
            m.scanned.clone(),
        );
        registry.register(
            "reloader_workloads_matched",
            "Workloads found to differ from their sources",
            m.matched.clone(),
        );
        registry.register(
            "reloader_workqueue_latency_seconds",
            "Time a workload waits beyond the time it is due",
            m.queue_latency.clone(),
        );
        registry.register(
            "rest_client_requests",
            "Requests to the API server",
            m.requests.clone(),
        );
        registry.register(
            "rest_client_request_duration_seconds",
            "Time to the head of the API server's answer",
            m.request_duration.clone(),
        );
        registry.register(
            "reloader_workqueue_depth",
            "Workloads that wait",
            m.queue_depth.clone(),
        );
        registry.register(
            "reloader_workqueue_adds",
            "Workloads queued",
            m.queue_adds.clone(),
        );
        registry.register(
            "reloader_workloads",
            "Workloads that could be rolled",
            m.workloads.clone(),
        );
        registry.register(
            "reloader_sources",
            "Sources whose digest is known",
            m.sources.clone(),
        );
        registry.register("reloader_adopted", "Workloads adopted", m.adopted.clone());
        registry.register(
            "reloader_adopted_stale",
            "Sources found to have been missed before a workload was adopted",
            m.adopted_stale.clone(),
        );
        registry.register(
            "reloader_pending_workloads",
            "Workloads that differ from their sources and are not rolled yet",
            m.pending.clone(),
        );
        metrics
    }
}

impl Observer for Metrics {
    fn answered(&self, method: &http::Method, host: &str, code: Option<u16>, took: Duration) {
        let code = code.map_or_else(|| "<error>".to_owned(), |code| code.to_string());
        let host = ("host", host.to_owned());
        let labels = vec![("code", code), ("method", method.to_string()), host.clone()];
        self.requests.get_or_create(&labels).inc();
        let labels = vec![("verb", method.to_string()), host];
        self.request_duration
            .get_or_create(&labels)
            .observe(took.as_secs_f64());
    }
}

fn histogram() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 15))
}
