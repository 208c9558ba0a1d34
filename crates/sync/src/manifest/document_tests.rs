use serde_json::json;

use super::*;

fn flaws(text: &str) -> Vec<String> {
    parse(text.as_bytes(), None)
        .flaws
        .into_iter()
        .map(|flaw| flaw.message)
        .collect()
}

#[test]
fn objects_and_lists_are_found_with_their_places() {
    let parsed = parse(
        b"apiVersion: v1\nkind: Namespace\nmetadata: {name: demo}\n---\napiVersion: v1\nkind: List\nitems:\n\
          - {apiVersion: v1, kind: ConfigMap, metadata: {name: a, namespace: demo}}\n\
          - {apiVersion: apps/v1, kind: Deployment, metadata: {name: b, namespace: demo}}\n",
        None,
    );
    assert_eq!(parsed.flaws, []);
    let found: Vec<_> = parsed
        .manifests
        .iter()
        .map(|m| {
            (
                m.id.kind.as_str(),
                m.id.name.as_str(),
                m.place.document,
                m.place.line,
                m.place.item,
            )
        })
        .collect();
    assert_eq!(
        found,
        [
            ("Namespace", "demo", 1, 1, None),
            ("ConfigMap", "a", 2, 5, Some(0)),
            ("Deployment", "b", 2, 5, Some(1))
        ]
    );
}

#[test]
fn the_digest_is_of_the_content_not_of_the_text() {
    let a = parse(b"kind: ConfigMap\napiVersion: v1\nmetadata:\n  name: a\n", None);
    let b = parse(
        b"# comment\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n",
        None,
    );
    assert_eq!(a.manifests[0].digest, b.manifests[0].digest);
    let c = parse(
        b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, labels: {x: y}}\n",
        None,
    );
    assert_ne!(a.manifests[0].digest, c.manifests[0].digest);
}

#[test]
fn what_is_no_object_is_named() {
    for (text, expected) in [
        ("- a\n", "a mapping with apiVersion"),
        ("kind: X\nmetadata: {name: a}\n", "apiVersion is missing"),
        ("apiVersion: v1\nmetadata: {name: a}\n", "kind is missing"),
        ("apiVersion: v1\nkind: Pod\n", "no metadata.name"),
        (
            "apiVersion: v1\nkind: Pod\nmetadata: {name: 12}\n",
            "no metadata.name",
        ),
        (
            "apiVersion: v1\nkind: Pod\nmetadata: {generateName: a-}\n",
            "generateName",
        ),
        (
            "apiVersion: v1\nkind: Pod\nmetadata: {name: ../../x}\n",
            "not a valid name",
        ),
        (
            "apiVersion: v1\nkind: Pod\nmetadata: {name: a__b}\n",
            "not a valid name",
        ),
        (
            "apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: x_y}\n",
            "not a valid name",
        ),
        (
            "apiVersion: v1\nkind: Po_d\nmetadata: {name: a}\n",
            "not a valid name",
        ),
        (
            "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\nsops: {}\n",
            "SOPS",
        ),
        (
            "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n",
            "is no manifest: name its file kustomization.yaml",
        ),
    ] {
        let flaws = flaws(text);
        assert!(
            flaws.len() == 1 && flaws[0].contains(expected),
            "{text}: {flaws:?}"
        );
    }
    assert_eq!(parse(&[0xff, 0xfe], None).flaws.len(), 1);
}

#[test]
fn a_finished_body_carries_the_overlay_and_nothing_of_the_servers() {
    let overlay = Overlay {
        labels: [("owner".to_owned(), "me".to_owned())].into(),
        annotations: [].into(),
        ignored: Vec::new(),
    };
    let body = finish(
        json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": { "name": "a", "uid": "1", "creationTimestamp": null, "annotations": null, "labels": { "x": "y" } },
            "data": { "old": "bw==" }, "stringData": { "new": "n" }, "status": {},
        }),
        "demo",
        &overlay,
    );
    assert_eq!(
        body,
        json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": { "name": "a", "namespace": "demo", "labels": { "x": "y", "owner": "me" } },
            "data": { "old": "bw==", "new": "bg==" },
        })
    );
}

#[test]
fn the_body_of_a_place_is_found_again() {
    let text =
        b"apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: ConfigMap, metadata: {name: a}}\n";
    let place = parse(text, None).manifests[0].place;
    assert_eq!(body(text, place, None).unwrap()["metadata"]["name"], "a");
}

#[test]
fn an_object_says_how_it_wants_to_be_applied() {
    for (key, value, policy) in [
        ("ssa", "merge", ApplyPolicy::Merge),
        ("ssa", "IfNotPresent", ApplyPolicy::IfNotPresent),
        ("reconcile", "Disabled", ApplyPolicy::Ignore),
        ("ssa", "nonsense", ApplyPolicy::Override),
    ] {
        for kind in ["labels", "annotations"] {
            let text = format!(
                "{{apiVersion: v1, kind: Pod, metadata: {{name: a, {kind}: {{{POLICY_PREFIX}{key}: {value}}}}}}}"
            );
            assert_eq!(parse(text.as_bytes(), None).manifests[0].policy, policy, "{text}");
        }
    }
}
