//! Each controller runs with its release's arguments under its release's ServiceAccount and does its work: nothing is refused,
//! and no right is left over that nothing explains.

use plumbline_charts::{Chart, Pod, documents, granted, too_little, too_much};
use plumbline_testkit::git::{GitServer, Repository};
use plumbline_testkit::{Requests, wait_for};
use serde_json::json;

use crate::stage::{PATIENCE, Stage};

/// Rights that the work in these tests does not need: verb, resource, and what needs it.
type Seldom = &'static [(&'static str, &'static str, &'static str)];

struct Release<'a> {
    stage: &'a Stage,
    chart: Chart,
    name: String,
    namespace: String,
    log: plumbline_testkit::AuditLog,
    pod: Pod,
}

impl<'a> Release<'a> {
    /// Installs `chart` into a namespace of its own and starts its controller.
    fn start(stage: &'a Stage, chart: Chart, name: &str, deployment: &str, arguments: &[&str]) -> Self {
        let namespace = format!("{name}-home");
        let all = [&["--create-namespace", "--set", "crds.install=false"], arguments].concat();
        // The reloader's chart has no CustomResourceDefinitions.
        let all = if chart == Chart::Reloader {
            [&all[..1], arguments].concat()
        } else {
            all
        };
        stage
            .helm
            .chart("install", chart, name, &namespace, &all)
            .unwrap();
        let log = stage.plane().audit_log().since_now().unwrap();
        let pod = Pod::start(chart, stage.cluster(), &namespace, deployment, &stage.work(name)).unwrap();
        Self {
            stage,
            chart,
            name: name.to_owned(),
            namespace,
            log,
            pod,
        }
    }

    fn requests(&self) -> Requests {
        self.log.requests("").unwrap()
    }

    /// What it was refused, and what it may do for no reason.
    fn judge(&mut self, account: &str, seldom: Seldom) {
        self.pod.check_alive().unwrap();
        let requests = self.requests();
        let refused = too_little(&requests, &self.pod.user);
        assert!(refused.is_empty(), "{:?}: refused {refused:?}", self.chart);
        let manifest = self
            .stage
            .helm
            .run(&["get", "manifest", &self.name, "-n", &self.namespace]);
        let granted = granted(&documents(&manifest.unwrap()).unwrap(), account);
        assert!(!granted.is_empty());
        let unused = too_much(&requests, &self.pod.user, &granted, seldom);
        assert!(unused.is_empty(), "{:?}: never used {unused:?}", self.chart);
    }
}

const RELOADER_SELDOM: Seldom = &[
    (
        "list",
        "secrets",
        "copies of Jobs, of which a crash may leave some",
    ),
    ("get", "jobs", "a Job is read before it is made anew"),
    (
        "create",
        "configmaps",
        "an apply that makes one is a patch in the log",
    ),
    ("patch", "events", "one that comes again"),
];

fn workload(kind: &str, name: &str, namespace: &str) -> serde_json::Value {
    let pod = json!({"metadata": {"labels": {"app": name}}, "spec": {
        "restartPolicy": if matches!(kind, "Job" | "CronJob") { "Never" } else { "Always" },
        "containers": [{"name": "main", "image": "none", "envFrom": [
            {"configMapRef": {"name": "app"}}, {"secretRef": {"name": "login"}}]}]}});
    let selector = json!({"matchLabels": {"app": name}});
    let (version, spec) = match kind {
        "Job" => ("batch/v1", json!({"template": pod})),
        "CronJob" => (
            "batch/v1",
            json!({"schedule": "0 0 1 1 *", "jobTemplate": {"spec": {"template": pod}}}),
        ),
        "StatefulSet" => (
            "apps/v1",
            json!({"selector": selector, "template": pod, "serviceName": name, "replicas": 0}),
        ),
        "DaemonSet" => ("apps/v1", json!({"selector": selector, "template": pod})),
        _ => (
            "apps/v1",
            json!({"selector": selector, "template": pod, "replicas": 0}),
        ),
    };
    json!({"apiVersion": version, "kind": kind, "spec": spec, "metadata": {
        "name": name, "namespace": namespace, "annotations": {"reloader.stakater.com/auto": "true"}}})
}

