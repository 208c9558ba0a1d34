//! Flags and variables of the contract, as far as only a running reloader shows what they do.

use std::process::Command;

use serde_json::json;

use crate::{
    harness::{AUTO, Bench, workload},
    process::Start,
};

/// A name, annotations, and the sources that roll it.
type Row = (
    &'static str,
    &'static [(&'static str, &'static str)],
    &'static [&'static str],
);

const NAMED: (&str, &str) = ("configmap.reloader.stakater.com/reload", "app");

#[tokio::test]
async fn annotations_can_be_renamed() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    for name in ["app", "other", "ignored"] {
        bench.config_map(name, "v1").await?;
    }
    bench.secret("db", "v1").await?;
    for (name, key) in [("app", "x/match"), ("ignored", "x/ignore")] {
        let mark = json!({"metadata": {"annotations": { key: "true" }}});
        bench.merge("ConfigMap", name, mark).await?;
    }
    let rows: &[Row] = &[
        ("old", &[AUTO, NAMED], &[]),
        ("auto", &[("x/auto", "true")], &["cm/app", "sec/db"]),
        ("configmap-auto", &[("x/configmap-auto", "true")], &["cm/app"]),
        ("secret-auto", &[("x/secret-auto", "true")], &["sec/db"]),
        ("configmap", &[("x/configmap", "other")], &["cm/other"]),
        ("secret", &[("x/secret", "db")], &["sec/db"]),
        ("search", &[("x/search", "true")], &["cm/app"]),
        ("ignored", &[("x/configmap", "ignored")], &[]),
        (
            "paused",
            &[("x/auto", "true"), ("x/pause-period", "1h")],
            &["cm/app", "sec/db"],
        ),
    ];
    for (name, annotations, _) in rows {
        bench.create(workload("Deployment", name, annotations)).await?;
    }
    let _reloader = bench
        .start(&[
            "--debounce=3s",
            "--auto-annotation=x/auto",
            "--configmap-auto-annotation=x/configmap-auto",
            "--secret-auto-annotation=x/secret-auto",
            "--configmap-annotation=x/configmap",
            "--secret-annotation=x/secret",
            "--auto-search-annotation=x/search",
            "--search-match-annotation=x/match",
            "--ignore-annotation=x/ignore",
            "--pause-deployment-annotation=x/pause-period",
            "--pause-deployment-time-annotation=x/paused-at",
        ])
        .await?;
    let rolls = || rows.iter().filter(|(_, _, sources)| !sources.is_empty());
    for (name, _, sources) in rolls() {
        bench.adopted("Deployment", name, sources).await?;
    }
    let before = bench.template("Deployment", "old").await?;
    for name in ["app", "other", "ignored"] {
        bench.set("ConfigMap", name, "v2").await?;
    }
    bench.set("Secret", "db", "v2").await?;
    for (name, _, sources) in rolls() {
        bench.rolled("Deployment", name, &before).await?;
        assert_eq!(bench.rolled_for("Deployment", name).await?, *sources, "{name}");
    }
    for name in ["old", "ignored"] {
        assert_eq!(bench.template("Deployment", name).await?, before, "{name}");
    }
    let paused = bench.get("Deployment", "paused").await?;
    assert_eq!(paused["spec"]["paused"], true);
    assert!(
        paused["metadata"]["annotations"]["x/paused-at"].is_string(),
        "{paused}"
    );
    Ok(())
}

