//! The walk that everybody makes: a Secret is sealed, committed, applied by the syncer and opened by the unsealer.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use plumbline_testkit::wait_for;
use plumbline_together::{Estate, PATIENCE, program};

/// What `kubeseal` makes of `input`.
fn kubeseal(program: &Path, arguments: &[&str], input: &str) -> String {
    let mut child = Command::new(program)
        .env_clear()
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Starts the unsealer for every namespace; where its API listens.
fn start_unsealer(estate: &Estate, unsealer: &Path) -> String {
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let listen = format!("127.0.0.1:{port}");
    let mut command = Command::new(unsealer);
    command
        .env_clear()
        .env("POD_NAMESPACE", "kube-system")
        .args(["--key-size=2048", "--listen-metrics-addr=0"])
        .args(["--listen-addr", &listen])
        .arg("--kubeconfig")
        .arg(estate.plane.kubeconfig());
    estate
        .plane
        .start_program("plumbline-unsealer", &mut command)
        .unwrap();
    listen
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_secret_in_git_becomes_a_secret_and_goes_with_its_file() {
    let binaries = ["plumbline-unsealer", "kubeseal"];
    let unsealer = program("plumbline-sealed-secrets", &binaries).unwrap();
    let seal = unsealer.with_file_name("kubeseal");
    let estate = tokio::task::spawn_blocking(Estate::start).await.unwrap().unwrap();
    estate.install_crds(Command::new(&unsealer).arg("crd")).unwrap();
    let listen = start_unsealer(&estate, &unsealer);
    let url = format!("http://{listen}/v1/cert.pem");
    let client = estate.client().await.unwrap();
    wait_for("the certificate", PATIENCE, async || {
        let fetched = Command::new(&seal)
            .env_clear()
            .args(["--fetch-cert", "--cert", &url])
            .output();
        match fetched {
            Ok(output) if output.status.success() => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
    .unwrap();

    // kubectl create secret generic … --dry-run=client -o yaml | kubeseal -o yaml > sealed.yaml
    let secret = estate
        .kubectl(
            &[
                "--namespace=default",
                "create",
                "secret",
                "generic",
                "login",
                "--from-literal=user=admin",
                "--from-literal=password=s3cret",
                "--dry-run=client",
                "-o",
                "yaml",
            ],
            "",
        )
        .unwrap();
    let sealed = kubeseal(
        &seal,
        &["-o", "yaml", "--namespace=default", "--cert", &url],
        &secret,
    );
    assert!(!sealed.contains("s3cret") && sealed.contains("kind: SealedSecret"));

    estate.repository.write("sealed.yaml", &sealed).unwrap();
    let other = "{apiVersion: v1, kind: ConfigMap, metadata: {name: stays, namespace: default}}";
    estate.repository.write("stays.yaml", other).unwrap();
    let commit = estate.repository.commit("A sealed login").unwrap();
    estate.follow_repository().unwrap();
    estate.applied(&client, &commit).await.unwrap();
    let secrets: Api<Secret> = Api::namespaced(client, "default");
    let opened = wait_for("the Secret", PATIENCE, async || {
        secrets
            .get_opt("login")
            .await
            .map_err(|error| error.to_string())?
            .ok_or("not there".to_owned())
    })
    .await
    .unwrap();
    let data = opened.data.unwrap();
    assert_eq!(data["user"].0, b"admin");
    assert_eq!(data["password"].0, b"s3cret");

    // An edit of the file is an edit of the Secret.
    let changed = secret.replace("czNjcmV0", "bmV4dA==");
    assert_ne!(changed, secret);
    let sealed = kubeseal(
        &seal,
        &["-o", "yaml", "--namespace=default", "--cert", &url],
        &changed,
    );
    estate.repository.write("sealed.yaml", &sealed).unwrap();
    estate.push("Another password").await.unwrap();
    wait_for("the new password", PATIENCE, async || {
        let found = secrets.get("login").await.map_err(|error| error.to_string())?;
        match found.data.and_then(|data| Some(data.get("password")?.0.clone())) {
            Some(value) if value == b"next" => Ok(()),
            _ => Err("still the old one".to_owned()),
        }
    })
    .await
    .unwrap();

    // Without its file the SealedSecret is pruned, and Kubernetes collects the Secret behind it.
    estate.repository.remove("sealed.yaml").unwrap();
    estate.push("No login").await.unwrap();
    wait_for("the Secret to go", PATIENCE, async || {
        match secrets.get_opt("login").await {
            Ok(None) => Ok(()),
            Ok(Some(_)) => Err("still there".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    })
    .await
    .unwrap();
}
