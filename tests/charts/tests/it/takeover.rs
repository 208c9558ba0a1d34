//! A cluster that Flux, Stakater's Reloader and Bitnami's controller have run is taken over by the three charts: nothing is
//! rolled, nothing is made anew, no Secret is lost.

use std::fs;
use std::process::Command;
use std::time::Duration;

use plumbline_charts::{Chart, Pod};
use plumbline_testkit::git::{GitServer, Repository};
use plumbline_testkit::workspace_dir;
use plumbline_together::program;
use serde_json::{Value, json};

use crate::stage::Stage;

const OLD: &str = "old";
/// SHA-1 of `key=one`, as Stakater writes it.
const HASH: &str = "2035a4766cd1cf6fba8c636b8bbc788695c0190f";

fn deployment() -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "namespace": OLD, "annotations": {"reloader.stakater.com/auto": "true"}},
        "spec": {"replicas": 0, "selector": {"matchLabels": {"app": "web"}}, "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "main", "image": "none", "envFrom": [
                {"configMapRef": {"name": "app"}}, {"secretRef": {"name": "login"}}]}]}}}})
}

fn config_map(value: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "app", "namespace": OLD}, "data": {"key": value}})
}

/// A key of the test vectors in the form that Bitnami's controller writes.
fn pem(base64: &str) -> String {
    let bytes = base64.as_bytes();
    let lines: Vec<_> = bytes.chunks(64).map(String::from_utf8_lossy).collect();
    let (begin, end) = ("-----BEGIN", "-----END");
    format!(
        "{begin} RSA PRIVATE KEY-----\n{}\n{end} RSA PRIVATE KEY-----\n",
        lines.join("\n")
    )
}

/// As Flux leaves what it applies.
fn owned_by_flux(mut object: Value) -> Value {
    object["metadata"]["labels"] = json!({
        "kustomize.toolkit.fluxcd.io/name": "estate", "kustomize.toolkit.fluxcd.io/namespace": OLD});
    object
}