async fn reloader(stage: &Stage, name: &str, arguments: &[&str]) {
    let namespace = format!("{name}-home");
    let mut release = Release::start(
        stage,
        Chart::Reloader,
        name,
        &format!("{name}-reloader"),
        arguments,
    );
    let kinds = ["Deployment", "StatefulSet", "DaemonSet", "CronJob", "Job"];
    let sources = |value: &str| {
        json!({"apiVersion": "v1", "kind": "List", "items": [
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "app", "namespace": namespace}, "data": {"key": value}},
            {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "login", "namespace": namespace}, "stringData": {"key": value}},
        ]})
        .to_string()
    };
    let apply = ["apply", "--server-side", "-f", "-"];
    stage.kubectl_with(&apply, &sources("one"));
    let items: Vec<_> = kinds
        .iter()
        .map(|kind| workload(kind, &kind.to_lowercase(), &namespace))
        .collect();
    stage.kubectl_with(
        &apply,
        &json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string(),
    );
    let job = stage.get(&["job", "job", "-n", &namespace])["metadata"]["uid"].clone();
    for kind in kinds {
        let key = "reloader.plumbline.dev/sources";
        stage
            .until(
                &[&kind.to_lowercase(), &kind.to_lowercase(), "-n", &namespace],
                |object| object["metadata"]["annotations"][key].is_string(),
            )
            .await;
    }
    stage.kubectl_with(&apply, &sources("two"));
    stage
        .until(&["deployment", "deployment", "-n", &namespace], |object| {
            let template = &object["spec"]["template"]["metadata"]["annotations"];
            template["reloader.plumbline.dev/config-hash"].is_string()
        })
        .await;
    stage
        .until(&["job", "job", "-n", &namespace], |object| {
            object["metadata"]["uid"] != job
        })
        .await;
    stage
        .until(&["jobs", "-n", &namespace], |list| {
            list["items"].as_array().is_some_and(|items| items.len() >= 2)
        })
        .await;
    release.judge(&format!("{name}-reloader"), RELOADER_SELDOM);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reloader_has_what_it_needs() {
    let (_turn, stage) = Stage::alone().await;
    reloader(stage, "rolls", &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reloader_works_with_roles_only() {
    let (_turn, stage) = Stage::alone().await;
    reloader(stage, "rolls-here", &["--set", "reloader.watchGlobally=false"]).await;
    let manifest = stage
        .helm
        .run(&["get", "manifest", "rolls-here", "-n", "rolls-here-home"])
        .unwrap();
    assert!(!manifest.contains("kind: ClusterRole"), "Roles only");
}

const UNSEALER_SELDOM: Seldom = &[(
    "create",
    "configmaps",
    "an apply that makes one is a patch in the log",
)];

async fn unsealer(stage: &Stage, name: &str, arguments: &[&str]) {
    let namespace = format!("{name}-home");
    let mut release = Release::start(stage, Chart::SealedSecrets, name, name, arguments);
    let certificate = format!("http://{}/v1/cert.pem", release.pod.address);
    let kubeseal = plumbline_together::program("kubeseal").unwrap();
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "login", "namespace": namespace},
        "stringData": {"password": "s3cret"}});
    let file = stage.work(name).join("secret.json");
    std::fs::write(&file, secret.to_string()).unwrap();
    let sealed = wait_for("a certificate", PATIENCE, async || {
        let output = std::process::Command::new(&kubeseal)
            .args(["--cert", &certificate, "-f"])
            .arg(&file)
            .output()
            .map_err(|error| error.to_string())?;
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    })
    .await
    .unwrap();
    stage.kubectl_with(&["apply", "--server-side", "-f", "-"], &sealed);
    let right = |object: &serde_json::Value| object["data"]["password"] == "czNjcmV0";
    stage.until(&["secret", "login", "-n", &namespace], right).await;
    stage.kubectl(&[
        "patch",
        "secret",
        "login",
        "-n",
        &namespace,
        "-p",
        r#"{"data":{"password":"b3RoZXI="}}"#,
    ]);
    stage.until(&["secret", "login", "-n", &namespace], right).await;
    stage
        .until(&["sealedsecret", "login", "-n", &namespace], |object| {
            object["status"]["conditions"][0]["status"] == "True"
        })
        .await;
    // Another event of the same kind counts the first one up.
    stage.kubectl(&["delete", "secret", "login", "-n", &namespace]);
    stage.until(&["secret", "login", "-n", &namespace], right).await;
    stage
        .until(&["events", "-n", &namespace], |list| {
            let mut events = list["items"].as_array().into_iter().flatten();
            events.any(|event| event["count"].as_u64() > Some(1))
        })
        .await;
    release.judge(name, UNSEALER_SELDOM);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_unsealer_has_what_it_needs() {
    let set = "rbac.clusterRoleName=sealed-secrets-unsealer,certificateConfigMap=certificate";
    let set = ["--set", set];
    let (_turn, stage) = Stage::alone().await;
    unsealer(stage, "sealed-secrets", &set).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_unsealer_works_with_roles_only() {
    let (_turn, stage) = Stage::alone().await;
    let set = ["--set", "rbac.clusterRole=false,rbac.namespacedRoles=true"];
    unsealer(stage, "sealed-secrets-here", &set).await;
    let release = [
        "get",
        "manifest",
        "sealed-secrets-here",
        "-n",
        "sealed-secrets-here-home",
    ];
    assert!(
        !stage.helm.run(&release).unwrap().contains("kind: ClusterRole"),
        "Roles only"
    );
}

/// Everything under `rbac.applyRules` is for what Git may hold.
const SYNC_SELDOM: Seldom = &[
    ("patch", "events", "one that comes again"),
    ("*", "configmaps", "applied here, and variables"),
    ("*", "secrets", "applied, credentials, variables"),
    ("*", "namespaces", "applied"),
    ("*", "services", "applied"),
    ("*", "serviceaccounts", "applied"),
    ("*", "persistentvolumeclaims", "applied"),
    ("*", "limitranges", "applied"),
    ("*", "resourcequotas", "applied"),
    ("*", "pods", "applied"),
    ("*", "deployments", "applied"),
    ("*", "statefulsets", "applied"),
    ("*", "daemonsets", "applied"),
    ("*", "jobs", "applied"),
    ("*", "cronjobs", "applied"),
    ("*", "horizontalpodautoscalers", "applied"),
    ("*", "poddisruptionbudgets", "applied"),
    ("*", "ingresses", "applied"),
    ("*", "networkpolicies", "applied"),
    ("*", "gateways", "applied"),
    ("*", "httproutes", "applied"),
    ("*", "grpcroutes", "applied"),
    ("*", "referencegrants", "applied"),
    ("*", "sealedsecrets", "applied"),
    ("*", "gitrepositories", "applied, and watched"),
    ("*", "kustomizations", "applied, and watched"),
    ("*", "servicemonitors", "applied"),
    ("*", "podmonitors", "applied"),
    ("*", "prometheusrules", "applied"),
];

fn config_map(namespace: &str, name: &str, value: &str) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: {namespace}}}\ndata: {{key: {value}}}\n"
    )
}

