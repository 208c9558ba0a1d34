use k8s_openapi::api::apps::v1::Deployment;
use serde_json::json;

use super::*;
use crate::{decide::Presence, digest::Keyer, workload::Reading};

fn deployment(name: &str, annotations: &[(&str, &str)], image: &str, version: u64) -> Workload {
    let annotations: BTreeMap<_, _> = annotations.iter().copied().collect();
    let object: Deployment = serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "shop", "uid": name, "annotations": annotations,
            "resourceVersion": version.to_string()},
        "spec": {"selector": {}, "template": {"spec": {"containers": [
            {"name": "a", "image": image, "envFrom": [{"configMapRef": {"name": "app"}}]}]}}},
    }))
    .unwrap();
    Workload::read(&object, &Reading::default()).unwrap()
}

fn source(name: &str, content: &str, version: u64) -> SeenSource {
    let mut digest = Keyer::new(&[1; 32]).content(SourceKind::ConfigMap);
    digest.entry("data", "key", content.as_bytes());
    SeenSource {
        namespace: "shop".into(),
        key: SourceKey::new(SourceKind::ConfigMap, name),
        digest: digest.finish(),
        sha1: Sha1::of(content.as_bytes()),
        keys: Box::default(),
        marks: Marks::default(),
        version,
    }
}

const AUTO: (&str, &str) = ("reloader.stakater.com/auto", "true");
const NAMED: (&str, &str) = ("configmap.reloader.stakater.com/reload", "app-.*,extra");

fn names(keys: &[WorkloadKey]) -> Vec<&str> {
    keys.iter().map(|key| key.name.as_str()).collect()
}

fn scope<K>(kind: K) -> Scope<K> {
    Scope {
        kind,
        namespace: None,
        name: None,
    }
}

#[test]
fn a_source_wakes_those_who_use_it_and_no_others() {
    let mut index = Index::new(false);
    assert!(index.put_workload(deployment("auto", &[AUTO], "v1", 1), News::Listed));
    assert!(index.put_workload(deployment("named", &[NAMED], "v1", 1), News::Listed));
    assert!(!index.put_workload(deployment("plain", &[], "v1", 1), News::Listed));
    assert_eq!(
        names(&index.put_source(source("app", "1", 2), News::Happened)),
        ["auto", "named"]
    );
    assert_eq!(
        names(&index.put_source(source("app-1", "1", 2), News::Happened)),
        ["named"]
    );
    assert_eq!(
        names(&index.put_source(source("extra", "1", 2), News::Happened)),
        ["named"]
    );
    assert_eq!(
        names(&index.put_source(source("other", "1", 2), News::Happened)),
        [""; 0]
    );
    assert_eq!(
        names(&index.put_source(source("app", "1", 3), News::Happened)),
        [""; 0],
        "nothing changed"
    );
    assert_eq!(
        names(&index.remove_source("shop", &source("app", "", 0).key)),
        ["auto", "named"]
    );
    assert_eq!(
        names(&index.remove_source("shop", &source("app", "", 0).key)),
        [""; 0]
    );
}

#[test]
fn a_workload_that_opts_out_is_forgotten() {
    let mut index = Index::new(false);
    index.put_workload(deployment("web", &[AUTO], "v1", 1), News::Listed);
    index.put_workload(deployment("web", &[], "v1", 2), News::Happened);
    assert_eq!(index.workloads().count(), 0);
    assert!(index.put_source(source("app", "1", 3), News::Happened).is_empty());
}

#[test]
fn what_is_not_listed_is_unknown_and_not_missing() {
    let mut index = Index::new(false);
    let web = deployment("web", &[AUTO], "v1", 1);
    index.put_workload(web.clone(), News::Listed);
    let presence = |index: &Index| {
        index
            .dependencies(&web)
            .into_iter()
            .map(|d| d.presence)
            .collect::<Vec<_>>()
    };
    assert_eq!(presence(&index), [Presence::Unknown]);
    index.listed_sources(scope(SourceKind::Secret), &HashSet::new());
    assert_eq!(presence(&index), [Presence::Unknown]);
    index.listed_sources(scope(SourceKind::ConfigMap), &HashSet::new());
    assert_eq!(presence(&index), [Presence::Missing]);
    index.put_source(source("app", "1", 3), News::Happened);
    assert!(matches!(
        presence(&index)[..],
        [Presence::Present(Content {
            born: true,
            since: Some(3),
            ..
        })]
    ));
}

#[test]
fn a_new_list_removes_what_it_does_not_contain() {
    let mut index = Index::new(false);
    index.put_workload(deployment("web", &[AUTO], "v1", 1), News::Listed);
    index.put_source(source("app", "1", 3), News::Listed);
    index.put_source(source("kept", "1", 3), News::Listed);
    let kept = HashSet::from([("shop".to_owned(), "kept".to_owned())]);
    assert_eq!(
        names(&index.listed_sources(scope(SourceKind::ConfigMap), &kept)),
        ["web"]
    );
    assert_eq!(index.source_count(), 1);
    index.listed_workloads(&scope(WorkloadKind::StatefulSet), &HashSet::new());
    assert_eq!(index.workloads().count(), 1);
    index.listed_workloads(&scope(WorkloadKind::Deployment), &HashSet::new());
    assert_eq!(index.workloads().count(), 0);
}

#[test]
fn the_version_of_a_template_is_known_only_when_its_change_was_seen() {
    let mut index = Index::new(false);
    let mut since = |workload: Workload, news| {
        let key = workload.key.clone();
        index.put_workload(workload, news);
        index.workload(&key).unwrap().template_since
    };
    assert_eq!(since(deployment("web", &[AUTO], "v1", 10), News::Listed), None);
    assert_eq!(since(deployment("web", &[AUTO], "v1", 11), News::Happened), None);
    assert_eq!(
        since(deployment("web", &[AUTO], "v2", 12), News::Happened),
        Some(12)
    );
    assert_eq!(
        since(deployment("web", &[AUTO], "v2", 13), News::Happened),
        Some(12)
    );
    assert_eq!(since(deployment("web", &[AUTO], "v3", 14), News::Listed), None);
}

#[test]
fn an_event_older_than_our_own_write_is_ignored() {
    let mut index = Index::new(false);
    index.put_workload(deployment("web", &[AUTO], "v2", 20), News::Happened);
    assert!(!index.put_workload(deployment("web", &[AUTO], "v1", 19), News::Happened));
    assert_eq!(index.workloads().next().unwrap().version, 20);
}

#[test]
fn namespaces_can_be_selected_at_run_time() {
    let mut index = Index::new(false);
    index.put_workload(deployment("web", &[AUTO], "v1", 1), News::Listed);
    assert!(index.allows("shop"));
    assert!(index.select(HashSet::new()).is_empty());
    assert!(!index.allows("shop"));
    assert_eq!(names(&index.select(HashSet::from(["shop".to_owned()]))), ["web"]);
    assert!(index.select(HashSet::from(["shop".to_owned()])).is_empty());
}
