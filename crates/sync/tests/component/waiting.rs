//! What waits for what: health of objects, and order between Kustomizations.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use k8s_openapi::api::apps::v1::Deployment;
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use plumbline_sync::api::Kustomization;
use plumbline_testkit::{FakeNode, wait_for};
use serde_json::{Value, json};

use crate::bench::{APP, Bench, LIMIT, last_applied, ready};

/// A Deployment with one pod on the node of this namespace, which need not be there yet.
fn deployment(namespace: &str, name: &str, image: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": name, "namespace": namespace },
        "spec": {
            "progressDeadlineSeconds": 3600,
            "selector": { "matchLabels": { "app": name } },
            "template": {
                "metadata": { "labels": { "app": name } },
                "spec": { "nodeName": namespace, "containers": [{ "name": "main", "image": image }] },
            },
        },
    })
}

fn condition(object: &Kustomization, kind: &str) -> Option<(String, String, String)> {
    let conditions = &object.status.as_ref()?.conditions;
    let found = conditions.iter().find(|c| c.type_ == kind)?;
    Some((found.status.clone(), found.reason.clone(), found.message.clone()))
}

fn is(object: &Kustomization, kind: &str, status: &str, reason: &str) -> bool {
    condition(object, kind).is_some_and(|(is, why, _)| is == status && why == reason)
}

#[tokio::test]
async fn ready_means_healthy_and_only_then_the_next_one_begins() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let ns = bench.namespace();
    bench
        .repository
        .write("deploy/web.yaml", deployment(ns, "web", "v1").to_string())?;
    bench
        .repository
        .write("next/it.yaml", bench.manifest("next", "1"))?;
    let revision = bench.commit()?;
    bench.source(json!({})).await?;
    bench
        .kustomization(
            "next",
            json!({ "path": "./next", "dependsOn": [{ "name": APP }] }),
        )
        .await?;
    bench
        .kustomization(APP, json!({ "wait": true, "timeout": "10m" }))
        .await?;
    let _syncer = bench.start(&[])?;
    let object = bench
        .until(APP, "health to be asked for", |object| {
            is(object, "Healthy", "Unknown", "Progressing")
        })
        .await?;
    let (value, reason, message) = ready(&object);
    assert_eq!((value.as_str(), reason.as_str()), ("Unknown", "Progressing"));
    assert_eq!(
        message,
        format!("Running health checks for revision {revision} with a timeout of 10m0s")
    );
    assert!(is(&object, "Reconciling", "True", "Progressing"));
    assert_eq!(last_applied(&object), "", "not before it is healthy");
    let told = bench.fails_by("next", &revision, "DependencyNotReady").await?;
    assert_eq!(told, format!("dependency '{ns}/{APP}' is not ready: Progressing"));
    bench.event("Kustomization", "DependencyNotReady", APP).await?;
    assert_eq!(bench.value("next").await?, None);

    let node = FakeNode::start(&bench.world).await?;
    let object = bench.applied(&revision).await?;
    assert!(is(&object, "Healthy", "True", "Succeeded"));
    assert!(condition(&object, "Reconciling").is_none());
    let object = bench.applied_by("next", &revision).await?;
    assert!(condition(&object, "Healthy").is_none(), "nobody asked");
    assert_eq!(bench.value("next").await?.as_deref(), Some("1"));

    // Neither waiting nor having waited costs anything.
    bench.idle().await?;

    bench.set_spec(APP, json!({ "wait": false })).await?;
    bench
        .until(APP, "the condition to go", |object| {
            condition(object, "Healthy").is_none() && ready(object).0 == "True"
        })
        .await?;
    node.stop(&bench.world).await
}

#[tokio::test]
async fn what_an_apply_shows_is_not_read_and_health_within_a_moment_costs_no_status() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let ns = bench.namespace();
    let mut web = deployment(ns, "web", "v1");
    web["spec"]["replicas"] = json!(0);
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": "web", "namespace": ns },
        "spec": { "selector": { "app": "web" }, "ports": [{ "port": 80 }] },
    });
    bench
        .repository
        .write("deploy/web.yaml", format!("{web}\n---\n{service}"))?;
    let revision = bench.commit()?;
    bench.source(json!({})).await?;
    let log = bench.world.audit_log().since_now()?;
    let _syncer = bench.start(&[])?;
    let began = Instant::now();
    bench
        .kustomization(APP, json!({ "wait": true, "timeout": "10m" }))
        .await?;
    let object = bench.applied(&revision).await?;
    let took = began.elapsed();
    assert!(is(&object, "Healthy", "True", "Succeeded"));
    let asked = bench.requests(&log)?.by_verb_and_resource();
    let count = |verb: &str, resource: &str| {
        let key = (verb.to_owned(), resource.to_owned());
        asked.get(&key).copied().unwrap_or_default()
    };
    assert_eq!(count("patch", "services"), 1);
    assert_eq!(count("get", "services"), 0, "the apply has shown it: {asked:?}");
    assert!(
        count("get", "deployments") > 0,
        "its controller has written since"
    );
    // The inventory before the first write, and the end. Only what takes longer is told of in between.
    let statuses = count("patch", "kustomizations/status");
    assert!(
        statuses == 2 || took > Duration::from_secs(3),
        "{statuses} in {took:?}"
    );
    Ok(())
}

