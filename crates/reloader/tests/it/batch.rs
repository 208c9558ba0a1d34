//! CronJobs and Jobs.

use kube::api::{DeleteParams, ListParams, PostParams};
use plumbline_testkit::wait_for;
use serde_json::{Value, json};

use crate::{
    admission::Policy,
    harness::{AUTO, Bench, LIMIT, QUIET, template},
};

fn pods() -> Value {
    let mut template = template();
    template["spec"]["restartPolicy"] = json!("Never");
    template
}

pub(crate) fn cron_job(name: &str, suspend: bool) -> Value {
    json!({
        "apiVersion": "batch/v1", "kind": "CronJob",
        "metadata": {"name": name, "annotations": {AUTO.0: AUTO.1}},
        "spec": {"schedule": "0 0 1 1 *", "suspend": suspend, "jobTemplate": {"spec": {"template": pods()}}},
    })
}

fn job(name: &str) -> Value {
    json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": name, "annotations": {AUTO.0: AUTO.1}},
        "spec": {"template": pods()},
    })
}

async fn jobs_of(bench: &Bench, owner: &str) -> anyhow::Result<Vec<Value>> {
    let list = bench.api("Job").list(&ListParams::default()).await?;
    let jobs = list
        .items
        .iter()
        .map(serde_json::to_value)
        .collect::<Result<Vec<_>, _>>()?;
    Ok(jobs
        .into_iter()
        .filter(|job| job["metadata"]["ownerReferences"][0]["name"] == owner)
        .collect())
}

#[tokio::test]
async fn a_cron_job_runs_once_for_a_change_and_never_when_suspended() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    bench.config_map("app", "v1").await?;
    bench.create(cron_job("nightly", false)).await?;
    bench.create(cron_job("asleep", true)).await?;
    let mut reloader = bench.start(&["--debounce=0s"]).await?;
    for name in ["nightly", "asleep"] {
        bench.adopted("CronJob", name, &["cm/app"]).await?;
    }
    let spec = bench.get("CronJob", "nightly").await?["spec"].clone();
    bench.set("ConfigMap", "app", "v2").await?;
    runs(&bench, "nightly", 1).await?;
    let jobs = jobs_of(&bench, "nightly").await?;
    assert_eq!(
        jobs[0]["metadata"]["annotations"]["cronjob.kubernetes.io/instantiate"],
        "manual"
    );
    assert_eq!(jobs[0]["metadata"]["ownerReferences"][0]["controller"], true);
    tokio::time::sleep(QUIET).await;
    reloader.kill();
    let _reloader = bench.start(&["--debounce=0s"]).await?;
    tokio::time::sleep(QUIET).await;
    assert_eq!(jobs_of(&bench, "nightly").await?.len(), 1);
    assert_eq!(jobs_of(&bench, "asleep").await?.len(), 0);
    assert_eq!(bench.get("CronJob", "nightly").await?["spec"], spec);

    // Woken, it has nothing to make up for: its next run has the new content.
    let awake = json!({"spec": {"suspend": false}});
    bench.merge("CronJob", "asleep", awake).await?;
    tokio::time::sleep(QUIET).await;
    assert_eq!(jobs_of(&bench, "asleep").await?.len(), 0);
    bench.set("ConfigMap", "app", "v3").await?;
    for (name, count) in [("asleep", 1), ("nightly", 2)] {
        runs(&bench, name, count).await?;
    }
    Ok(())
}

/// Waits until it has been run so often.
pub(crate) async fn runs(bench: &Bench, cron_job: &str, count: usize) -> anyhow::Result<()> {
    wait_for("the CronJob to run", LIMIT, async || {
        let jobs = jobs_of(bench, cron_job)
            .await
            .map_err(|error| error.to_string())?;
        if jobs.len() == count {
            Ok(())
        } else {
            Err(format!("{} times", jobs.len()))
        }
    })
    .await
}

#[tokio::test]
async fn a_job_is_made_anew_once() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    bench.config_map("app", "v1").await?;
    let before = bench.create(job("import")).await?.metadata.uid;
    let _reloader = bench.start(&["--debounce=0s"]).await?;
    bench.adopted("Job", "import", &["cm/app"]).await?;
    bench.set("ConfigMap", "app", "v2").await?;
    let after = another(&bench, "import", before.as_deref()).await?;
    tokio::time::sleep(QUIET).await;
    assert_eq!(uid(&bench, "import").await?, after, "made anew once");
    assert_eq!(bench.count("Job", "import").await?, 1);
    let left = bench
        .api("Secret")
        .list(&ListParams::default().labels("reloader.plumbline.dev/backup"))
        .await?;
    assert!(left.items.is_empty());
    Ok(())
}

