//! What is ours beyond Stakater's: order, canaries, windows, eviction, keys, other namespaces, names. And what is Stakater's
//! for some: Argo's Rollouts, the CSI driver's classes, the webhook.

use kube::{
    Api,
    api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams},
    core::{ApiResource, GroupVersionKind},
};
use plumbline_testkit::wait_for;
use serde_json::{Value, json};

use crate::{
    alerts::webhook,
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
    bench.create(workload("Deployment", "web", &[AUTO])).await?;
    let _reloader = bench.start(&[&format!("--webhook-url={address}")]).await?;
    let before = bench.get("Deployment", "web").await?;
    bench.set("ConfigMap", "app", "v2").await?;
    let limit = LIMIT;
    let body = tokio::task::spawn_blocking(move || bodies.recv_timeout(limit)).await??;
    assert_eq!(body, r#"{"webhook":"update successful"}"#);
    tokio::time::sleep(QUIET).await;
    let after = bench.get("Deployment", "web").await?;
    assert_eq!(
        after["metadata"]["annotations"],
        before["metadata"]["annotations"]
    );
    assert_eq!(after["spec"], before["spec"]);
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
    let limit = LIMIT;
    let body = tokio::task::spawn_blocking(move || bodies.recv_timeout(limit)).await??;
    let event: Value = serde_json::from_str(&body)?;
    assert_eq!(event["specversion"], "1.0");
    assert_eq!(event["type"], "dev.plumbline.reloader.rolled");
    assert_eq!(event["data"]["workload"]["name"], "web");
    assert_eq!(event["data"]["sources"][0]["name"], "app");
    assert!(!reloader.log().contains("/hook"), "the address is a secret");
    Ok(())
}

// A CRD whose objects may hold anything.
async fn crd(bench: &Bench, group: &str, version: &str, kind: &str, plural: &str) -> anyhow::Result<()> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(
        "apiextensions.k8s.io",
        "v1",
        "CustomResourceDefinition",
    ));
    let api: Api<DynamicObject> = Api::all_with(bench.world.client(), &resource);
    let open = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let object = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{group}")},
        "spec": {
            "group": group, "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural, "singular": kind.to_lowercase()},
            "versions": [{"name": version, "served": true, "storage": true,
                "schema": {"openAPIV3Schema": open}}],
        },
    });
    let name = format!("{plural}.{group}");
    api.patch(&name, &PatchParams::apply("test").force(), &Patch::Apply(object))
        .await?;
    let objects = custom(bench, group, version, kind);
    wait_for("the kind to be served", LIMIT, async || {
        objects.list(&kube::api::ListParams::default()).await.map(drop)
    })
    .await
}

fn custom(bench: &Bench, group: &str, version: &str, kind: &str) -> Api<DynamicObject> {
    let mut resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    if kind == "SecretProviderClassPodStatus" {
        resource.plural = "secretproviderclasspodstatuses".into();
    }
    Api::namespaced_with(bench.world.client(), bench.world.namespace(), &resource)
}

