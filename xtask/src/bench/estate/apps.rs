//! Flux's published benchmark shape: apps of a Deployment without replicas, a ServiceAccount, a Service and an Ingress,
//! waited for.

use std::time::Instant;

use serde_json::json;

use super::fleet::Fleet;
use crate::bench::{
    figures::{Figures, Goal, number},
    process::Process,
    requests::Asked,
    stage,
};

pub(crate) async fn measure(
    fleet: &Fleet<'_>,
    syncer: &Process,
    quick: bool,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    let count = if quick { 50 } else { 1_000 };
    let names: Vec<String> = (0..count).map(|index| format!("app-{index:04}")).collect();
    stage::namespace(fleet.client, "apps").await?;
    for name in &names {
        fleet
            .stage
            .repository
            .write(&format!("{name}/app.yaml"), app(name))?;
    }
    let revision = fleet.commit("everything")?;
    fleet.stage.follow_repository(fleet.client).await?;
    stage::fetched(fleet.client).await?;
    let log = fleet.stage.plane.audit_log().since_now()?;
    let begin = Instant::now();
    fleet.make(&names, &json!({ "wait": true })).await?;
    let took = fleet.applied(&names, &revision).await? - begin;
    let asked = Asked::read(&log).await?;
    let what = format!("{count} apps of 4 objects, waited for");
    let note = format!("Flux 2.9 on 16 cores: 4m13s for 1000; {}", asked.others());
    figures.add(
        format!("{what}: install"),
        took.as_secs_f64(),
        "s",
        Some(Goal::Below(30.0 * number(count) / 1_000.0)),
        note,
    );
    figures.add(
        format!("{what}: requests an app"),
        number(asked.total()) / number(count),
        "",
        None,
        "4 applies, status, finalizer, reads of the Deployment",
    );
    figures.add(
        format!("{what}: peak memory"),
        syncer.peak()?,
        "MiB",
        Some(Goal::Below(64.0)),
        "",
    );

    fleet.stage.repository.write("README.md", "no manifest")?;
    let (took, asked) = fleet.push(&names, "nothing changes").await?;
    figures.add(
        format!("{what}: a commit that changes nothing"),
        took.as_secs_f64(),
        "s",
        Some(Goal::Below(2.0)),
        asked.others(),
    );
    figures.add(
        format!("{what}: … requests"),
        number(asked.total()),
        "requests",
        Some(Goal::Below(number(count) + 10.0)),
        "one status each, and no event",
    );
    Ok(())
}

fn app(name: &str) -> String {
    let metadata = json!({ "name": name, "namespace": "apps", "labels": { "app": name } });
    let objects = [
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
    ];
    objects.map(|object| object.to_string()).join("\n---\n")
}
