//! `plumbline.dev/on-unhealthy: Return`: back to the last healthy commit, over crashes and with a lost mirror.

use kube::api::{ListParams, Patch, PatchParams};
use plumbline_sync::api::Kustomization;
use plumbline_testkit::{git::Fault, wait_for};
use serde_json::{Value, json};

use crate::bench::{APP, Bench, LIMIT, entries, last_applied, patches, ready};

const ANNOTATION: &str = "plumbline.dev/on-unhealthy";

/// Health as a ConfigMap's value says it.
fn health(timeout: &str) -> Value {
    let check = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "inProgress": "data.key == 'slow'",
        "failed": "data.key == 'broken'", "current": "true",
    });
    json!({ "wait": true, "timeout": timeout, "healthCheckExprs": [check] })
}

async fn set_policy(bench: &Bench, policy: &str) -> anyhow::Result<()> {
    let patch = json!({ "metadata": { "annotations": { ANNOTATION: policy } } });
    bench
        .kustomizations()
        .patch(APP, &PatchParams::default(), &Patch::Merge(&patch))
        .await?;
    Ok(())
}

fn condition(object: &Kustomization, kind: &str) -> Option<(String, String, String)> {
    let conditions = &object.status.as_ref()?.conditions;
    let found = conditions.iter().find(|c| c.type_ == kind)?;
    Some((found.status.clone(), found.reason.clone(), found.message.clone()))
}

/// Waits until `failed` made way for an earlier revision.
async fn returned(bench: &Bench, failed: &str) -> anyhow::Result<Kustomization> {
    bench
        .until(APP, &format!("the return from {failed}"), |object| {
            let status = object.status.clone().unwrap_or_default();
            status.last_attempted_revision.as_deref() == Some(failed)
                && condition(object, "Returned").is_some_and(|(_, reason, _)| reason == "Returned")
        })
        .await
}

fn handled(object: &Kustomization) -> Option<&str> {
    object.status.as_ref()?.last_handled_reconcile_at.as_deref()
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one story, told in order")]
async fn a_commit_that_does_not_get_healthy_makes_way_until_there_is_a_newer_one() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let ns = bench.namespace();
    bench.write_config_map("a", "1")?;
    bench.write_config_map("old", "1")?;
    bench
        .repository
        .write("next/it.yaml", bench.manifest("next", "1"))?;
    let first = bench.commit()?;
    bench.source(json!({})).await?;
    bench.kustomization(APP, health("2s")).await?;
    set_policy(&bench, "Return").await?;
    let on = json!([{ "name": APP }]);
    bench
        .kustomization("next", json!({ "path": "./next", "dependsOn": on }))
        .await?;
    let syncer = bench.start(&[])?;
    bench.applied(&first).await?;
    bench.applied_by("next", &first).await?;

    bench.write_config_map("a", "broken")?;
    bench.write_config_map("new", "1")?;
    bench.repository.remove("deploy/old.yaml")?;
    bench
        .repository
        .write("next/it.yaml", bench.manifest("next", "2"))?;
    let second = bench.push().await?;
    let object = returned(&bench, &second).await?;
    let (value, reason, message) = ready(&object);
    assert_eq!((value.as_str(), reason.as_str()), ("False", "HealthCheckFailed"));
    let expected = [
        format!("returned to revision {first}, the last healthy one"),
        format!("at revision {second}:\nConfigMap/{ns}/a: spec.healthCheckExprs[0].failed holds"),
    ];
    for part in &expected {
        assert!(message.contains(part), "{part:?} is not in {message}");
    }
    assert_eq!(last_applied(&object), first);
    assert_eq!(
        condition(&object, "Stalled").map(|it| it.0).as_deref(),
        Some("True")
    );
    assert_eq!(
        condition(&object, "Healthy").map(|it| it.0).as_deref(),
        Some("True")
    );
    assert!(condition(&object, "Reconciling").is_none());
    bench.event("Kustomization", "HealthCheckFailed", &second).await?;
    bench.event("Kustomization", "Returned", &first).await?;
    for (name, value) in [("a", Some("1")), ("old", Some("1")), ("new", None)] {
        assert_eq!(bench.value(name).await?.as_deref(), value, "{name}");
    }
    assert_eq!(entries(&object).len(), 2);
    // Who depends on it sees that it is not where it should be.
    bench.fails_by("next", &second, "DependencyNotReady").await?;
    assert_eq!(bench.value("next").await?.as_deref(), Some("1"));

    // There it stays: idle, kept as it is, and over a restart.
    bench.idle().await?;
    let edit = json!({ "data": { "key": "edited" } });
    bench
        .config_maps()
        .patch("a", &PatchParams::default(), &Patch::Merge(&edit))
        .await?;
    bench.until_value("a", Some("1")).await?;
    drop(syncer);
    let log = bench.world.audit_log().since_now()?;
    let _syncer = bench.start(&[])?;
    bench
        .config_maps()
        .patch("old", &PatchParams::default(), &Patch::Merge(&edit))
        .await?;
    bench.until_value("old", Some("1")).await?;
    assert_eq!(bench.value("a").await?.as_deref(), Some("1"));
    assert_eq!(
        patches(&bench.requests(&log)?, "configmaps"),
        1,
        "only what was edited"
    );

    // Who asks gets another try.
    let log = bench.world.audit_log().since_now()?;
    let asked = bench.request(APP).await?;
    bench
        .until(APP, "the other try", |object| {
            handled(object) == Some(&asked)
                && condition(object, "Returned").is_some_and(|(_, reason, _)| reason == "Returned")
        })
        .await?;
    let mut tried = bench.requests(&log)?;
    tried.0.retain(|it| it.name == "a");
    assert_eq!(patches(&tried, "configmaps"), 2, "there and back");
    assert_eq!(bench.value("new").await?, None);

    // The next commit is tried at once, and nothing of the failed one is left.
    bench.write_config_map("a", "2")?;
    let third = bench.push().await?;
    let object = bench.applied(&third).await?;
    assert!(condition(&object, "Returned").is_none() && condition(&object, "Stalled").is_none());
    bench.until_value("old", None).await?;
    assert_eq!(bench.value("new").await?.as_deref(), Some("1"));
    bench.applied_by("next", &third).await?;

    // Too slow is as bad as broken.
    bench.write_config_map("a", "slow")?;
    let fourth = bench.push().await?;
    let object = returned(&bench, &fourth).await?;
    assert!(
        ready(&object).2.contains("health check failed after 2s"),
        "{object:?}"
    );
    assert_eq!(last_applied(&object), third);
    bench.until_value("a", Some("2")).await?;

    // Without the annotation it is as it always was.
    set_policy(&bench, "Stay").await?;
    bench.until_value("a", Some("slow")).await?;
    let object = bench
        .until(APP, "it to stay", |object| ready(object).1 == "HealthCheckFailed")
        .await?;
    assert!(condition(&object, "Returned").is_none());
    assert_eq!(bench.value("a").await?.as_deref(), Some("slow"));
    Ok(())
}