#[tokio::test]
async fn argos_rollouts_are_rolled_when_their_kind_comes_later() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    bench.config_map("app", "v1").await?;
    let _reloader = bench.start(&["--debounce=0s", "--is-Argo-Rollouts=true"]).await?;
    crd(&bench, "argoproj.io", "v1alpha1", "Rollout", "rollouts").await?;
    let api = custom(&bench, "argoproj.io", "v1alpha1", "Rollout");
    let restart = ("reloader.stakater.com/rollout-strategy", "restart");
    bench.create(workload("Deployment", "base", &[])).await?;
    for (name, annotations, by_reference) in [
        ("plain", vec![AUTO], false),
        ("restart", vec![AUTO, restart], false),
        ("reference", vec![AUTO], true),
    ] {
        let mut object = workload("Rollout", name, &annotations);
        object["apiVersion"] = json!("argoproj.io/v1alpha1");
        if by_reference {
            object["spec"] =
                json!({"workloadRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "base"}});
        }
        api.create(&PostParams::default(), &serde_json::from_value(object)?)
            .await?;
    }
    let seen = async |name: &str| -> Result<Value, String> {
        let object = api.get(name).await.map_err(|error| error.to_string())?;
        serde_json::to_value(object).map_err(|error| error.to_string())
    };
    for name in ["plain", "restart", "reference"] {
        wait_for("the Rollout to be adopted", LIMIT, async || {
            let object = seen(name).await?;
            let state = object["metadata"]["annotations"][crate::harness::SOURCES].clone();
            let known = state.as_str().is_some_and(|state| state.contains("cm/app"));
            if known { Ok(()) } else { Err(object.to_string()) }
        })
        .await?;
    }
    bench.set("ConfigMap", "app", "v2").await?;
    let (hash, restart_at) = (
        "/spec/template/metadata/annotations/reloader.plumbline.dev~1config-hash",
        "/spec/restartAt",
    );
    for (name, pointer) in [
        ("plain", hash),
        ("restart", restart_at),
        ("reference", restart_at),
    ] {
        wait_for("the Rollout to be rolled", LIMIT, async || {
            let object = seen(name).await?;
            match object.pointer(pointer) {
                Some(_) => Ok(()),
                None => Err(object.to_string()),
            }
        })
        .await?;
    }
    let plain = seen("plain").await.map_err(anyhow::Error::msg)?;
    assert_eq!(
        plain["spec"]["template"]["spec"]["containers"][0]["name"], "a",
        "{plain}"
    );
    Ok(())
}

#[tokio::test]
async fn a_rotated_secret_of_the_csi_driver_rolls_those_who_mount_it() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let group = "secrets-store.csi.x-k8s.io";
    let status_kind = "SecretProviderClassPodStatus";
    let _reloader = bench
        .start(&["--debounce=0s", "--enable-csi-integration=true"])
        .await?;
    crd(&bench, group, "v1", status_kind, "secretproviderclasspodstatuses").await?;
    crd(
        &bench,
        group,
        "v1",
        "SecretProviderClass",
        "secretproviderclasses",
    )
    .await?;
    let api = custom(&bench, group, "v1", status_kind);
    let status = |version: &str| {
        json!({"secretProviderClassName": "vault", "podName": "web-0", "mounted": true,
            "objects": [{"id": "secret/db", "version": version}]})
    };
    let mut object = workload("Deployment", "web", &[AUTO]);
    object["spec"]["template"]["spec"]["volumes"] = json!([{"name": "vault", "csi": {
        "driver": "secrets-store.csi.k8s.io", "readOnly": true, "volumeAttributes": {"secretProviderClass": "vault"}}}]);
    object["spec"]["template"]["spec"]["containers"][0]["volumeMounts"] =
        json!([{"name": "vault", "mountPath": "/vault"}]);
    bench.create(object).await?;
    for pod in ["web-0", "web-1"] {
        let object = json!({"apiVersion": format!("{group}/v1"), "kind": status_kind,
            "metadata": {"name": pod}, "status": status("1")});
        api.create(&PostParams::default(), &serde_json::from_value(object)?)
            .await?;
    }
    bench.adopted("Deployment", "web", &["spc/vault"]).await?;
    let before = bench.template("Deployment", "web").await?;
    // The pods see the new version one after the other.
    for pod in ["web-0", "web-1"] {
        let change = json!({"status": status("2")});
        api.patch(pod, &PatchParams::default(), &Patch::Merge(&change))
            .await?;
    }
    let after = bench.rolled("Deployment", "web", &before).await?;
    api.delete("web-0", &DeleteParams::default()).await?;
    bench.stays("Deployment", "web", &after).await?;
    assert_eq!(bench.count("Deployment", "web").await?, 1);
    Ok(())
}
