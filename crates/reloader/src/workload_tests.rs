use k8s_openapi::api::{apps::v1::Deployment, batch::v1::Job};
use serde_json::{Value, json};

use super::*;
use crate::source::{SourceKey, SourceKind};

fn deployment(change: impl FnOnce(&mut Value)) -> Deployment {
    let mut object = json!({
        "metadata": {"name": "web", "namespace": "shop", "uid": "u1", "resourceVersion": "42", "generation": 1},
        "spec": {
            "selector": {},
            "template": {
                "metadata": {"annotations": {"reloader.stakater.com/auto": "true"}},
                "spec": {"containers": [
                    {"name": "a", "envFrom": [{"configMapRef": {"name": "app"}}]}, {"name": "b"}]},
            },
        },
    });
    change(&mut object);
    serde_json::from_value(object).unwrap()
}

fn read(change: impl FnOnce(&mut Value)) -> Workload {
    Workload::read(
        &deployment(change),
        &Reading {
            keys: Keys::default(),
            key_id: "k".into(),
        },
    )
    .unwrap()
}

#[test]
fn a_deployment_is_read() {
    let workload = read(|_| {});
    assert_eq!(workload.key.to_string(), "shop/Deployment/web");
    assert_eq!((workload.uid.as_str(), workload.version), ("u1", 42));
    assert!(workload.policy.opted_in(false));
    assert!(
        workload
            .references
            .contains(&SourceKey::new(SourceKind::ConfigMap, "app"))
    );
    assert_eq!(workload.container(1), Some("b"));
    assert_eq!(workload.container(7), Some("a"));
    assert_eq!(workload.baseline, None);
}

#[test]
fn what_we_write_does_not_change_the_fingerprint_and_what_others_write_does() {
    let plain = read(|_| {}).template;
    let ours = read(|object| {
        let template = &mut object["spec"]["template"];
        template["metadata"]["annotations"][keys::CONFIG_HASH] = json!("x");
        template["metadata"]["annotations"][keys::LAST_RELOADED_FROM] = json!("{}");
        template["spec"]["containers"][1]["env"] = json!([{"name": "STAKATER_APP_CONFIGMAP", "value": "f1"}]);
    });
    assert_eq!(ours.template, plain);
    assert_eq!(ours.live.variables.len(), 1);
    assert!(!ours.live.variables[0].ours);
    let theirs = read(|object| object["spec"]["template"]["spec"]["containers"][1]["image"] = json!("v2"));
    assert_ne!(theirs.template, plain);
    let variable = read(|object| {
        object["spec"]["template"]["spec"]["containers"][1]["env"] =
            json!([{"name": "STAKATER_X", "value": "1"}]);
    });
    assert_ne!(variable.template, plain);
}

#[test]
fn an_invalid_pause_period_names_its_annotation() {
    let keys = Keys::default();
    let workload =
        read(|object| object["metadata"]["annotations"] = json!({ &keys.pause_period: "5 minutes" }));
    let problem = workload.pause.period.unwrap().unwrap_err();
    assert_eq!(problem.key, keys.pause_period);
    let workload = read(|object| object["metadata"]["annotations"] = json!({ &keys.pause_period: "5m" }));
    assert_eq!(workload.pause.period, Some(Ok(std::time::Duration::from_mins(5))));
}

#[test]
fn a_rollout_is_done_when_every_replica_is_updated_and_available() {
    let status = |status: Value| {
        read(|object| {
            object["metadata"]["generation"] = json!(2);
            object["spec"]["replicas"] = json!(2);
            object["status"] = status;
        })
        .progress
    };
    let done = json!({"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2});
    assert_eq!(status(done), Progress::Done);
    for running in [
        json!({"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2}),
        json!({"observedGeneration": 2, "replicas": 3, "updatedReplicas": 2, "availableReplicas": 2}),
        json!({"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 1}),
        json!({"observedGeneration": 2, "replicas": 2, "updatedReplicas": 1, "availableReplicas": 2}),
        json!({}),
    ] {
        assert_eq!(status(running.clone()), Progress::Running, "{running}");
    }
    let failed = json!({"observedGeneration": 2, "conditions": [
        {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}]});
    assert_eq!(status(failed), Progress::Failed);
}

#[test]
fn the_job_of_a_cron_job_is_controlled() {
    let job = |owners: Value| -> Job {
        serde_json::from_value(json!({
            "metadata": {"name": "j", "namespace": "n", "uid": "u", "ownerReferences": owners},
            "spec": {"template": {"spec": {"containers": [{"name": "a"}]}}},
        }))
        .unwrap()
    };
    let owner =
        json!([{"apiVersion": "batch/v1", "kind": "CronJob", "name": "c", "uid": "x", "controller": true}]);
    assert!(
        Workload::read(&job(owner), &Reading::default())
            .unwrap()
            .controlled
    );
    assert!(
        !Workload::read(&job(json!([])), &Reading::default())
            .unwrap()
            .controlled
    );
}

#[test]
fn what_is_being_deleted_is_not_read() {
    let object = deployment(|object| object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z"));
    assert!(Workload::read(&object, &Reading::default()).is_none());
}
