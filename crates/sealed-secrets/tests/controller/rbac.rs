//! Under the original's own RBAC: only the image is swapped.

use std::path::PathBuf;

use plumbline_sealed_secrets::scope::Scope;
use plumbline_testkit::{World, wait_for};
use serde_json::{Value, json};

use crate::harness::{PATIENCE, Place, Unsealer, item};

/// What the original's chart grants its ServiceAccount, and not more.
fn original_rules(namespace: &str) -> Vec<Value> {
    let subject = json!([{"kind": "ServiceAccount", "name": "unsealer", "namespace": namespace}]);
    let role = |kind: &str, name: &str, rules: Value| {
        let metadata = if kind == "Role" {
            json!({"name": name, "namespace": namespace})
        } else {
            json!({"name": name})
        };
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": metadata, "rules": rules})
    };
    let binding = |kind: &str, role: &str, name: &str| {
        let metadata = if kind == "RoleBinding" {
            json!({"name": name, "namespace": namespace})
        } else {
            json!({"name": name})
        };
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": metadata, "subjects": subject,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind.trim_end_matches("Binding"), "name": role},
        })
    };
    let unsealer = format!("secrets-unsealer-{namespace}");
    vec![
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "unsealer", "namespace": namespace}}),
        role(
            "ClusterRole",
            &unsealer,
            json!([
                {"apiGroups": ["bitnami.com"], "resources": ["sealedsecrets"], "verbs": ["get", "list", "watch"]},
                {"apiGroups": ["bitnami.com"], "resources": ["sealedsecrets/status"], "verbs": ["update"]},
                {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "list", "create", "update", "delete", "watch"]},
                {"apiGroups": [""], "resources": ["events"], "verbs": ["create", "patch"]},
                {"apiGroups": [""], "resources": ["namespaces"], "verbs": ["get"]},
            ]),
        ),
        binding("ClusterRoleBinding", &unsealer, &unsealer),
        role(
            "Role",
            "key-admin",
            json!([{"apiGroups": [""], "resources": ["secrets"], "verbs": ["create", "list"]}]),
        ),
        binding("RoleBinding", "key-admin", "key-admin"),
    ]
}

/// A kubeconfig of the ServiceAccount.
fn kubeconfig(world: &World) -> PathBuf {
    let token = world.kubectl(&["create", "token", "unsealer"]).unwrap();
    let admin: Value = serde_yaml::from_str(&std::fs::read_to_string(world.kubeconfig()).unwrap()).unwrap();
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "sa",
        "clusters": admin["clusters"],
        "users": [{"name": "sa", "user": {"token": token.trim()}}],
        "contexts": [{"name": "sa", "context": {"cluster": admin["clusters"][0]["name"], "user": "sa"}}],
    });
    let path = world.dir().join("sa.kubeconfig");
    std::fs::write(&path, config.to_string()).unwrap();
    path
}

/// What publishing the certificate needs beside that; the chart grants it with the flag.
fn publishing_rules(namespace: &str) -> Vec<Value> {
    let metadata = json!({"name": "certificate-publisher", "namespace": namespace});
    let subject = json!([{"kind": "ServiceAccount", "name": "unsealer", "namespace": namespace}]);
    vec![
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": metadata, "rules": [
                {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create"]},
                {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["certificate"], "verbs": ["list", "watch", "patch"]},
            ],
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": metadata, "subjects": subject,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "certificate-publisher"},
        }),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_works_with_what_the_original_is_granted() {
    let place = Place::new().await;
    for object in original_rules(place.namespace()) {
        place
            .world
            .kubectl_with(&["apply", "-f", "-"], &object.to_string())
            .unwrap();
    }
    let config = kubeconfig(&place.world);
    let unsealer = Unsealer::start(&place.world, &config, "127.0.0.1", &[]).await;
    place
        .apply(unsealer.seal("a", Scope::Strict, &[("k", "v")]).await)
        .await;
    assert_eq!(item(&place.secret("a", |_| true).await, "k"), Some("v"));
    place.synced("a", "True").await;
    place.event("a", "Unsealed").await;
    place
        .apply(unsealer.seal("a", Scope::Strict, &[("k", "w")]).await)
        .await;
    place.secret("a", |secret| item(secret, "k") == Some("w")).await;
    place
        .secrets()
        .delete("a", &kube::api::DeleteParams::default())
        .await
        .unwrap();
    place.secret("a", |secret| item(secret, "k") == Some("w")).await;
    place.synced("a", "True").await;
    assert!(!unsealer.log().contains("forbidden"), "{}", unsealer.log());
    unsealer.stop();
    // What is asked for and not granted is said; it works as soon as it is granted, and the rest works meanwhile.
    let publish = ["--certificate-configmap=certificate"];
    let unsealer = Unsealer::start(&place.world, &config, "127.0.0.1", &publish).await;
    wait_for("the log", PATIENCE, async || {
        let log = unsealer.log();
        if log.contains("forbidden") && log.contains("configmaps") {
            Ok(())
        } else {
            Err(log)
        }
    })
    .await
    .unwrap();
    for object in publishing_rules(place.namespace()) {
        place
            .world
            .kubectl_with(&["apply", "-f", "-"], &object.to_string())
            .unwrap();
    }
    let pem = unsealer.certificate().await.pem;
    wait_for("the certificate", PATIENCE, async || {
        let text = place
            .world
            .kubectl(&["get", "configmap/certificate", "-o=jsonpath={.data.cert\\.pem}"]);
        match text {
            Ok(text) if text.trim() == pem.trim() => Ok(()),
            other => Err(format!("{other:?} {}", unsealer.log())),
        }
    })
    .await
    .unwrap();
}
