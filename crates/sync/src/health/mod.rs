//! Pure: whether an object is as it should be, by what it says of itself. The rules are kstatus', as Flux applies them.

mod core;
mod custom;
mod workloads;

use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

pub use custom::Checks;

/// How an object is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// It is as it should be.
    Current,
    /// It is on its way; why it is not there yet.
    InProgress(String),
    /// It will not get there by itself; what it says.
    Failed(String),
}

/// Kinds of Kubernetes itself whose objects are healthy as soon as they exist: nobody has to read them.
pub fn is_always_current(group: &str, kind: &str) -> bool {
    match group {
        "" => matches!(
            kind,
            "ConfigMap" | "Secret" | "ServiceAccount" | "LimitRange" | "Endpoints"
        ),
        "rbac.authorization.k8s.io"
        | "admissionregistration.k8s.io"
        | "scheduling.k8s.io"
        | "node.k8s.io"
        | "storage.k8s.io"
        | "discovery.k8s.io" => true,
        "networking.k8s.io" => matches!(kind, "Ingress" | "IngressClass" | "NetworkPolicy"),
        "batch" => kind == "CronJob",
        _ => false,
    }
}

/// How `object` is at `now`.
pub fn of(object: &Value, now: Timestamp) -> Health {
    if !object["metadata"]["deletionTimestamp"].is_null() {
        return Health::InProgress("it is being deleted".into());
    }
    if let Some(unfinished) = generic(object) {
        return unfinished;
    }
    let api_version = object["apiVersion"].as_str().unwrap_or_default();
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    match (group, object["kind"].as_str().unwrap_or_default()) {
        ("apps", "Deployment") => workloads::deployment(object),
        ("apps", "StatefulSet") => workloads::stateful_set(object),
        ("apps", "DaemonSet") => workloads::daemon_set(object),
        ("apps", "ReplicaSet") => workloads::replica_set(object),
        ("batch", "Job") => workloads::job(object),
        ("", "Pod") => core::pod(object, now),
        ("", "PersistentVolumeClaim") => core::claim(object),
        ("", "Service") => core::service(object),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => core::definition(object),
        ("batch", "CronJob") | ("policy", "PodDisruptionBudget") | ("", "ConfigMap") => Health::Current,
        _ => by_ready(object),
    }
}

/// What holds for every kind; `None` when it has nothing to object.
fn generic(object: &Value) -> Option<Health> {
    let generation = object["metadata"]["generation"].as_i64();
    let observed = object["status"]["observedGeneration"].as_i64();
    if let (Some(generation), Some(observed)) = (generation, observed)
        && generation != observed
    {
        return Some(Health::InProgress(format!(
            "generation {generation} has not been looked at by its controller, which is at {observed}"
        )));
    }
    if let Some(condition) = condition(object, "Reconciling").filter(|c| c.status == "True") {
        return Some(Health::InProgress(condition.text()));
    }
    let stalled = condition(object, "Stalled").filter(|c| c.status == "True")?;
    Some(Health::Failed(stalled.text()))
}

fn by_ready(object: &Value) -> Health {
    match condition(object, "Ready") {
        Some(ready) if ready.status != "True" => Health::InProgress(ready.text()),
        _ => Health::Current,
    }
}

struct Condition<'a> {
    kind: &'a str,
    status: &'a str,
    reason: &'a str,
    message: &'a str,
}

impl Condition<'_> {
    /// What it says, in one line.
    fn text(&self) -> String {
        let name = if self.reason.is_empty() {
            self.kind
        } else {
            self.reason
        };
        if self.message.is_empty() {
            name.to_owned()
        } else {
            format!("{name}: {}", self.message)
        }
    }
}

fn condition<'a>(object: &'a Value, kind: &'a str) -> Option<Condition<'a>> {
    let conditions = object["status"]["conditions"].as_array()?;
    let found = conditions.iter().find(|c| c["type"].as_str() == Some(kind))?;
    let text = |key: &str| found[key].as_str().unwrap_or_default();
    Some(Condition {
        kind,
        status: text("status"),
        reason: text("reason"),
        message: text("message"),
    })
}

/// A number of the status or spec; a missing one is 0, as the API server leaves zeros out.
fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or_default()
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
