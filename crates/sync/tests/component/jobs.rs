//! Jobs, which end; and those that Kubernetes deletes when they have ended.

use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use plumbline_testkit::wait_for;
use serde_json::json;

use crate::bench::{APP, Bench, LIMIT, ready};

fn job(bench: &Bench, image: &str) -> anyhow::Result<()> {
    let job = json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": { "name": "migrate", "namespace": bench.namespace() },
        "spec": {
            "ttlSecondsAfterFinished": 1,
            "template": { "spec": {
                "restartPolicy": "Never", "nodeName": "nowhere", "containers": [{ "name": "main", "image": image }],
            } },
        },
    });
    bench.repository.write("deploy/job.yaml", job.to_string())
}

/// The job controller would say so if there were a node: its pods are done.
async fn finish(bench: &Bench, jobs: &Api<Job>) -> anyhow::Result<()> {
    let pods: Api<k8s_openapi::api::core::v1::Pod> = Api::namespaced(bench.world.client(), bench.namespace());
    let selector = kube::api::ListParams::default().labels("job-name=migrate");
    wait_for("the Job to complete", LIMIT, async || {
        for pod in pods.list(&selector).await.map_err(|it| it.to_string())? {
            let done = json!({ "status": { "phase": "Succeeded" } });
            let name = pod.metadata.name.unwrap_or_default();
            drop(
                pods.patch_status(&name, &PatchParams::default(), &Patch::Merge(&done))
                    .await,
            );
        }
        // Gone is as good: it has been short of patience.
        match jobs.get_opt("migrate").await {
            Ok(None) => Ok(()),
            Ok(Some(job)) => Err(format!("{:?}", job.status)),
            Err(error) => Err(error.to_string()),
        }
    })
    .await
}

#[tokio::test]
async fn a_job_that_is_done_and_deleted_is_healthy_and_does_not_run_again() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let jobs: Api<Job> = Api::namespaced(bench.world.client(), bench.namespace());
    job(&bench, "x:1")?;
    bench.write_config_map("a", "1")?;
    let first = bench.commit()?;
    bench.source(json!({})).await?;
    bench.kustomization(APP, json!({ "wait": true })).await?;
    let _syncer = bench.start(&[])?;
    bench
        .until(APP, "the Job to be waited for", |object| {
            ready(object).2.contains("health checks")
        })
        .await?;
    finish(&bench, &jobs).await?;
    bench.applied(&first).await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    bench.request(APP).await?;
    // Another commit of something else is no reason either.
    bench.write_config_map("a", "2")?;
    let second = bench.push().await?;
    bench.applied(&second).await?;
    assert!(jobs.get_opt("migrate").await?.is_none(), "it runs again");

    // A changed one is another one.
    job(&bench, "x:2")?;
    bench.push().await?;
    wait_for("the new Job", LIMIT, async || {
        match jobs.get_opt("migrate").await {
            Ok(Some(_)) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
}