#[tokio::test]
async fn what_does_not_get_healthy_is_named_and_nothing_is_pruned_before() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let ns = bench.namespace();
    let node = FakeNode::start(&bench.world).await?;
    let path = "deploy/web.yaml";
    bench
        .repository
        .write(path, deployment(ns, "web", "v1").to_string())?;
    bench.write_config_map("old", "1")?;
    let first = bench.commit()?;
    bench.source(json!({})).await?;
    bench
        .kustomization(APP, json!({ "wait": true, "timeout": "2s" }))
        .await?;
    let syncer = bench.start(&[])?;
    bench.applied(&first).await?;

    // No pod of the new template ever comes: its node does not exist.
    let mut broken = deployment(ns, "web", "v2");
    broken["spec"]["template"]["spec"]["nodeName"] = json!("nowhere");
    bench.repository.write(path, broken.to_string())?;
    bench.repository.remove("deploy/old.yaml")?;
    let second = bench.push().await?;
    let message = bench.fails(&second, "HealthCheckFailed").await?;
    assert!(
        message.starts_with(&format!(
            "health check failed after 2s: not healthy in time (spec.timeout) at revision {second}:\nDeployment/{ns}/web: "
        )),
        "{message}"
    );
    let object = bench.kustomizations().get(APP).await?;
    assert!(is(&object, "Healthy", "False", "HealthCheckFailed"));
    assert_eq!(last_applied(&object), first);
    bench.event("Kustomization", "HealthCheckFailed", "web").await?;
    assert_eq!(
        bench.value("old").await?.as_deref(),
        Some("1"),
        "it may still be used"
    );

    // A crash loses nothing of it.
    drop(syncer);
    let _syncer = bench.start(&[])?;
    bench
        .until(APP, "the wait to go on", |object| {
            is(object, "Healthy", "Unknown", "Progressing")
        })
        .await?;
    bench.fails(&second, "HealthCheckFailed").await?;
    assert_eq!(bench.value("old").await?.as_deref(), Some("1"));

    // The next commit does not wait for the one before.
    bench
        .repository
        .write(path, deployment(ns, "web", "v3").to_string())?;
    let third = bench.push().await?;
    let object = bench.applied(&third).await?;
    assert!(is(&object, "Healthy", "True", "Succeeded"));
    bench.until_value("old", None).await?;
    node.stop(&bench.world).await
}

#[tokio::test]
async fn an_object_that_fails_is_told_at_once() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let ns = bench.namespace();
    let mut late = deployment(ns, "late", "v1");
    late["spec"]["progressDeadlineSeconds"] = json!(1);
    bench.repository.write("deploy/late.yaml", late.to_string())?;
    let revision = bench.commit()?;
    bench.source(json!({})).await?;
    bench
        .kustomization(APP, json!({ "wait": true, "timeout": "30m" }))
        .await?;
    let _syncer = bench.start(&[])?;
    let message = bench.fails(&revision, "HealthCheckFailed").await?;
    assert!(message.contains("late: ProgressDeadlineExceeded"), "{message}");
    // And that it got well after all as soon as it does.
    let node = FakeNode::start(&bench.world).await?;
    bench.applied(&revision).await?;
    node.stop(&bench.world).await
}

#[tokio::test]
async fn an_object_of_somebody_else_can_be_waited_for() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let ns = bench.namespace();
    bench.write_config_map("a", "1")?;
    let revision = bench.commit()?;
    bench.source(json!({})).await?;
    let checks = json!([
        { "apiVersion": "apps/v1", "kind": "Deployment", "name": "theirs" },
        { "apiVersion": "nobody.example/v1", "kind": "Unknown", "name": "x" },
    ]);
    bench
        .kustomization(APP, json!({ "healthChecks": checks, "timeout": "3s" }))
        .await?;
    let _syncer = bench.start(&[])?;
    let message = bench.fails(&revision, "HealthCheckFailed").await?;
    for told in [
        format!("Deployment/{ns}/theirs: it does not exist"),
        format!("Unknown/{ns}/x: the API server does not serve its kind"),
    ] {
        assert!(message.contains(&told), "{message}");
    }
    bench
        .set_spec(APP, json!({ "healthChecks": [checks[0]], "timeout": "10m" }))
        .await?;
    let mut theirs = deployment(ns, "theirs", "v1");
    theirs["spec"]["replicas"] = json!(0);
    let api: Api<Deployment> = Api::namespaced(bench.world.client(), ns);
    api.create(&PostParams::default(), &serde_json::from_value(theirs)?)
        .await?;
    bench.applied(&revision).await?;
    Ok(())
}

