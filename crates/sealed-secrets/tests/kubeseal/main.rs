//! kubeseal, the program: what it does without a cluster.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test's helpers fail the test"
)]
#![allow(unreachable_pub, reason = "modules of one test binary")]

mod cluster;
mod connection;
mod contract;
mod editing;
mod files;
mod hostile;
mod keys;
mod recovery;
mod sealing;
#[path = "../support/mod.rs"]
mod support;

use std::path::Path;

use serde_json::Value;
use support::run;

const SECRET: &str = r#"
apiVersion: v1
kind: Secret
metadata:
  name: login
  namespace: shop
  labels: {app: shop}
  annotations:
    note: "1"
    kubectl.kubernetes.io/last-applied-configuration: '{"stringData":{"password":"plaintext"}}'
  uid: 0b0ab8d5-0000-0000-0000-000000000000
  resourceVersion: "7"
  ownerReferences: [{apiVersion: v1, kind: ConfigMap, name: a, uid: b}]
data:
  user: YWRtaW4=
  password: b2xk
stringData:
  password: "pa\u00dfw\u00f6rd \u0001"
immutable: true
type: Opaque
"#;

fn yaml(text: &str) -> Value {
    serde_yaml::from_str(text).unwrap()
}

/// The Secret that `program` recovers from `sealed`.
fn recover(program: &Path, directory: &Path, sealed: &str, key: &str) -> Value {
    let text = run(
        program,
        directory,
        &["--recovery-unseal", "--recovery-private-key", key],
        sealed,
    )
    .ok();
    serde_json::from_str(&text).unwrap()
}
