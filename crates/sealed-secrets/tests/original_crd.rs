//! On a cluster that still has the original's CustomResourceDefinition: only the image was swapped. Its status has no place
//! for our record, so that this needs a control plane of its own.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use plumbline_sealed_secrets::crypto::cert::Certificate;
use plumbline_sealed_secrets::crypto::{decode, seal};
use plumbline_testkit::{ControlPlane, kubectl, wait_for};
use rand::rngs::SysRng;
use serde_json::{Value, json};

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

#[tokio::test(flavor = "multi_thread")]
async fn a_status_that_drops_our_record_makes_no_loop() {
    let plane = tokio::task::spawn_blocking(|| ControlPlane::start_temporary().unwrap())
        .await
        .unwrap();
    let cluster = plane.dir().to_owned();
    let run = |arguments: &[&str], input: &str| kubectl(&cluster, "default", arguments, input);
    run(&["apply", "-f", "-"], &original_crd()).unwrap();
    run(
        &[
            "wait",
            "--for=condition=Established",
            "--timeout=30s",
            "crd/sealedsecrets.bitnami.com",
        ],
        "",
    )
    .unwrap();
    let unsealer = start(&cluster);
    let selector = "-l=sealedsecrets.bitnami.com/sealed-secrets-key=active";
    let pem = wait_for("a key", PATIENCE, async || {
        let text = run(
            &[
                "get",
                "secret",
                selector,
                "-o=jsonpath={.items[0].data.tls\\.crt}",
            ],
            "",
        );
        text.ok()
            .and_then(|text| decode(&text))
            .filter(|pem| !pem.is_empty())
            .ok_or("no key")
    })
    .await
    .unwrap();
    let key = Certificate::from_pem(&pem).unwrap().public_key;
    let items: BTreeMap<_, _> = [("k", seal(&mut SysRng, &key, b"default/a", b"v").unwrap())].into();
    let sealed = json!({
        "apiVersion": "bitnami.com/v1alpha1", "kind": "SealedSecret", "metadata": {"name": "a"},
        "spec": {"encryptedData": items},
    });
    run(&["apply", "-f", "-"], &sealed.to_string()).unwrap();
    let synced = [
        "wait",
        "--for=condition=Synced",
        "--timeout=30s",
        "sealedsecret/a",
    ];
    run(&synced, "").unwrap();
    // Edits of its metadata and of the Secret's make it look, and write nothing but what has to be.
    run(&["label", "sealedsecret/a", "x=y"], "").unwrap();
    run(&["label", "secret/a", "foreign=label"], "").unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let log = plane.audit_log().since_now().unwrap();
    run(&["label", "sealedsecret/a", "x=z", "--overwrite"], "").unwrap();
    run(&["label", "secret/a", "foreign=other", "--overwrite"], "").unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let writes = |log: &plumbline_testkit::AuditLog| {
        let requests = log
            .requests("plumbline-unsealer")
            .unwrap()
            .without_watches_and_leases();
        requests
            .0
            .into_iter()
            .filter(|request| !matches!(request.verb.as_str(), "get" | "list"))
            .collect::<Vec<_>>()
    };
    assert!(writes(&log).is_empty(), "{:?}", writes(&log));
    assert_eq!(
        run(&["get", "secret/a", "-o=jsonpath={.metadata.labels.foreign}"], "").unwrap(),
        "other"
    );
    drop(unsealer);

    let log = plane.audit_log().since_now().unwrap();
    let _unsealer = start(&cluster);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(
        writes(&log).iter().all(|write| write.resource != "secrets"),
        "{:?}",
        writes(&log)
    );
    // And it still works.
    run(&["delete", "secret/a"], "").unwrap();
    wait_for("the Secret", PATIENCE, async || {
        run(&["get", "secret/a", "-o=jsonpath={.data.k}"], "")
            .map_err(|error| error.to_string())
            .map(drop)
    })
    .await
    .unwrap();
    plane.stop();
}