#[tokio::test]
async fn a_dependency_that_fails_at_a_new_revision_holds_the_next_one_at_the_old() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    bench.repository.write("base/a.yaml", bench.manifest("a", "1"))?;
    bench.write_config_map("b", "1")?;
    let first = bench.commit()?;
    bench.source(json!({})).await?;
    bench.kustomization("base", json!({ "path": "./base" })).await?;
    bench
        .kustomization(APP, json!({ "dependsOn": [{ "name": "base" }] }))
        .await?;
    let _syncer = bench.start(&[])?;
    bench.applied(&first).await?;

    bench.repository.write("base/a.yaml", "kind: [")?;
    bench.write_config_map("b", "2")?;
    let second = bench.push().await?;
    let message = bench.fails(&second, "DependencyNotReady").await?;
    assert!(message.ends_with("/base' is not ready: BuildFailed"), "{message}");
    assert_eq!(bench.value("b").await?.as_deref(), Some("1"));

    bench.repository.write("base/a.yaml", bench.manifest("a", "2"))?;
    let third = bench.push().await?;
    bench.applied(&third).await?;
    assert_eq!(bench.value("a").await?.as_deref(), Some("2"));
    assert_eq!(bench.value("b").await?.as_deref(), Some("2"));

    // When all goes well, the status does not say in between that it does not.
    let api = bench.kustomizations();
    let before = api.get(APP).await?.status.context("no status")?;
    bench.write_config_map("b", "3")?;
    let fourth = bench.push().await?;
    bench.applied(&fourth).await?;
    let after = api.get(APP).await?.status.context("no status")?;
    let since = |conditions: &[k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition]| {
        let ready = conditions.iter().find(|c| c.type_ == "Ready");
        ready.map(|ready| ready.last_transition_time.clone())
    };
    assert_eq!(since(&before.conditions), since(&after.conditions));
    Ok(())
}

#[tokio::test]
async fn a_cycle_stops_its_members_and_nobody_else() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    for name in ["a", "b", "free"] {
        bench
            .repository
            .write(&format!("{name}/it.yaml"), bench.manifest(name, "1"))?;
    }
    let revision = bench.commit()?;
    bench.source(json!({})).await?;
    for (name, on) in [
        ("a", json!([{ "name": "b" }])),
        ("b", json!([{ "name": "a" }])),
        ("free", json!([])),
    ] {
        bench
            .kustomization(
                name,
                json!({ "path": name, "dependsOn": on, "retryInterval": "1h" }),
            )
            .await?;
    }
    let _syncer = bench.start(&[])?;
    bench.applied_by("free", &revision).await?;
    let ns = bench.namespace();
    let message = bench.fails_by("a", &revision, "DependencyNotReady").await?;
    assert!(
        message.starts_with(&format!("these wait for one another: {ns}/a → {ns}/b → {ns}/a.")),
        "{message}"
    );
    bench.fails_by("b", &revision, "DependencyNotReady").await?;

    // Taking it apart is enough.
    bench.set_spec("b", json!({ "dependsOn": null })).await?;
    bench.applied_by("b", &revision).await?;
    bench.applied_by("a", &revision).await?;

    // A dependency of another namespace is a reference like any other.
    let foreign = json!([{ "name": "free", "namespace": "elsewhere" }]);
    bench.set_spec("a", json!({ "dependsOn": foreign })).await?;
    bench
        .until("a", "the reference to be refused", |object| {
            ready(object).1 == "AccessDenied"
        })
        .await?;
    Ok(())
}

