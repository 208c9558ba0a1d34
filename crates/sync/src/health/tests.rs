use serde_json::json;

use super::*;

fn now() -> Timestamp {
    "2026-01-01T00:01:00Z".parse().unwrap()
}

fn health(api_version: &str, kind: &str, rest: Value) -> &'static str {
    let mut object = rest;
    object["apiVersion"] = json!(api_version);
    object["kind"] = json!(kind);
    match of(&object, now()) {
        Health::Current => "current",
        Health::InProgress(_) => "in progress",
        Health::Failed(_) => "failed",
    }
}

fn is(kind: &str, status: &str, reason: &str) -> Value {
    json!({"type": kind, "status": status, "reason": reason, "message": "m"})
}

#[test]
fn every_kind() {
    let c = |kind: &str, status: &str| json!({"status": {"conditions": [is(kind, status, "R")]}});
    for (kind, status, expected) in [
        ("Ready", "True", "current"),
        ("Ready", "False", "in progress"),
        ("Ready", "Unknown", "in progress"),
        ("Reconciling", "True", "in progress"),
        ("Reconciling", "False", "current"),
        ("Stalled", "True", "failed"),
    ] {
        assert_eq!(
            health("x.io/v1", "Thing", c(kind, status)),
            expected,
            "{kind}={status}"
        );
    }
    assert_eq!(health("x.io/v1", "Thing", json!({})), "current");
    let behind = json!({"metadata": {"generation": 3}, "status": {"observedGeneration": 2}});
    assert_eq!(health("x.io/v1", "Thing", behind), "in progress");
    let going = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
    assert_eq!(health("v1", "ConfigMap", going), "in progress");
}

#[test]
fn deployments() {
    let done = [
        is("Progressing", "True", "NewReplicaSetAvailable"),
        is("Available", "True", "MinimumReplicasAvailable"),
    ];
    let full = json!({"replicas": 2, "updatedReplicas": 2, "availableReplicas": 2, "readyReplicas": 2, "conditions": done});
    let of =
        |spec: Value, status: Value| health("apps/v1", "Deployment", json!({"spec": spec, "status": status}));
    assert_eq!(of(json!({"replicas": 2}), full.clone()), "current");
    assert_eq!(of(json!({"replicas": 3}), full.clone()), "in progress");
    for (key, value) in [
        ("replicas", 3),
        ("updatedReplicas", 1),
        ("availableReplicas", 1),
        ("readyReplicas", 1),
    ] {
        let mut status = full.clone();
        status[key] = json!(value);
        assert_eq!(of(json!({"replicas": 2}), status), "in progress", "{key}");
    }
    assert_eq!(of(json!({"replicas": 0}), json!({"conditions": done})), "current");
    assert_eq!(of(json!({"replicas": 0}), json!({})), "in progress");
    let only_available = json!({"conditions": [done[1]]});
    let endless = json!({"replicas": 0, "progressDeadlineSeconds": i32::MAX});
    assert_eq!(of(endless, only_available.clone()), "current");
    assert_eq!(of(json!({"replicas": 0}), only_available), "in progress");
    let late = json!({"conditions": [is("Progressing", "False", "ProgressDeadlineExceeded")]});
    assert_eq!(of(json!({}), late), "failed");
}

#[test]
fn other_workloads() {
    let set = |spec: Value, status: Value| {
        health("apps/v1", "StatefulSet", json!({"spec": spec, "status": status}))
    };
    let full = json!({"replicas": 1, "readyReplicas": 1, "currentReplicas": 1, "updatedReplicas": 1, "currentRevision": "a", "updateRevision": "a"});
    assert_eq!(set(json!({}), full.clone()), "current");
    let mut between = full.clone();
    between["updateRevision"] = json!("b");
    assert_eq!(set(json!({}), between.clone()), "in progress");
    assert_eq!(
        set(json!({"updateStrategy": {"type": "OnDelete"}}), json!({})),
        "current"
    );
    let partition = json!({"replicas": 1, "updateStrategy": {"rollingUpdate": {"partition": 1}}});
    assert_eq!(set(partition, between), "current");
    assert_eq!(set(json!({"replicas": 2}), full.clone()), "in progress");
    assert_eq!(set(json!({"replicas": 0}), full), "in progress");

    let daemon = |status: Value| health("apps/v1", "DaemonSet", json!({"status": status}));
    assert_eq!(daemon(json!({})), "in progress");
    assert_eq!(
        daemon(json!({"observedGeneration": 1, "desiredNumberScheduled": 0})),
        "current"
    );
    assert_eq!(
        daemon(json!({"observedGeneration": 1, "desiredNumberScheduled": 1})),
        "in progress"
    );

    let job = |status: Value| health("batch/v1", "Job", json!({"status": status}));
    assert_eq!(job(json!({"active": 1})), "in progress");
    assert_eq!(
        job(json!({"conditions": [is("Complete", "True", "")]})),
        "current"
    );
    assert_eq!(
        job(json!({"conditions": [is("Failed", "True", "BackoffLimitExceeded")]})),
        "failed"
    );
    assert_eq!(
        job(json!({"conditions": [is("Suspended", "True", "")]})),
        "in progress"
    );

    let replica_set = |status: Value| health("apps/v1", "ReplicaSet", json!({"status": status}));
    assert_eq!(replica_set(json!({"replicas": 1})), "in progress");
    let full = json!({"replicas": 1, "fullyLabeledReplicas": 1, "availableReplicas": 1, "readyReplicas": 1});
    assert_eq!(replica_set(full), "current");
}

#[test]
fn pods_claims_services_and_definitions() {
    let pod = |made: &str, status: Value| {
        let object = json!({"metadata": {"creationTimestamp": made}, "status": status});
        health("v1", "Pod", object)
    };
    let old = "2026-01-01T00:00:00Z";
    assert_eq!(
        pod(
            old,
            json!({"phase": "Running", "conditions": [is("Ready", "True", "")]})
        ),
        "current"
    );
    assert_eq!(pod(old, json!({"phase": "Running"})), "in progress");
    assert_eq!(pod(old, json!({"phase": "Failed"})), "current");
    let crashes = json!({"phase": "Running", "containerStatuses": [{"name": "c", "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]});
    assert_eq!(pod(old, crashes), "failed");
    let nowhere = json!({"phase": "Pending", "conditions": [is("PodScheduled", "False", "Unschedulable")]});
    assert_eq!(pod(old, nowhere.clone()), "failed");
    assert_eq!(pod("2026-01-01T00:00:50Z", nowhere), "in progress");

    let claim = |phase: &str| health("v1", "PersistentVolumeClaim", json!({"status": {"phase": phase}}));
    assert_eq!((claim("Bound"), claim("Pending")), ("current", "in progress"));
    let service = |spec: Value| health("v1", "Service", json!({ "spec": spec }));
    assert_eq!(service(json!({"type": "LoadBalancer"})), "in progress");
    assert_eq!(
        service(json!({"type": "LoadBalancer", "clusterIP": "10.0.0.1"})),
        "current"
    );
    assert_eq!(service(json!({"type": "ExternalName"})), "current");
    let definition = |conditions: Value| {
        let object = json!({"status": {"conditions": conditions}});
        health("apiextensions.k8s.io/v1", "CustomResourceDefinition", object)
    };
    assert_eq!(definition(json!([is("Established", "True", "")])), "current");
    assert_eq!(
        definition(json!([is("Established", "False", "Installing")])),
        "in progress"
    );
    assert_eq!(
        definition(json!([is("NamesAccepted", "False", "Conflict")])),
        "failed"
    );
}
