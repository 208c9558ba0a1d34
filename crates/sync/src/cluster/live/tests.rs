use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry};
use serde_json::json;

use super::{tracked::FLAP_LIMIT, *};
use crate::object::Identity;

const GIT: ContentDigest = [1; 16];

fn id() -> ObjectId {
    Identity {
        namespace: "demo".into(),
        group: String::new(),
        kind: "ConfigMap".into(),
        name: "a".into(),
    }
    .into()
}

fn owner_of_all() -> Owner {
    Owner {
        namespace: "flux-system".into(),
        name: "app".into(),
    }
}

fn metadata(version: u64, fields: &Value) -> ObjectMeta {
    ObjectMeta {
        resource_version: Some(version.to_string()),
        managed_fields: Some(vec![
            ManagedFieldsEntry {
                manager: Some(fields::MANAGER.into()),
                operation: Some("Apply".into()),
                fields_v1: Some(FieldsV1(fields.clone())),
                ..ManagedFieldsEntry::default()
            },
            ManagedFieldsEntry {
                manager: Some("kubectl-edit".into()),
                operation: Some("Update".into()),
                ..ManagedFieldsEntry::default()
            },
        ]),
        ..ObjectMeta::default()
    }
}

fn applied_at(version: u64) -> Live {
    let live = Live::default();
    live.begin(&id(), &owner_of_all());
    assert!(!live.applied(
        &id(),
        GIT,
        &metadata(version, &json!({ "f:data": {} })),
        Instant::now()
    ));
    live
}

#[test]
fn an_object_needs_applying_once_and_when_git_changes() {
    let now = Instant::now();
    assert_eq!(Live::default().need(&id(), &GIT, now), Need::First);
    let live = applied_at(5);
    assert_eq!(live.need(&id(), &GIT, now), Need::Nothing);
    assert_eq!(live.need(&id(), &[2; 16], now), Need::Changed);
}

#[test]
fn losing_a_field_is_drift_and_gaining_a_foreign_one_is_not() {
    let live = applied_at(5);
    let same = metadata(6, &json!({ "f:data": {} }));
    assert_eq!(live.seen(&id(), &same, Presence::Present), None);
    assert_eq!(live.need(&id(), &GIT, Instant::now()), Need::Nothing);
    let lost = metadata(7, &json!({}));
    assert_eq!(
        live.seen(&id(), &lost, Presence::Present),
        Some(Look::Now(Arc::new(owner_of_all())))
    );
    let Need::Drifted(drift) = live.need(&id(), &GIT, Instant::now()) else {
        panic!("it drifted");
    };
    let writer = drift.writer.unwrap();
    assert_eq!((&*writer.manager, &*writer.operation), ("kubectl-edit", "Update"));
    assert_eq!(drift.left, json!({}));
}

#[test]
fn what_is_waited_for_is_looked_at_in_a_moment_and_drift_at_once() {
    let live = applied_at(5);
    live.await_status(&id(), true);
    let status = metadata(6, &json!({ "f:data": {} }));
    assert_eq!(
        live.seen(&id(), &status, Presence::Present),
        Some(Look::Soon(Arc::new(owner_of_all())))
    );
    let lost = metadata(7, &json!({}));
    assert_eq!(
        live.seen(&id(), &lost, Presence::Present),
        Some(Look::Now(Arc::new(owner_of_all())))
    );
}

#[test]
fn events_older_than_our_apply_say_nothing() {
    let live = applied_at(5);
    assert_eq!(
        live.seen(&id(), &metadata(4, &json!({})), Presence::Present),
        None
    );
    assert_eq!(live.need(&id(), &GIT, Instant::now()), Need::Nothing);
}

#[test]
fn events_during_an_apply_are_judged_at_its_end() {
    let live = applied_at(5);
    live.begin(&id(), &owner_of_all());
    assert_eq!(
        live.seen(&id(), &metadata(9, &json!({})), Presence::Present),
        None
    );
    assert!(live.applied(&id(), GIT, &metadata(8, &json!({ "f:data": {} })), Instant::now()));
}

#[test]
fn a_deleted_object_is_missing_also_when_only_a_new_list_tells() {
    let live = applied_at(5);
    assert_eq!(
        live.seen(&id(), &metadata(6, &json!({})), Presence::Gone),
        Some(Look::Now(Arc::new(owner_of_all())))
    );
    assert_eq!(live.need(&id(), &GIT, Instant::now()), Need::Missing);

    let live = applied_at(5);
    let later = Instant::now() + Duration::from_secs(1);
    assert_eq!(live.listed("", "ConfigMap", later, &|_| true), HashSet::new());
    assert_eq!(live.listed("", "Secret", later, &|_| false), HashSet::new());
    assert_eq!(
        live.listed("", "ConfigMap", later, &|_| false),
        HashSet::from([Arc::new(owner_of_all())])
    );
    assert_eq!(live.need(&id(), &GIT, Instant::now()), Need::Missing);
}

#[test]
fn a_failure_waits_for_its_time_or_for_other_content() {
    let live = applied_at(5);
    let now = Instant::now();
    live.failed(&id(), [2; 16], "no".into(), now, |_| Duration::from_mins(1));
    assert!(matches!(live.need(&id(), &[2; 16], now), Need::Failed(..)));
    assert_eq!(
        live.need(&id(), &[2; 16], now + Duration::from_mins(2)),
        Need::Changed
    );
    assert_eq!(live.need(&id(), &[3; 16], now), Need::Changed);
    live.retry_now(&owner_of_all());
    assert_eq!(live.need(&id(), &[2; 16], now), Need::Changed);
}

#[test]
fn what_is_changed_again_and_again_is_left_alone_for_a_while() {
    let live = applied_at(5);
    let now = Instant::now();
    for _ in 0..FLAP_LIMIT {
        live.corrected(&id(), now);
    }
    live.seen(&id(), &metadata(7, &json!({})), Presence::Present);
    assert!(matches!(live.need(&id(), &GIT, now), Need::Flapping(_)));
    assert!(matches!(
        live.need(&id(), &GIT, now + FLAP_WINDOW * 2),
        Need::Drifted(_)
    ));
}