async fn uid(bench: &Bench, name: &str) -> anyhow::Result<Option<String>> {
    Ok(bench.api("Job").get(name).await?.metadata.uid)
}

async fn another(bench: &Bench, name: &str, before: Option<&str>) -> anyhow::Result<Option<String>> {
    wait_for("another Job of the name", LIMIT, async || {
        match uid(bench, name).await {
            Ok(uid) if uid.as_deref() != before => Ok(uid),
            other => Err(format!("{other:?}")),
        }
    })
    .await
}

#[tokio::test]
async fn a_job_that_could_not_be_made_anew_is_not_deleted() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    bench.config_map("app", "v1").await?;
    let before = bench.create(job("import")).await?.metadata.uid;
    let _reloader = bench.start(&["--debounce=0s"]).await?;
    bench.adopted("Job", "import", &["cm/app"]).await?;
    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"},
        "spec": {"hard": {"count/jobs.batch": "0"}}});
    bench.create(quota).await?;
    // The quota counts before it refuses.
    wait_for("the quota to be in force", LIMIT, async || {
        let mode = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        let probe = serde_json::from_value(job("probe")).map_err(|error| error.to_string())?;
        if bench.api("Job").create(&mode, &probe).await.is_err() {
            Ok(())
        } else {
            Err("not yet".to_owned())
        }
    })
    .await?;
    bench.set("ConfigMap", "app", "v2").await?;
    let told = bench.event("import", "ReloadFail").await?;
    assert!(told.contains("quota"), "{told}");
    assert_eq!(uid(&bench, "import").await?, before);
    bench
        .api("ResourceQuota")
        .delete("none", &DeleteParams::default())
        .await?;
    another(&bench, "import", before.as_deref()).await.map(drop)
}

#[tokio::test]
async fn what_a_killed_process_had_deleted_is_made_anew() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let manifest = job("import").to_string();
    // What stands in the namespace between deletion and creation.
    bench
        .create(json!({"apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": "plumbline-reloader-job-u1", "labels": {"reloader.plumbline.dev/backup": "job"}},
            "stringData": {"uid": "u1", "manifest": manifest.replace(
                "\"name\":\"import\"", &format!("\"name\":\"import\",\"namespace\":\"{}\"", bench.world.namespace()))}}))
        .await?;
    let _reloader = bench.start(&[]).await?;
    wait_for("the Job", LIMIT, async || {
        bench
            .get("Job", "import")
            .await
            .map_err(|error| error.to_string())
    })
    .await?;
    wait_for("its copy to go", LIMIT, async || {
        let copy = bench
            .api("Secret")
            .get_opt("plumbline-reloader-job-u1")
            .await
            .map_err(|error| error.to_string())?;
        if copy.is_none() {
            Ok(())
        } else {
            Err("still there".to_owned())
        }
    })
    .await
}

#[tokio::test]
async fn killed_between_deletion_and_creation_it_loses_no_job() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    bench.config_map("app", "v1").await?;
    let mut object = job("import");
    object["metadata"]["labels"] = json!({"team": "shop"});
    let before = bench.create(object).await?.metadata.uid;
    let mut reloader = bench.start(&["--debounce=0s"]).await?;
    bench.adopted("Job", "import", &["cm/app"]).await?;
    // The trial before the deletion passes, the creation after it does not.
    let policy = Policy::deny(&bench, "jobs", "CREATE", "request.dryRun != true", async || {
        let probe = serde_json::from_value(job("probe"))?;
        bench.api("Job").create(&PostParams::default(), &probe).await?;
        bench.delete("Job", "probe").await
    })
    .await?;
    bench.set("ConfigMap", "app", "v2").await?;
    wait_for("the Job to be deleted", LIMIT, async || {
        match bench.api("Job").get_opt("import").await {
            Ok(None) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    reloader.kill();
    policy.lift().await?;
    assert!(
        bench.get("Job", "import").await.is_err(),
        "it is gone, and nobody is there to make it anew"
    );
    let _reloader = bench.start(&["--debounce=0s"]).await?;
    let after = another(&bench, "import", before.as_deref()).await?;
    let anew = bench.get("Job", "import").await?;
    assert_eq!(anew["metadata"]["labels"]["team"], "shop");
    assert_eq!(anew["spec"]["template"]["spec"]["containers"][0]["name"], "a");
    tokio::time::sleep(QUIET).await;
    assert_eq!(uid(&bench, "import").await?, after, "made anew once");
    assert_eq!(bench.count("Job", "import").await?, 1);
    Ok(())
}
