//! Suspended by whom, why and until when; and what metrics say of objects.

use std::{net::TcpListener, time::Instant};

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::{Patch, PatchParams};
use plumbline_testkit::wait_for;
use serde_json::json;

use crate::{
    bench::{APP, Bench, LIMIT},
    webhook::scrape,
};

/// Status, reason and message of the condition Suspended of a Kustomization.
pub(crate) async fn until_suspended(bench: &Bench, value: &str) -> anyhow::Result<String> {
    let object = bench
        .until(APP, &format!("Suspended to be {value}"), |object| {
            let conditions = object.status.iter().flat_map(|status| &status.conditions);
            conditions
                .filter(|one| one.type_ == "Suspended")
                .any(|one| one.status == value)
        })
        .await?;
    let conditions = object.status.unwrap_or_default().conditions;
    Ok(conditions
        .into_iter()
        .find(|one| one.type_ == "Suspended")
        .map(|one| one.message)
        .unwrap_or_default())
}

#[tokio::test]
async fn a_suspension_says_who_and_why_and_ends_by_itself() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    bench.write_config_map("a", "1")?;
    let first = bench.commit()?;
    bench.app().await?;
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let _syncer = bench.start(&[&format!("--metrics-addr=127.0.0.1:{port}")])?;
    bench.applied(&first).await?;
    let ns = bench.namespace();
    let object = |kind: &str| format!("kind=\"{kind}\",name=\"{APP}\",namespace=\"{ns}\"");
    // An end that is far away; who did it is known from the API server.
    let params = PatchParams {
        field_manager: Some("ada".into()),
        ..PatchParams::default()
    };
    let suspend = json!({ "spec": { "suspend": true }, "metadata": { "annotations": {
        "plumbline.dev/suspend-until": "2126-01-01T00:00:00Z", "plumbline.dev/suspend-reason": "the database moves",
    } } });
    bench
        .kustomizations()
        .patch(APP, &params, &Patch::Merge(&suspend))
        .await?;
    let message = until_suspended(&bench, "True").await?;
    assert!(
        message.starts_with("suspended by ada at ")
            && message.ends_with(" until 2126-01-01T00:00:00Z: the database moves"),
        "{message}"
    );
    bench
        .event("Kustomization", "Suspended", "the database moves")
        .await?;
    let metrics = scrape(port).await?;
    assert!(
        metrics.contains(&format!(
            "plumbline_sync_suspended{{{}}} 1",
            object("Kustomization")
        )),
        "{metrics}"
    );

    bench.write_config_map("a", "2")?;
    let second = bench.push().await?;
    bench.source_is("True", "Succeeded").await?;
    bench.source_has(APP, &second).await?;
    let until = Timestamp::now() + SignedDuration::from_secs(4);
    let begun = Instant::now();
    let log = bench.world.audit_log().since_now()?;
    bench.world.kubectl(&[
        "annotate",
        "kustomization",
        APP,
        "--overwrite",
        &format!("plumbline.dev/suspend-until={until}"),
    ])?;
    bench.applied(&second).await?;
    let took = begun.elapsed();
    assert!(took.as_secs() >= 3, "it was suspended until then: {took:?}");
    assert!(
        until_suspended(&bench, "False")
            .await?
            .contains("spec.suspend can be removed")
    );
    bench
        .event("Kustomization", "SuspensionEnded", "the suspension ended at")
        .await?;
    // Nobody polled for it: the new message, the end, the work, and what it came to.
    let requests = bench.requests(&log)?;
    let patches = crate::bench::patches(&requests, "kustomizations/status");
    assert!(patches <= 4, "{:?}", requests.by_verb_and_resource());

    bench.set_spec(APP, json!({ "suspend": null })).await?;
    bench
        .until(APP, "no condition Suspended", |object| {
            let conditions = object.status.iter().flat_map(|status| &status.conditions);
            !conditions.into_iter().any(|one| one.type_ == "Suspended")
        })
        .await?;
    let metrics = scrape(port).await?;
    assert!(
        !metrics.contains(&format!(
            "plumbline_sync_suspended{{{}}}",
            object("Kustomization")
        )),
        "{metrics}"
    );
    Ok(())
}

#[tokio::test]
async fn metrics_have_the_names_that_dashboards_know() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    bench.write_config_map("a", "1")?;
    let first = bench.commit()?;
    bench.app().await?;
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let _syncer = bench.start(&[&format!("--metrics-addr=127.0.0.1:{port}")])?;
    bench.applied(&first).await?;
    let ns = bench.namespace();
    let object = |kind: &str| format!("kind=\"{kind}\",name=\"{APP}\",namespace=\"{ns}\"");
    let metrics = scrape(port).await?;
    for expected in [
        format!(
            "gotk_reconcile_duration_seconds_count{{{}}}",
            object("Kustomization")
        ),
        format!(
            "gotk_reconcile_duration_seconds_count{{{}}}",
            object("GitRepository")
        ),
        format!(
            "gotk_reconcile_duration_seconds_bucket{{le=\"0.5\",{}}}",
            object("Kustomization")
        ),
        format!("plumbline_sync_ready{{{}}} 1", object("Kustomization")),
        format!("plumbline_sync_ready{{{}}} 1", object("GitRepository")),
        "controller_runtime_reconcile_total{controller=\"kustomization\",result=\"requeue_after\"}"
            .to_owned(),
        "controller_runtime_reconcile_time_seconds_count{controller=\"gitrepository\"}".to_owned(),
        "plumbline_sync_source_polls_total{outcome=\"asked\"}".to_owned(),
        "rest_client_requests_total{code=\"200\",method=\"PATCH\"".to_owned(),
    ] {
        assert!(metrics.contains(&expected), "{expected} in {metrics}");
    }
    // What is gone is not told any longer.
    for kind in ["kustomization", "gitrepository"] {
        bench
            .world
            .kubectl(&["delete", kind, APP, "--wait=true", "--timeout=60s"])?;
    }
    wait_for("the series to go", LIMIT, async || {
        let metrics = scrape(port).await.map_err(|error| error.to_string())?;
        if metrics.contains(&format!("namespace=\"{ns}\"")) {
            Err(metrics)
        } else {
            Ok(())
        }
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn a_suspended_source_is_not_asked_until_its_time() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    bench.write_config_map("a", "1")?;
    let first = bench.commit()?;
    bench.source(json!({ "interval": "1s" })).await?;
    bench.kustomization(APP, json!({})).await?;
    let _syncer = bench.start(&[])?;
    bench.applied(&first).await?;
    let until = Timestamp::now() + SignedDuration::from_secs(5);
    let suspend = json!({ "spec": { "suspend": true }, "metadata": { "annotations": {
        "plumbline.dev/suspend-until": until.to_string(), "plumbline.dev/suspend-by": "eve",
    } } });
    bench
        .sources()
        .patch(APP, &PatchParams::default(), &Patch::Merge(&suspend))
        .await?;
    bench
        .event("GitRepository", "Suspended", "suspended by eve until")
        .await?;
    bench.server.requests();
    bench.write_config_map("a", "2")?;
    let second = bench.commit()?;
    let begun = Instant::now();
    bench.applied(&second).await?;
    assert!(Timestamp::now() > until, "{:?}", begun.elapsed());
    Ok(())
}
