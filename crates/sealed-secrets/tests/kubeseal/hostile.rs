//! Input that is wrong, cut off or meant to hurt: an error, in time, and nothing left behind.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::SECRET;
use crate::support::{Said, ours, run, run_with, workspace};

fn names(at: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(at)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn sealed(at: &Path, arguments: &[&str], input: &str) -> Said {
    run(
        &ours(),
        at,
        &[&["--cert", "k2048.crt"], arguments].concat(),
        input,
    )
}

/// The alias bomb: nine levels of nine aliases each.
fn bomb() -> String {
    let mut text = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned();
    for level in 1..10 {
        let row = vec![format!("*a{}", level - 1); 9].join(",");
        text = format!("{text}a{level}: &a{level} [{row}]\n");
    }
    text
}

#[test]
fn damaged_input_ends_with_an_error_in_every_mode() {
    let directory = workspace();
    let at = directory.path();
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a", "namespace": "b"},
        "stringData": {"a": "hunter2"}})
    .to_string();
    let before = names(at);
    let begin = Instant::now();
    let cut = &secret[..secret.len() - 12];
    let inputs = [
        cut.to_owned(),
        format!("{secret}{cut}"),
        format!("{secret} x"),
        "{".to_owned(),
        "[]".to_owned(),
        "null".to_owned(),
        "\u{0}".to_owned(),
        "kind: Secret\nkind: [".to_owned(),
        bomb(),
        format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)),
        format!("{{\"a\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000)),
    ];
    for input in &inputs {
        let short: String = input.chars().take(40).collect();
        for mode in [
            &["-w", "out.yaml"][..],
            &["--merge-into", "k2048.crt"],
            &["--recovery-unseal", "--recovery-private-key", "k2048.key"],
        ] {
            let said = sealed(at, mode, input);
            assert_eq!(said.code, 1, "{mode:?}: {short}");
            assert!(said.stderr.starts_with("error: "), "{}", said.stderr);
            assert!(!said.stderr.contains("hunter2"), "{}", said.stderr);
        }
    }
    assert!(begin.elapsed() < Duration::from_mins(1), "{:?}", begin.elapsed());
    assert_eq!(names(at), before, "nothing is left behind");
}

#[test]
fn objects_that_are_no_secrets_are_refused_by_name() {
    let directory = workspace();
    let at = directory.path();
    let with = |object: serde_json::Value| sealed(at, &[], &object.to_string()).failure();
    let secret = |more: serde_json::Value| {
        let mut object =
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a", "namespace": "b"}});
        object
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        object
    };
    assert!(with(json!({"apiVersion": "v1", "kind": "ConfigMap"})).contains("ConfigMap"));
    assert!(with(secret(json!({"apiVersion": "v2", "data": {"a": "YQ=="}}))).contains("v2"));
    assert!(
        with(json!({"apiVersion": "v1", "kind": "List", "items": [secret(json!({"kind": "Pod"}))]}))
            .contains("Pod")
    );
    assert!(with(json!({"apiVersion": "v1", "kind": "List", "items": []})).starts_with("no secrets found"));
    assert!(with(secret(json!({"data": {"a": "%"}}))).contains("data.a of the input Secret is not base64"));
    assert!(with(secret(json!({"data": []}))).contains("data of the input Secret is not a map"));
    assert!(
        with(secret(json!({"stringData": {"a": 5}})))
            .contains("stringData.a of the input Secret is not a string")
    );
    let odd = secret(
        json!({"metadata": {"name": "a", "namespace": "b", "annotations": {"x": true}}, "stringData": {"a": "b"}}),
    );
    assert!(with(odd).contains("must be strings"));
    // A key that no Secret can have is refused before anything is committed.
    for key in ["a/b", "..", "a b", &"x".repeat(254)] {
        let said = with(secret(json!({"stringData": {key: "b"}})));
        assert!(said.contains("not a valid key of a Secret"), "{said}");
    }
    // One bad document stops the whole: half a file is worse than none.
    let said = sealed(
        at,
        &["-w", "out.yaml"],
        &format!("{SECRET}\n---\nkind: ConfigMap\napiVersion: v1\n"),
    );
    assert_eq!(said.code, 1);
    assert!(!at.join("out.yaml").exists());
}

