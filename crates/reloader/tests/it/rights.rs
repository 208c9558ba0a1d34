//! What the reloader may do: least privilege, rights that are missing, taken away and given back.

use std::path::PathBuf;

use kube::{
    Api,
    api::{DeleteParams, DynamicObject, PostParams},
    core::{ApiResource, GroupVersionKind},
};
use serde_json::{Value, json};

use crate::harness::{AUTO, Bench, QUIET, workload};

const USER: &str = "reloader";

/// The rules of our own Role: all that is needed for everything.
fn ours() -> Value {
    json!([
        {"apiGroups": [""], "resources": ["configmaps", "secrets"], "verbs": ["get", "list", "watch"]},
        {"apiGroups": ["apps"], "resources": ["deployments", "daemonsets", "statefulsets"],
         "verbs": ["list", "watch", "patch"]},
        {"apiGroups": ["batch"], "resources": ["cronjobs"], "verbs": ["get", "list", "watch", "patch"]},
        {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["get", "list", "watch", "patch", "create", "delete"]},
        {"apiGroups": [""], "resources": ["events"], "verbs": ["create", "patch"]},
        {"apiGroups": [""], "resources": ["secrets"], "verbs": ["create", "delete"]},
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create", "patch"]},
    ])
}

/// The rules of Stakater's Role: no watch on workloads, no patch of CronJobs, no Secret to be created.
fn stakaters() -> Value {
    json!([
        {"apiGroups": [""], "resources": ["configmaps", "secrets"], "verbs": ["get", "list", "watch"]},
        {"apiGroups": ["apps"], "resources": ["deployments", "daemonsets", "statefulsets"],
         "verbs": ["list", "get", "update", "patch"]},
        {"apiGroups": ["batch"], "resources": ["cronjobs"], "verbs": ["list", "get"]},
        {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["create", "delete", "list", "get"]},
        {"apiGroups": [""], "resources": ["events"], "verbs": ["create", "patch"]},
    ])
}

fn rbac(bench: &Bench, kind: &str) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("rbac.authorization.k8s.io", "v1", kind));
    Api::namespaced_with(bench.world.client(), bench.world.namespace(), &resource)
}

async fn grant(bench: &Bench, rules: Value) -> anyhow::Result<PathBuf> {
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
        "metadata": {"name": "reloader"}, "rules": rules});
    rbac(bench, "Role")
        .create(&PostParams::default(), &serde_json::from_value(role)?)
        .await?;
    bind(bench).await?;
    // The same cluster, as a user who has nothing but this Role.
    let text = std::fs::read_to_string(bench.world.kubeconfig())?;
    let mut kubeconfig: Value = serde_yaml::from_str(&text)?;
    kubeconfig["users"][0]["user"]["as"] = json!(USER);
    let path = bench.world.dir().join("reloader.conf");
    std::fs::write(&path, kubeconfig.to_string())?;
    Ok(path)
}

async fn bind(bench: &Bench) -> anyhow::Result<()> {
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": "reloader"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reloader"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": USER}]});
    rbac(bench, "RoleBinding")
        .create(&PostParams::default(), &serde_json::from_value(binding)?)
        .await?;
    Ok(())
}

#[tokio::test]
async fn our_own_rules_are_enough() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    bench.config_map("app", "v1").await?;
    bench.create(workload("Deployment", "web", &[AUTO])).await?;
    let kubeconfig = grant(&bench, ours()).await?;
    let reloader = bench.start_as(&kubeconfig, &["--debounce=0s"]).await?;
    bench.adopted("Deployment", "web", &["cm/app"]).await?;
    let before = bench.template("Deployment", "web").await?;
    bench.set("ConfigMap", "app", "v2").await?;
    bench.rolled("Deployment", "web", &before).await?;
    bench.event("web", "Reloaded").await?;
    assert!(
        !reloader.log().contains("403") && !reloader.log().contains("forbidden"),
        "{}",
        reloader.log()
    );
    Ok(())
}

#[tokio::test]
async fn stakaters_rules_are_enough_by_polling() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    bench.config_map("app", "v1").await?;
    bench.create(workload("Deployment", "web", &[AUTO])).await?;
    let kubeconfig = grant(&bench, stakaters()).await?;
    let reloader = bench
        .start_as(&kubeconfig, &["--debounce=0s", "--poll-interval=1s"])
        .await?;
    bench.adopted("Deployment", "web", &["cm/app"]).await?;
    // One that comes later is found by polling.
    bench.create(workload("StatefulSet", "late", &[AUTO])).await?;
    bench.adopted("StatefulSet", "late", &["cm/app"]).await?;
    let before = bench.template("Deployment", "web").await?;
    let late = bench.template("StatefulSet", "late").await?;
    bench.set("ConfigMap", "app", "v2").await?;
    bench.rolled("Deployment", "web", &before).await?;
    bench.rolled("StatefulSet", "late", &late).await?;
    tokio::time::sleep(QUIET).await;
    assert_eq!(bench.count("Deployment", "web").await?, 1);
    assert!(reloader.log().contains("polling instead"), "{}", reloader.log());
    Ok(())
}

