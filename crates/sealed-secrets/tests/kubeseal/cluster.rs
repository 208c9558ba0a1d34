//! `edit` and `keys` against a real API server, by the rights of whoever runs them.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use plumbline_sealed_secrets::crypto::{cert, encode, generate_private_key};
use plumbline_testkit::World;
use serde_json::{Value, json};

use crate::keys::{IDENTITY, RECIPIENT, age};
use crate::support::{Said, ours, run, run_with, workspace};
use crate::{recover, yaml};

fn install_crd(world: &World) {
    let crd = Command::new(env!("CARGO_BIN_EXE_plumbline-unsealer"))
        .arg("crd")
        .output()
        .unwrap();
    let crd = String::from_utf8(crd.stdout).unwrap();
    world
        .kubectl_with(&["apply", "--server-side", "--force-conflicts", "-f", "-"], &crd)
        .unwrap();
    let wait = [
        "wait",
        "--for=condition=Established",
        "--timeout=60s",
        "crd/sealedsecrets.bitnami.com",
    ];
    world.kubectl(&wait).unwrap();
}

/// A key Secret with the value `label`, and its private key and certificate as `NAME.key` and `NAME.crt` in `at`.
fn key(world: &World, at: &Path, name: &str, label: &str, since: &str, acknowledged: Option<&str>) {
    let private = generate_private_key(2048).unwrap();
    let request = cert::Request {
        common_name: "",
        not_before: since.parse().unwrap(),
        not_after: "2046-01-02T15:04:05Z".parse().unwrap(),
        serial: [7; 16],
    };
    let certificate = cert::self_signed(&private, &request).unwrap();
    std::fs::write(at.join(format!("{name}.key")), private.as_bytes()).unwrap();
    std::fs::write(at.join(format!("{name}.crt")), &certificate).unwrap();
    let annotations = acknowledged.map(|value| json!({"plumbline.dev/backup-acknowledged": value}));
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {
            "name": name, "labels": {"sealedsecrets.bitnami.com/sealed-secrets-key": label}, "annotations": annotations,
        },
        "data": {"tls.key": encode(private.as_bytes()), "tls.crt": encode(certificate.as_bytes())},
    });
    world
        .kubectl_with(&["apply", "-f", "-"], &secret.to_string())
        .unwrap();
}