#[tokio::test]
async fn kinds_can_be_left_alone() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    bench.config_map("app", "v1").await?;
    bench.secret("db", "v1").await?;
    bench.create(workload("Deployment", "web", &[AUTO])).await?;
    let mut pods = crate::harness::template();
    pods["spec"]["restartPolicy"] = json!("Never");
    let meta = json!({"name": "batch", "annotations": {AUTO.0: AUTO.1}});
    bench
        .create(
            json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": meta, "spec": {"template": pods}}),
        )
        .await?;
    bench
        .create(
            json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": meta,
            "spec": {"schedule": "0 0 1 1 *", "jobTemplate": {"spec": {"template": pods}}}}),
        )
        .await?;
    // Upstream, ignoring one kind of source switches creation and deletion off for the other.
    let arguments = [
        "--debounce=0s",
        "--ignored-workload-types=jobs,cronjobs",
        "--resources-to-ignore=secrets",
        "--reload-on-delete=true",
    ];
    let _reloader = bench.start(&arguments).await?;
    bench.adopted("Deployment", "web", &["cm/app"]).await?;
    let before = bench.template("Deployment", "web").await?;
    bench.set("Secret", "db", "v2").await?;
    bench.stays("Deployment", "web", &before).await?;
    bench.set("ConfigMap", "app", "v2").await?;
    let rolled = bench.rolled("Deployment", "web", &before).await?;
    bench.delete("ConfigMap", "app").await?;
    bench.rolled("Deployment", "web", &rolled).await?;
    for kind in ["Job", "CronJob"] {
        let object = bench.get(kind, "batch").await?;
        assert_eq!(
            object["metadata"]["annotations"].get(crate::harness::SOURCES),
            None,
            "{object}"
        );
    }
    let jobs = bench.api("Job").list(&kube::api::ListParams::default()).await?;
    assert_eq!(jobs.items.len(), 1);
    Ok(())
}

#[tokio::test]
async fn losing_the_label_is_a_deletion_and_gaining_it_a_creation() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let label = |value: Option<&str>| json!({"metadata": {"labels": {"reload": value}}});
    bench.config_map("app", "v1").await?;
    bench.merge("ConfigMap", "app", label(Some("yes"))).await?;
    bench.secret("db", "v1").await?;
    bench.create(workload("Deployment", "web", &[AUTO])).await?;
    let arguments = [
        "--debounce=0s",
        "--resource-label-selector=reload:yes",
        "--reload-on-delete=true",
        "--reload-on-create=true",
    ];
    let _reloader = bench.start(&arguments).await?;
    bench.adopted("Deployment", "web", &["cm/app"]).await?;
    let before = bench.template("Deployment", "web").await?;
    // It carries no label: it is not there.
    bench.set("Secret", "db", "v2").await?;
    bench.stays("Deployment", "web", &before).await?;
    bench.merge("ConfigMap", "app", label(None)).await?;
    let lost = bench.rolled("Deployment", "web", &before).await?;
    bench.merge("ConfigMap", "app", label(Some("yes"))).await?;
    let gained = bench.rolled("Deployment", "web", &lost).await?;
    bench.stays("Deployment", "web", &gained).await?;
    assert_eq!(bench.count("Deployment", "web").await?, 2);
    Ok(())
}

#[tokio::test]
async fn helms_releases_are_not_watched_unless_that_is_asked_for() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let release = "sh.helm.release.v1.web.v1";
    let named = ("secret.reloader.stakater.com/reload", release);
    bench
        .create(
            json!({"apiVersion": "v1", "kind": "Secret", "type": "helm.sh/release.v1",
            "metadata": {"name": release}, "stringData": {"release": "v1"}}),
        )
        .await?;
    bench.config_map("app", "v1").await?;
    bench
        .create(workload("Deployment", "web", &[AUTO, named]))
        .await?;
    let change = |value: &str| json!({"stringData": {"release": value}});
    let mut reloader = bench.start(&["--debounce=0s"]).await?;
    bench.adopted("Deployment", "web", &["cm/app"]).await?;
    let before = bench.template("Deployment", "web").await?;
    bench.merge("Secret", release, change("v2")).await?;
    bench.stays("Deployment", "web", &before).await?;
    reloader.kill();
    let _reloader = bench.start(&["--debounce=0s", "--watch-helm-releases"]).await?;
    bench
        .adopted("Deployment", "web", &[&format!("sec/{release}")])
        .await?;
    bench.merge("Secret", release, change("v3")).await?;
    bench.rolled("Deployment", "web", &before).await.map(drop)
}

#[tokio::test]
async fn one_namespace_can_come_from_the_environment() -> anyhow::Result<()> {
    let (bench, other) = (Bench::new().await?, Bench::new().await?);
    for one in [&bench, &other] {
        one.config_map("app", "v1").await?;
        one.create(workload("Deployment", "web", &[AUTO])).await?;
    }
    let start = Start {
        variables: vec![("KUBERNETES_NAMESPACE", bench.world.namespace())],
        everywhere: true,
        ..Start::default()
    };
    let _reloader = bench.ready(bench.spawn(&start, &["--debounce=0s"])?).await?;
    bench.adopted("Deployment", "web", &["cm/app"]).await?;
    let untouched = other.get("Deployment", "web").await?;
    assert_eq!(
        untouched["metadata"]["annotations"].get(crate::harness::SOURCES),
        None
    );
    Ok(())
}

