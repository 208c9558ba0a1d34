//! `spec.dependsOn` on objects of other kinds.

use k8s_openapi::api::apps::v1::Deployment;
use kube::{
    Api,
    api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use crate::bench::{APP, Bench, last_applied, ready, tenant};

/// A Deployment without a node to run on.
fn database(replicas: u32) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "db" },
        "spec": {
            "replicas": replicas, "progressDeadlineSeconds": 3600,
            "selector": { "matchLabels": { "app": "db" } },
            "template": {
                "metadata": { "labels": { "app": "db" } },
                "spec": { "nodeName": "nowhere", "containers": [{ "name": "main", "image": "db" }] },
            },
        },
    })
}

async fn starts(bench: &Bench, on: Value, spec: Value) -> anyhow::Result<String> {
    bench.write_config_map("a", "1")?;
    let revision = bench.commit()?;
    bench.source(json!({})).await?;
    let mut whole = json!({ "dependsOn": on });
    for (key, value) in spec.as_object().into_iter().flatten() {
        whole[key] = value.clone();
    }
    bench.kustomization(APP, whole).await?;
    Ok(revision)
}

/// Waits until the Kustomization waits and says so in these words.
async fn waits(bench: &Bench, words: &str) -> anyhow::Result<()> {
    let what = format!("it to wait with {words:?}");
    bench
        .until(APP, &what, |object| {
            let (value, reason, message) = ready(object);
            value == "False" && reason == "DependencyNotReady" && message.contains(words)
        })
        .await?;
    Ok(())
}

#[tokio::test]
async fn a_deployment_comes_first_and_nobody_polls_for_it() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let ns = bench.namespace();
    let on = json!([{ "apiVersion": "apps/v1", "kind": "Deployment", "name": "db" }]);
    // Nothing but the watch brings it on.
    let revision = starts(&bench, on, json!({ "retryInterval": "1h" })).await?;
    let _syncer = bench.start(&[])?;
    waits(
        &bench,
        &format!("dependency 'Deployment/{ns}/db' does not exist: "),
    )
    .await?;
    let api: Api<Deployment> = Api::namespaced(bench.world.client(), ns);
    api.create(&PostParams::default(), &serde_json::from_value(database(1))?)
        .await?;
    waits(&bench, &format!("dependency 'Deployment/{ns}/db' is not ready: ")).await?;
    bench.event("Kustomization", "DependencyNotReady", "db").await?;
    assert_eq!(bench.value("a").await?, None);
    bench.idle().await?;

    let scale = |replicas: u32| Patch::Merge(json!({ "spec": { "replicas": replicas } }));
    let params = PatchParams::default();
    api.patch("db", &params, &scale(0)).await?;
    bench.applied(&revision).await?;

    // Later on it holds back what is new, and no correction of drift.
    api.patch("db", &params, &scale(1)).await?;
    let edit = json!({ "data": { "key": "edited" } });
    bench
        .config_maps()
        .patch("a", &params, &Patch::Merge(&edit))
        .await?;
    bench.until_value("a", Some("1")).await?;
    assert_eq!(ready(&bench.kustomizations().get(APP).await?).0, "True");
    bench.write_config_map("a", "2")?;
    let second = bench.push().await?;
    let message = bench.fails(&second, "DependencyNotReady").await?;
    assert!(message.contains("is not ready: "), "{message}");
    assert_eq!(bench.value("a").await?.as_deref(), Some("1"));
    assert_eq!(last_applied(&bench.kustomizations().get(APP).await?), revision);
    api.delete("db", &DeleteParams::default()).await?;
    waits(&bench, "does not exist").await?;
    api.create(&PostParams::default(), &serde_json::from_value(database(0))?)
        .await?;
    bench.applied(&second).await?;
    Ok(())
}

