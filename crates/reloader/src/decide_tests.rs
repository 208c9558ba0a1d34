use std::collections::BTreeMap;

use k8s_openapi::api::{apps::v1::Deployment, batch::v1::CronJob};
use serde_json::{Value, json};

use super::*;
use crate::{
    digest::Keyer,
    kinds::Rollable,
    source::SourceKind,
    workload::{Reading, Workload},
};

fn keyer() -> Keyer {
    Keyer::new(&[1; 32])
}

fn content(text: &str) -> Content {
    let mut digest = keyer().content(SourceKind::ConfigMap);
    digest.entry("data", "key", text.as_bytes());
    let data = BTreeMap::from([("key".to_owned(), text.to_owned())]);
    Content {
        digest: digest.finish(),
        sha1: Sha1::of_config_map(Some(&data), None),
        since: None,
        born: false,
    }
}

fn app() -> SourceKey {
    SourceKey::new(SourceKind::ConfigMap, "app")
}

fn seen(text: &str) -> Seen {
    Seen::Content(content(text).digest)
}

fn baseline(entries: &[(&str, Seen)]) -> Baseline {
    Baseline {
        sources: entries
            .iter()
            .map(|(key, seen)| (key.parse().unwrap(), *seen))
            .collect(),
        merged: None,
    }
}

fn read<K: Rollable>(object: Value) -> Workload {
    let object: K = serde_json::from_value(object).unwrap();
    Workload::read(&object, &Reading::default()).unwrap()
}

fn workload(state: Option<Baseline>) -> Workload {
    let container = json!({"name": "a", "envFrom": [{"configMapRef": {"name": "app"}}]});
    let mut workload = read::<Deployment>(json!({
        "metadata": {"name": "web", "namespace": "shop", "uid": "u1"},
        "spec": {"selector": {}, "template": {"spec": {"containers": [container]}}},
    }));
    workload.baseline = state;
    workload
}

fn depends(source: &str, presence: Presence) -> Dependency {
    Dependency {
        source: source.parse().unwrap(),
        entry: source.parse().unwrap(),
        presence,
        cause: Cause::Auto,
    }
}

fn plan(workload: &Workload, presence: Presence, settings: &Settings) -> Plan {
    let dependencies = vec![depends("cm/app", presence)];
    decide(
        &Observed {
            workload,
            dependencies,
            rolled: &[],
        },
        settings,
    )
}

fn settings() -> Settings {
    Settings::default()
}

fn rolled(plan: &Plan) -> Vec<String> {
    match plan {
        Plan::Roll { changes, .. } => changes.iter().map(|change| change.source.to_string()).collect(),
        _ => Vec::new(),
    }
}

#[test]
fn without_state_it_is_adopted() {
    let plan = plan(&workload(None), Presence::Present(content("v1")), &settings());
    let baseline = baseline(&[("cm/app", seen("v1"))]);
    assert_eq!(
        plan,
        Plan::Record {
            baseline,
            why: Recorded::Adopted,
            stale: vec![]
        }
    );
}

#[test]
fn equal_content_is_nothing_and_different_content_rolls() {
    let workload = workload(Some(baseline(&[("cm/app", seen("v1"))])));
    assert_eq!(
        plan(&workload, Presence::Present(content("v1")), &settings()),
        Plan::Nothing
    );
    let Plan::Roll {
        baseline: next,
        changes,
    } = plan(&workload, Presence::Present(content("v2")), &settings())
    else {
        panic!("not rolled")
    };
    assert_eq!(next, baseline(&[("cm/app", seen("v2"))]));
    assert_eq!(
        changes,
        [Change {
            source: app(),
            seen: seen("v2"),
            sha1: content("v2").sha1
        }]
    );
}

#[test]
fn a_source_that_is_new_to_the_workload_is_only_recorded() {
    let workload = workload(Some(baseline(&[])));
    let plan = plan(&workload, Presence::Present(content("v1")), &settings());
    let baseline = baseline(&[("cm/app", seen("v1"))]);
    assert_eq!(
        plan,
        Plan::Record {
            baseline,
            why: Recorded::Tracked,
            stale: vec![]
        }
    );
}

#[test]
fn deletion_is_forgiven_when_the_same_content_comes_back() {
    let workload = workload(Some(baseline(&[("cm/app", seen("v1"))])));
    assert_eq!(plan(&workload, Presence::Missing, &settings()), Plan::Nothing);
    assert_eq!(
        plan(&workload, Presence::Present(content("v1")), &settings()),
        Plan::Nothing
    );
    assert_eq!(
        rolled(&plan(&workload, Presence::Present(content("v2")), &settings())),
        ["cm/app"]
    );
}