#[test]
fn nonsense_ends_the_process_with_what_to_write() -> anyhow::Result<()> {
    for (arguments, expected) in [
        (["--reload-strategy=blue"], "write annotations or env-vars"),
        (["--resources-to-ignore=pods"], "write configmaps or secrets"),
        (["--ignored-workload-types=pods"], "write jobs or cronjobs"),
        (["--enable-ha=true"], "POD_NAME and POD_NAMESPACE"),
        (["--debounce=soon"], "--debounce"),
        (["--kubeconfig=/nowhere"], "cannot read the kubeconfig /nowhere"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_plumbline-reloader"))
            .args(arguments)
            .env_clear()
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            !output.status.success() && said.contains(expected),
            "{arguments:?}: {said}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn every_metric_of_the_contract_is_served_and_who_has_nothing_to_do_asks_nothing() -> anyhow::Result<()>
{
    let bench = Bench::new().await?;
    bench.config_map("app", "v1").await?;
    bench
        .create(workload("Deployment", "web", &[AUTO, (NAMED.0, "(")]))
        .await?;
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let address = format!("127.0.0.1:{port}");
    let start = Start {
        variables: vec![("METRICS_COUNT_BY_NAMESPACE", "enabled")],
        listen: &address,
        level: "info",
        ..Start::default()
    };
    let reloader = bench.spawn(&start, &["--debounce=0s"])?;
    bench.adopted("Deployment", "web", &["cm/app"]).await?;
    let before = bench.template("Deployment", "web").await?;
    bench.set("ConfigMap", "app", "v2").await?;
    bench.rolled("Deployment", "web", &before).await?;
    bench.event("web", "Reloaded").await?;
    for path in ["/live", "/livez", "/readyz"] {
        let answer = get(&address, path)?;
        assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
    }
    let metrics = get(&address, "/metrics")?;
    let namespace = bench.world.namespace();
    for expected in [
        "reloader_reload_executed_total{success=\"true\"} 1",
        &format!(
            "reloader_reload_executed_total_by_namespace{{success=\"true\",namespace=\"{namespace}\"}} 1"
        ),
        "reloader_reconcile_total{result=\"success\"}",
        "reloader_reconcile_duration_seconds_count",
        "reloader_action_total{workload_kind=\"Deployment\",result=\"success\"} 2",
        "reloader_action_latency_seconds_count{workload_kind=\"Deployment\"} 2",
        "reloader_skipped_total{reason=\"invalid_annotation\"} 1",
        "reloader_workqueue_depth 0",
        "reloader_workqueue_adds_total",
        "reloader_workqueue_latency_seconds_count",
        "reloader_retries_total 0",
        "reloader_events_received_total{event_type=\"update\",resource_type=\"configmaps\"} 1",
        "reloader_events_processed_total{event_type=\"unknown\",resource_type=\"configmaps\",result=\"success\"}",
        "reloader_workloads_scanned_total{kind=\"Deployment\"}",
        "reloader_workloads_matched_total{kind=\"Deployment\"} 1",
        "rest_client_requests_total{code=\"200\",method=\"PATCH\",host=\"127.0.0.1:",
        "rest_client_request_duration_seconds_count{verb=\"PATCH\",host=\"127.0.0.1:",
        "reloader_pending_workloads 0",
        "reloader_workloads 1",
        "reloader_adopted_total 1",
    ] {
        assert!(metrics.contains(expected), "{expected} is not in\n{metrics}");
    }

    let (asked, said) = (bench.world.audit_log().since_now()?, reloader.log());
    // What the controllers of the cluster have done with the rollout has been seen by now.
    tokio::time::sleep(crate::harness::QUIET).await;
    let asked = asked
        .requests("plumbline-reloader")?
        .in_namespace(namespace)
        .without_watches_and_leases();
    assert_eq!(asked.0, [], "an idle reloader asks nothing");
    assert_eq!(reloader.log(), said, "and says nothing");
    Ok(())
}

fn get(address: &str, path: &str) -> anyhow::Result<String> {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(address)?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
