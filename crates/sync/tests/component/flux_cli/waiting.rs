//! Commands that wait until we have done something: reconcile, suspend, resume, and those that annotate Receivers.

use serde_json::{Value, json};

use super::{Flux, applied};
use crate::{
    bench::{APP, Bench, ready},
    suspend::until_suspended,
    webhook::{serving, token},
};

#[tokio::test(flavor = "multi_thread")]
async fn flux_reconcile_ends_with_the_revision_that_it_asked_for() -> anyhow::Result<()> {
    let (bench, _syncer, first) = applied().await?;
    let flux = Flux::on(&bench).await?;
    let before = bench.kustomizations().get(APP).await?;
    assert_eq!(
        ready(&before).0,
        "True",
        "conditions from before stand in the way"
    );

    // Nothing new: it is asked, and says so.
    flux.run(&["reconcile", "kustomization", APP])?
        .ok(&["Kustomization annotated", &format!("✔ applied revision {first}")]);
    flux.run(&["reconcile", "source", "git", APP])?
        .ok(&["GitRepository annotated", &format!("✔ fetched revision {first}")]);

    bench.write_config_map("a", "2")?;
    let second = bench.commit()?;
    flux.run(&["reconcile", "kustomization", APP, "--with-source"])?
        .ok(&[
            &format!("✔ fetched revision {second}"),
            &format!("✔ applied revision {second}"),
        ]);
    assert_eq!(bench.value("a").await?.as_deref(), Some("2"));

    // What fails is retried, so flux waits for it to its timeout, as with Flux; why it fails is in the table.
    bench.repository.write("deploy/bad.yaml", "kind: ConfigMap\n")?;
    let third = bench.commit()?;
    flux.run(&["reconcile", "source", "git", APP])?
        .ok(&[&format!("✔ fetched revision {third}")]);
    flux.run_within("--timeout=5s", &["reconcile", "ks", APP])?
        .ended(1, &["Kustomization annotated", "deadline exceeded"]);
    flux.run(&["get", "kustomizations", "--status-selector", "ready=false"])?
        .ok(&[APP, "False", "deploy/bad.yaml:1"]);
    flux.run(&["get", "kustomizations", "--status-selector", "ready=true"])?
        .ok(&[]);

    // It is mended while the last attempt still stands in the conditions.
    bench.repository.remove("deploy/bad.yaml")?;
    let fourth = bench.commit()?;
    flux.run(&["reconcile", "kustomization", APP, "--with-source"])?
        .ok(&[&format!("✔ applied revision {fourth}")]);

    // What can only be mended by hand is told at once, with our words.
    bench
        .set_spec(APP, json!({ "decryption": { "provider": "sops" } }))
        .await?;
    bench
        .until(APP, "it to be refused", |object| {
            ready(object).1 == "UnsupportedField"
        })
        .await?;
    flux.run(&["reconcile", "kustomization", APP])?
        .ended(1, &["spec.decryption"]);

    flux.run(&["reconcile", "kustomization", "nothing"])?
        .ended(1, &["\"nothing\" not found"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn flux_suspends_and_resume_waits_for_what_was_missed() -> anyhow::Result<()> {
    let (bench, _syncer, first) = applied().await?;
    let flux = Flux::on(&bench).await?;

    flux.run(&["suspend", "kustomization", APP])?
        .ok(&["kustomization suspended"]);
    flux.run(&["suspend", "source", "git", APP])?
        .ok(&["source git suspended"]);
    bench.write_config_map("a", "2")?;
    let second = bench.commit()?;
    for what in [&["kustomization"][..], &["source", "git"]] {
        let arguments = [&["reconcile"], what, &[APP]].concat();
        flux.run(&arguments)?.ended(1, &["resource is suspended"]);
    }
    let message = until_suspended(&bench, "True").await?;
    assert!(message.starts_with("suspended by flux at "), "{message}");
    let table = flux.run(&["get", "kustomizations", "--no-header"])?;
    assert_eq!(table.rows()[0][2], "True", "{}", table.all());
    assert_eq!(bench.value("a").await?.as_deref(), Some("1"));

    flux.run(&["resume", "source", "git", APP])?
        .ok(&["source git resumed", &format!("✔ fetched revision {second}")]);
    assert_eq!(
        bench.value("a").await?.as_deref(),
        Some("1"),
        "the Kustomization is suspended"
    );
    let said = flux.run(&["resume", "kustomization", APP])?;
    said.ok(&["kustomization resumed", &format!("✔ applied revision {second}")]);
    assert!(!said.err.contains(&first), "{}", said.all());
    assert_eq!(bench.value("a").await?.as_deref(), Some("2"));
    let object = bench.kustomizations().get(APP).await?;
    assert!(!object.spec.suspend.unwrap_or_default());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn flux_makes_receivers_and_triggers_them() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let flux = Flux::on(&bench).await?;
    bench.write_config_map("a", "1")?;
    let first = bench.commit()?;
    bench.app().await?;
    let (_syncer, port, _) = serving(&bench, &[])?;
    bench.applied(&first).await?;

    token(&bench, "sesame")?;
    let resource = format!("GitRepository/{APP}");
    let made = [
        "create",
        "receiver",
        "hook",
        "--type=generic",
        "--secret-ref=token",
        "--resource",
        &resource,
    ];
    flux.run(&made)?
        .ok(&["Receiver hook is ready", "generated webhook URL /hook/"]);
    flux.run(&["get", "receivers"])?.ok(&["hook", "True", "/hook/"]);
    flux.run(&["reconcile", "receiver", "hook"])?
        .ok(&["Receiver annotated", "Receiver reconciliation completed"]);
    let exported: Value = serde_yaml::from_str(
        flux.run(&["export", "receiver", "hook"])?
            .out
            .trim_start_matches("---"),
    )?;
    assert_eq!(
        exported["spec"]["resources"],
        json!([{ "kind": "GitRepository", "name": APP }])
    );

    bench.write_config_map("a", "2")?;
    let second = bench.commit()?;
    let url = format!("--url=http://127.0.0.1:{port}");
    flux.run(&["trigger", "receiver", "hook", "--token=sesame", &url])?
        .ok(&[]);
    bench.applied(&second).await?;
    let said = flux.run(&[
        "trigger",
        "receiver",
        "hook",
        "--token=wrong",
        "--retries=0",
        &url,
    ])?;
    said.ended(1, &["404"]);

    flux.run(&["suspend", "receiver", "hook"])?
        .ok(&["receiver suspended"]);
    flux.run(&["resume", "receiver", "hook"])?
        .ok(&["receiver resumed"]);
    flux.run(&["delete", "receiver", "hook", "--silent"])?
        .ok(&["receiver deleted"]);
    Ok(())
}