#[tokio::test]
async fn without_an_earlier_healthy_commit_it_stays_and_says_so() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    bench.write_config_map("a", "broken")?;
    let first = bench.commit()?;
    bench.source(json!({})).await?;
    bench.kustomization(APP, health("2s")).await?;
    set_policy(&bench, "Return").await?;
    let _syncer = bench.start(&[])?;
    bench.fails(&first, "HealthCheckFailed").await?;
    let says = |reason: &'static str| {
        move |object: &Kustomization| condition(object, "Returned").is_some_and(|it| it.1 == reason)
    };
    let object = bench
        .until(APP, "it to say so", says("NothingToReturnTo"))
        .await?;
    let (value, _, message) = condition(&object, "Returned").unwrap_or_default();
    assert!(
        value == "False" && message.contains("no earlier revision"),
        "{message}"
    );
    assert_eq!(bench.value("a").await?.as_deref(), Some("broken"));

    // A commit that changes nothing of it is no cause either.
    bench.write_config_map("a", "1")?;
    let second = bench.push().await?;
    let object = bench.applied(&second).await?;
    assert!(condition(&object, "Returned").is_none());

    // What cannot be meant is refused.
    for (policy, spec, words) in [
        ("Back", json!({}), "\"back\" is neither Stay nor Return"),
        (
            "Return",
            json!({ "wait": false }),
            "needs spec.wait or spec.healthChecks",
        ),
    ] {
        set_policy(&bench, policy).await?;
        bench.set_spec(APP, spec).await?;
        bench
            .until(APP, words, |object| {
                let (value, reason, message) = ready(object);
                value == "False" && reason == "InvalidField" && message.contains(words)
            })
            .await?;
    }
    Ok(())
}

