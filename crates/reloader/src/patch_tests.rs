use k8s_openapi::api::apps::v1::Deployment;

use super::*;
use crate::{
    owned::MANAGER,
    source::{SourceKey, SourceKind},
    stakater::Sha1,
    workload::Reading,
};

fn workload(object: Value) -> Workload {
    let mut full = json!({
        "metadata": {"name": "web", "namespace": "shop", "uid": "u1"},
        "spec": {"selector": {}, "template": {"spec": {"containers": [
            {"name": "a"}, {"name": "b", "envFrom": [{"configMapRef": {"name": "app"}}]}]}}},
    });
    merge(&mut full, object);
    let object: Deployment = serde_json::from_value(full).unwrap();
    Workload::read(&object, &Reading::default()).unwrap()
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

fn change(name: &str, content: &str) -> Change {
    let source = SourceKey::new(SourceKind::ConfigMap, name);
    let mut digest = keyer().content(SourceKind::ConfigMap);
    digest.entry("data", "key", content.as_bytes());
    Change {
        source,
        seen: Seen::Content(digest.finish()),
        sha1: Sha1::of(content.as_bytes()),
    }
}

fn keyer() -> Keyer {
    Keyer::new(&[1; 32])
}

fn roll(workload: &Workload, strategy: Strategy, changes: &[Change]) -> Value {
    let baseline = Baseline {
        merged: None,
        sources: changes
            .iter()
            .map(|change| (change.source.clone(), change.seen))
            .collect(),
    };
    let now = Timestamp::from_second(1_700_000_000).unwrap();
    let writing = Writing {
        prune: false,
        keyer: &keyer(),
        strategy,
        now,
        paused_at: "paused-at",
    };
    writing.roll(workload, &baseline, changes, Beside::Nothing)
}

#[test]
fn annotations_change_one_hash_and_stakaters_record() {
    let body = roll(
        &workload(json!({})),
        Strategy::Annotations,
        &[change("app", "v1")],
    );
    assert_eq!(body["metadata"]["uid"], "u1");
    let annotations = &body["spec"]["template"]["metadata"]["annotations"];
    assert_eq!(annotations[keys::CONFIG_HASH].as_str().map(str::len), Some(22));
    let last: LastReloadedFrom =
        serde_json::from_str(annotations[keys::LAST_RELOADED_FROM].as_str().unwrap()).unwrap();
    assert_eq!(
        (last.container_refs, last.observed_at),
        (vec!["b".to_owned()], 1_700_000_000)
    );
    assert_eq!(last.hash, Sha1::of(b"v1").to_string());
    assert!(body["spec"]["template"]["spec"].is_null());
    let state = body["metadata"]["annotations"][keys::SOURCES].as_str().unwrap();
    assert!(
        state.starts_with(&format!("v1:{}:{{\"cm/app\":", keyer().id())),
        "{state}"
    );
    assert_eq!(
        body["metadata"]["annotations"][keys::LAST_TRIGGER],
        r#"{"count":1,"at":"2023-11-14T22:13:20Z","sources":["cm/app"]}"#
    );
}

#[test]
fn env_vars_change_exactly_one_container() {
    let body = roll(&workload(json!({})), Strategy::EnvVars, &[change("app", "v1")]);
    let expected = json!({"spec": {"containers": [{"name": "b", "env": [
        {"name": "STAKATER_APP_CONFIGMAP", "value": Sha1::of(b"v1").to_string()}]}]}});
    assert_eq!(body["spec"]["template"], expected);
    let body = roll(
        &workload(json!({})),
        Strategy::EnvVars,
        &[change("unreferenced", "v1")],
    );
    assert_eq!(body["spec"]["template"]["spec"]["containers"][0]["name"], "a");
}

fn marked(value: &str, manager: &str) -> Workload {
    workload(json!({
        "metadata": {"managedFields": [{"manager": manager, "operation": "Apply", "fieldsType": "FieldsV1",
            "fieldsV1": {"f:spec": {"f:template": {"f:spec": {"f:containers":
                {"k:{\"name\":\"b\"}": {"f:env": {"k:{\"name\":\"STAKATER_APP_CONFIGMAP\"}": {}}}}}}}}}]},
        "spec": {"template": {"spec": {"containers": [{"name": "a"}, {"name": "b",
            "envFrom": [{"configMapRef": {"name": "app"}}, {"configMapRef": {"name": "other"}}],
            "env": [{"name": "STAKATER_APP_CONFIGMAP", "value": value}]}]}}},
    }))
}

#[test]
fn our_standing_variables_are_stated_again_and_others_are_not() {
    let other = [change("other", "v1")];
    let body = roll(&marked("old", MANAGER), Strategy::EnvVars, &other);
    let env = &body["spec"]["template"]["spec"]["containers"][0]["env"];
    assert_eq!(env[0], json!({"name": "STAKATER_APP_CONFIGMAP", "value": "old"}));
    assert_eq!(env[1]["name"], "STAKATER_OTHER_CONFIGMAP");
    let body = roll(&marked("old", "someone"), Strategy::EnvVars, &other);
    let env = &body["spec"]["template"]["spec"]["containers"][0]["env"];
    assert_eq!(env.as_array().map(Vec::len), Some(1));
}

#[test]
fn containers_are_stated_in_their_own_order() {
    // `app` is used by the second container, and the state's order puts it first.
    let changes = [change("app", "v1"), change("unreferenced", "v1")];
    let body = roll(&workload(json!({})), Strategy::EnvVars, &changes);
    let containers = body["spec"]["template"]["spec"]["containers"].as_array().unwrap();
    let names: Vec<_> = containers.iter().map(|container| &container["name"]).collect();
    assert_eq!(names, ["a", "b"]);
}

#[test]
fn recording_the_state_leaves_the_template_as_it_is() {
    let writing = Writing {
        prune: false,
        keyer: &keyer(),
        strategy: Strategy::EnvVars,
        now: Timestamp::UNIX_EPOCH,
        paused_at: "paused-at",
    };
    let body = writing.record(&marked("old", MANAGER), &Baseline::default());
    let env = &body["spec"]["template"]["spec"]["containers"][0]["env"];
    assert_eq!(env, &json!([{"name": "STAKATER_APP_CONFIGMAP", "value": "old"}]));
    assert!(writing.record(&workload(json!({})), &Baseline::default())["spec"].is_null());
}

#[test]
fn a_variable_that_stays_the_same_still_rolls() {
    let value = Sha1::of(b"v1").to_string();
    let body = roll(
        &marked(&value, MANAGER),
        Strategy::EnvVars,
        &[change("app", "v1")],
    );
    assert!(body["spec"]["template"]["metadata"]["annotations"][keys::CONFIG_HASH].is_string());
}

#[test]
fn the_variable_of_a_deleted_source_goes() {
    let gone = Change {
        seen: Seen::Absent,
        sha1: Sha1::of_deleted(),
        ..change("app", "")
    };
    let body = roll(
        &marked("old", MANAGER),
        Strategy::EnvVars,
        std::slice::from_ref(&gone),
    );
    assert!(body["spec"]["template"].is_null() || body["spec"]["template"]["spec"].is_null());
    assert!(
        body["spec"]["template"]["metadata"].is_null(),
        "removing the variable rolls it already"
    );
    let body = roll(&workload(json!({})), Strategy::EnvVars, &[gone]);
    assert!(body["spec"]["template"]["metadata"]["annotations"][keys::CONFIG_HASH].is_string());
}
