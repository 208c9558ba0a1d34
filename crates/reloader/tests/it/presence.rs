//! Sources that come, go and come back.

use serde_json::Value;

use crate::harness::{AUTO, Bench, workload};

#[tokio::test]
async fn deletion_and_return() -> anyhow::Result<()> {
    let (bench, _reloader, before) = Bench::web(&["--debounce=0s"]).await?;
    bench
        .api("ConfigMap")
        .delete("app", &kube::api::DeleteParams::default())
        .await?;
    bench.stays("Deployment", "web", &before).await?;
    bench.config_map("app", "v1").await?;
    bench.stays("Deployment", "web", &before).await?;
    bench
        .api("ConfigMap")
        .delete("app", &kube::api::DeleteParams::default())
        .await?;
    bench.config_map("app", "v2").await?;
    bench.rolled("Deployment", "web", &before).await.map(drop)
}

#[tokio::test]
async fn reload_on_create_and_on_delete() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    bench.create(workload("Deployment", "web", &[AUTO])).await?;
    let arguments = [
        "--debounce=0s",
        "--reload-on-create=true",
        "--reload-on-delete=true",
        "--reload-strategy=env-vars",
    ];
    let _reloader = bench.start(&arguments).await?;
    bench.adopted("Deployment", "web", &["\"cm/app\":\"-\""]).await?;
    let before = bench.template("Deployment", "web").await?;
    bench.config_map("app", "v1").await?;
    let created = bench.rolled("Deployment", "web", &before).await?;
    let variable = |template: &Value| template["spec"]["containers"][0]["env"][0]["name"].clone();
    assert_eq!(variable(&created), "STAKATER_APP_CONFIGMAP");
    bench
        .api("ConfigMap")
        .delete("app", &kube::api::DeleteParams::default())
        .await?;
    let deleted = bench.rolled("Deployment", "web", &created).await?;
    assert!(variable(&deleted).is_null(), "{deleted}");
    Ok(())
}
