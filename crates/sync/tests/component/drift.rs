//! What somebody else does to an applied object, and what is left alone.

use std::time::{Duration, Instant};

use kube::api::{DeleteParams, Patch, PatchParams};
use plumbline_testkit::wait_for;
use serde_json::{Value, json};

use crate::{
    bench::{APP, Bench, LIMIT, patches},
    command_line::{changes, command},
};

/// The goal is a second; a busy machine gets five.
const SOON: Duration = Duration::from_secs(5);

async fn edit(bench: &Bench, change: Value) -> anyhow::Result<()> {
    let params = PatchParams {
        field_manager: Some("someone".into()),
        ..PatchParams::default()
    };
    bench
        .config_maps()
        .patch("a", &params, &Patch::Merge(&change))
        .await?;
    Ok(())
}

#[tokio::test]
async fn drift_is_corrected_within_seconds() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    bench.write_config_map("a", "git")?;
    let revision = bench.commit()?;
    bench.app().await?;
    let _syncer = bench.start(&[])?;
    bench.applied(&revision).await?;
    quiet(&bench).await?;
    let log = bench.world.audit_log().since_now()?;

    let begun = Instant::now();
    edit(&bench, json!({ "data": { "key": "edited" } })).await?;
    bench.until_value("a", Some("git")).await?;
    let edited = begun.elapsed();
    bench
        .event(
            "Kustomization",
            "DriftCorrected",
            "is as in Git again in data.key; last changed by someone (Update, 20",
        )
        .await?;

    let begun = Instant::now();
    edit(&bench, json!({ "data": null })).await?;
    bench.until_value("a", Some("git")).await?;
    let removed = begun.elapsed();

    let uid = bench.config_maps().get("a").await?.metadata.uid;
    let begun = Instant::now();
    bench.config_maps().delete("a", &DeleteParams::default()).await?;
    wait_for("the ConfigMap to be made again", LIMIT, async || {
        match bench.config_maps().get_opt("a").await {
            Ok(Some(map)) if map.metadata.uid != uid => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    let deleted = begun.elapsed();
    bench.until_value("a", Some("git")).await?;

    let begun = Instant::now();
    edit(
        &bench,
        json!({ "metadata": { "labels": { "kustomize.toolkit.fluxcd.io/name": null } } }),
    )
    .await?;
    wait_for("the owner label to be back", LIMIT, async || {
        let map = bench
            .config_maps()
            .get("a")
            .await
            .map_err(|error| error.to_string())?;
        let labels = map.metadata.labels.unwrap_or_default();
        if labels.contains_key("kustomize.toolkit.fluxcd.io/name") {
            Ok(())
        } else {
            Err(format!("{labels:?}"))
        }
    })
    .await?;
    let unlabelled = begun.elapsed();

    println!("corrected: edit {edited:?}, removal {removed:?}, deletion {deleted:?}, label {unlabelled:?}");
    for took in [edited, removed, deleted, unlabelled] {
        assert!(took < SOON, "{took:?}");
    }
    quiet(&bench).await?;
    let requests = bench.requests(&log)?;
    assert_eq!(patches(&requests, "configmaps"), 4, "{:?}", requests.0);
    // The status of a Kustomization of ten thousand objects is a megabyte: a correction does not write it.
    assert_eq!(patches(&requests, "kustomizations/status"), 0, "{:?}", requests.0);
    Ok(())
}

#[tokio::test]
async fn fields_of_others_are_left_alone_and_an_idle_syncer_asks_nothing() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    for name in ["a", "b", "c"] {
        bench.write_config_map(name, "git")?;
    }
    let revision = bench.commit()?;
    bench.app().await?;
    let mut syncer = bench.start(&[])?;
    bench.applied(&revision).await?;
    bench
        .event("Kustomization", "ReconciliationSucceeded", &revision)
        .await?;
    bench.server.requests();
    // What is still being logged must not count.
    quiet(&bench).await?;

    let log = bench.world.audit_log().since_now()?;
    edit(
        &bench,
        json!({ "data": { "other": "mine" }, "metadata": { "annotations": { "note": "mine" } } }),
    )
    .await?;
    // Ten seconds of nothing are the subject here, not a way to wait for something.
    tokio::time::sleep(Duration::from_secs(10)).await;
    let map = bench.config_maps().get("a").await?;
    assert_eq!(map.data.unwrap_or_default()["other"], "mine");
    assert_eq!(map.metadata.annotations.unwrap_or_default()["note"], "mine");
    let requests = bench.requests(&log)?;
    assert_eq!(requests.count(), 0, "{:?}", requests.0);
    assert_eq!(bench.server.requests().len(), 0);
    assert!(syncer.runs());

    // The change of another field of the same object is still sent, and the foreign one stays.
    bench.write_config_map("a", "git 2")?;
    let revision = bench.push().await?;
    bench.applied(&revision).await?;
    let data = bench.config_maps().get("a").await?.data.unwrap_or_default();
    assert_eq!((&*data["key"], &*data["other"]), ("git 2", "mine"));
    Ok(())
}

/// Waits until the audit log shows no more requests of this syncer for two seconds.
async fn quiet(bench: &Bench) -> anyhow::Result<()> {
    let log = bench.world.audit_log();
    let mut last = (0, Instant::now());
    wait_for("the syncer to have nothing to do", LIMIT, async || {
        let count = bench.requests(&log).map_err(|error| error.to_string())?.count();
        if count != last.0 {
            last = (count, Instant::now());
        }
        if last.1.elapsed() > Duration::from_secs(2) {
            Ok(())
        } else {
            Err(format!("{count} requests"))
        }
    })
    .await
}

#[tokio::test]
async fn a_fight_over_a_field_is_given_up_for_a_while_and_said() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    bench.write_config_map("a", "git")?;
    let revision = bench.commit()?;
    bench.app().await?;
    let _syncer = bench.start(&[])?;
    bench.applied(&revision).await?;
    let log = bench.world.audit_log().since_now()?;
    let mut fights = 0;
    let deadline = Instant::now() + LIMIT;
    // Someone who writes whenever Git's value is back, as another controller would.
    while Instant::now() < deadline && fights < 11 {
        if bench.value("a").await?.as_deref() == Some("git") {
            edit(&bench, json!({ "data": { "key": "mine" } })).await?;
            fights += 1;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(fights, 11, "corrected until the limit");
    let message = bench.fails(&revision, "ReconciliationFailed").await?;
    assert!(
        message.contains("something changes it again and again"),
        "{message}"
    );
    assert!(message.contains("deploy/a.yaml:1"), "{message}");
    assert_eq!(bench.value("a").await?.as_deref(), Some("mine"));
    let sent = patches(&bench.requests(&log)?, "configmaps");
    assert!((10..=11).contains(&sent), "{sent} corrections");
    // Asking for it ends the pause.
    bench.request(APP).await?;
    bench.until_value("a", Some("git")).await?;
    bench.applied(&revision).await?;
    Ok(())
}

/// Message of the condition Drifted; empty when there is none.
fn drifted(object: &plumbline_sync::api::Kustomization) -> String {
    let conditions = object.status.iter().flat_map(|status| &status.conditions);
    let mut drifted = conditions.filter(|one| one.type_ == "Drifted");
    drifted.next().map(|one| one.message.clone()).unwrap_or_default()
}

fn set_mode(bench: &Bench, mode: &str) -> anyhow::Result<()> {
    let mode = format!("plumbline.dev/drift={mode}");
    bench
        .world
        .kubectl(&["annotate", "kustomization", APP, "--overwrite", &mode])
        .map(drop)
}

/// After a restart three objects are still reported, and nothing is asked for again and again.
async fn stays_reported(bench: &Bench) -> anyhow::Result<()> {
    let asked = bench.request(APP).await?;
    bench
        .until(APP, "the request to be handled", |object| {
            let status = object.status.as_ref();
            status.and_then(|it| it.last_handled_reconcile_at.as_deref()) == Some(&*asked)
                && drifted(object).lines().count() == 3
        })
        .await?;
    assert_eq!(
        (bench.value("a").await?.as_deref(), bench.value("b").await?),
        (Some("mine"), None)
    );
    quiet(bench).await?;
    let log = bench.world.audit_log().since_now()?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let requests = bench.requests(&log)?;
    assert_eq!(
        requests.count(),
        0,
        "what was found is not asked for again: {:?}",
        requests.0
    );
    Ok(())
}

/// A plan knows what is left, and what would be corrected otherwise.
fn a_plan_says_the_same(bench: &Bench) -> anyhow::Result<()> {
    let ns = bench.namespace();
    let plan = || -> anyhow::Result<(i32, Vec<String>)> {
        let (code, out, _) = command(bench, &["plan", APP, "--output=json"])?;
        Ok((code, changes(&serde_json::from_str(&out)?)))
    };
    let left = |kind: &str, name: &str| format!("leave {kind}/{ns}/{name}");
    let all = [
        left("ConfigMap", "a"),
        left("ConfigMap", "b"),
        left("Secret", "s"),
    ];
    assert_eq!(plan()?, (0, all.to_vec()));
    set_mode(bench, "Correct")?;
    let (code, corrected) = plan()?;
    assert!(
        code == 2 && !corrected.iter().any(|it| it.starts_with("leave")),
        "{corrected:?}"
    );
    set_mode(bench, "Report")
}

#[tokio::test(flavor = "multi_thread")]
async fn drift_can_be_reported_and_left() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let ns = bench.namespace();
    for name in ["a", "b"] {
        bench.write_config_map(name, "git")?;
    }
    let secret = format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: s, namespace: {ns}}}\nstringData: {{password: from-git}}\n"
    );
    bench.repository.write("deploy/s.yaml", secret)?;
    let first = bench.commit()?;
    bench.app().await?;
    set_mode(&bench, "Report")?;
    let mut syncer = bench.start(&[])?;
    bench.applied(&first).await?;

    edit(&bench, json!({ "data": { "key": "mine", "other": "mine" } })).await?;
    let message = bench
        .event(
            "Kustomization",
            "DriftDetected",
            &format!("ConfigMap/{ns}/a differs from Git in data.key"),
        )
        .await?;
    assert!(
        message.contains("last changed by someone (Update, 20"),
        "{message}"
    );
    bench.config_maps().delete("b", &DeleteParams::default()).await?;
    bench
        .event(
            "Kustomization",
            "DriftDetected",
            &format!("ConfigMap/{ns}/b was deleted"),
        )
        .await?;
    bench.world.kubectl(&[
        "patch",
        "secret",
        "s",
        "--type=merge",
        "-p",
        r#"{"stringData":{"password":"by-hand"}}"#,
    ])?;
    let message = bench
        .event("Kustomization", "DriftDetected", "data.password")
        .await?;
    let object = bench
        .until(APP, "three objects", |object| {
            drifted(object).lines().count() == 3
        })
        .await?;
    for text in [&message, &drifted(&object), &syncer.log()] {
        assert!(
            !text.contains("by-hand") && !text.contains("from-git") && !text.contains("YnktaGFuZA"),
            "{text}"
        );
    }
    assert_eq!(
        crate::bench::ready(&object).0,
        "True",
        "it is in order to be reported only"
    );
    assert_eq!(
        (bench.value("a").await?.as_deref(), bench.value("b").await?),
        (Some("mine"), None)
    );

    syncer.kill();
    a_plan_says_the_same(&bench)?;

    // Neither a restart nor the interval corrects it.
    let mut syncer = bench.start(&[])?;
    stays_reported(&bench).await?;

    // Who puts it right himself is done.
    edit(&bench, json!({ "data": { "key": "git", "other": null } })).await?;
    bench
        .until(APP, "two objects", |object| drifted(object).lines().count() == 2)
        .await?;
    // What Git changes is applied.
    bench.write_config_map("b", "git 2")?;
    let second = bench.push().await?;
    bench.applied(&second).await?;
    bench.until_value("b", Some("git 2")).await?;
    bench
        .until(APP, "one object", |object| drifted(object).lines().count() == 1)
        .await?;

    set_mode(&bench, "Correct")?;
    bench
        .until(APP, "no object", |object| drifted(object).is_empty())
        .await?;
    let password = bench
        .world
        .kubectl(&["get", "secret", "s", "-o", "jsonpath={.data.password}"])?;
    assert_eq!(password.trim(), "ZnJvbS1naXQ=");
    assert!(syncer.runs());
    Ok(())
}

#[tokio::test]
async fn drift_can_be_ignored() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    bench.write_config_map("a", "git")?;
    let first = bench.commit()?;
    bench.app().await?;
    set_mode(&bench, "ignore")?;
    let mut syncer = bench.start(&[])?;
    bench.applied(&first).await?;
    edit(&bench, json!({ "data": { "key": "mine" } })).await?;
    quiet(&bench).await?;
    syncer.kill();
    let _syncer = bench.start(&[])?;
    let asked = bench.request(APP).await?;
    let object = bench
        .until(APP, "the request to be handled", |object| {
            let status = object.status.as_ref();
            status.and_then(|it| it.last_handled_reconcile_at.as_deref()) == Some(&*asked)
        })
        .await?;
    assert_eq!(drifted(&object), "");
    assert_eq!(bench.value("a").await?.as_deref(), Some("mine"));
    set_mode(&bench, "sometimes")?;
    let message = bench.fails(&first, "InvalidField").await?;
    assert!(
        message.contains("plumbline.dev/drift: \"sometimes\" is none of Correct"),
        "{message}"
    );
    set_mode(&bench, "Correct")?;
    bench.until_value("a", Some("git")).await
}