#[tokio::test]
async fn a_kind_that_comes_later_is_waited_for_over_a_restart() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let group = format!("{}.example.com", bench.namespace());
    let crd = format!("widgets.{group}");
    let on = json!([
        { "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "name": crd },
        { "apiVersion": format!("{group}/v1"), "kind": "Widget", "name": "w", "readyExpr": "dep.spec.size > 2" },
    ]);
    let revision = starts(&bench, on, json!({ "retryInterval": "1h" })).await?;
    // CRDs are watched by a syncer of all namespaces only: this one looks at all, and for its own objects.
    let ours = format!("of={}", bench.namespace());
    bench
        .world
        .kubectl(&["label", "gitrepository/app", "kustomization/app", &ours])?;
    let selector = format!("--watch-label-selector={ours}");
    let arguments = ["--watch-all-namespaces=true", &selector];
    let syncer = bench.start(&arguments)?;
    waits(
        &bench,
        &format!("dependency 'CustomResourceDefinition/{crd}' does not exist"),
    )
    .await?;
    drop(syncer);
    let _syncer = bench.start(&arguments)?;
    let on = json!([{ "apiVersion": format!("{group}/v1"), "kind": "Widget", "name": "w", "readyExpr": "dep.spec.size > 2" }]);
    bench.set_spec(APP, json!({ "dependsOn": on })).await?;
    waits(
        &bench,
        &format!("the API server does not serve {group}/v1, Kind=Widget"),
    )
    .await?;
    bench.world.kubectl_with(
        &["apply", "--server-side", "-f", "-"],
        &crate::one_bad::crd(&group),
    )?;
    waits(&bench, "does not exist: create it").await?;
    let api = bench.api(&group, "v1", "Widget");
    let widget: DynamicObject = serde_json::from_value(json!({
        "apiVersion": format!("{group}/v1"), "kind": "Widget", "metadata": { "name": "w" }, "spec": { "size": 1 },
    }))?;
    api.create(&PostParams::default(), &widget).await?;
    waits(&bench, "is not ready: spec.dependsOn[0].readyExpr does not hold").await?;
    let grown = json!({ "spec": { "size": 3 } });
    api.patch("w", &PatchParams::default(), &Patch::Merge(&grown))
        .await?;
    bench.applied(&revision).await?;
    Ok(())
}

const READER: &str = "
- {apiGroups: [''], resources: [configmaps], verbs: [get, create, patch], resourceNames: [a]}
- {apiGroups: [''], resources: [configmaps], verbs: [create]}";

#[tokio::test]
async fn a_tenant_waits_for_what_it_may_see_and_for_nothing_else() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let ns = bench.namespace();
    let apply = |yaml: &str| {
        bench
            .world
            .kubectl_with(&["apply", "--server-side", "-f", "-"], yaml)
    };
    apply(&tenant(READER))?;
    apply(&bench.manifest("state", "ready"))?;
    let on = json!([{
        "apiVersion": "v1", "kind": "ConfigMap", "name": "state",
        "readyExpr": "dep.data.key == 'ready' && self.metadata.name == 'app'",
    }]);
    let revision = starts(&bench, on, json!({ "serviceAccountName": "tenant" })).await?;
    let _syncer = bench.start(&[])?;
    waits(
        &bench,
        &format!("dependency 'ConfigMap/{ns}/state' cannot be read: "),
    )
    .await?;
    waits(&bench, "is forbidden").await?;
    // To read it is enough; without a watch it is asked for.
    let more = READER.replace("resourceNames: [a]", "resourceNames: [a, state]");
    apply(&bench.manifest("state", "going"))?;
    apply(&tenant(&more))?;
    waits(&bench, "readyExpr does not hold").await?;
    apply(&bench.manifest("state", "ready"))?;
    bench.applied(&revision).await?;

    for (on, reason, words) in [
        (
            json!({ "kind": "Job", "name": "x" }),
            "InvalidField",
            "spec.dependsOn[0]: apiVersion and kind belong together",
        ),
        (
            json!({ "apiVersion": "v1", "kind": "ConfigMap", "name": "x", "namespace": "kube-system" }),
            "AccessDenied",
            "the dependency kube-system/x is in another namespace",
        ),
        (
            json!({ "apiVersion": "v1", "kind": "ConfigMap", "name": "a" }),
            "DependencyNotReady",
            "is an object of this Kustomization itself",
        ),
    ] {
        bench.set_spec(APP, json!({ "dependsOn": [on] })).await?;
        bench
            .until(APP, words, |object| {
                let (value, why, message) = ready(object);
                value == "False" && why == reason && message.contains(words)
            })
            .await?;
    }
    Ok(())
}
