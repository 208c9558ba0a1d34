//! Flux's published benchmark shape: apps of a Deployment without replicas, a ServiceAccount, a Service and an Ingress,
//! waited for.

use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::Deployment;
use kube::{Api, ResourceExt as _, api::ListParams};
use plumbline_testkit::wait_for;
use serde_json::{Value, json};

use super::fleet::{Fleet, PATIENCE};
use crate::bench::{
    bare,
    figures::{Figures, Goal, number},
    process::Process,
    requests::Asked,
    stage,
};

pub(crate) async fn measure(
    fleet: &Fleet<'_>,
    syncer: &mut Process,
    quick: bool,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    let count = if quick { 50 } else { 1_000 };
    let names: Vec<String> = (0..count).map(|index| format!("app-{index:04}")).collect();
    stage::namespace(fleet.client, "apps").await?;
    for name in &names {
        let objects = app("apps", name).map(|object| object.to_string());
        fleet
            .stage
            .repository
            .write(&format!("{name}/app.yaml"), objects.join("\n---\n"))?;
    }
    let revision = fleet.commit("everything")?;
    fleet.stage.follow_repository(fleet.client).await?;
    stage::fetched(fleet.client).await?;
    let log = fleet.stage.plane.audit_log().since_now()?;
    let begin = Instant::now();
    fleet.make(&names, &json!({ "wait": true })).await?;
    let installed = fleet.applied(&names, &revision).await? - begin;
    let asked = Asked::read(&log).await?;
    let what = format!("{count} apps of 4 objects, waited for");
    let peak = syncer.peak()?;

    fleet.stage.repository.write("README.md", "no manifest")?;
    let (repeated, nothing) = fleet.push(&names, "nothing changes").await?;

    // What the API server alone needs for the same writes, and the controllers of Kubernetes for what follows from them.
    syncer.end();
    let bare_status = statuses(fleet, &names).await?;
    let bare_install = install(fleet, &names).await?;

    let took = installed.as_secs_f64();
    let note = format!("Flux 2.9 on 16 cores: 4m13s for 1000; {}", asked.others());
    figures.add(format!("{what}: install"), took, "s", None, note);
    figures.add(
        format!("{what}: … ratio to the bare client"),
        took / bare_install.as_secs_f64(),
        "",
        Some(Goal::Below(2.0)),
        format!(
            "{:.1} s for the applies alone, until the Deployments are observed",
            bare_install.as_secs_f64()
        ),
    );
    figures.add(
        format!("{what}: requests an app"),
        number(asked.total()) / number(count),
        "",
        Some(Goal::Below(10.5)),
        "4 applies, 2 statuses, 2 Events, the finalizer, a read of the Deployment",
    );
    figures.add(
        format!("{what}: peak memory"),
        peak,
        "MiB",
        Some(Goal::Below(64.0)),
        "",
    );
    let took = repeated.as_secs_f64();
    figures.add(
        format!("{what}: a commit that changes nothing"),
        took,
        "s",
        None,
        nothing.others(),
    );
    figures.add(
        format!("{what}: … ratio to the bare client"),
        took / bare_status.as_secs_f64(),
        "",
        Some(Goal::Below(1.5)),
        format!("{:.1} s for the statuses alone", bare_status.as_secs_f64()),
    );
    figures.add(
        format!("{what}: … requests"),
        number(nothing.total()),
        "requests",
        Some(Goal::Below(number(count) + 10.0)),
        "one status each, and no event",
    );
    Ok(())
}

/// How long a client needs that does nothing but write all statuses once more, with another revision.
async fn statuses(fleet: &Fleet<'_>, names: &[String]) -> anyhow::Result<Duration> {
    let list = stage::kustomizations(fleet.client)
        .list(&ListParams::default())
        .await?;
    let mut patches = Vec::new();
    for object in list
        .items
        .into_iter()
        .filter(|object| names.contains(&object.name_any()))
    {
        let was = object.data["status"]["lastAppliedRevision"]
            .as_str()
            .unwrap_or_default();
        let mut status = object.data["status"].clone();
        if let Some(fields) = status.as_object_mut() {
            // What the syncer does not send either, because it does not change.
            fields.retain(|key, _| key != "inventory" && key != "observedGeneration");
        }
        let text = status
            .to_string()
            .replace(was, "main@sha1:0000000000000000000000000000000000000000");
        let status: Value = serde_json::from_str(&text)?;
        patches.push((object.name_any(), json!({ "status": status })));
    }
    bare::statuses(fleet.client, &patches).await
}

/// How long a client needs that does nothing but apply the same objects, until the Deployments are observed.
async fn install(fleet: &Fleet<'_>, names: &[String]) -> anyhow::Result<Duration> {
    const NAMESPACE: &str = "bare";
    stage::namespace(fleet.client, NAMESPACE).await?;
    let objects: Vec<Value> = names.iter().flat_map(|name| app(NAMESPACE, name)).collect();
    let begin = Instant::now();
    let addressed = objects.iter().map(|object| {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (version, kind) = (text(&object["apiVersion"]), text(&object["kind"]).to_lowercase());
        let root = if version == "v1" { "/api" } else { "/apis" };
        let plural = if kind == "ingress" {
            "ingresses".to_owned()
        } else {
            format!("{kind}s")
        };
        let path = format!("{root}/{version}/namespaces/{NAMESPACE}/{plural}");
        (path, text(&object["metadata"]["name"]), object)
    });
    bare::apply_all(fleet.client, addressed).await?;
    let deployments: Api<Deployment> = Api::namespaced(fleet.client.clone(), NAMESPACE);
    wait_for("the Deployments to be observed", PATIENCE, async || {
        let list = deployments.list(&ListParams::default()).await;
        let list = list.map_err(|error| error.to_string())?.items;
        let left = list
            .iter()
            .filter(|object| {
                let seen = object
                    .status
                    .as_ref()
                    .and_then(|status| status.observed_generation);
                seen != object.metadata.generation
            })
            .count();
        if left == 0 {
            Ok(())
        } else {
            Err(format!("{left} are not"))
        }
    })
    .await?;
    Ok(begin.elapsed())
}

fn app(namespace: &str, name: &str) -> [Value; 4] {
    let metadata = json!({ "name": name, "namespace": namespace, "labels": { "app": name } });
    [
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata,
            "spec": {
                "replicas": 0, "selector": { "matchLabels": { "app": name } },
                "template": {
                    "metadata": { "labels": { "app": name } },
                    "spec": {
                        "serviceAccountName": name,
                        "containers": [{
                            "name": "app", "image": "example.org/app:1", "ports": [{ "name": "http", "containerPort": 8080 }],
                            "resources": { "requests": { "cpu": "10m", "memory": "16Mi" } },
                        }],
                    },
                },
            },
        }),
        json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata }),
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": metadata,
            "spec": { "selector": { "app": name }, "ports": [{ "name": "http", "port": 80, "targetPort": "http" }] },
        }),
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": metadata,
            "spec": { "rules": [{
                "host": format!("{name}.example.org"),
                "http": { "paths": [{
                    "path": "/", "pathType": "Prefix",
                    "backend": { "service": { "name": name, "port": { "name": "http" } } },
                }] },
            }] },
        }),
    ]
}