#[tokio::test]
async fn rights_taken_away_and_given_back_lose_nothing() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    bench.config_map("app", "v1").await?;
    bench.create(workload("Deployment", "web", &[AUTO])).await?;
    let kubeconfig = grant(&bench, ours()).await?;
    let reloader = bench.start_as(&kubeconfig, &["--debounce=0s"]).await?;
    bench.adopted("Deployment", "web", &["cm/app"]).await?;
    let before = bench.template("Deployment", "web").await?;
    rbac(&bench, "RoleBinding")
        .delete("reloader", &DeleteParams::default())
        .await?;
    plumbline_testkit::wait_for("the rights to be gone", crate::harness::LIMIT, async || {
        let denied = bench
            .world
            .kubectl(&["auth", "can-i", "patch", "deployments", "--as", USER]);
        if denied.is_err() {
            Ok(())
        } else {
            Err("still there")
        }
    })
    .await?;
    bench.set("ConfigMap", "app", "v2").await?;
    plumbline_testkit::wait_for("the patch to be refused", crate::harness::LIMIT, async || {
        if reloader.log().contains("is tried again") {
            Ok(())
        } else {
            Err(reloader.log())
        }
    })
    .await?;
    bench.stays("Deployment", "web", &before).await?;
    bind(&bench).await?;
    bench.rolled("Deployment", "web", &before).await?;
    assert_eq!(bench.count("Deployment", "web").await?, 1);
    Ok(())
}

#[tokio::test]
async fn names_are_enough_to_watch_by_name() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    bench.config_map("app", "v1").await?;
    bench.secret("db", "v1").await?;
    bench.secret("not-ours", "v1").await?;
    bench.create(workload("Deployment", "web", &[AUTO])).await?;
    let mut rules = ours();
    if let Some(rules) = rules.as_array_mut() {
        // Only these two may be read, beside our own objects.
        rules[0] = json!({"apiGroups": [""], "resources": ["configmaps", "secrets"],
            "resourceNames": ["app", "db", "plumbline-reloader-digest-key", "reloader-meta-info"],
            "verbs": ["get", "list", "watch"]});
    }
    let kubeconfig = grant(&bench, rules).await?;
    let _reloader = bench
        .start_as(&kubeconfig, &["--debounce=0s", "--watch-by-name"])
        .await?;
    bench.adopted("Deployment", "web", &["cm/app", "sec/db"]).await?;
    let before = bench.template("Deployment", "web").await?;
    bench.set("Secret", "db", "v2").await?;
    bench.rolled("Deployment", "web", &before).await?;
    assert_eq!(bench.count("Deployment", "web").await?, 1);
    Ok(())
}

#[tokio::test]
async fn a_source_of_another_namespace_needs_its_owners_consent() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let other = Bench::new().await?;
    other.config_map("ca", "v1").await?;
    let foreign = format!("cm/{}/ca", other.world.namespace());
    let names = ("reloader.plumbline.dev/foreign-sources", foreign.as_str());
    bench.config_map("app", "v1").await?;
    bench
        .create(workload("Deployment", "web", &[AUTO, names]))
        .await?;
    let both = format!("--namespaces={}", other.world.namespace());
    let _reloader = bench.start(&["--debounce=0s", &both]).await?;
    bench.adopted("Deployment", "web", &["cm/app"]).await?;
    let told = bench.event("web", "NotShared").await?;
    assert!(told.contains(&foreign) && told.contains("shared-with"), "{told}");
    let before = bench.template("Deployment", "web").await?;
    other.set("ConfigMap", "ca", "v2").await?;
    bench.stays("Deployment", "web", &before).await?;
    let consent = json!({"metadata": {"annotations":
        {"reloader.plumbline.dev/shared-with": bench.world.namespace()}}});
    other.merge("ConfigMap", "ca", consent).await?;
    bench.adopted("Deployment", "web", &["cm/app", &foreign]).await?;
    bench.stays("Deployment", "web", &before).await?;
    other.set("ConfigMap", "ca", "v3").await?;
    bench.rolled("Deployment", "web", &before).await?;
    assert_eq!(bench.count("Deployment", "web").await?, 1);
    Ok(())
}
