//! Metrics by Flux's and controller-runtime's names, and a few of our own.

use std::{sync::Arc, time::Duration};

use plumbline_common::watched::Observer;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ObjectLabels {
    kind: &'static str,
    name: String,
    namespace: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ReconcileLabels {
    controller: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ControllerLabels {
    controller: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RequestLabels {
    code: String,
    method: String,
    host: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct VerbLabels {
    verb: String,
    host: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct DriftLabels {
    name: String,
    namespace: String,
    action: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// How a reconciliation ended, in controller-runtime's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It will be looked at again at some time.
    Again,
    /// It is looked at again when it changes.
    Done,
    /// It failed in a way that no condition could carry.
    Error,
}

/// What became of drift.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drift {
    /// The object is as in Git again.
    Corrected,
    /// It was told, and left.
    Reported,
}

/// The syncer's metrics. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    durations: Histograms<ObjectLabels>,
    ready: Family<ObjectLabels, Gauge>,
    suspended: Family<ObjectLabels, Gauge>,
    reconciles: Family<ReconcileLabels, Counter>,
    errors: Family<ControllerLabels, Counter>,
    times: Histograms<ControllerLabels>,
    requests: Family<RequestLabels, Counter>,
    request_durations: Histograms<VerbLabels>,
    drift: Family<DriftLabels, Counter>,
    drifted: Family<ObjectLabels, Gauge>,
    webhooks: Family<OutcomeLabels, Counter>,
    polls: Family<OutcomeLabels, Counter>,
}

fn reconcile_buckets() -> Histogram {
    // Flux's are powers of ten from 10 ns to 10 s; these tell more where reconciliations are.
    Histogram::new([
        0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0,
    ])
}

fn request_buckets() -> Histogram {
    Histogram::new([
        0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
    ])
}

impl Metrics {
    /// Registers them.
    pub fn new(registry: &mut Registry) -> Self {
        let inner = Inner {
            durations: Family::new_with_constructor(reconcile_buckets as fn() -> Histogram),
            ready: Family::default(),
            suspended: Family::default(),
            reconciles: Family::default(),
            errors: Family::default(),
            times: Family::new_with_constructor(reconcile_buckets as fn() -> Histogram),
            requests: Family::default(),
            request_durations: Family::new_with_constructor(request_buckets as fn() -> Histogram),
            drift: Family::default(),
            drifted: Family::default(),
            webhooks: Family::default(),
            polls: Family::default(),
        };
        let i = &inner;
        registry.register(
            "gotk_reconcile_duration_seconds",
            "The duration in seconds of a reconciliation of an object",
            i.durations.clone(),
        );
        registry.register(
            "controller_runtime_reconcile",
            "Reconciliations by controller and result",
            i.reconciles.clone(),
        );
        registry.register(
            "controller_runtime_reconcile_errors",
            "Reconciliations that failed in a way that no condition could carry",
            i.errors.clone(),
        );
        registry.register(
            "controller_runtime_reconcile_time_seconds",
            "The duration in seconds of reconciliations by controller",
            i.times.clone(),
        );
        registry.register(
            "rest_client_requests",
            "Requests to the API server",
            i.requests.clone(),
        );
        registry.register(
            "rest_client_request_duration_seconds",
            "The time in seconds to the head of the API server's answer",
            i.request_durations.clone(),
        );
        registry.register(
            "plumbline_sync_ready",
            "1 where the condition Ready is True, else 0",
            i.ready.clone(),
        );
        registry.register(
            "plumbline_sync_suspended",
            "1 while an object is suspended; absent otherwise",
            i.suspended.clone(),
        );
        registry.register(
            "plumbline_sync_drift",
            "Objects of a Kustomization that were found to differ from Git, by what was done about it",
            i.drift.clone(),
        );
        registry.register(
            "plumbline_sync_drifted_objects",
            "Objects that differ from Git right now and are left so",
            i.drifted.clone(),
        );
        registry.register(
            "plumbline_sync_webhook_requests",
            "Requests to the webhook receiver by outcome",
            i.webhooks.clone(),
        );
        registry.register(
            "plumbline_sync_source_polls",
            "Looks at Git servers by outcome: asked, or shared with another GitRepository of the same URL and credentials",
            i.polls.clone(),
        );
        Self(Arc::new(inner))
    }

    /// A reconciliation of an object took this long.
    pub fn observe(&self, kind: &'static str, name: &str, namespace: &str, took: Duration) {
        let durations = &self.0.durations;
        durations
            .get_or_create(&labels(kind, name, namespace))
            .observe(took.as_secs_f64());
    }

    /// A reconciliation ended so.
    pub fn reconciled(&self, controller: &'static str, ending: Ending, took: Duration) {
        let result = match ending {
            Ending::Again => "requeue_after",
            Ending::Done => "success",
            Ending::Error => "error",
        };
        let counted = ReconcileLabels { controller, result };
        self.0.reconciles.get_or_create(&counted).inc();
        let controller = ControllerLabels { controller };
        if ending == Ending::Error {
            self.0.errors.get_or_create(&controller).inc();
        }
        self.0
            .times
            .get_or_create(&controller)
            .observe(took.as_secs_f64());
    }

    /// What the condition Ready of an object says.
    pub fn ready(&self, kind: &'static str, name: &str, namespace: &str, is_ready: bool) {
        let ready = &self.0.ready;
        ready
            .get_or_create(&labels(kind, name, namespace))
            .set(i64::from(is_ready));
    }

    /// An object is suspended.
    pub fn suspended(&self, kind: &'static str, name: &str, namespace: &str) {
        self.0
            .suspended
            .get_or_create(&labels(kind, name, namespace))
            .set(1);
    }

    /// It is not, or not any longer.
    pub fn resumed(&self, kind: &'static str, name: &str, namespace: &str) {
        self.0.suspended.remove(&labels(kind, name, namespace));
    }

    /// So many objects of a Kustomization were found to differ from Git.
    pub fn drift(&self, name: &str, namespace: &str, action: Drift, objects: u64) {
        let labels = DriftLabels {
            name: name.to_owned(),
            namespace: namespace.to_owned(),
            action: match action {
                Drift::Corrected => "corrected",
                Drift::Reported => "reported",
            },
        };
        self.0.drift.get_or_create(&labels).inc_by(objects);
    }

    /// So many objects of a Kustomization differ from Git and are left so.
    pub fn drifted(&self, name: &str, namespace: &str, objects: usize) {
        let labels = labels("Kustomization", name, namespace);
        if objects == 0 {
            self.0.drifted.remove(&labels);
        } else {
            let objects = i64::try_from(objects).unwrap_or(i64::MAX);
            self.0.drifted.get_or_create(&labels).set(objects);
        }
    }

    /// The webhook receiver answered a request.
    pub fn webhook(&self, outcome: &'static str) {
        self.0.webhooks.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    /// A source was looked at.
    pub fn poll(&self, outcome: &'static str) {
        self.0.polls.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    /// The object is gone.
    pub fn forget(&self, kind: &'static str, name: &str, namespace: &str) {
        let labels = labels(kind, name, namespace);
        self.0.durations.remove(&labels);
        self.0.ready.remove(&labels);
        self.0.suspended.remove(&labels);
        self.0.drifted.remove(&labels);
        for action in ["corrected", "reported"] {
            let labels = DriftLabels {
                name: name.to_owned(),
                namespace: namespace.to_owned(),
                action,
            };
            if kind == "Kustomization" {
                self.0.drift.remove(&labels);
            }
        }
    }
}

fn labels(kind: &'static str, name: &str, namespace: &str) -> ObjectLabels {
    ObjectLabels {
        kind,
        name: name.to_owned(),
        namespace: namespace.to_owned(),
    }
}

impl Observer for Metrics {
    fn answered(&self, method: &http::Method, host: &str, code: Option<u16>, took: Duration) {
        let labels = RequestLabels {
            code: code.map_or_else(|| "<error>".to_owned(), |code| code.to_string()),
            method: method.to_string(),
            host: host.to_owned(),
        };
        self.0.requests.get_or_create(&labels).inc();
        let labels = VerbLabels {
            verb: method.to_string(),
            host: host.to_owned(),
        };
        self.0
            .request_durations
            .get_or_create(&labels)
            .observe(took.as_secs_f64());
    }
}
