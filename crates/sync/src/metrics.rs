//! Metrics by Flux's names.

use std::{sync::Arc, time::Duration};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, histogram::Histogram},
    registry::Registry,
};

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ObjectLabels {
    kind: &'static str,
    name: String,
    namespace: String,
}

type Durations = Family<ObjectLabels, Histogram, fn() -> Histogram>;

/// The syncer's metrics. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Metrics {
    durations: Arc<Durations>,
}

fn histogram() -> Histogram {
    // Flux's buckets, from 10 ms to 30 minutes.
    Histogram::new([
        0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0,
    ])
}

impl Metrics {
    /// Registers them.
    pub fn new(registry: &mut Registry) -> Self {
        let durations = Family::new_with_constructor(histogram as fn() -> Histogram);
        registry.register(
            "gotk_reconcile_duration_seconds",
            "The duration in seconds of a reconciliation that did something",
            durations.clone(),
        );
        Self {
            durations: Arc::new(durations),
        }
    }

    /// A reconciliation of an object took this long.
    pub fn observe(&self, kind: &'static str, name: &str, namespace: &str, took: Duration) {
        let labels = ObjectLabels {
            kind,
            name: name.to_owned(),
            namespace: namespace.to_owned(),
        };
        self.durations.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// The object is gone.
    pub fn forget(&self, kind: &'static str, name: &str, namespace: &str) {
        let labels = ObjectLabels {
            kind,
            name: name.to_owned(),
            namespace: namespace.to_owned(),
        };
        self.durations.remove(&labels);
    }
}