#[test]
fn a_file_that_cannot_be_written_leaves_no_other_behind() {
    let directory = workspace();
    let at = directory.path();
    std::fs::create_dir(at.join("target")).unwrap();
    std::fs::write(at.join("target/real.yaml"), "old").unwrap();
    std::fs::set_permissions(
        at.join("target/real.yaml"),
        std::fs::Permissions::from_mode(0o640),
    )
    .unwrap();
    symlink("target/real.yaml", at.join("link.yaml")).unwrap();
    sealed(at, &["-w", "link.yaml"], SECRET).ok();
    assert!(at.join("link.yaml").is_symlink(), "the link is still one");
    let real = std::fs::read_to_string(at.join("target/real.yaml")).unwrap();
    assert!(real.contains("encryptedData"));
    let mode = std::fs::metadata(at.join("target/real.yaml"))
        .unwrap()
        .permissions()
        .mode()
        & 0o777;
    assert_eq!(mode, 0o640, "kept");
    symlink("nowhere/real.yaml", at.join("broken.yaml")).unwrap();
    let said = sealed(at, &["-w", "broken.yaml"], SECRET).failure();
    assert!(said.contains("broken.yaml: no such file or directory"), "{said}");
    let said = sealed(at, &["-w", "target"], SECRET).failure();
    assert!(said.starts_with("open target: "), "{said}");
    // Even root cannot write there.
    let said = sealed(at, &["-w", "/proc/out.yaml"], SECRET).failure();
    assert!(said.starts_with("open /proc/out.yaml: "), "{said}");
    std::fs::create_dir(at.join("readonly")).unwrap();
    std::fs::set_permissions(at.join("readonly"), std::fs::Permissions::from_mode(0o555)).unwrap();
    drop(sealed(at, &["-w", "readonly/out.yaml"], SECRET));
    for directory in [at.to_owned(), at.join("target"), at.join("readonly")] {
        let left = names(&directory);
        assert!(
            !left.iter().any(|name| name.starts_with(".kubeseal-")),
            "{left:?}"
        );
    }
}

#[test]
fn credentials_of_exec_plugins_follow_kubectls_rules() {
    let directory = workspace();
    let at = directory.path();
    let plugin = |script: &str| {
        std::fs::write(at.join("plugin"), format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(at.join("plugin"), std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    let exec = json!({"apiVersion": "client.authentication.k8s.io/v1", "command": at.join("plugin"), "interactiveMode": "Never"});
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "a",
        "clusters": [{"name": "a", "cluster": {"server": "https://127.0.0.1:1"}}],
        "users": [{"name": "a", "user": {"exec": exec}}],
        "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a", "namespace": "from-context"}}],
    });
    std::fs::write(at.join("config"), kubeconfig.to_string()).unwrap();
    let env = [("PATH", "/usr/bin:/bin")];
    let fetch = || {
        run_with(
            &ours(),
            at,
            &[
                "--kubeconfig",
                "config",
                "--fetch-cert",
                "--request-timeout",
                "5s",
            ],
            "",
            &env,
        )
    };
    // Never run when a certificate makes the cluster unnecessary; the namespace still comes from the context.
    plugin("touch ran; exit 1");
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\nstringData: {a: b}\n";
    let text = run_with(
        &ours(),
        at,
        &["--kubeconfig", "config", "--cert", "k2048.crt", "-o", "yaml"],
        secret,
        &env,
    )
    .ok();
    assert!(text.contains("namespace: from-context"), "{text}");
    assert!(!at.join("ran").exists());
    // A plugin that fails, and one that says nonsense: an error that names it and repeats none of its output.
    let said = fetch().failure();
    assert!(at.join("ran").exists());
    assert!(said.contains("plugin"), "{said}");
    plugin("echo '{\"status\": {\"token\": \"hunter2\"'");
    let said = fetch().failure();
    assert!(!said.contains("hunter2"), "{said}");
    std::fs::remove_file(at.join("plugin")).unwrap();
    assert!(!fetch().failure().is_empty());
}

#[test]
fn lists_of_flags_take_what_go_takes() {
    let directory = workspace();
    let at = directory.path();
    std::fs::write(at.join("value"), "x").unwrap();
    let raw = |from: &str| sealed(at, &["--raw", "--scope", "cluster-wide", "--from-file", from], "");
    raw("value").ok();
    raw("key=value").ok();
    assert_eq!(raw("key=").failure(), "open : no such file or directory");
    assert_eq!(raw("=").failure(), "open : no such file or directory");
    assert_eq!(
        raw("value,value").failure(),
        "must provide only one --from-file when encrypting a single item with --raw"
    );
    let text = sealed(at, &[], SECRET).ok();
    let keys = "k2048.key,none";
    let flags = ["--recovery-unseal", "--recovery-private-key", keys];
    let said = sealed(at, &flags, &text).failure();
    assert_eq!(said, "open none: no such file or directory");
}