/// What must be the same before and after.
fn facts(stage: &Stage) -> Value {
    let of = |arguments: &[&str]| stage.get(&[arguments, &["-n", OLD]].concat());
    let web = of(&["deployment", "web"]);
    let sets = of(&["replicasets", "-l", "app=web"]);
    let identity = |object: Value| json!([object["metadata"]["uid"], object["data"], object["type"]]);
    json!({
        "deployment": web["metadata"]["uid"],
        "template": web["spec"]["template"],
        "rollouts": sets["items"].as_array().map(Vec::len),
        "config": identity(of(&["configmap", "app"])),
        "secret": identity(of(&["secret", "login"])),
        "key": of(&["secret", "sealed-secrets-key5rxd9"]),
        "sealed": of(&["sealedsecret", "login"])["spec"],
    })
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::too_many_lines, reason = "one story, told in its order")]
async fn nothing_is_rolled_made_anew_or_lost() {
    let (_turn, stage) = Stage::alone().await;
    stage.kubectl(&["create", "namespace", OLD]);
    let work = stage.work("takeover");

    // Bitnami's: a key, what was sealed with it, and the Secret that came of it.
    let vectors = workspace_dir().join("crates/sealed-secrets/tests/data/vectors.json");
    let vectors: Value = serde_json::from_str(&fs::read_to_string(vectors).unwrap()).unwrap();
    let key = &vectors["keys"][0];
    let certificate = work.join("cert.pem");
    fs::write(&certificate, key["CertPEM"].as_str().unwrap()).unwrap();
    let key_secret = json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {"name": "sealed-secrets-key5rxd9", "namespace": OLD,
            "labels": {"sealedsecrets.bitnami.com/sealed-secrets-key": "active"}},
        "stringData": {"tls.crt": key["CertPEM"], "tls.key": pem(key["PrivPKCS1DerBase64"].as_str().unwrap())}});
    let create = |manager: &str, object: &Value| {
        let manager = format!("--field-manager={manager}");
        stage.kubectl_with(&["create", &manager, "-f", "-"], &object.to_string())
    };
    create("controller", &key_secret);
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "login", "namespace": OLD},
        "stringData": {"password": "s3cret"}});
    let file = work.join("secret.json");
    fs::write(&file, secret.to_string()).unwrap();
    let kubeseal = program("kubeseal").unwrap();
    let sealed = Command::new(kubeseal)
        .arg("--cert")
        .arg(&certificate)
        .arg("-f")
        .arg(&file)
        .output()
        .unwrap();
    let sealed: Value = serde_json::from_slice(&sealed.stdout).unwrap();

    // Flux's: what is in Git, applied under its name, and its record of it.
    let repository = Repository::init(&work.join("git")).unwrap();
    repository.write("web.yaml", deployment().to_string()).unwrap();
    repository
        .write("app.yaml", config_map("one").to_string())
        .unwrap();
    repository.write("login.yaml", sealed.to_string()).unwrap();
    let goes =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "goes", "namespace": OLD}});
    repository.write("goes.yaml", goes.to_string()).unwrap();
    let commit = repository.commit("As Flux had it").unwrap();
    let server = GitServer::http(&repository).unwrap();
    let apply = [
        "apply",
        "--server-side",
        "--field-manager=kustomize-controller",
        "-f",
        "-",
    ];
    for object in [deployment(), config_map("one"), sealed, goes] {
        stage.kubectl_with(&apply, &owned_by_flux(object).to_string());
    }
    let source = json!({"apiVersion": "source.toolkit.fluxcd.io/v1", "kind": "GitRepository",
        "metadata": {"name": "estate", "namespace": OLD, "finalizers": ["finalizers.fluxcd.io"]},
        "spec": {"url": server.url(), "interval": "1h", "ref": {"branch": "main"}}});
    let kustomization = json!({"apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization",
        "metadata": {"name": "estate", "namespace": OLD, "finalizers": ["finalizers.fluxcd.io"]},
        "spec": {"sourceRef": {"kind": "GitRepository", "name": "estate"}, "path": "./", "prune": true, "interval": "1h"}});
    create("flux", &source);
    create("flux", &kustomization);
    let entry = |id: &str, version: &str| json!({"id": id, "v": version});
    let status = json!({"status": {
        "observedGeneration": 1, "lastAppliedRevision": format!("main@sha1:{commit}"),
        "inventory": {"entries": [
            entry("old_app__ConfigMap", "v1"), entry("old_goes__ConfigMap", "v1"),
            entry("old_web_apps_Deployment", "v1"), entry("old_login_bitnami.com_SealedSecret", "v1alpha1")]}}});
    let patch = status.to_string();
    stage.kubectl(&[
        "patch",
        "kustomization",
        "estate",
        "-n",
        OLD,
        "--subresource=status",
        "--type=merge",
        "-p",
        &patch,
    ]);

    // Bitnami's Secret belongs to the SealedSecret; Stakater's variable is in the template.
    let uid = stage.get(&["sealedsecret", "login", "-n", OLD])["metadata"]["uid"].clone();
    let mut made = secret;
    made["metadata"]["ownerReferences"] = json!([{"apiVersion": "bitnami.com/v1alpha1", "kind": "SealedSecret",
        "name": "login", "uid": uid, "controller": true}]);
    create("controller", &made);
    let variable = json!({"spec": {"template": {"spec": {"containers": [
        {"name": "main", "env": [{"name": "STAKATER_APP_CONFIGMAP", "value": HASH}]}]}}}});
    let patch = variable.to_string();
    stage.kubectl(&[
        "patch",
        "deployment",
        "web",
        "-n",
        OLD,
        "--field-manager=Reloader",
        "-p",
        &patch,
    ]);
    // The rollout of that patch is Stakater's.
    stage
        .until(&["replicasets", "-n", OLD, "-l", "app=web"], |list| {
            list["items"].as_array().is_some_and(|items| items.len() == 2)
        })
        .await;
    let before = facts(stage);

    // The charts, and their controllers.
    let log = stage.plane().audit_log().since_now().unwrap();
    let releases = [
        (
            Chart::SealedSecrets,
            "old-sealed-secrets",
            "old-sealed-secrets",
            "rbac.clusterRoleName=old-unsealer",
        ),
        (
            Chart::Reloader,
            "old",
            "old-reloader",
            "reloader.reloadStrategy=env-vars",
        ),
        (Chart::Sync, "old-sync", "old-sync", "watchLabelSelector="),
    ];
    let mut pods = vec![];
    for (chart, release, deployment, set) in releases {
        stage
            .helm
            .chart("install", chart, release, OLD, &["--set", set])
            .unwrap();
        pods.push(Pod::start(chart, stage.cluster(), OLD, deployment, &work.join(release)).unwrap());
    }
    stage
        .until(&["kustomization", "estate", "-n", OLD], |object| {
            let mut conditions = object["status"]["conditions"].as_array().into_iter().flatten();
            conditions.any(|one| one["type"] == "Ready" && one["status"] == "True")
        })
        .await;
    stage
        .until(&["sealedsecret", "login", "-n", OLD], |object| {
            object["status"]["conditions"][0]["status"] == "True"
        })
        .await;
    stage
        .until(&["deployment", "web", "-n", OLD], |object| {
            object["metadata"]["annotations"]["reloader.plumbline.dev/sources"].is_string()
        })
        .await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    for pod in &mut pods {
        pod.check_alive().unwrap();
    }
    assert_eq!(facts(stage), before, "nothing that people have has changed");
    let users: Vec<&str> = pods.iter().map(|pod| pod.user.as_str()).collect();
    let requests = log.requests("").unwrap();
    let by_us = |verb: &str| {
        let ours = requests.0.iter().filter(|one| users.contains(&one.user.as_str()));
        ours.filter(|one| one.verb == verb).cloned().collect::<Vec<_>>()
    };
    assert_eq!(by_us("delete"), vec![], "nothing is deleted");
    let made: Vec<_> = by_us("create")
        .into_iter()
        .filter(|one| one.resource != "events")
        .collect();
    let made: Vec<_> = made.iter().map(|one| one.resource.as_str()).collect();
    assert_eq!(made, ["secrets"], "only the key of the digests is made");

    // And it goes on: a change in Git rolls once, what leaves Git leaves the cluster.
    repository
        .write("app.yaml", config_map("two").to_string())
        .unwrap();
    repository.remove("goes.yaml").unwrap();
    let next = repository.commit("The first one after Flux").unwrap();
    stage.kubectl(&[
        "annotate",
        "gitrepository/estate",
        "-n",
        OLD,
        "reconcile.fluxcd.io/requestedAt=now",
    ]);
    stage
        .until(&["kustomization", "estate", "-n", OLD], |object| {
            let revision = object["status"]["lastAppliedRevision"].as_str();
            revision.is_some_and(|revision| revision.ends_with(&next))
        })
        .await;
    stage
        .until(&["replicasets", "-n", OLD, "-l", "app=web"], |list| {
            list["items"].as_array().is_some_and(|items| items.len() == 3)
        })
        .await;
    assert!(
        !stage.exists(&["configmap", "goes", "-n", OLD]),
        "Flux's record of it is ours"
    );
    tokio::time::sleep(Duration::from_secs(3)).await;
    let sets = stage.get(&["replicasets", "-n", OLD, "-l", "app=web"]);
    assert_eq!(sets["items"].as_array().unwrap().len(), 3, "once");
}
