//! On a cluster that still has the original's CustomResourceDefinition: only the image was swapped. Its status has no place
//! for our record, so that this needs a control plane of its own.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use plumbline_sealed_secrets::crypto::cert::Certificate;
use plumbline_sealed_secrets::crypto::{PublicKey, decode, seal};
use plumbline_testkit::{AuditLog, ControlPlane, Request, kubectl, wait_for};
use rand::rngs::SysRng;
use serde_json::{Value, json};

const CRD: &str = "crd/sealedsecrets.bitnami.com";
const PATIENCE: Duration = Duration::from_secs(30);

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn start(cluster: &Path) -> Running {
    let child = Command::new(env!("CARGO_BIN_EXE_plumbline-unsealer"))
        .env_clear()
        .env("POD_NAMESPACE", "default")
        .args([
            "--key-size=2048",
            "--listen-addr=0",
            "--listen-metrics-addr=0",
            "--kubeconfig",
        ])
        .arg(cluster.join("admin.conf"))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    Running(child)
}

/// Our CRD without what is ours.
fn original_crd() -> String {
    let crd = Command::new(env!("CARGO_BIN_EXE_plumbline-unsealer"))
        .arg("crd")
        .output()
        .unwrap();
    let mut crd: Value = serde_yaml::from_slice(&crd.stdout).unwrap();
    let status = crd
        .pointer_mut("/spec/versions/0/schema/openAPIV3Schema/properties/status/properties")
        .and_then(Value::as_object_mut)
        .unwrap();
    status.remove("unsealed").unwrap();
    crd.to_string()
}

/// A control plane with that CRD, and the key of a controller that was there.
struct Cluster {
    plane: ControlPlane,
    key: Option<PublicKey>,
}

impl Cluster {
    async fn new() -> Self {
        let plane = tokio::task::spawn_blocking(|| ControlPlane::start_temporary().unwrap())
            .await
            .unwrap();
        let cluster = Self { plane, key: None };
        cluster.apply(&original_crd());
        let crd = ["wait", "--for=condition=Established", "--timeout=30s", CRD];
        cluster.run(&crd);
        cluster
    }

    fn try_run(&self, arguments: &[&str], input: &str) -> Result<String, String> {
        kubectl(self.plane.dir(), "default", arguments, input).map_err(|error| error.to_string())
    }

    fn run(&self, arguments: &[&str]) -> String {
        self.try_run(arguments, "").unwrap()
    }

    fn apply(&self, object: &str) {
        self.try_run(&["apply", "-f", "-"], object).unwrap();
    }

    fn start(&self) -> Running {
        start(self.plane.dir())
    }

    /// Waits for the controller's key.
    async fn read_key(&mut self) {
        let selector = "-l=sealedsecrets.bitnami.com/sealed-secrets-key=active";
        let path = "-o=jsonpath={.items[0].data.tls\\.crt}";
        let pem = wait_for("a key", PATIENCE, async || {
            let text = self.try_run(&["get", "secret", selector, path], "");
            text.ok()
                .and_then(|text| decode(&text))
                .filter(|pem| !pem.is_empty())
                .ok_or("no key")
        })
        .await
        .unwrap();
        self.key = Some(Certificate::from_pem(&pem).unwrap().public_key);
    }

    /// A strict item `v` of the SealedSecret `name`.
    fn item(&self, name: &str) -> String {
        let label = format!("default/{name}");
        seal(&mut SysRng, self.key.as_ref().unwrap(), label.as_bytes(), b"v").unwrap()
    }

    fn synced(&self, name: &str) {
        let object = format!("sealedsecret/{name}");
        self.run(&["wait", "--for=condition=Synced", "--timeout=30s", &object]);
    }
}

/// What the controller has written since `log`, leases aside.
fn writes(log: &AuditLog) -> Vec<Request> {
    let requests = log
        .requests("plumbline-unsealer")
        .unwrap()
        .without_watches_and_leases();
    let is_write = |request: &Request| !matches!(request.verb.as_str(), "get" | "list");
    requests.0.into_iter().filter(is_write).collect()
}

