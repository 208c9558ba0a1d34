//! Which namespaces are worked in, and what may cross from one to another.

use serde_json::json;

use crate::{
    harness::{AUTO, Bench, QUIET, SOURCES, workload},
    process::Start,
};

#[tokio::test]
async fn namespaces_come_and_go_with_their_labels_but_for_those_that_are_ignored() -> anyhow::Result<()> {
    let (bench, ignored, late) = (Bench::new().await?, Bench::new().await?, Bench::new().await?);
    let label = format!("plumbline.dev/scope={}", bench.world.namespace());
    for one in [&bench, &ignored, &late] {
        one.config_map("app", "v1").await?;
        one.create(workload("Deployment", "web", &[AUTO])).await?;
    }
    for one in [&bench, &ignored] {
        select(&bench, one, &label)?;
    }
    let start = Start {
        everywhere: true,
        ..Start::default()
    };
    let selector = format!("--namespace-selector={label}");
    let ignore = format!("--namespaces-to-ignore=kube-system,{}", ignored.world.namespace());
    let arguments = ["--debounce=0s", &selector, &ignore];
    let _reloader = bench.ready(bench.spawn(&start, &arguments)?).await?;
    bench.adopted("Deployment", "web", &["cm/app"]).await?;
    let before = bench.template("Deployment", "web").await?;
    for one in [&bench, &ignored, &late] {
        one.set("ConfigMap", "app", "v2").await?;
    }
    bench.rolled("Deployment", "web", &before).await?;
    tokio::time::sleep(QUIET).await;
    for one in [&ignored, &late] {
        let object = one.get("Deployment", "web").await?;
        assert_eq!(object["metadata"]["annotations"].get(SOURCES), None, "{object}");
    }

    select(&bench, &late, &label)?;
    late.adopted("Deployment", "web", &["cm/app"]).await?;
    late.set("ConfigMap", "app", "v3").await?;
    let rolled = late.rolled("Deployment", "web", &before).await?;
    // What changes while it is not selected is rolled when it is again.
    select(&bench, &late, "plumbline.dev/scope-")?;
    tokio::time::sleep(QUIET).await;
    late.set("ConfigMap", "app", "v4").await?;
    late.stays("Deployment", "web", &rolled).await?;
    select(&bench, &late, &label)?;
    late.rolled("Deployment", "web", &rolled).await?;
    assert_eq!(late.count("Deployment", "web").await?, 2);
    Ok(())
}

fn select(bench: &Bench, which: &Bench, label: &str) -> anyhow::Result<()> {
    bench
        .world
        .kubectl(&["label", "namespace", which.world.namespace(), label])
        .map(drop)
}

#[tokio::test]
async fn a_source_of_another_namespace_needs_its_owners_consent() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let other = Bench::new().await?;
    other.config_map("ca", "v1").await?;
    let foreign = format!("cm/{}/ca", other.world.namespace());
    let names = ("reloader.plumbline.dev/foreign-sources", foreign.as_str());
    bench.config_map("app", "v1").await?;
    bench
        .create(workload("Deployment", "web", &[AUTO, names]))
        .await?;
    let both = format!("--namespaces={}", other.world.namespace());
    let _reloader = bench.start(&["--debounce=0s", &both]).await?;
    bench.adopted("Deployment", "web", &["cm/app"]).await?;
    let told = bench.event("web", "NotShared").await?;
    assert!(told.contains(&foreign) && told.contains("shared-with"), "{told}");
    let before = bench.template("Deployment", "web").await?;
    other.set("ConfigMap", "ca", "v2").await?;
    bench.stays("Deployment", "web", &before).await?;
    let consent = json!({"metadata": {"annotations":
        {"reloader.plumbline.dev/shared-with": bench.world.namespace()}}});
    other.merge("ConfigMap", "ca", consent).await?;
    bench.adopted("Deployment", "web", &["cm/app", &foreign]).await?;
    bench.stays("Deployment", "web", &before).await?;
    other.set("ConfigMap", "ca", "v3").await?;
    bench.rolled("Deployment", "web", &before).await?;
    assert_eq!(bench.count("Deployment", "web").await?, 1);
    Ok(())
}