/// Values of the ConfigMaps `m…`, each with how many have it.
async fn values(bench: &Bench) -> anyhow::Result<(usize, usize)> {
    let all = bench.config_maps().list(&ListParams::default()).await?.items;
    let count = |value: &str| {
        all.iter()
            .filter(|it| {
                it.metadata
                    .name
                    .as_deref()
                    .is_some_and(|name| name.starts_with('m'))
            })
            .filter(|it| {
                it.data
                    .as_ref()
                    .and_then(|data| data.get("key"))
                    .is_some_and(|is| is == value)
            })
            .count()
    };
    Ok((count("1"), count("2")))
}

#[tokio::test]
async fn killed_on_the_way_back_it_goes_on_also_without_its_mirror() -> anyhow::Result<()> {
    const ALL: usize = 300;
    let bench = Bench::new().await?;
    let write = |value: &str| (0..ALL).try_for_each(|i| bench.write_config_map(&format!("m{i:03}"), value));
    write("1")?;
    bench.write_config_map("a", "1")?;
    let first = bench.commit()?;
    bench.source(json!({})).await?;
    bench.kustomization(APP, health("10m")).await?;
    set_policy(&bench, "Return").await?;
    let slowly = ["--concurrent-ssa=1"];
    let mut syncer = bench.start(&slowly)?;
    bench.applied(&first).await?;

    write("2")?;
    bench.write_config_map("a", "slow")?;
    bench.write_config_map("new", "1")?;
    let second = bench.push().await?;
    let until = async |what: &str, check: &dyn Fn(usize, usize) -> bool| {
        wait_for(what, LIMIT, async || {
            let (ones, twos) = values(&bench).await.map_err(|error| error.to_string())?;
            if check(ones, twos) {
                Ok(ones)
            } else {
                Err(format!("{ones} {twos}"))
            }
        })
        .await
    };
    until("the new revision", &|_, twos| twos == ALL).await?;
    bench.until_value("a", Some("slow")).await?;
    bench.set_spec(APP, health("1s")).await?;
    let back = until("the middle of the way back", &|ones, _| ones > ALL / 10).await?;
    syncer.kill();
    let (ones, twos) = values(&bench).await?;
    println!("killed with {ones} of {ALL} back ({back} when it was decided)");
    assert!(ones < ALL && twos > 0, "the kill came too late");
    let object = bench.kustomizations().get(APP).await?;
    assert_eq!(
        condition(&object, "Returned").map(|it| it.1).as_deref(),
        Some("Returning")
    );

    // The volume is gone too: both commits have to be fetched again.
    std::fs::remove_dir_all(bench.world.dir().join("storage-syncer-0"))?;
    let _syncer = bench.start(&[])?;
    let object = returned(&bench, &second).await?;
    assert_eq!(values(&bench).await?, (ALL, 0));
    assert_eq!(bench.value("a").await?.as_deref(), Some("1"));
    assert_eq!(bench.value("new").await?, None);
    assert_eq!(
        (last_applied(&object), entries(&object).len()),
        (first.as_str(), ALL + 1)
    );
    Ok(())
}

#[tokio::test]
async fn a_commit_that_cannot_be_had_any_more_is_said_and_tried_for_again() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    bench.write_config_map("a", "1")?;
    let first = bench.commit()?;
    bench.source(json!({})).await?;
    bench.kustomization(APP, health("10m")).await?;
    set_policy(&bench, "Return").await?;
    let syncer = bench.start(&[])?;
    bench.applied(&first).await?;
    drop(syncer);
    std::fs::remove_dir_all(bench.world.dir().join("storage-syncer-0"))?;
    bench.write_config_map("a", "slow")?;
    let second = bench.push().await?;
    let _syncer = bench.start(&[])?;
    bench.until_value("a", Some("slow")).await?;
    // Only the new commit is in the new mirror, and the server is away when the old one is wanted.
    bench.server.set_fault(Fault::Status("503 Service Unavailable"));
    bench.set_spec(APP, health("1s")).await?;
    let object = bench
        .until(APP, "it to say so", |object| {
            condition(object, "Returned").is_some_and(|(_, reason, _)| reason == "CannotReturn")
        })
        .await?;
    let (value, _, message) = condition(&object, "Returned").unwrap_or_default();
    assert!(
        value == "False" && message.contains(&first) && message.contains("503"),
        "{message}"
    );
    assert_eq!(ready(&object).1, "HealthCheckFailed");
    bench.event("Kustomization", "CannotReturn", &first).await?;
    assert_eq!(bench.value("a").await?.as_deref(), Some("slow"));
    bench.server.set_fault(Fault::None);
    let object = returned(&bench, &second).await?;
    assert_eq!(last_applied(&object), first);
    bench.until_value("a", Some("1")).await
}
