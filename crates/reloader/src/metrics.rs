//! Metrics under Stakater's names, which dashboards read, and a few of our own.

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

fn histogram() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 15))
}
