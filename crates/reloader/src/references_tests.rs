use super::*;
use serde_json::json;

#[track_caller]
fn check(spec: serde_json::Value, expected: &[(&str, usize)]) {
    let spec: PodSpec = serde_json::from_value(spec).unwrap();
    let references = References::of(&spec);
    let found: Vec<_> = references
        .iter()
        .map(|key| (key.to_string(), references.container(key)))
        .collect();
    let expected: Vec<_> = expected
        .iter()
        .map(|(key, at)| ((*key).to_owned(), *at))
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn volumes_count_when_they_are_mounted() {
    check(
        json!({
            "containers": [
                {"name": "a"},
                {"name": "b", "volumeMounts": [{"name": "cm", "mountPath": "/c"}, {"name": "s", "mountPath": "/s"}]},
            ],
            "volumes": [
                {"name": "cm", "configMap": {"name": "app"}},
                {"name": "s", "secret": {"secretName": "db"}},
                {"name": "unmounted", "configMap": {"name": "never"}},
            ],
        }),
        &[("cm/app", 1), ("sec/db", 1)],
    );
}

#[test]
fn a_second_volume_of_the_same_source_counts() {
    check(
        json!({
            "containers": [{"name": "a", "volumeMounts": [{"name": "two", "mountPath": "/c"}]}],
            "volumes": [
                {"name": "one", "configMap": {"name": "app"}},
                {"name": "two", "configMap": {"name": "app"}},
            ],
        }),
        &[("cm/app", 0)],
    );
}

#[test]
fn projected_sources_and_csi_classes_count() {
    check(
        json!({
            "containers": [{"name": "a", "volumeMounts": [
                {"name": "p", "mountPath": "/p"}, {"name": "v", "mountPath": "/v"}]}],
            "volumes": [
                {"name": "p", "projected": {"sources": [
                    {"configMap": {"name": "app"}}, {"secret": {"name": "db"}}, {"downwardAPI": {}}]}},
                {"name": "v", "csi": {"driver": "secrets-store.csi.k8s.io",
                    "volumeAttributes": {"secretProviderClass": "vault"}}},
            ],
        }),
        &[("cm/app", 0), ("sec/db", 0), ("spc/vault", 0)],
    );
}

#[test]
fn variables_count() {
    check(
        json!({
            "containers": [
                {"name": "a", "env": [{"name": "X", "value": "1"}]},
                {"name": "b", "env": [
                    {"name": "C", "valueFrom": {"configMapKeyRef": {"name": "app", "key": "k"}}},
                    {"name": "S", "valueFrom": {"secretKeyRef": {"name": "db", "key": "k"}}},
                    {"name": "P", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]},
                {"name": "c", "envFrom": [{"configMapRef": {"name": "all"}}, {"secretRef": {"name": "keys"}}]},
            ],
        }),
        &[("cm/all", 2), ("cm/app", 1), ("sec/db", 1), ("sec/keys", 2)],
    );
}

#[test]
fn a_mount_comes_before_a_variable() {
    check(
        json!({
            "containers": [
                {"name": "a", "envFrom": [{"configMapRef": {"name": "app"}}]},
                {"name": "b", "volumeMounts": [{"name": "cm", "mountPath": "/c"}]},
            ],
            "volumes": [{"name": "cm", "configMap": {"name": "app"}}],
        }),
        &[("cm/app", 1)],
    );
}

#[test]
fn what_only_an_init_container_uses_marks_the_first_container() {
    check(
        json!({
            "initContainers": [
                {"name": "i"},
                {"name": "j", "envFrom": [{"secretRef": {"name": "db"}}],
                 "volumeMounts": [{"name": "cm", "mountPath": "/c"}]},
            ],
            "containers": [{"name": "a"}, {"name": "b"}],
            "volumes": [{"name": "cm", "configMap": {"name": "app"}}],
        }),
        &[("cm/app", 0), ("sec/db", 0)],
    );
}

#[test]
fn pull_secrets_do_not_count() {
    check(
        json!({"containers": [{"name": "a"}], "imagePullSecrets": [{"name": "registry"}]}),
        &[],
    );
}