fn applied(commit: &str) -> impl Fn(&serde_json::Value) -> bool + '_ {
    move |object| {
        let revision = object["status"]["lastAppliedRevision"].as_str();
        revision.is_some_and(|revision| revision.ends_with(commit))
    }
}

/// Applies, changes, prunes, corrects and finalizes in `namespace`; Git may hold more beside it.
async fn syncer(stage: &Stage, name: &str, namespace: &str, more: &[(&str, &str)], set: &str) {
    let home = format!("{name}-home");
    let repository = Repository::init(&stage.work(&format!("{name}-git"))).unwrap();
    for (path, text) in more {
        repository.write(path, text).unwrap();
    }
    let write = |file: &str, value: &str| {
        let path = format!("deploy/{file}.yaml");
        repository
            .write(&path, config_map(namespace, file, value))
            .unwrap();
    };
    write("goes", "one");
    write("stays", "one");
    let first = repository.commit("First").unwrap();
    let server = GitServer::http(&repository).unwrap();
    let url = format!("git.url={}", server.url());
    let arguments = [
        "--set",
        &url,
        "--set",
        "git.path=deploy,git.interval=1h",
        "--set",
        set,
    ];
    let mut release = Release::start(stage, Chart::Sync, name, name, &arguments);
    let kustomization = ["kustomization", name, "-n", &home];
    stage.until(&kustomization, applied(&first)).await;

    repository.remove("deploy/goes.yaml").unwrap();
    write("stays", "two");
    let second = repository.commit("Second").unwrap();
    let source = format!("gitrepository/{name}");
    stage.kubectl(&[
        "annotate",
        &source,
        "-n",
        &home,
        "reconcile.fluxcd.io/requestedAt=now",
    ]);
    stage.until(&kustomization, applied(&second)).await;
    assert!(!stage.exists(&["configmap", "goes", "-n", namespace]));

    // Drift is corrected, and the finalizer is taken off in the end.
    let drift = r#"{"data":{"key":"drift"}}"#;
    stage.kubectl(&["patch", "configmap", "stays", "-n", namespace, "-p", drift]);
    let stays = ["configmap", "stays", "-n", namespace];
    stage.until(&stays, |object| object["data"]["key"] == "two").await;
    stage.kubectl(&["delete", "kustomization", name, "-n", &home, "--timeout=60s"]);
    assert!(!stage.exists(&stays));
    release.judge(name, SYNC_SELDOM);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_syncer_has_what_it_needs() {
    let apps = "apiVersion: v1\nkind: Namespace\nmetadata: {name: estate-apps}\n";
    let more = [("deploy/namespace.yaml", apps)];
    let (_turn, stage) = Stage::alone().await;
    syncer(stage, "estate-sync", "estate-apps", &more, "logLevel=debug").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_syncer_works_for_one_tenant_with_roles_only() {
    let (_turn, stage) = Stage::alone().await;
    let set = "watchAllNamespaces=false,tenant.create=true";
    syncer(stage, "tenant-sync", "tenant-sync-home", &[], set).await;
    let manifest = ["get", "manifest", "tenant-sync", "-n", "tenant-sync-home"];
    let manifest = documents(&stage.helm.run(&manifest).unwrap()).unwrap();
    assert!(
        manifest.iter().all(|object| object["kind"] != "ClusterRole"),
        "Roles only"
    );
}
