//! Deployments, StatefulSets, DaemonSets, ReplicaSets and Jobs.

use serde_json::Value;

use super::{Health, condition, number};

fn replicas(object: &Value) -> i64 {
    object["spec"]["replicas"].as_i64().unwrap_or(1)
}

/// The first of these counts that is too small.
fn too_few(wanted: i64, counts: &[(&str, i64)]) -> Option<Health> {
    let (what, count) = counts.iter().find(|(_, count)| *count < wanted)?;
    Some(Health::InProgress(format!(
        "{count} of {wanted} replicas are {what}"
    )))
}

pub(super) fn deployment(object: &Value) -> Health {
    let status = &object["status"];
    let progressing = condition(object, "Progressing");
    if let Some(late) = progressing
        .as_ref()
        .filter(|c| c.reason == "ProgressDeadlineExceeded")
    {
        return Health::Failed(late.text());
    }
    let wanted = replicas(object);
    let updated = number(&status["updatedReplicas"]);
    let counts = [
        ("there", number(&status["replicas"])),
        ("of the new template", updated),
    ];
    if let Some(unfinished) = too_few(wanted, &counts) {
        return unfinished;
    }
    let old = number(&status["replicas"]) - updated;
    if old > 0 {
        return Health::InProgress(format!("{old} replicas of the old template are still there"));
    }
    let counts = [
        ("available", number(&status["availableReplicas"])),
        ("ready", number(&status["readyReplicas"])),
    ];
    if let Some(unfinished) =
        too_few(wanted.max(updated), &counts[..1]).or_else(|| too_few(wanted, &counts[1..]))
    {
        return unfinished;
    }
    // Without a deadline the controller reports no progress.
    let has_deadline = object["spec"]["progressDeadlineSeconds"].as_i64() != Some(i64::from(i32::MAX));
    let done = progressing.is_some_and(|c| c.status == "True" && c.reason == "NewReplicaSetAvailable");
    if has_deadline && !done {
        return Health::InProgress("its new ReplicaSet is not available".into());
    }
    match condition(object, "Available") {
        Some(available) if available.status == "True" => Health::Current,
        Some(available) => Health::InProgress(available.text()),
        None => Health::InProgress("it is not available".into()),
    }
}

pub(super) fn stateful_set(object: &Value) -> Health {
    let (spec, status) = (&object["spec"], &object["status"]);
    if spec["updateStrategy"]["type"].as_str() == Some("OnDelete") {
        return Health::Current;
    }
    let wanted = replicas(object);
    let counts = [
        ("there", number(&status["replicas"])),
        ("ready", number(&status["readyReplicas"])),
    ];
    if let Some(unfinished) = too_few(wanted, &counts) {
        return unfinished;
    }
    let surplus = number(&status["replicas"]) - wanted;
    if surplus > 0 {
        return Health::InProgress(format!("{surplus} replicas are still to go"));
    }
    let partition = number(&spec["updateStrategy"]["rollingUpdate"]["partition"]);
    if partition > 0 {
        let counts = [("of the new template", number(&status["updatedReplicas"]))];
        return too_few((wanted - partition).max(0), &counts).unwrap_or(Health::Current);
    }
    let counts = [("current", number(&status["currentReplicas"]))];
    if let Some(unfinished) = too_few(wanted, &counts) {
        return unfinished;
    }
    if status["currentRevision"] == status["updateRevision"] {
        Health::Current
    } else {
        Health::InProgress("its rollout is not finished".into())
    }
}

pub(super) fn daemon_set(object: &Value) -> Health {
    let status = &object["status"];
    if status["observedGeneration"].is_null() {
        return Health::InProgress("its controller has not looked at it".into());
    }
    let Some(wanted) = status["desiredNumberScheduled"].as_i64() else {
        return Health::InProgress("it is not known how many pods it should have".into());
    };
    let counts = [
        ("scheduled", number(&status["currentNumberScheduled"])),
        ("of the new template", number(&status["updatedNumberScheduled"])),
        ("available", number(&status["numberAvailable"])),
        ("ready", number(&status["numberReady"])),
    ];
    too_few(wanted, &counts).unwrap_or(Health::Current)
}

pub(super) fn replica_set(object: &Value) -> Health {
    if let Some(failure) = condition(object, "ReplicaFailure").filter(|c| c.status == "True") {
        return Health::InProgress(failure.text());
    }
    let (wanted, status) = (replicas(object), &object["status"]);
    let counts = [
        ("labelled", number(&status["fullyLabeledReplicas"])),
        ("available", number(&status["availableReplicas"])),
        ("ready", number(&status["readyReplicas"])),
    ];
    if let Some(unfinished) = too_few(wanted, &counts) {
        return unfinished;
    }
    match number(&status["replicas"]) - wanted {
        surplus @ 1.. => Health::InProgress(format!("{surplus} replicas are still to go")),
        _ => Health::Current,
    }
}

/// A Job has to complete, which is Flux's rule; kstatus is content once it runs.
pub(super) fn job(object: &Value) -> Health {
    let is = |kind| condition(object, kind).filter(|c| c.status == "True");
    if let Some(failed) = is("Failed") {
        return Health::Failed(failed.text());
    }
    match (is("Complete"), is("Suspended")) {
        (Some(_), _) => Health::Current,
        (None, Some(_)) => Health::InProgress("it is suspended".into()),
        (None, None) => Health::InProgress(format!(
            "it has not completed: {} pods run, {} have failed",
            number(&object["status"]["active"]),
            number(&object["status"]["failed"])
        )),
    }
}