#[test]
fn reload_on_delete_rolls_once_with_stakaters_marker() {
    let on_delete = Settings {
        on_delete: true,
        ..settings()
    };
    let Plan::Roll {
        baseline: next,
        changes,
    } = plan(
        &workload(Some(baseline(&[("cm/app", seen("v1"))]))),
        Presence::Missing,
        &on_delete,
    )
    else {
        panic!("not rolled")
    };
    assert_eq!(next, baseline(&[("cm/app", Seen::Absent)]));
    assert_eq!(changes[0].sha1, Sha1::of_deleted());
    let after = workload(Some(next));
    assert_eq!(plan(&after, Presence::Missing, &on_delete), Plan::Nothing);
    assert_eq!(
        rolled(&plan(&after, Presence::Present(content("v1")), &on_delete)),
        ["cm/app"]
    );
}

#[test]
fn reload_on_create_remembers_what_was_missing() {
    let on_create = Settings {
        on_create: true,
        ..settings()
    };
    let Plan::Record { baseline: next, .. } = plan(&workload(None), Presence::Missing, &on_create) else {
        panic!("not recorded")
    };
    assert_eq!(next, baseline(&[("cm/app", Seen::Absent)]));
    assert_eq!(
        rolled(&plan(
            &workload(Some(next)),
            Presence::Present(content("v1")),
            &on_create
        )),
        ["cm/app"]
    );
}

#[test]
fn without_reload_on_create_a_missing_source_leaves_no_trace() {
    let adopted = plan(&workload(None), Presence::Missing, &settings());
    assert_eq!(
        adopted,
        Plan::Record {
            baseline: baseline(&[]),
            why: Recorded::Adopted,
            stale: vec![]
        }
    );
}

#[test]
fn reload_on_create_rolls_for_a_named_source_that_is_born() {
    let on_create = Settings {
        on_create: true,
        ..settings()
    };
    let born = Presence::Present(Content {
        born: true,
        ..content("v1")
    });
    let adopted = workload(Some(baseline(&[])));
    assert_eq!(rolled(&plan(&adopted, born, &on_create)), ["cm/app"]);
    assert!(matches!(plan(&adopted, born, &settings()), Plan::Record { .. }));
    assert!(matches!(
        plan(&workload(None), born, &on_create),
        Plan::Record { .. }
    ));
    assert!(matches!(
        plan(&adopted, Presence::Present(content("v1")), &on_create),
        Plan::Record { .. }
    ));
}

#[test]
fn what_cannot_be_read_is_not_decided_on_and_not_forgotten() {
    let both = Settings {
        on_create: true,
        on_delete: true,
        ..settings()
    };
    let state = baseline(&[("cm/app", seen("v1"))]);
    assert_eq!(
        plan(&workload(Some(state.clone())), Presence::Unknown, &both),
        Plan::Nothing
    );
    let dependencies = vec![
        depends("cm/app", Presence::Unknown),
        depends("sec/db", Presence::Present(content("v1"))),
    ];
    let workload = workload(Some(state));
    let Plan::Record { baseline: next, .. } = decide(
        &Observed {
            workload: &workload,
            dependencies,
            rolled: &[],
        },
        &both,
    ) else {
        panic!("not recorded")
    };
    assert_eq!(next, baseline(&[("cm/app", seen("v1")), ("sec/db", seen("v1"))]));
}

#[test]
fn several_sources_are_one_rollout() {
    let workload = workload(Some(baseline(&[("cm/app", seen("v1")), ("sec/db", seen("v1"))])));
    let dependencies = vec![
        depends("cm/app", Presence::Present(content("v2"))),
        depends("sec/db", Presence::Present(content("v3"))),
    ];
    let plan = decide(
        &Observed {
            workload: &workload,
            dependencies,
            rolled: &[],
        },
        &settings(),
    );
    assert_eq!(rolled(&plan), ["cm/app", "sec/db"]);
}

#[test]
fn a_dropped_reference_is_forgotten_with_the_next_write_only() {
    let state = baseline(&[("cm/app", seen("v1")), ("cm/old", seen("v1"))]);
    let workload = workload(Some(state));
    assert_eq!(
        plan(&workload, Presence::Present(content("v1")), &settings()),
        Plan::Nothing
    );
    let Plan::Roll { baseline: next, .. } = plan(&workload, Presence::Present(content("v2")), &settings())
    else {
        panic!("not rolled")
    };
    assert_eq!(next, baseline(&[("cm/app", seen("v2"))]));
}

#[test]
fn a_rollout_by_the_owner_after_the_change_absorbs_it() {
    let at = |since| {
        Presence::Present(Content {
            since,
            ..content("v2")
        })
    };
    let mut workload = workload(Some(baseline(&[("cm/app", seen("v1"))])));
    for (template, source, absorbed) in [
        (Some(11), Some(10), true),
        (Some(9), Some(10), false),
        (None, Some(10), false),
        (Some(11), None, false),
    ] {
        workload.template_since = template;
        let plan = plan(&workload, at(source), &settings());
        assert_eq!(
            matches!(
                plan,
                Plan::Record {
                    why: Recorded::Absorbed,
                    ..
                }
            ),
            absorbed,
            "{template:?} {source:?}"
        );
        assert_eq!(matches!(plan, Plan::Roll { .. }), !absorbed);
    }
}

