//! Taking over: from nothing, and from Stakater's Reloader.

use serde_json::json;

use crate::harness::{AUTO, Bench, workload};

const V1: &str = "3e5ae4c5ae7a59ce4b36e60b8a7d8a4ed3db4ee4";

#[tokio::test]
async fn stakaters_marks_are_taken_over_without_a_rollout_and_stale_ones_are_told() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    bench.config_map("app", "v1").await?;
    // The SHA-1 of `key=v1`, as Stakater writes it, and one of older content.
    for (name, hash) in [
        ("fresh", "f13ef89ed63c4502ee0823d85edd08d736f51300"),
        ("stale", V1),
    ] {
        let mut object = workload("Deployment", name, &[AUTO]);
        object["spec"]["template"]["spec"]["containers"][0]["env"] =
            json!([{"name": "STAKATER_APP_CONFIGMAP", "value": hash}]);
        bench.create(object).await?;
    }
    let before = [
        bench.template("Deployment", "fresh").await?,
        bench.template("Deployment", "stale").await?,
    ];
    let _reloader = bench.start(&["--reload-strategy=env-vars"]).await?;
    bench.adopted("Deployment", "fresh", &["cm/app"]).await?;
    bench.adopted("Deployment", "stale", &["cm/app"]).await?;
    let told = bench.event("stale", "StaleOnAdoption").await?;
    assert!(told.contains("ConfigMap app"), "{told}");
    bench.stays("Deployment", "fresh", &before[0]).await?;
    bench.stays("Deployment", "stale", &before[1]).await?;

    // Stakater's own variable goes on being used.
    bench.set("ConfigMap", "app", "updated").await?;
    let after = bench.rolled("Deployment", "fresh", &before[0]).await?;
    let env = &after["spec"]["containers"][0]["env"];
    let expected =
        json!([{"name": "STAKATER_APP_CONFIGMAP", "value": "6b3093988321555757cc9b88a5f2d59101a0261c"}]);
    assert_eq!(env, &expected);
    Ok(())
}

#[tokio::test]
async fn stale_marks_roll_when_that_is_asked_for() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    bench.config_map("app", "v1").await?;
    let mut object = workload("Deployment", "stale", &[AUTO]);
    object["spec"]["template"]["spec"]["containers"][0]["env"] =
        json!([{"name": "STAKATER_APP_CONFIGMAP", "value": V1}]);
    bench.create(object).await?;
    let before = bench.template("Deployment", "stale").await?;
    let _reloader = bench.start(&["--rollout-stale-on-adopt"]).await?;
    bench.rolled("Deployment", "stale", &before).await?;
    assert_eq!(bench.count("Deployment", "stale").await?, 1);
    Ok(())
}

#[tokio::test]
async fn a_new_workload_and_a_new_reference_roll_nothing() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    bench.config_map("app", "v1").await?;
    bench.config_map("extra", "v1").await?;
    let _reloader = bench.start(&[]).await?;
    bench.create(workload("Deployment", "web", &[AUTO])).await?;
    bench.adopted("Deployment", "web", &["cm/app"]).await?;
    let change = json!({"spec": {"template": {"spec": {"containers": [{
        "name": "a", "image": "example.com/nothing:1",
        "envFrom": [{"configMapRef": {"name": "app"}}, {"configMapRef": {"name": "extra"}}]}]}}}});
    bench.merge("Deployment", "web", change).await?;
    bench
        .adopted("Deployment", "web", &["cm/app", "cm/extra"])
        .await?;
    assert_eq!(bench.count("Deployment", "web").await?, 0);
    Ok(())
}

#[tokio::test]
async fn config_map_and_deployment_in_one_apply_are_one_rollout() -> anyhow::Result<()> {
    let (bench, reloader, _) = Bench::web(&[]).await?;
    bench.set("ConfigMap", "app", "v2").await?;
    let change = json!({"spec": {"template": {"metadata": {"labels": {"version": "2"}}}}});
    bench.merge("Deployment", "web", change).await?;
    let before = bench.template("Deployment", "web").await?;
    bench.stays("Deployment", "web", &before).await?;
    assert_eq!(bench.count("Deployment", "web").await?, 0);
    assert!(reloader.log().contains("Absorbed"), "{}", reloader.log());
    Ok(())
}

#[tokio::test]
async fn an_undone_rollout_stays_undone() -> anyhow::Result<()> {
    let (bench, _reloader, before) = Bench::web(&["--debounce=0s"]).await?;
    bench.set("ConfigMap", "app", "v2").await?;
    bench.rolled("Deployment", "web", &before).await?;
    // What `kubectl rollout undo` does: the template is put back as it was.
    let undo = json!({"spec": {"template": {"metadata": {"annotations": null}}}});
    bench.merge("Deployment", "web", undo).await?;
    bench.stays("Deployment", "web", &before).await?;
    // An operator that owns the template does the same, and its pods go on with the old content.
    let told = bench.event("web", "Reverted").await?;
    assert!(told.contains("cm/app") && told.contains("evict"), "{told}");
    // The next change rolls again.
    bench.set("ConfigMap", "app", "v1").await?;
    bench.rolled("Deployment", "web", &before).await?;
    assert_eq!(bench.count("Deployment", "web").await?, 2);
    Ok(())
}
