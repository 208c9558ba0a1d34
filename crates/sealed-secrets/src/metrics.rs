//! The original's metrics, by the same names, and a few of ours.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric as _};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::crypto::{self, Keyring};
use crate::observe::Key;

/// Go's default buckets, in seconds.
const BUCKETS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Failure {
    reason: String,
    namespace: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ConditionOf {
    namespace: String,
    name: String,
    condition: String,
    ss_app_kubernetes_io_instance: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Call {
    path: String,
    code: String,
    method: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Duration {
    path: String,
    method: String,
}

/// Everything that is counted. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Metrics {
    requests: Counter,
    failures: Family<Failure, Counter>,
    conditions: Family<ConditionOf, Gauge>,
    http_requests: Family<Call, Counter>,
    http_durations: Family<Duration, Histogram, fn() -> Histogram>,
    keys: Gauge,
    unacknowledged: Gauge,
    /// The instance label that each object's series was made with: it has to go with the object.
    instances: Arc<Mutex<HashMap<Key, String>>>,
    omit_secret_labels: bool,
}

impl Metrics {
    /// Registers everything; `omit_secret_labels` leaves the names of objects out.
    pub fn new(registry: &mut Registry, omit_secret_labels: bool) -> Self {
        let registry = registry.sub_registry_with_prefix("sealed_secrets_controller");
        let metrics = Self {
            requests: Counter::default(),
            failures: Family::default(),
            conditions: Family::default(),
            http_requests: Family::default(),
            http_durations: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            keys: Gauge::default(),
            unacknowledged: Gauge::default(),
            instances: Arc::default(),
            omit_secret_labels,
        };
        let build = Family::<[(&str, &str); 1], Gauge>::default();
        build
            .get_or_create(&[("revision", env!("CARGO_PKG_VERSION"))])
            .set(1);
        registry.register("build_info", "Build information", build);
        registry.register(
            "unseal_requests",
            "SealedSecrets opened or tried to",
            metrics.requests.clone(),
        );
        registry.register(
            "unseal_errors",
            "Failures by reason and namespace",
            metrics.failures.clone(),
        );
        registry.register(
            "condition_info",
            "Condition of a SealedSecret: 1 is True, 0 Unknown, -1 False",
            metrics.conditions.clone(),
        );
        registry.register("http_requests", "HTTP requests", metrics.http_requests.clone());
        registry.register(
            "http_request_duration_seconds",
            "Duration of HTTP requests",
            metrics.http_durations.clone(),
        );
        registry.register("sealing_keys", "Private keys in use", metrics.keys.clone());
        registry.register(
            "unacknowledged_sealing_keys",
            "Private keys in use whose backup nobody has acknowledged",
            metrics.unacknowledged.clone(),
        );
        registry.register_collector(Box::new(Operations));
        // The original exposes every reason from the start; rates of a series that appears late are wrong.
        for reason in ["fetch", "status", "unmanaged", "unseal", "update"] {
            let labels = Failure {
                reason: reason.to_owned(),
                namespace: String::new(),
            };
            drop(metrics.failures.get_or_create(&labels));
        }
        metrics
    }

    /// One attempt to open a SealedSecret.
    pub fn unseal_requested(&self) {
        self.requests.inc();
    }

    /// One failure in `namespace`.
    pub fn failed(&self, reason: &str, namespace: &str) {
        let labels = Failure {
            reason: reason.to_owned(),
            namespace: namespace.to_owned(),
        };
        self.failures.get_or_create(&labels).inc();
    }

    /// The condition of an object: `Some(true)`, `Some(false)`, or `None` for Unknown.
    pub fn condition(&self, key: &Key, instance: &str, synced: Option<bool>) {
        if self.omit_secret_labels {
            return;
        }
        let before = self.instances().insert(key.clone(), instance.to_owned());
        if let Some(before) = before.filter(|before| before != instance) {
            self.conditions.remove(&labels(key, &before));
        }
        let value = synced.map_or(0, |synced| if synced { 1 } else { -1 });
        self.conditions.get_or_create(&labels(key, instance)).set(value);
    }

    /// Forgets an object that is gone.
    pub fn forget(&self, key: &Key) {
        if let Some(instance) = self.instances().remove(key) {
            self.conditions.remove(&labels(key, &instance));
        }
    }

    fn instances(&self) -> MutexGuard<'_, HashMap<Key, String>> {
        self.instances.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One HTTP request.
    pub fn http(&self, path: &str, method: &str, code: u16, seconds: f64) {
        let (path, method) = (path.to_owned(), method.to_owned());
        let call = Call {
            path: path.clone(),
            code: code.to_string(),
            method: method.clone(),
        };
        self.http_requests.get_or_create(&call).inc();
        self.http_durations
            .get_or_create(&Duration { path, method })
            .observe(seconds);
    }

    /// The private keys that there are.
    pub fn keys(&self, keyring: &Keyring) {
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.keys.set(number(keyring.registered().len()));
        self.unacknowledged.set(number(keyring.unacknowledged()));
    }
}

/// What opening costs, read where it is counted.
#[derive(Debug)]
struct Operations;

impl Collector for Operations {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let counter = ConstCounter::new(crypto::private_key_operations());
        let help = "RSA operations with a private key";
        let metric =
            encoder.encode_descriptor("private_key_operations", help, None, counter.metric_type())?;
        counter.encode(metric)
    }
}

fn labels(key: &Key, instance: &str) -> ConditionOf {
    ConditionOf {
        namespace: key.namespace.clone(),
        name: key.name.clone(),
        condition: "Synced".to_owned(),
        ss_app_kubernetes_io_instance: instance.to_owned(),
    }
}
