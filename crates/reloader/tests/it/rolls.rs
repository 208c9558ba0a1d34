//! The main thing: content changes, the workload rolls, once.

use serde_json::json;

use crate::harness::{AUTO, Bench, HASH, workload};

#[tokio::test]
async fn a_changed_config_map_rolls_each_kind_once() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    bench.config_map("app", "v1").await?;
    let kinds = ["Deployment", "StatefulSet", "DaemonSet"];
    for kind in kinds {
        bench.create(workload(kind, "web", &[AUTO])).await?;
    }
    let _reloader = bench.start(&[]).await?;
    for kind in kinds {
        bench.adopted(kind, "web", &["cm/app"]).await?;
    }
    let before = bench.template("Deployment", "web").await?;
    assert!(
        before["metadata"]["annotations"].is_null(),
        "adopting rolls nothing: {before}"
    );

    bench.set("ConfigMap", "app", "v2").await?;
    for kind in kinds {
        let after = bench.rolled(kind, "web", &before).await?;
        assert!(after["metadata"]["annotations"][HASH].is_string(), "{after}");
        bench.event("web", "Reloaded").await?;
    }
    let after = bench.template("Deployment", "web").await?;
    bench.stays("Deployment", "web", &after).await?;
    assert_eq!(bench.count("Deployment", "web").await?, 1);
    Ok(())
}

#[tokio::test]
async fn labels_and_annotations_of_a_source_roll_nothing() -> anyhow::Result<()> {
    let (bench, _reloader, before) = Bench::web(&["--debounce=0s"]).await?;
    bench
        .merge(
            "ConfigMap",
            "app",
            json!({"metadata": {"labels": {"a": "b"}}, "immutable": true}),
        )
        .await?;
    bench.stays("Deployment", "web", &before).await
}

#[tokio::test]
async fn twenty_updates_of_four_sources_in_a_second_are_one_rollout() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let mut annotations = vec![("configmap.reloader.stakater.com/reload", "app,one,two")];
    annotations.push(("secret.reloader.stakater.com/reload", "db"));
    for name in ["app", "one", "two"] {
        bench.config_map(name, "v0").await?;
    }
    bench.secret("db", "v0").await?;
    bench.create(workload("Deployment", "web", &annotations)).await?;
    let _reloader = bench.start(&[]).await?;
    bench
        .adopted("Deployment", "web", &["cm/app", "cm/one", "cm/two", "sec/db"])
        .await?;
    let before = bench.template("Deployment", "web").await?;
    for round in 1..=5 {
        for (kind, name) in [
            ("ConfigMap", "app"),
            ("ConfigMap", "one"),
            ("ConfigMap", "two"),
            ("Secret", "db"),
        ] {
            bench.set(kind, name, &format!("v{round}")).await?;
        }
    }
    let after = bench.rolled("Deployment", "web", &before).await?;
    bench.stays("Deployment", "web", &after).await?;
    assert_eq!(bench.count("Deployment", "web").await?, 1);
    Ok(())
}
