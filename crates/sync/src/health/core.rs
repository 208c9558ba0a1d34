//! Pods, claims, Services and CRDs.

use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use super::{Health, condition};

/// How long the scheduler may find no place for a pod before that is a failure: kstatus' number.
const UNSCHEDULABLE: i64 = 15;

pub(super) fn pod(object: &Value, now: Timestamp) -> Health {
    let status = &object["status"];
    match status["phase"].as_str() {
        // A finished pod is all that it will ever be.
        Some("Succeeded" | "Failed") => Health::Current,
        Some("Running") => running(object),
        Some("Pending") => {
            let refused = condition(object, "PodScheduled")
                .filter(|c| c.status == "False" && c.reason == "Unschedulable");
            match refused {
                Some(refused) if age(object, now) >= UNSCHEDULABLE => Health::Failed(refused.text()),
                Some(refused) => Health::InProgress(refused.text()),
                None => Health::InProgress("its phase is Pending".into()),
            }
        }
        Some(other) => Health::InProgress(format!("its phase is {other}")),
        None => Health::InProgress("its phase is not known".into()),
    }
}

fn running(object: &Value) -> Health {
    if condition(object, "Ready").is_some_and(|c| c.status == "True") {
        return Health::Current;
    }
    let containers = object["status"]["containerStatuses"].as_array();
    for container in containers.into_iter().flatten() {
        if container["state"]["waiting"]["reason"].as_str() == Some("CrashLoopBackOff") {
            let name = container["name"].as_str().unwrap_or_default();
            return Health::Failed(format!("CrashLoopBackOff: container {name}"));
        }
    }
    Health::InProgress("it runs and is not ready".into())
}

/// Seconds since it was made.
fn age(object: &Value, now: Timestamp) -> i64 {
    let made = object["metadata"]["creationTimestamp"].as_str();
    let made = made.and_then(|text| text.parse::<Timestamp>().ok());
    made.map_or(0, |made| now.as_second() - made.as_second())
}

pub(super) fn claim(object: &Value) -> Health {
    match object["status"]["phase"].as_str() {
        Some("Bound") => Health::Current,
        phase => Health::InProgress(format!(
            "its phase is {}, not Bound",
            phase.unwrap_or("not known")
        )),
    }
}

pub(super) fn service(object: &Value) -> Health {
    let spec = &object["spec"];
    let has_address = spec["clusterIP"].as_str().is_some_and(|ip| !ip.is_empty());
    if spec["type"].as_str() == Some("LoadBalancer") && !has_address {
        Health::InProgress("it has no cluster IP".into())
    } else {
        Health::Current
    }
}

pub(super) fn definition(object: &Value) -> Health {
    if let Some(taken) = condition(object, "NamesAccepted").filter(|c| c.status == "False") {
        return Health::Failed(taken.text());
    }
    match condition(object, "Established") {
        Some(c) if c.status == "True" => Health::Current,
        Some(c) if c.status == "False" && c.reason != "Installing" => Health::Failed(c.text()),
        _ => Health::InProgress("it is not established".into()),
    }
}
