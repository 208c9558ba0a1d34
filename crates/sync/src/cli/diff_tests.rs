use super::*;

fn lines(before: &Value, after: &Value) -> Vec<String> {
    fields(before, after).iter().map(ToString::to_string).collect()
}

#[test]
fn fields_are_named_and_server_fields_left_out() {
    let before = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": "a", "resourceVersion": "1", "labels": { "x.y/z": "1" },
                      "annotations": { "plumbline.dev/revision": "old" } },
        "spec": { "replicas": 1, "containers": [ { "name": "a", "image": "i:1" }, { "name": "b", "args": ["x"] } ] },
        "status": { "replicas": 1 },
    });
    let after = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": "a", "resourceVersion": "2", "labels": { "x.y/z": "2" },
                      "annotations": { "plumbline.dev/revision": "new" } },
        "spec": { "containers": [ { "name": "b", "args": ["x", "y"] }, { "name": "a", "image": "i:2" } ] },
    });
    assert_eq!(
        lines(&before, &after),
        [
            r#".metadata.labels["x.y/z"]: "1" → "2""#,
            r#".spec.containers[name=b].args: ["x"] → ["x","y"]"#,
            r#".spec.containers[name=a].image: "i:1" → "i:2""#,
            ".spec.replicas: - 1",
        ]
    );
    assert_eq!(lines(&before, &before), Vec::<String>::new());
}

#[test]
fn elements_that_come_and_go_are_named_once() {
    let before = json!({ "ports": [ { "port": 1 }, { "port": 2 } ] });
    let after = json!({ "ports": [ { "port": 2 }, { "port": 3 } ] });
    assert_eq!(
        lines(&before, &after),
        [
            r#".ports[port=3]: + {"port":3}"#,
            r#".ports[port=1]: - {"port":1}"#
        ]
    );
    // Names that stand twice name nothing.
    let twice = json!({ "e": [ { "name": "a", "value": "1" }, { "name": "a", "value": "2" } ] });
    let other = json!({ "e": [ { "name": "a", "value": "1" }, { "name": "a", "value": "3" } ] });
    assert_eq!(lines(&twice, &other), [r#".e[1].value: "2" → "3""#]);
}

#[test]
fn values_of_secrets_are_never_shown() {
    let secret = |data: Value| {
        json!({ "apiVersion": "v1", "kind": "Secret", "data": data,
                "metadata": { "annotations": { LAST_APPLIED: data.to_string() } } })
    };
    let (old, new) = (
        json!({ "a": "aHVudGVyMg==" }),
        json!({ "a": "c2VjcmV0", "b": "aHVudGVyMg==" }),
    );
    let bare = json!({ "apiVersion": "v1", "kind": "Secret" });
    for (before, after, paths) in [
        (
            secret(old.clone()),
            secret(new.clone()),
            vec![".data.a", ".data.b"],
        ),
        (bare.clone(), secret(new), vec![".data", ".metadata"]),
        (secret(old.clone()), bare, vec![".data", ".metadata"]),
    ] {
        let found = fields(&before, &after);
        let seen: Vec<_> = found.iter().map(|field| field.path.as_str()).collect();
        assert_eq!(seen, paths);
        let text = format!("{found:?}{}{}", lines(&before, &after).join(""), json!(found));
        assert!(!text.contains("hVudG") && !text.contains("c2Vj"), "{text}");
    }
    let whole = redacted(secret(old));
    assert!(
        !whole["data"].to_string().contains("hVudG")
            && !whole["metadata"]["annotations"].to_string().contains("hVudG")
    );
}

#[test]
fn what_only_flux_had_goes_when_it_is_taken_over() {
    let answer = json!({ "metadata": { "managedFields": [
        { "manager": "kustomize-controller", "operation": "Apply",
          "fieldsV1": { "f:data": { "f:a": {}, "f:old": {} }, "f:metadata": { "f:labels": { "f:x": {} } } } },
        { "manager": "plumbline-sync", "operation": "Apply", "fieldsV1": { "f:data": { "f:a": {} } } },
        { "manager": "operator", "operation": "Update", "fieldsV1": { "f:metadata": { "f:labels": { "f:x": {} } } } },
    ] } });
    let paths: Vec<_> = taken_away(&answer, &[])
        .into_iter()
        .map(|field| field.path)
        .collect();
    assert_eq!(paths, [".data.old"]);
}

#[test]
fn a_secret_that_was_substituted_is_hidden_elsewhere_too() {
    let secrets = [
        Zeroizing::new("hunter22".to_owned()),
        Zeroizing::new("1".to_owned()),
    ];
    let mut found = fields(
        &json!({ "data": { "url": "a:hunter22@b", "n": "11" } }),
        &json!({ "data": { "url": "a:other@b", "n": "12" } }),
    );
    for field in &mut found {
        field.hide(&secrets);
    }
    let text: Vec<_> = found.iter().map(ToString::to_string).collect();
    assert_eq!(
        text,
        [
            r#".data.n: "11" → "12""#,
            r#".data.url: (redacted) → "a:other@b""#
        ]
    );
}
