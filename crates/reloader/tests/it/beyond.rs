//! What is ours beyond Stakater's: order, windows, eviction, keys, left-over variables, notifications. And the webhook.

use kube::{
    Api,
    api::{DynamicObject, PostParams},
    core::{ApiResource, GroupVersionKind},
};
use plumbline_testkit::wait_for;
use serde_json::{Value, json};

use crate::{
    alerts::{next, webhook},
    harness::{AUTO, Bench, LIMIT, QUIET, workload},
};

const KEYS: &[&str] = &["--debounce=0s"];

#[tokio::test]
async fn a_workload_comes_after_those_it_names() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    bench.config_map("app", "v1").await?;
    bench.create(workload("Deployment", "db", &[AUTO])).await?;
    let after = ("reloader.plumbline.dev/after", "deployment/db");
    bench
        .create(workload("Deployment", "web", &[AUTO, after]))
        .await?;
    let _reloader = bench.start(KEYS).await?;
    for name in ["db", "web"] {
        bench.adopted("Deployment", name, &["cm/app"]).await?;
    }
    let (db, web) = (
        bench.template("Deployment", "db").await?,
        bench.template("Deployment", "web").await?,
    );
    bench.set("ConfigMap", "app", "v2").await?;
    bench.rolled("Deployment", "db", &db).await?;
    // There is no node: db is not done until it wants no pods.
    bench.stays("Deployment", "web", &web).await?;
    let none = json!({"spec": {"replicas": 0}});
    bench.merge("Deployment", "db", none).await?;
    bench.rolled("Deployment", "web", &web).await.map(drop)
}

#[tokio::test]
async fn pods_of_an_operators_workload_are_evicted_and_its_template_stays() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    bench.config_map("app", "v1").await?;
    let evict = ("reloader.plumbline.dev/strategy", "evict");
    bench
        .create(workload("Deployment", "web", &[AUTO, evict]))
        .await?;
    let budget = json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "web"},
        "spec": {"minAvailable": 1, "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": {"app": "web"}}}});
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("policy", "v1", "PodDisruptionBudget"));
    let budgets: Api<DynamicObject> =
        Api::namespaced_with(bench.world.client(), bench.world.namespace(), &kind);
    budgets
        .create(&PostParams::default(), &serde_json::from_value(budget)?)
        .await?;
    let before = pod(&bench, None).await?;
    let _reloader = bench.start(KEYS).await?;
    bench.adopted("Deployment", "web", &["cm/app"]).await?;
    let template = bench.template("Deployment", "web").await?;
    // The pod's age is known to the second.
    tokio::time::sleep(QUIET).await;
    bench.set("ConfigMap", "app", "v2").await?;
    let after = pod(&bench, Some(&before)).await?;
    wait_for("the eviction to end", LIMIT, async || {
        let object = bench
            .get("Deployment", "web")
            .await
            .map_err(|error| error.to_string())?;
        match &object["metadata"]["annotations"]["reloader.plumbline.dev/evicting"] {
            Value::Null => Ok(()),
            since => Err(since.to_string()),
        }
    })
    .await?;
    bench.stays("Deployment", "web", &template).await?;
    assert_eq!(pod(&bench, None).await?, after, "evicted once");
    assert_eq!(bench.count("Deployment", "web").await?, 1);
    Ok(())
}

// The name of the only pod, another one than before.
async fn pod(bench: &Bench, before: Option<&str>) -> anyhow::Result<String> {
    wait_for("a pod", LIMIT, async || {
        let pods = bench
            .api("Pod")
            .list(&kube::api::ListParams::default())
            .await
            .map_err(|error| error.to_string())?;
        let names: Vec<_> = pods
            .items
            .iter()
            .filter_map(|pod| pod.metadata.name.clone())
            .collect();
        match names.as_slice() {
            [name] if Some(name.as_str()) != before => Ok(name.clone()),
            names => Err(format!("{names:?}")),
        }
    })
    .await
}

#[tokio::test]
async fn outside_its_window_it_waits() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    bench.config_map("app", "v1").await?;
    let key = "reloader.plumbline.dev/window";
    // Neither today nor tomorrow.
    let days = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
    let today = k8s_openapi::jiff::Timestamp::now().to_zoned(k8s_openapi::jiff::tz::TimeZone::UTC);
    let index = usize::from(today.weekday().to_monday_zero_offset().unsigned_abs());
    let window = format!("{} 00:00-24:00", days[(index + 3) % 7]);
    bench
        .create(workload("Deployment", "web", &[AUTO, (key, &window)]))
        .await?;
    let mut reloader = bench.start(KEYS).await?;
    bench.adopted("Deployment", "web", &["cm/app"]).await?;
    let before = bench.template("Deployment", "web").await?;
    bench.set("ConfigMap", "app", "v2").await?;
    bench.stays("Deployment", "web", &before).await?;
    // What is pending stays so, whatever restarts in between.
    reloader.kill();
    let _reloader = bench.start(KEYS).await?;
    bench.stays("Deployment", "web", &before).await?;
    let always = json!({"metadata": {"annotations": { key: "00:00-24:00" }}});
    bench.merge("Deployment", "web", always).await?;
    bench.rolled("Deployment", "web", &before).await.map(drop)
}

