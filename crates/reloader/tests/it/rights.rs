//! What the reloader may do: least privilege, rights that are missing, taken away and given back.

use std::path::PathBuf;

use kube::{
    Api,
    api::{DeleteParams, DynamicObject, PostParams},
    core::{ApiResource, GroupVersionKind},
};
use plumbline_testkit::wait_for;
use serde_json::{Value, json};

use crate::{
    batch::{cron_job, runs},
    harness::{AUTO, Bench, LIMIT, QUIET, workload},
    process::Start,
};

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

async fn unbind(bench: &Bench) -> anyhow::Result<()> {
    rbac(bench, "RoleBinding")
        .delete("reloader", &DeleteParams::default())
        .await?;
    wait_for("the rights to be gone", LIMIT, async || {
        let denied = bench
            .world
            .kubectl(&["auth", "can-i", "patch", "deployments", "--as", USER]);
        if denied.is_err() {
            Ok(())
        } else {
            Err("still there")
        }
    })
    .await
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
async fn a_cron_job_that_may_not_be_written_runs_once_for_each_change() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    bench.config_map("app", "one").await?;
    bench.create(cron_job("nightly", false)).await?;
    let kubeconfig = grant(&bench, stakaters()).await?;
    let arguments = ["--debounce=0s", "--poll-interval=1s"];
    let mut reloader = bench.start_as(&kubeconfig, &arguments).await?;
    // Its state lives in the process: adopted is what was there at the start. The same content comes back twice.
    let mut count = 0;
    for _ in 0..2 {
        tokio::time::sleep(QUIET).await;
        for content in ["two", "one", "two", "one"] {
            bench.set("ConfigMap", "app", content).await?;
            count += 1;
            runs(&bench, "nightly", count).await?;
        }
        reloader.kill();
        reloader = bench.start_as(&kubeconfig, &arguments).await?;
    }
    tokio::time::sleep(QUIET).await;
    runs(&bench, "nightly", count).await
}

#[tokio::test]
async fn rights_that_come_after_the_start_are_enough() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    bench.config_map("app", "v1").await?;
    bench.create(workload("Deployment", "web", &[AUTO])).await?;
    let kubeconfig = grant(&bench, ours()).await?;
    // Nothing may be read at first, not even its own key.
    unbind(&bench).await?;
    let start = Start {
        kubeconfig: Some(&kubeconfig),
        ..Start::default()
    };
    let reloader = bench.spawn(&start, &["--debounce=0s"])?;
    wait_for("the lack of rights to be told", LIMIT, async || {
        let log = reloader.log();
        if log.contains("cannot be read, is tried again") {
            Ok(())
        } else {
            Err(log)
        }
    })
    .await?;
    bind(&bench).await?;
    bench.adopted("Deployment", "web", &["cm/app"]).await?;
    let before = bench.template("Deployment", "web").await?;
    bench.set("ConfigMap", "app", "v2").await?;
    bench.rolled("Deployment", "web", &before).await.map(drop)
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
    unbind(&bench).await?;
    bench.set("ConfigMap", "app", "v2").await?;
    wait_for("the patch to be refused", LIMIT, async || {
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
            "resourceNames": ["app", "db", "more", "plumbline-reloader-digest-key", "reloader-meta-info"],
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

    // A workload that comes to use another source is followed there.
    bench.config_map("more", "v1").await?;
    let from = json!([{"configMapRef": {"name": "app"}}, {"configMapRef": {"name": "more"}}]);
    let container = json!({"name": "a", "image": "example.com/nothing:1", "envFrom": from});
    let change = json!({"spec": {"template": {"spec": {"containers": [container]}}}});
    bench.merge("Deployment", "web", change).await?;
    bench.adopted("Deployment", "web", &["cm/app", "cm/more"]).await?;
    let before = bench.template("Deployment", "web").await?;
    bench.set("ConfigMap", "more", "v2").await?;
    bench.rolled("Deployment", "web", &before).await?;
    assert_eq!(bench.rolled_for("Deployment", "web").await?, ["cm/more"]);
    Ok(())
}
