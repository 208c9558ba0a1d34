use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry};
use serde_json::json;

use super::{release::MANAGER, *};
use crate::cluster::fields;

fn rules(rules: &Value) -> Result<Rules, String> {
    Rules::parse(&serde_json::from_value::<Vec<IgnoreRule>>(rules.clone()).unwrap())
}

fn deployment() -> Value {
    json!({
        "metadata": { "name": "web", "namespace": "shop", "labels": { "tier": "front" }, "annotations": { "a/b": "1" } },
        "spec": { "replicas": 2, "template": { "spec": { "containers": [
            { "name": "main", "image": "x" }, { "name": "side", "image": "y" },
        ] } } },
    })
}

#[test]
fn rules_pick_objects_and_fields_that_are_there() {
    let body = deployment();
    let gvk = Gvk::parse("apps/v1", "Deployment");
    let of = |rule: Value| rules(&json!([rule])).unwrap().of(gvk, &body).len();
    assert_eq!(of(json!({ "paths": ["/spec/replicas", "/spec/none"] })), 1);
    assert_eq!(
        of(json!({ "paths": ["/metadata/annotations/a~1b", "/spec/template/spec/containers/1/image"] })),
        2
    );
    for (target, expected) in [
        (json!({ "kind": "Deployment" }), 1),
        (json!({ "kind": "Deploy" }), 0),
        (
            json!({ "kind": "Dep.*|X", "group": "apps", "version": "v.", "namespace": "shop", "name": "w(e)b" }),
            1,
        ),
        (json!({ "labelSelector": "tier=front" }), 1),
        (
            json!({ "labelSelector": "tier in (back, front),!none, other!=x" }),
            1,
        ),
        (json!({ "labelSelector": "tier notin (front)" }), 0),
        (json!({ "annotationSelector": "a/b" }), 1),
        (json!({ "annotationSelector": "a/b==2" }), 0),
    ] {
        let found = of(json!({ "paths": ["/spec/replicas"], "target": target }));
        assert_eq!(found, expected, "{target}");
    }
    for (rule, expected) in [
        (
            json!({ "paths": ["spec"] }),
            "spec.ignore[0].paths: \"spec\" is no JSON pointer",
        ),
        (json!({ "paths": [""] }), "no JSON pointer"),
        (json!({ "paths": ["/metadata/name"] }), "cannot be left to others"),
        (
            json!({ "paths": ["/metadata/labels/kustomize.toolkit.fluxcd.io~1name"] }),
            "cannot be left to others",
        ),
        (
            json!({ "paths": ["/a"], "target": { "name": "(" } }),
            "spec.ignore[0].target: name \"(\" is no regular expression",
        ),
        (
            json!({ "paths": ["/a"], "target": { "labelSelector": "a b" } }),
            "no part of a selector",
        ),
    ] {
        let error = rules(&json!([rule])).unwrap_err();
        assert!(error.contains(expected), "{rule}: {error}");
    }
}

fn path(text: &str) -> Vec<String> {
    pointer(text).unwrap()
}

fn entry(fields: Value) -> ManagedFieldsEntry {
    ManagedFieldsEntry {
        manager: Some(fields::MANAGER.into()),
        operation: Some("Apply".into()),
        fields_v1: Some(FieldsV1(fields)),
        ..ManagedFieldsEntry::default()
    }
}

#[test]
fn what_is_left_to_others_changes_its_owner() {
    let body = deployment();
    let owned = json!({ "f:spec": { "f:replicas": {}, "f:template": { "f:spec": { "f:containers": {
        "k:{\"name\":\"main\"}": { ".": {}, "f:image": {}, "f:name": {} },
        "k:{\"name\":\"side\"}": { ".": {}, "f:image": {}, "f:name": {} },
    } } } }, "f:data": {} });
    let image = path("/spec/template/spec/containers/1/image");
    let paths = [path("/spec/replicas"), image.clone()];
    let released = release(&[entry(owned.clone())], &body, &paths).unwrap().unwrap();
    assert_eq!(released.len(), 2);
    let fields = |index: usize| released[index].fields_v1.clone().unwrap().0;
    assert_eq!(
        fields(0)["f:spec"],
        json!({ "f:template": { "f:spec": { "f:containers": {
            "k:{\"name\":\"main\"}": { ".": {}, "f:image": {}, "f:name": {} },
            "k:{\"name\":\"side\"}": { ".": {}, "f:name": {} },
        } } } })
    );
    assert_eq!(
        fields(1),
        json!({ "f:spec": { "f:replicas": {}, "f:template": { "f:spec": { "f:containers": {
            "k:{\"name\":\"side\"}": { "f:image": {} },
        } } } } })
    );
    assert_eq!(released[1].manager.as_deref(), Some(MANAGER));
    // Once is enough.
    assert_eq!(release(&released, &body, &paths), Ok(None));

    let stripped = strip(&body, &paths);
    assert!(stripped["spec"]["replicas"].is_null());
    assert_eq!(
        stripped["spec"]["template"]["spec"]["containers"][1],
        json!({ "name": "side" })
    );
    assert_eq!(
        stripped["spec"]["template"]["spec"]["containers"][0]["image"],
        "x"
    );

    // A part of what is one value cannot be left alone.
    let whole = json!({ "f:spec": { "f:template": {} } });
    let error = release(&[entry(whole)], &body, &[image]).unwrap_err();
    assert!(error.contains("only takes as a whole"), "{error}");
    let one = json!({ "metadata": {}, "data": { "key": "1" } });
    assert_eq!(strip(&one, &[path("/data/key")]), json!({ "metadata": {} }));
    let items = json!({ "list": ["a", "b", "c"] });
    assert_eq!(
        strip(&items, &[path("/list/0"), path("/list/2")]),
        json!({ "list": ["b"] })
    );
}