#[test]
fn a_suspended_cron_job_is_left_alone() {
    let mut workload = read::<CronJob>(json!({
        "metadata": {"name": "c", "namespace": "shop", "uid": "u1"},
        "spec": {"schedule": "* * * * *", "suspend": true, "jobTemplate": {"spec": {"template": {"spec":
            {"containers": [{"name": "a", "envFrom": [{"configMapRef": {"name": "app"}}]}]}}}}},
    }));
    workload.baseline = Some(baseline(&[("cm/app", seen("v1"))]));
    let plan = plan(&workload, Presence::Present(content("v2")), &settings());
    assert_eq!(
        plan,
        Plan::Record {
            baseline: baseline(&[("cm/app", seen("v2"))]),
            why: Recorded::Suspended,
            stale: vec![]
        }
    );
}

#[test]
fn a_flapping_workload_is_held_until_the_window_is_over() {
    let flap = Flap {
        limit: 3,
        window: Duration::from_mins(1),
    };
    let settings = Settings { flap, ..settings() };
    let workload = workload(Some(baseline(&[("cm/app", seen("v1"))])));
    let after = |rolled: &[u64]| {
        let rolled: Vec<_> = rolled.iter().copied().map(Duration::from_secs).collect();
        let dependencies = vec![depends("cm/app", Presence::Present(content("v2")))];
        decide(
            &Observed {
                workload: &workload,
                dependencies,
                rolled: &rolled,
            },
            &settings,
        )
    };
    assert!(matches!(after(&[1, 2]), Plan::Roll { .. }));
    assert!(matches!(after(&[1, 2, 61]), Plan::Roll { .. }));
    let Plan::Hold { wait, .. } = after(&[1, 2, 20]) else {
        panic!("not held")
    };
    assert_eq!(wait, Duration::from_secs(40));
}

fn taken_over(template: &Value) -> Workload {
    read::<Deployment>(json!({
        "metadata": {"name": "web", "namespace": "shop", "uid": "u1"},
        "spec": {"selector": {}, "template": template},
    }))
}

fn with_variable(value: &str) -> Workload {
    taken_over(&json!({"spec": {"containers": [{
        "name": "a", "envFrom": [{"configMapRef": {"name": "app"}}],
        "env": [{"name": "STAKATER_APP_CONFIGMAP", "value": value}]}]}}))
}

#[test]
fn stakaters_variable_is_a_baseline_that_is_checked() {
    let present = Presence::Present(content("v1"));
    let stale = |workload: &Workload, settings: &Settings| match plan(workload, present, settings) {
        Plan::Record {
            why: Recorded::Adopted,
            stale,
            ..
        } => stale.len(),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        stale(
            &with_variable("f13ef89ed63c4502ee0823d85edd08d736f51300"),
            &settings()
        ),
        0
    );
    assert_eq!(
        stale(
            &with_variable("6b3093988321555757cc9b88a5f2d59101a0261c"),
            &settings()
        ),
        1
    );
    // 128 digits are another algorithm's: nothing to compare.
    assert_eq!(stale(&with_variable(&"ab".repeat(64)), &settings()), 0);
    let roll = Settings {
        roll_stale: true,
        ..settings()
    };
    let old = with_variable("6b3093988321555757cc9b88a5f2d59101a0261c");
    assert_eq!(rolled(&plan(&old, present, &roll)), ["cm/app"]);
}

#[test]
fn stakaters_annotation_is_a_baseline_that_is_checked() {
    let with = |hash: &str| {
        let last = json!({"type": "CONFIGMAP", "name": "app", "namespace": "shop", "hash": hash,
            "containerRefs": ["a"], "observedAt": 1});
        taken_over(&json!({
            "metadata": {"annotations": {"reloader.stakater.com/last-reloaded-from": last.to_string()}},
            "spec": {"containers": [{"name": "a", "envFrom": [{"configMapRef": {"name": "app"}}]}]}}))
    };
    let dependencies = [depends("cm/app", Presence::Present(content("v1")))];
    assert_eq!(
        stale_sources(&with("f13ef89ed63c4502ee0823d85edd08d736f51300"), &dependencies),
        []
    );
    assert_eq!(
        stale_sources(&with("6b3093988321555757cc9b88a5f2d59101a0261c"), &dependencies),
        [app()]
    );
}

#[test]
fn a_variable_shared_by_two_sources_is_good_for_both() {
    let workload = taken_over(&json!({"spec": {"containers": [{
        "name": "a", "env": [{"name": "STAKATER_A_B_CONFIGMAP", "value": content("v1").sha1.to_string()}]}]}}));
    let dependencies = [
        depends("cm/a.b", Presence::Present(content("v1"))),
        depends("cm/a-b", Presence::Present(content("v2"))),
    ];
    assert_eq!(stale_sources(&workload, &dependencies), []);
}