#[tokio::test]
async fn those_that_never_get_healthy_hold_nobody_up() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let ns = bench.namespace();
    for n in 0..12 {
        bench.repository.write(
            &format!("bad{n}/it.yaml"),
            deployment(ns, &format!("bad{n}"), "v1").to_string(),
        )?;
    }
    bench.write_config_map("good", "1")?;
    let revision = bench.commit()?;
    bench.source(json!({})).await?;
    for n in 0..12 {
        bench
            .kustomization(
                &format!("bad{n}"),
                json!({ "path": format!("bad{n}"), "wait": true, "timeout": "1h" }),
            )
            .await?;
    }
    // Fewer workers than waits.
    let _syncer = bench.start(&["--concurrent=2"])?;
    for n in 0..12 {
        bench
            .until(&format!("bad{n}"), "it to wait", |object| {
                is(object, "Healthy", "Unknown", "Progressing")
            })
            .await?;
    }
    bench.kustomization(APP, json!({ "wait": true })).await?;
    bench.applied(&revision).await?;
    bench.write_config_map("good", "2")?;
    let second = bench.push().await?;
    bench.applied(&second).await?;
    wait_for("the others to wait for the new revision", LIMIT, async || {
        let api = bench.kustomizations();
        let list = api.list(&kube::api::ListParams::default()).await;
        let list = list.map_err(|error| error.to_string())?.items;
        let waits = list
            .iter()
            .filter(|object| ready(object).2.contains(&second))
            .count();
        if waits == 13 {
            Ok(())
        } else {
            Err(format!("{waits}"))
        }
    })
    .await?;
    // An edit that takes the cause away is enough.
    let api: Api<Deployment> = Api::namespaced(bench.world.client(), ns);
    let patch = json!({ "spec": { "replicas": 0 } });
    api.patch("bad0", &PatchParams::default(), &Patch::Merge(&patch))
        .await?;
    bench.applied_by("bad0", &second).await?;
    Ok(())
}

#[tokio::test]
async fn expressions_say_what_is_healthy_and_what_is_ready() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let ns = bench.namespace();
    bench.write_config_map("state", "going")?;
    bench
        .repository
        .write("next/it.yaml", bench.manifest("next", "1"))?;
    let revision = bench.commit()?;
    bench.source(json!({})).await?;
    // A ConfigMap that someone else fills in.
    let check = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "inProgress": "!has(data.result)",
        "failed": "data.result == 'broken'", "current": "data.result == 'done'",
    });
    bench
        .kustomization(
            APP,
            json!({ "wait": true, "timeout": "10m", "healthCheckExprs": [check] }),
        )
        .await?;
    let on = json!([{ "name": APP, "readyExpr": "dep.metadata.annotations['go'] == self.metadata.name" }]);
    bench
        .kustomization("next", json!({ "path": "./next", "dependsOn": on }))
        .await?;
    let _syncer = bench.start(&[])?;
    bench
        .until(APP, "the check to run", |object| {
            is(object, "Healthy", "Unknown", "Progressing")
        })
        .await?;
    let told = bench.fails_by("next", &revision, "DependencyNotReady").await?;
    assert!(
        told.starts_with(&format!(
            "dependency '{ns}/{APP}' is not ready: spec.dependsOn[0].readyExpr: no such field: "
        )),
        "{told}"
    );
    let result = async |value: &str| {
        let patch = json!({ "data": { "result": value } });
        let params = PatchParams::default();
        bench
            .config_maps()
            .patch("state", &params, &Patch::Merge(&patch))
            .await
    };
    result("broken").await?;
    let object = bench
        .until(APP, "the failure", |object| {
            is(object, "Healthy", "False", "HealthCheckFailed")
        })
        .await?;
    let (_, _, message) = ready(&object);
    assert!(
        message.contains(&format!(
            "ConfigMap/{ns}/state: spec.healthCheckExprs[0].failed holds"
        )),
        "{message}"
    );
    result("done").await?;
    bench.applied(&revision).await?;
    assert_eq!(bench.value("next").await?, None);

    // It sees all of the dependency, and looks as soon as it changes.
    bench
        .world
        .kubectl(&["annotate", "kustomization", APP, "go=next"])?;
    bench.applied_by("next", &revision).await?;

    // What is no condition is said; what cannot even be read, before anything is applied.
    for (checks, stalled) in [
        (json!([{ "apiVersion": "v1", "current": "data.result" }]), false),
        (json!([{ "apiVersion": "v1", "current": "data.(" }]), true),
        (
            json!([{ "apiVersion": "v1", "current": "['a'].map(x, x + x) == ['aa']" }]),
            true,
        ),
    ] {
        bench.set_spec(APP, json!({ "healthCheckExprs": checks })).await?;
        bench
            .until(APP, &format!("{checks} to be refused"), |object| {
                let (value, reason, message) = ready(object);
                let expected = condition(object, "Stalled").is_some() == stalled;
                expected
                    && value == "False"
                    && reason == "InvalidCELExpression"
                    && message.contains("spec.healthCheckExprs[0].current")
            })
            .await?;
    }
    Ok(())
}
