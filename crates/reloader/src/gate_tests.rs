use k8s_openapi::api::apps::v1::Deployment;
use serde_json::json;

use super::*;
use crate::{
    annotations::Marks,
    digest::{Digest, Keyer},
    index::{News, Scope, SeenSource},
    keys,
    kinds::WorkloadKind,
    source::{SourceKey, SourceKind},
    stakater::Sha1,
    state::Baseline,
    workload::Reading,
};

const NOW: &str = "2026-11-23T12:00:00Z";

fn digest(text: &str) -> Digest {
    let mut content = Keyer::new(&[1; 32]).content(SourceKind::ConfigMap);
    content.entry("data", "key", text.as_bytes());
    content.finish()
}

fn app() -> SourceKey {
    SourceKey::new(SourceKind::ConfigMap, "app")
}

// A Deployment that was rolled by us at NOW and whose pods have this content of `app`.
fn deployment(name: &str, has: &str, annotations: &[(&str, &str)], progress: Progress) -> Workload {
    let mut all = serde_json::Map::new();
    all.insert("reloader.stakater.com/auto".into(), "true".into());
    let last = json!({"count": 1, "at": NOW, "sources": ["cm/app"]}).to_string();
    all.insert(keys::LAST_TRIGGER.into(), last.into());
    for (key, value) in annotations {
        all.insert((*key).into(), (*value).into());
    }
    let object: Deployment = serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "shop", "uid": name, "annotations": all},
        "spec": {"selector": {}, "template": {"spec": {"containers": [
            {"name": "a", "envFrom": [{"configMapRef": {"name": "app"}}]}]}}},
    }))
    .unwrap();
    let mut workload = Workload::read(&object, &Reading::default()).unwrap();
    workload.baseline = Some(Baseline {
        sources: [(app(), Seen::Content(digest(has)))].into(),
        merged: None,
    });
    workload.progress = progress;
    workload
}

// What the gate says to the first of these, when `app` has just become "new".
fn gate(workloads: &[Workload], cap: Cap, halt: bool) -> Gate {
    let mut index = Index::new(false);
    index.put_source(
        SeenSource {
            namespace: "shop".into(),
            key: app(),
            digest: digest("new"),
            sha1: Sha1::of(b"new"),
            keys: Box::default(),
            marks: Marks::default(),
            version: 1,
        },
        News::Happened,
    );
    let scope = Scope {
        kind: SourceKind::ConfigMap,
        namespace: None,
        name: None,
    };
    index.listed_sources(scope, &[("shop".to_owned(), "app".to_owned())].into());
    for workload in workloads {
        index.put_workload(workload.clone(), News::Listed);
    }
    let change = Change {
        source: app(),
        seen: Seen::Content(digest("new")),
        sha1: Sha1::of(b"new"),
    };
    let fan = Fan {
        index: &index,
        rolling: &HashSet::new(),
        settings: &Settings::default(),
        cap,
        halt,
        now: NOW.parse().unwrap(),
    };
    fan.gate(&workloads[0], &[change])
}

fn key(name: &str) -> WorkloadKey {
    WorkloadKey {
        namespace: "shop".into(),
        kind: WorkloadKind::Deployment,
        name: name.into(),
    }
}

const WEB: &str = "web";
const AFTER_DB: (&str, &str) = (keys::AFTER, "deployment/db");
const CANARY: (&str, &str) = (keys::CANARY, "true");

#[test]
fn without_wishes_and_caps_it_is_open() {
    let web = deployment(WEB, "old", &[], Progress::Done);
    let other = deployment("other", "new", &[], Progress::Running);
    assert_eq!(gate(&[web, other], Cap::default(), false), Gate::Open);
}

#[test]
fn rollouts_in_progress_fill_the_cap() {
    let web = deployment(WEB, "old", &[], Progress::Done);
    let other = deployment("other", "new", &[], Progress::Running);
    let cap = |overall, per_namespace| Cap {
        overall,
        per_namespace,
    };
    assert_eq!(gate(&[web.clone(), other.clone()], cap(1, 0), false), Gate::Full);
    assert_eq!(gate(&[web.clone(), other.clone()], cap(0, 1), false), Gate::Full);
    assert_eq!(gate(&[web, other], cap(2, 2), false), Gate::Open);
}

#[test]
fn it_comes_after_those_it_names() {
    let web = deployment(WEB, "old", &[AFTER_DB], Progress::Done);
    let waits = Gate::Before([key("db")].into());
    for (has, progress, expected) in [
        ("old", Progress::Done, &waits),
        ("new", Progress::Running, &waits),
        ("new", Progress::Failed, &waits),
        ("new", Progress::Done, &Gate::Open),
    ] {
        let db = deployment("db", has, &[], progress);
        assert_eq!(
            &gate(&[web.clone(), db], Cap::default(), false),
            expected,
            "{has} {progress:?}"
        );
    }
    assert_eq!(gate(&[web], Cap::default(), false), Gate::Open, "there is no db");
}

#[test]
fn a_circle_is_told_and_holds_nobody() {
    let web = deployment(WEB, "old", &[AFTER_DB], Progress::Done);
    let db = deployment("db", "old", &[(keys::AFTER, "deployment/web")], Progress::Done);
    assert_eq!(
        gate(&[web, db], Cap::default(), false),
        Gate::Circle(vec![key(WEB), key("db")])
    );
    let own = deployment(WEB, "old", &[(keys::AFTER, "deployment/web")], Progress::Done);
    assert_eq!(gate(&[own], Cap::default(), false), Gate::Circle(vec![key(WEB)]));
}

#[test]
fn a_canary_goes_first() {
    let web = deployment(WEB, "old", &[], Progress::Done);
    let canary = |has, progress| deployment("canary", has, &[CANARY], progress);
    let waits = Gate::Before([key("canary")].into());
    let of = |canary: Workload| gate(&[web.clone(), canary], Cap::default(), false);
    assert_eq!(of(canary("old", Progress::Done)), waits);
    assert_eq!(of(canary("new", Progress::Running)), waits);
    assert_eq!(of(canary("new", Progress::Done)), Gate::Open);
    assert_eq!(of(canary("new", Progress::Failed)), Gate::Halted(key("canary")));
    let first = canary("old", Progress::Done);
    assert_eq!(gate(&[first, web], Cap::default(), false), Gate::Open);
}

#[test]
fn a_failed_rollout_of_the_same_content_halts_if_asked_to() {
    let web = deployment(WEB, "old", &[], Progress::Done);
    let failed = |has| deployment("failed", has, &[], Progress::Failed);
    let of = |failed: Workload, halt| gate(&[web.clone(), failed], Cap::default(), halt);
    assert_eq!(of(failed("new"), true), Gate::Halted(key("failed")));
    assert_eq!(of(failed("new"), false), Gate::Open);
    assert_eq!(
        of(failed("old"), true),
        Gate::Open,
        "it failed with other content"
    );
}

#[test]
fn a_window_is_waited_for() {
    let with = |window| deployment(WEB, "old", &[(keys::WINDOW, window)], Progress::Done);
    let of = |window| gate(&[with(window)], Cap::default(), false);
    assert_eq!(of("11:00-13:00"), Gate::Open);
    assert_eq!(of("13:00-14:00"), Gate::Window(Duration::from_hours(1)));
    assert!(matches!(of("later"), Gate::Unreadable(_)));
}