fn kubeseal(world: &World, at: &Path, arguments: &[&str]) -> Said {
    let kubeconfig = world.kubeconfig().display().to_string();
    let connection = [
        "--kubeconfig",
        &kubeconfig,
        "--controller-namespace",
        world.namespace(),
    ];
    // Behind the command, as people write them.
    run(&ours(), at, &[arguments, &connection[..]].concat(), "")
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_listed_with_what_they_are_used_for() {
    let world = World::new().await.unwrap();
    let directory = workspace();
    let at = directory.path();
    install_crd(&world);
    assert!(
        kubeseal(&world, at, &["keys", "list"])
            .failure()
            .contains("holds no sealing keys")
    );
    key(&world, at, "old", "active", "2026-01-01T00:00:00Z", None);
    key(&world, at, "bad", "compromised", "2026-02-01T00:00:00Z", None);
    key(&world, at, "new", "active", "2026-03-01T00:00:00Z", Some("true"));
    key(
        &world,
        at,
        "next",
        "active",
        "2026-04-01T00:00:00Z",
        Some("false"),
    );
    let broken = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "broken",
        "labels": {"sealedsecrets.bitnami.com/sealed-secrets-key": "active"}}, "data": {}});
    world
        .kubectl_with(&["apply", "-f", "-"], &broken.to_string())
        .unwrap();

    // Two objects with `old`, as the controller would have recorded them.
    let fingerprint = |key: &str| {
        let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: a, namespace: b}\nstringData: {a: b}\n";
        let flags = ["--cert", &format!("{key}.crt"), "--sealed-with"];
        let sealed: Value = serde_json::from_str(&run(&ours(), at, &flags, secret).ok()).unwrap();
        sealed["metadata"]["annotations"]["plumbline.dev/sealed-with"].clone()
    };
    for name in ["one", "two"] {
        let object = json!({"apiVersion": "bitnami.com/v1alpha1", "kind": "SealedSecret", "metadata": {"name": name},
            "spec": {"encryptedData": {"a": "AgA=", "b": "AgA="}}});
        world
            .kubectl_with(&["apply", "-f", "-"], &object.to_string())
            .unwrap();
        let old = fingerprint("old");
        let status = json!({"status": {"observedGeneration": 1, "conditions": [{"type": "Synced", "status": "True"}],
            "unsealed": {"source": "", "secretUid": "", "secretResourceVersion": "", "keys": {"a": old, "b": old}}}});
        let patch = [
            "patch",
            "sealedsecret",
            name,
            "--subresource=status",
            "--type=merge",
            "-p",
            &status.to_string(),
        ];
        world.kubectl(&patch).unwrap();
    }
    let table = kubeseal(&world, at, &["keys", "list"]).ok();
    assert!(table.starts_with("NAME "), "{table}");
    let rows: Value = serde_json::from_str(&kubeseal(&world, at, &["keys", "list", "--json"]).ok()).unwrap();
    let row = |name: &str| {
        rows.as_array()
            .unwrap()
            .iter()
            .find(|row| row["name"] == name)
            .unwrap()
            .clone()
    };
    assert_eq!(row("old")["fingerprint"], fingerprint("old"));
    assert_eq!(
        (row("old")["items"].clone(), row("old")["objects"].clone()),
        (json!(4), json!(2))
    );
    assert_eq!(row("old")["note"], "in use: reseal what is sealed with it");
    for (name, state) in [
        ("old", "active"),
        ("new", "sealing"),
        ("next", "pending"),
        ("bad", "compromised"),
        ("broken", "unusable"),
    ] {
        assert_eq!(row(name)["state"], state, "{rows:#}");
    }
    for name in ["old", "new", "next", "broken"] {
        assert_eq!(row(name)["safeToRetire"], false, "{rows:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_backed_up_acknowledged_and_restored() {
    let world = World::new().await.unwrap();
    let directory = workspace();
    let at = directory.path();
    key(&world, at, "old", "active", "2026-01-01T00:00:00Z", None);
    key(&world, at, "bad", "compromised", "2026-02-01T00:00:00Z", None);
    key(
        &world,
        at,
        "next",
        "active",
        "2026-04-01T00:00:00Z",
        Some("false"),
    );
    // A backup for a recipient, which the original age opens.
    let backup = [
        "keys",
        "backup",
        "--recipient",
        RECIPIENT,
        "--output",
        "keys.age",
        "--acknowledge",
    ];
    let said = kubeseal(&world, at, &backup);
    assert_eq!(said.code, 0, "{}", said.stderr);
    let mode = std::fs::metadata(at.join("keys.age"))
        .unwrap()
        .permissions()
        .mode()
        & 0o777;
    assert_eq!(mode, 0o600);
    let file = std::fs::read(at.join("keys.age")).unwrap();
    let text = String::from_utf8(age(&["decrypt", "key", IDENTITY], &file)).unwrap();
    let list = yaml(&text);
    assert_eq!(list["items"].as_array().unwrap().len(), 3);
    assert!(
        !text.contains("resourceVersion") && !text.contains("uid"),
        "any cluster takes it"
    );
    let annotation = |name: &str| {
        let path = "jsonpath={.metadata.annotations.plumbline\\.dev/backup-acknowledged}";
        world.kubectl(&["get", "secret", name, "-o", path]).unwrap()
    };
    for name in ["old", "next", "bad"] {
        assert_eq!(annotation(name), "true", "{name}");
    }
    // By passphrase, to standard output.
    std::fs::write(at.join("passphrase"), "correct horse\n").unwrap();
    let kubeconfig = world.kubeconfig().display().to_string();
    let piped = Command::new(ours())
        .current_dir(at)
        .args([
            "keys",
            "backup",
            "--passphrase-file",
            "passphrase",
            "--kubeconfig",
            &kubeconfig,
        ])
        .args(["--controller-namespace", world.namespace()])
        .output()
        .unwrap();
    assert!(piped.status.success());
    assert_eq!(age(&["decrypt", "passphrase", "correct horse"], &piped.stdout), {
        let acknowledged = kubeseal_restored(&world, at, &piped.stdout);
        acknowledged.into_bytes()
    });

    // Into a cluster that has lost its keys; what is there is never written over.
    std::fs::write(at.join("identity"), IDENTITY).unwrap();
    world.kubectl(&["delete", "secret", "old"]).unwrap();
    key(&world, at, "bad", "compromised", "2026-02-01T00:00:00Z", None);
    let restore = ["keys", "restore", "keys.age", "--identity", "identity", "--apply"];
    let said = kubeseal(&world, at, &restore);
    assert_eq!(said.code, 1);
    for expected in [
        "/old: restored",
        "/next: is there already",
        "/bad: a Secret of this name holds another key",
    ] {
        assert!(said.stderr.contains(expected), "{expected}: {}", said.stderr);
    }
    let label = world
        .kubectl(&["get", "secret", "old", "-o", "jsonpath={.metadata.labels}"])
        .unwrap();
    assert!(label.contains("sealed-secrets-key"), "{label}");
}

/// What `keys restore` prints of a file.
fn kubeseal_restored(world: &World, at: &Path, file: &[u8]) -> String {
    std::fs::write(at.join("piped.age"), file).unwrap();
    kubeseal(
        world,
        at,
        &["keys", "restore", "piped.age", "--passphrase-file", "passphrase"],
    )
    .ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn edit_takes_the_values_from_the_cluster_by_the_users_own_rights() {
    let world = World::new().await.unwrap();
    let directory = workspace();
    let at = directory.path();
    let namespace = world.namespace();
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "login", "namespace": namespace},
        "stringData": {"user": "admin", "password": "pw", "later": "x"}});
    run(
        &ours(),
        at,
        &["--cert", "k2048.crt", "-w", "login.yaml"],
        &secret.to_string(),
    )
    .ok();
    let before = std::fs::read_to_string(at.join("login.yaml")).unwrap();
    // In the cluster one item is missing, and there is one that the file has not: rendered by a template.
    let there = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "login"},
        "stringData": {"user": "admin", "password": "pw", "rendered": "y"}});
    world
        .kubectl_with(&["apply", "-f", "-"], &there.to_string())
        .unwrap();
    let editor = at.join("editor");
    std::fs::write(
        &editor,
        "#!/bin/sh\ncp \"$1\" shown\nsed -i 's/user: admin/user: root/' \"$1\"\n",
    )
    .unwrap();
    std::fs::set_permissions(&editor, std::fs::Permissions::from_mode(0o755)).unwrap();
    let edit = |more: &[&str]| {
        let kubeconfig = world.kubeconfig().display().to_string();
        let arguments = [
            "edit",
            "login.yaml",
            "--cert",
            "k2048.crt",
            "--kubeconfig",
            &kubeconfig,
        ];
        let env = [
            ("KUBE_EDITOR", editor.to_str().unwrap()),
            ("EDITOR", "false"),
            ("PATH", "/usr/bin:/bin"),
        ];
        run_with(&ours(), at, &[&arguments[..], more].concat(), "", &env)
    };
    // Somebody who may not read Secrets learns why, and no editor opens.
    let said = edit(&["--as", "nobody"]).failure();
    assert!(
        said.contains("forbidden") && said.contains("kubeseal set needs no values at all"),
        "{said}"
    );
    assert!(!at.join("shown").exists());
    edit(&[]).ok();
    let shown = std::fs::read_to_string(at.join("shown")).unwrap();
    assert!(
        shown.contains("# later: its value is not at hand; it stays as it is"),
        "{shown}"
    );
    assert!(!shown.contains("rendered"), "{shown}");
    let after = std::fs::read_to_string(at.join("login.yaml")).unwrap();
    assert_eq!(
        before
            .lines()
            .zip(after.lines())
            .filter(|(old, new)| old != new)
            .count(),
        1
    );
    let data = recover(&ours(), at, &after, "k2048.key")["data"].clone();
    assert_eq!(
        data,
        json!({"user": "cm9vdA==", "password": "cHc=", "later": "eA=="})
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_that_does_not_answer_is_told_by_what_was_asked_of_it() {
    let world = World::new().await.unwrap();
    let directory = workspace();
    let at = directory.path();
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "sealed-secrets-controller"},
        "spec": {"ports": [{"name": "http", "port": 8080}]}});
    world
        .kubectl_with(&["apply", "-f", "-"], &service.to_string())
        .unwrap();
    let sealed = run(&ours(), at, &["--cert", "k2048.crt"], crate::SECRET).ok();
    std::fs::write(at.join("sealed.json"), &sealed).unwrap();
    for (program, in_words) in [(&*crate::support::ORIGINAL, false), (&ours(), true)] {
        let ask = |arguments: &[&str], input: &str| {
            let kubeconfig = world.kubeconfig().display().to_string();
            let connection = [
                "--kubeconfig",
                &kubeconfig,
                "--controller-namespace",
                world.namespace(),
            ];
            run(program, at, &[arguments, &connection[..]].concat(), input).failure()
        };
        for (arguments, expected) in [
            (&["--fetch-cert"][..], "cannot fetch certificate: "),
            (&[], "cannot fetch certificate: "),
            (&["--validate"], "cannot validate sealed secret: "),
            (&["--re-encrypt"], "cannot re-encrypt secret: "),
        ] {
            let said = ask(
                arguments,
                if arguments.is_empty() {
                    crate::SECRET
                } else {
                    &sealed
                },
            );
            assert!(said.starts_with(expected), "{arguments:?}: {said}");
            assert!(
                !in_words || said.contains("no endpoints available"),
                "{arguments:?}: {said}"
            );
        }
        let said = ask(&["--fetch-cert", "--controller-name", "nobody"], "");
        assert!(
            said.starts_with("cannot get sealed secret service: services \"nobody\" not found.\nPlease"),
            "{said}"
        );
    }
    // Nothing is written over by a failure.
    let kubeconfig = world.kubeconfig().display().to_string();
    let flags = [
        "--re-encrypt",
        "-f",
        "sealed.json",
        "--kubeconfig",
        &kubeconfig,
        "--controller-namespace",
        world.namespace(),
    ];
    assert_eq!(run(&ours(), at, &flags, "").code, 1);
    assert_eq!(std::fs::read_to_string(at.join("sealed.json")).unwrap(), sealed);
}