#[tokio::test]
async fn only_the_keys_that_are_used_count_if_that_is_asked_for() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "app"},
        "data": {"key": "v1", "other": "v1"}});
    bench.create(map).await?;
    let keys = ("reloader.plumbline.dev/granularity", "keys");
    let mut object = workload("Deployment", "web", &[AUTO, keys]);
    let container = &mut object["spec"]["template"]["spec"]["containers"][0];
    container["envFrom"] = json!([]);
    container["env"] =
        json!([{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "app", "key": "key"}}}]);
    bench.create(object).await?;
    let _reloader = bench.start(KEYS).await?;
    bench.adopted("Deployment", "web", &["cm/app#"]).await?;
    let before = bench.template("Deployment", "web").await?;
    bench
        .merge("ConfigMap", "app", json!({"data": {"other": "v2"}}))
        .await?;
    bench.stays("Deployment", "web", &before).await?;
    bench
        .merge("ConfigMap", "app", json!({"data": {"key": "v2"}}))
        .await?;
    bench.rolled("Deployment", "web", &before).await.map(drop)
}

#[tokio::test]
async fn stakaters_left_over_variables_go_with_the_next_rollout() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    bench.config_map("app", "v1").await?;
    let mut object = workload("Deployment", "web", &[AUTO]);
    let container = &mut object["spec"]["template"]["spec"]["containers"][0];
    container["env"] = json!([
        {"name": "STAKATER_GONE_CONFIGMAP", "value": "f13ef89ed63c4502ee0823d85edd08d736f51300"},
        {"name": "MINE", "value": "1"}]);
    bench.create(object).await?;
    let _reloader = bench.start(&["--debounce=0s", "--prune-stakater-env"]).await?;
    bench.adopted("Deployment", "web", &["cm/app"]).await?;
    let mut before = bench.template("Deployment", "web").await?;
    for round in 2..=3 {
        bench.set("ConfigMap", "app", &format!("v{round}")).await?;
        before = bench.rolled("Deployment", "web", &before).await?;
        let env = &before["spec"]["containers"][0]["env"];
        assert_eq!(env, &json!([{"name": "MINE", "value": "1"}]));
    }
    bench.stays("Deployment", "web", &before).await?;
    assert_eq!(bench.count("Deployment", "web").await?, 2);
    Ok(())
}

#[tokio::test]
async fn a_webhook_is_called_instead_of_rolling_anything() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let (address, bodies) = webhook()?;
    bench.config_map("app", "v1").await?;
    // Which counts only where something is rolled.
    let ignore = json!({"metadata": {"annotations": {"reloader.stakater.com/ignore": "true"}}});
    bench.merge("ConfigMap", "app", ignore).await?;
    bench.create(workload("Deployment", "web", &[AUTO])).await?;
    let _reloader = bench.start(&[&format!("--webhook-url={address}")]).await?;
    let before = bench.get("Deployment", "web").await?;
    bench.set("ConfigMap", "app", "v2").await?;
    let ((_, body), _bodies) = next(bodies).await?;
    assert_eq!(body, r#"{"webhook":"update successful"}"#);
    tokio::time::sleep(QUIET).await;
    bench.untouched("Deployment", "web", &before).await?;
    Ok(())
}

#[tokio::test]
async fn a_rollout_is_told_as_a_cloud_event() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let (address, bodies) = webhook()?;
    bench.config_map("app", "v1").await?;
    bench.create(workload("Deployment", "web", &[AUTO])).await?;
    let url = format!("--notification-url={address}");
    let reloader = bench
        .start(&["--debounce=0s", &url, "--notification-format=cloudevents"])
        .await?;
    bench.adopted("Deployment", "web", &["cm/app"]).await?;
    bench.set("ConfigMap", "app", "v2").await?;
    let ((_, body), _bodies) = next(bodies).await?;
    let event: Value = serde_json::from_str(&body)?;
    assert_eq!(event["specversion"], "1.0");
    assert_eq!(event["type"], "dev.plumbline.reloader.rolled");
    assert_eq!(event["data"]["workload"]["name"], "web");
    assert_eq!(event["data"]["sources"][0]["name"], "app");
    assert!(!reloader.log().contains("/hook"), "the address is a secret");
    Ok(())
}
