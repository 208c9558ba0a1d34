//! What is told without writing anything: `explain` and `--dry-run`.

use plumbline_testkit::wait_for;

use crate::harness::{AUTO, Bench, LIMIT, workload};

#[tokio::test]
async fn explain_tells_what_a_workload_uses_and_what_would_happen() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    bench.config_map("app", "v1").await?;
    bench.secret("db", "v1").await?;
    let exclude = ("secrets.exclude.reloader.stakater.com/reload", "db");
    bench
        .create(workload("Deployment", "web", &[AUTO, exclude]))
        .await?;
    let mut reloader = bench.start(&[]).await?;
    bench.adopted("Deployment", "web", &["cm/app"]).await?;
    reloader.kill();
    let told = bench.explain("deployment/web")?;
    assert!(
        told.contains("cm/app: referenced, with auto on; exists"),
        "{told}"
    );
    assert!(told.contains("sec/db: referenced, but never rolls it"), "{told}");
    assert!(told.contains("now: nothing to do"), "{told}");
    bench.set("ConfigMap", "app", "v2").await?;
    let told = bench.explain("deploy/web")?;
    assert!(told.contains("now: it is to be rolled for cm/app"), "{told}");
    // A dry run decides the same, and writes nothing.
    let before = bench.template("Deployment", "web").await?;
    let dry = bench.start(&["--dry-run", "--debounce=0s"]).await?;
    bench.stays("Deployment", "web", &before).await?;
    assert!(dry.log().contains("would be rolled"), "{}", dry.log());
    Ok(())
}

#[tokio::test]
async fn a_dry_run_of_a_cluster_it_has_never_seen_tells_each_change_and_writes_nothing() -> anyhow::Result<()>
{
    let bench = Bench::new().await?;
    bench.config_map("app", "v1").await?;
    bench.create(workload("Deployment", "web", &[AUTO])).await?;
    let before = bench.get("Deployment", "web").await?;
    let dry = bench.start(&["--dry-run", "--debounce=0s"]).await?;
    wait_for("what it is now to be known", LIMIT, async || {
        let log = dry.log();
        if log.contains("would be recorded") {
            Ok(())
        } else {
            Err(log)
        }
    })
    .await?;
    for round in 1..=2 {
        bench.set("ConfigMap", "app", &format!("changed {round}")).await?;
        wait_for("the change to be told", LIMIT, async || {
            let told = dry.log().matches("would be rolled").count();
            if told == round { Ok(()) } else { Err(dry.log()) }
        })
        .await?;
    }
    bench.untouched("Deployment", "web", &before).await?;
    Ok(())
}

#[tokio::test]
async fn explain_tells_what_it_waits_for() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let other = Bench::new().await?;
    other.config_map("ca", "v1").await?;
    let foreign = format!("cm/{}/ca", other.world.namespace());
    bench.config_map("app", "v1").await?;
    let wishes = [
        AUTO,
        ("reloader.plumbline.dev/after", "deployment/db"),
        ("reloader.plumbline.dev/canary", "true"),
        ("reloader.plumbline.dev/strategy", "evict"),
        ("reloader.plumbline.dev/window", "at night"),
        ("reloader.plumbline.dev/foreign-sources", foreign.as_str()),
        ("configmap.reloader.stakater.com/reload", "("),
    ];
    bench.create(workload("Deployment", "web", &wishes)).await?;
    let told = bench.explain("deployment/web")?;
    for expected in [
        "comes after: deployment/db",
        "is a canary",
        "its pods are evicted",
        "held: annotation reloader.plumbline.dev/window",
        &format!("{foreign}: named, but its owner does not share it"),
        "problem: annotation configmap.reloader.stakater.com/reload: \"(\"",
        "its state is to be recorded",
    ] {
        assert!(told.contains(expected), "{expected:?} is not in {told}");
    }
    let renamed = ["--auto-annotation=example.com/auto"];
    bench
        .create(workload("Deployment", "renamed", &[("example.com/auto", "true")]))
        .await?;
    let told = bench.explain_with(&renamed, "deployment/renamed")?;
    assert!(told.contains("cm/app: referenced, with auto on"), "{told}");
    assert!(bench.explain("deployment/renamed")?.contains("nothing rolls it"));
    let missing = bench.explain("deployment/none").unwrap_err().to_string();
    assert!(missing.contains("cannot read Deployment"), "{missing}");
    Ok(())
}