fn object(name: &str, spec: &Value) -> String {
    let metadata = json!({"name": name});
    json!({"apiVersion": "bitnami.com/v1alpha1", "kind": "SealedSecret", "metadata": metadata, "spec": spec})
        .to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_image_is_swapped() {
    let mut cluster = Cluster::new().await;
    let unsealer = cluster.start();
    cluster.read_key().await;
    let items = json!({"encryptedData": {"k": cluster.item("a")}});
    cluster.apply(&object("a", &items));
    cluster.synced("a");
    // One that is to outlive its SealedSecret: nothing but the status says later whose it is.
    let spec = json!({
        "encryptedData": {"k": cluster.item("outlives")},
        "template": {"metadata": {"annotations": {"sealedsecrets.bitnami.com/skip-set-owner-references": "true"}}},
    });
    cluster.apply(&object("outlives", &spec));
    cluster.synced("outlives");
    a_dropped_record_makes_no_loop(&cluster).await;
    drop(unsealer);

    let log = cluster.plane.audit_log().since_now().unwrap();
    let _unsealer = cluster.start();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let writes = writes(&log);
    assert!(
        writes.iter().all(|write| write.resource != "secrets"),
        "{writes:?}"
    );
    cluster.synced("outlives");
    // And it still works.
    cluster.run(&["delete", "secret/a"]);
    wait_for("the Secret", PATIENCE, async || {
        cluster.try_run(&["get", "secret/a"], "").map(drop)
    })
    .await
    .unwrap();
    malformed_objects_stop_nothing(&cluster).await;
    cluster.plane.stop();
}

/// Edits of its metadata and of the Secret's make it look, and write nothing but what has to be.
async fn a_dropped_record_makes_no_loop(cluster: &Cluster) {
    cluster.run(&["label", "sealedsecret/a", "x=y"]);
    cluster.run(&["label", "secret/a", "foreign=label"]);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let log = cluster.plane.audit_log().since_now().unwrap();
    cluster.run(&["label", "sealedsecret/a", "x=z", "--overwrite"]);
    cluster.run(&["label", "secret/a", "foreign=other", "--overwrite"]);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let writes = writes(&log);
    assert!(writes.is_empty(), "{writes:?}");
    let label = ["get", "secret/a", "-o=jsonpath={.metadata.labels.foreign}"];
    assert_eq!(cluster.run(&label), "other");
}

/// Objects that a stricter schema would not have let in: the watch of the others goes on.
async fn malformed_objects_stop_nothing(cluster: &Cluster) {
    let anything = json!([{
        "op": "replace", "path": "/spec/versions/0/schema/openAPIV3Schema/properties/spec",
        "value": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
    }]);
    cluster.run(&["patch", CRD, "--type=json", "-p", &anything.to_string()]);
    for (name, spec) in [
        ("numbers", json!({"encryptedData": {"k": 5, "m": {"n": "o"}}})),
        ("whole", json!({"encryptedData": {}, "data": {"a": "b"}})),
        (
            "template",
            json!({"encryptedData": {"k": cluster.item("template")}, "template": 5}),
        ),
        (
            "good",
            json!({"encryptedData": {"k": cluster.item("good")}, "template": null}),
        ),
    ] {
        wait_for("the schema to be served", PATIENCE, async || {
            let apply = ["apply", "--validate=false", "-f", "-"];
            cluster.try_run(&apply, &object(name, &spec)).map(drop)
        })
        .await
        .unwrap();
    }
    cluster.synced("good");
    let path = "-o=jsonpath={.status.conditions[0].message}";
    for (name, says) in [
        ("numbers", "no key could decrypt secret (k, m)"),
        ("whole", "no key could decrypt secret"),
    ] {
        wait_for("the condition", PATIENCE, async || {
            let message = cluster.run(&["get", "sealedsecret", name, path]);
            if message.starts_with(says) {
                Ok(())
            } else {
                Err(message)
            }
        })
        .await
        .unwrap();
    }
    let about = "--field-selector=involvedObject.name=template";
    wait_for("the Event", PATIENCE, async || {
        let text = cluster.run(&["get", "events", about, "-o=jsonpath={.items[*].message}"]);
        if text.contains("malformed SealedSecret") {
            Ok(())
        } else {
            Err(text)
        }
    })
    .await
    .unwrap();
}
