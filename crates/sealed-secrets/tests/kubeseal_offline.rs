//! kubeseal without a cluster: its contract, and both directions of interop with the original.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test")]

mod support;

use std::path::Path;

use serde_json::{Value, json};
use support::{ORIGINAL, ours, run, run_with, workspace};

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

#[test]
fn both_kubeseals_open_what_the_other_sealed() {
    let directory = workspace();
    let at = directory.path();
    for (key, scope, format) in [
        ("k2048", "strict", "json"),
        ("k4096", "strict", "yaml"),
        ("k4096", "namespace-wide", "yaml"),
        ("k4096b", "cluster-wide", "json"),
    ] {
        let certificate = format!("{key}.crt");
        let private = format!("{key}.key");
        let arguments = ["--cert", &certificate, "--scope", scope, "-o", format];
        let sealed_by_them = run(&ORIGINAL, at, &arguments, SECRET).ok();
        let sealed_by_us = run(&ours(), at, &arguments, SECRET).ok();
        let expected = json!({"password": "cGHDn3fDtnJkIAE=", "user": "YWRtaW4="});
        for sealed in [&sealed_by_them, &sealed_by_us] {
            for program in [&*ORIGINAL, &ours()] {
                let secret = recover(program, at, sealed, &private);
                assert_eq!(secret["data"], expected, "{scope} by {}", program.display());
                assert_eq!(secret["metadata"]["name"], "login");
                assert_eq!(secret["type"], "Opaque");
                assert_eq!(secret["immutable"], true);
            }
        }
        // Apart from the ciphertexts and an empty time stamp, the texts agree.
        let shape = |text: &str| {
            let mut value = yaml(text);
            value["metadata"]
                .as_object_mut()
                .unwrap()
                .remove("creationTimestamp");
            value["spec"]["template"]["metadata"]
                .as_object_mut()
                .unwrap()
                .remove("creationTimestamp");
            for (_, item) in value["spec"]["encryptedData"].as_object_mut().unwrap() {
                *item = json!(item.as_str().unwrap().len());
            }
            value
        };
        assert_eq!(shape(&sealed_by_us), shape(&sealed_by_them), "{scope}");
        assert_eq!(sealed_by_us.starts_with("---\n"), format == "yaml");
        assert!(
            !sealed_by_us.contains("plaintext"),
            "last-applied-configuration leaks"
        );
    }
}

#[test]
fn items_do_not_open_elsewhere_than_their_scope_allows() {
    let directory = workspace();
    let at = directory.path();
    let sealed = run(&ours(), at, &["--cert", "k2048.crt"], SECRET).ok();
    let moved = sealed.replace("\"shop\"", "\"other\"");
    let said = run(
        &ours(),
        at,
        &["--recovery-unseal", "--recovery-private-key", "k2048.key"],
        &moved,
    );
    assert_eq!(said.failure(), "no key could decrypt secret (password, user)");
    let said = run(
        &ours(),
        at,
        &["--recovery-unseal", "--recovery-private-key", "k4096.key"],
        &sealed,
    );
    assert_eq!(said.failure(), "no key could decrypt secret (password, user)");
}

#[test]
fn raw_values_agree_with_the_original() {
    let directory = workspace();
    let at = directory.path();
    std::fs::write(at.join("value"), "s3cret\n").unwrap();
    let strict = [
        "--raw",
        "--cert",
        "k2048.crt",
        "--namespace",
        "shop",
        "--name",
        "login",
        "--from-file=value",
    ];
    for program in [&*ORIGINAL, &ours()] {
        let item = run(program, at, &strict, "").ok();
        assert!(!item.ends_with('\n'));
        let sealed = json!({
            "apiVersion": "bitnami.com/v1alpha1", "kind": "SealedSecret",
            "metadata": {"name": "login", "namespace": "shop"},
            "spec": {"encryptedData": {"a": item}},
        });
        for opener in [&*ORIGINAL, &ours()] {
            assert_eq!(
                recover(opener, at, &sealed.to_string(), "k2048.key")["data"]["a"],
                "czNjcmV0Cg=="
            );
        }
    }
    let fails = |arguments: &[&str]| {
        run(
            &ours(),
            at,
            &[&["--raw", "--cert", "k2048.crt"], arguments].concat(),
            "x",
        )
        .failure()
    };
    assert_eq!(
        fails(&[]),
        "must provide the --namespace flag with --raw and --scope strict"
    );
    assert_eq!(
        fails(&["-n", "a"]),
        "must provide the --name flag with --raw and --scope strict"
    );
    assert_eq!(
        fails(&[
            "-n",
            "a",
            "--name",
            "b",
            "--from-file",
            "x=value",
            "--from-file",
            "value"
        ]),
        "must provide only one --from-file when encrypting a single item with --raw"
    );
    assert_eq!(
        fails(&["-n", "a", "--name", "b", "--from-file", "none"]),
        "open none: no such file or directory"
    );
    let wide = run(
        &ours(),
        at,
        &["--raw", "--cert", "k2048.crt", "--scope", "cluster-wide"],
        "x",
    )
    .ok();
    assert!(wide.starts_with("AQ"));
}

#[test]
fn messages_and_exit_codes() {
    let directory = workspace();
    let at = directory.path();
    let seal = |arguments: &[&str], input: &str| {
        run(
            &ours(),
            at,
            &[&["--cert", "k2048.crt"], arguments].concat(),
            input,
        )
    };
    let secret =
        |text: &str| format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: a, namespace: b}}\n{text}");
    let full = secret("stringData: {a: b}");
    assert_eq!(
        seal(&[], &secret("")).failure(),
        "secret.data is empty in input Secret, assuming this is an error and aborting. To work with empty data, --allow-empty-data can be used"
    );
    assert!(
        seal(&["--allow-empty-data"], &secret(""))
            .ok()
            .contains("SealedSecret")
    );
    assert_eq!(
        seal(&[], "").failure(),
        "no secrets found. Ensure the input is valid and UTF-8 encoded"
    );
    assert_eq!(
        seal(&[], "apiVersion: v1\nkind: Secret\nstringData: {a: b}").failure(),
        "missing metadata.name in input Secret"
    );
    assert_eq!(
        seal(&["-n", "c"], &full).failure(),
        "namespace mismatch: input secret is in namespace \"b\" but \"c\" was specified"
    );
    assert_eq!(
        seal(&["-o", "toml"], &full).failure(),
        "unsupported output format: toml"
    );
    assert_eq!(
        seal(&["-f", "none"], "").failure(),
        "Could not read file specified with --secret-file"
    );
    assert_eq!(
        seal(&["--from-file", "a"], "").failure(),
        "--from-file requires --raw"
    );
    assert_eq!(
        run(&ours(), at, &["--cert", "none"], &full).failure(),
        "open none: no such file or directory"
    );
    assert_eq!(
        run(&ours(), at, &["--cert", "k2048.key"], &full).failure(),
        "failed to read any certificates"
    );
    assert_eq!(seal(&["--nope"], "").code, 2);
    assert_eq!(seal(&["--scope", "Strict"], "").code, 2);
    assert!(
        seal(&["--scope", "Strict"], "")
            .stderr
            .contains("must be one of: strict, namespace-wide, cluster-wide")
    );
    assert_eq!(seal(&["--help"], "").code, 0);
    assert!(
        run(&ours(), at, &["--version"], "")
            .ok()
            .starts_with("kubeseal version: ")
    );
    let warned = seal(&["--recovery-private-key", "x"], &full);
    assert!(
        warned
            .stderr
            .contains("warning: ignoring --recovery-private-key because unseal command not chosen")
    );
    assert_eq!(warned.code, 0);
    // Truncated JSON ends; the original has been seen to read it for ever.
    assert!(
        seal(&[], r#"{"kind":"Secret","#)
            .failure()
            .starts_with("document 1: ")
    );
    // Nothing of a plaintext is repeated in a complaint.
    let said = seal(&[], &secret("data: {a: 'hunter2 not base64'}")).failure();
    assert!(!said.contains("hunter2"), "{said}");
}

#[test]
fn the_kubeconfig_is_not_touched_when_a_certificate_is_given() {
    let directory = workspace();
    let said = run_with(
        &ours(),
        directory.path(),
        &["--kubeconfig", "/nonexistent", "--cert", "k2048.crt"],
        SECRET,
        &[("KUBECONFIG", "/nonexistent")],
    );
    assert!(said.ok().contains("encryptedData"));
}

#[test]
fn an_expired_certificate_is_refused_with_its_date() {
    use plumbline_sealed_secrets::crypto::{cert, generate_private_key};
    let directory = workspace();
    let key = generate_private_key(2048).unwrap();
    let request = cert::Request {
        common_name: "",
        not_before: "2001-01-01T00:00:00Z".parse().unwrap(),
        not_after: "2006-01-02T15:04:05Z".parse().unwrap(),
        serial: [7; 16],
    };
    let pem = cert::self_signed(&key, &request).unwrap();
    std::fs::write(directory.path().join("old.crt"), pem).unwrap();
    let said = run(&ours(), directory.path(), &["--cert", "old.crt"], SECRET);
    assert_eq!(
        said.failure(),
        "failed to encrypt using an expired certificate on January 2, 2006"
    );
    let said = run(&ORIGINAL, directory.path(), &["--cert", "old.crt"], SECRET);
    assert_eq!(
        said.failure(),
        "failed to encrypt using an expired certificate on January 2, 2006"
    );
}

#[test]
fn several_documents_and_lists_are_all_sealed() {
    let directory = workspace();
    let list = format!("{SECRET}\n---\n{}", SECRET.replace("login", "second"));
    let sealed = run(
        &ours(),
        directory.path(),
        &["--cert", "k2048.crt", "-o", "YAML"],
        &list,
    )
    .ok();
    assert_eq!(sealed.matches("kind: SealedSecret").count(), 2);
    let secret = yaml(SECRET);
    let list = json!({"apiVersion": "v1", "kind": "List", "items": [secret, secret]}).to_string();
    let sealed = run(&ours(), directory.path(), &["--cert", "k2048.crt"], &list).ok();
    assert_eq!(sealed.matches("\"kind\": \"SealedSecret\"").count(), 2);
}

#[test]
fn flags_come_from_the_environment_too() {
    let directory = workspace();
    let env = [
        ("SEALED_SECRETS_CERT", "k2048.crt"),
        ("SEALED_SECRETS_FORMAT", "yaml"),
    ];
    assert!(
        run_with(&ours(), directory.path(), &[], SECRET, &env)
            .ok()
            .starts_with("---\n")
    );
    assert!(
        run_with(&ours(), directory.path(), &["-o", "json"], SECRET, &env)
            .ok()
            .starts_with('{')
    );
}

#[test]
fn the_output_file_is_written_whole_or_not_at_all() {
    let directory = workspace();
    let at = directory.path();
    let count = || std::fs::read_dir(at).unwrap().count();
    let before = count();
    let said = run(&ours(), at, &["--cert", "k2048.crt", "-w", "out.yaml"], "a: [");
    assert_eq!(said.code, 1);
    assert_eq!(count(), before, "a failure leaves no file behind");
    run(&ours(), at, &["--cert", "k2048.crt", "-w", "out.yaml"], SECRET).ok();
    assert!(
        std::fs::read_to_string(at.join("out.yaml"))
            .unwrap()
            .starts_with("---\n")
    );
    assert_eq!(count(), before + 1);
    let said = run(
        &ours(),
        at,
        &["--cert", "k2048.crt", "-w", "none/out.yaml"],
        SECRET,
    );
    assert_eq!(said.failure(), "open none/out.yaml: no such file or directory");
}

#[test]
fn merging_keeps_what_is_there_and_takes_the_targets_name_and_scope() {
    let directory = workspace();
    let at = directory.path();
    let path = at.join("sealed.yaml");
    for scope in ["strict", "namespace-wide", "cluster-wide"] {
        let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: a, namespace: b}\nstringData: {x: old, y: kept}\n";
        run(
            &ours(),
            at,
            &["--cert", "k2048.crt", "--scope", scope, "-w", "sealed.yaml"],
            secret,
        )
        .ok();
        let kept = yaml(&std::fs::read_to_string(&path).unwrap())["spec"]["encryptedData"]["y"].clone();
        let more = "apiVersion: v1\nkind: Secret\nmetadata: {name: z, labels: {new: label}}\nstringData: {x: new, q: added}\n";
        run(
            &ours(),
            at,
            &["--cert", "k2048.crt", "--merge-into", "sealed.yaml"],
            more,
        )
        .ok();
        let text = std::fs::read_to_string(&path).unwrap();
        let sealed = yaml(&text);
        assert!(text.starts_with("---\n"), "the format of the file is kept");
        assert_eq!(
            sealed["spec"]["encryptedData"]["y"], kept,
            "other items keep their ciphertext"
        );
        assert_eq!(sealed["metadata"]["name"], "a");
        assert_eq!(sealed["spec"]["template"]["metadata"]["labels"]["new"], "label");
        for program in [&*ORIGINAL, &ours()] {
            let data = recover(program, at, &text, "k2048.key")["data"].clone();
            assert_eq!(
                data,
                json!({"x": "bmV3", "y": "a2VwdA==", "q": "YWRkZWQ="}),
                "{scope}"
            );
        }
    }
}

#[test]
fn recovery_keys_come_as_pem_secret_or_list() {
    let directory = workspace();
    let at = directory.path();
    let sealed = run(&ours(), at, &["--cert", "k4096.crt"], SECRET).ok();
    let secret = |key: &str| {
        use base64::Engine as _;
        let pem = std::fs::read(at.join(key)).unwrap();
        json!({"apiVersion": "v1", "kind": "Secret", "data": {"tls.key": base64::engine::general_purpose::STANDARD.encode(pem)}})
    };
    let list =
        json!({"apiVersion": "v1", "kind": "List", "items": [secret("k2048.key"), secret("k4096.key")]});
    std::fs::write(at.join("backup.json"), list.to_string()).unwrap();
    std::fs::write(
        at.join("backup.yaml"),
        serde_yaml::to_string(&secret("k4096.key")).unwrap(),
    )
    .unwrap();
    for keys in ["backup.json", "k4096b.key,backup.yaml", "k2048.key,k4096.key"] {
        for program in [&*ORIGINAL, &ours()] {
            assert_eq!(
                recover(program, at, &sealed, keys)["data"]["user"],
                "YWRtaW4=",
                "{keys}"
            );
        }
    }
    let no_key = json!({"apiVersion": "v1", "kind": "Secret", "data": {}});
    std::fs::write(at.join("bad.json"), no_key.to_string()).unwrap();
    let said = run(
        &ours(),
        at,
        &["--recovery-unseal", "--recovery-private-key", "bad.json"],
        &sealed,
    );
    assert_eq!(said.failure(), "secret must contain a 'tls.data' key");
}

#[test]
fn lint_finds_what_can_be_found_without_a_key() {
    let directory = workspace();
    let at = directory.path();
    std::fs::create_dir_all(at.join("repo/deep/.git")).unwrap();
    let sealed = run(&ours(), at, &["--cert", "k2048.crt", "-o", "yaml"], SECRET).ok();
    std::fs::write(at.join("repo/deep/good.yaml"), &sealed).unwrap();
    std::fs::write(at.join("repo/deep/.git/ignored.yaml"), "kind: SealedSecret").unwrap();
    std::fs::write(at.join("repo/chart.yaml"), "{{ if }}\na: [").unwrap();
    let said = run(&ours(), at, &["lint", "--cert", "k2048.crt", "repo"], "").ok();
    assert_eq!(said, "1 SealedSecrets, no problem found\n");
    let said = run(&ours(), at, &["lint", "--cert", "k4096.crt", "repo"], "").failure();
    assert!(
        said.contains(
            "good.yaml: document 1: shop/login: spec.encryptedData.user: sealed with a key of 2048 bits"
        ),
        "{said}"
    );

    let bad = json!({
        "apiVersion": "bitnami.com/v1alpha1", "kind": "SealedSecret", "metadata": {"name": "a"},
        "spec": {
            "data": "AgA=",
            "encryptedData": {"a b": "AQBB", "text": "not base64", "short": "AAAA"},
            "template": {
                "metadata": {"annotations": {"sealedsecrets.bitnami.com/cluster-wide": "true"}, "labels": {"a": 1}},
                "data": {"x": "{{ .a-b }}"},
            },
        },
    });
    std::fs::write(at.join("bad.json"), bad.to_string()).unwrap();
    let said = run(&ours(), at, &["lint", "bad.json"], "").failure();
    for expected in [
        "metadata says scope strict, spec.template.metadata says cluster-wide",
        "metadata.namespace is missing",
        "deprecated field spec.data",
        "at the same time",
        "spec.encryptedData.a b: not a valid key",
        "spec.encryptedData.a b: too short",
        "spec.encryptedData.text: not base64",
        "spec.encryptedData.short: starts as no sealed item does",
        "template: x:1:",
        "spec.template.metadata.labels must be a map of strings",
    ] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
}

#[test]
fn resealing_changes_ciphertexts_and_not_one_other_byte() {
    let directory = workspace();
    let at = directory.path();
    let old = run(&ours(), at, &["--cert", "k4096.crt", "-o", "yaml"], SECRET).ok();
    let new = run(
        &ours(),
        at,
        &["--cert", "k4096b.crt", "-o", "yaml"],
        &SECRET.replace("login", "new"),
    )
    .ok();
    let text = format!("# A comment\n{old}# Another   \n---\nkind: ConfigMap\ndata:   {{a: b}}\n{new}");
    std::fs::create_dir(at.join("repo")).unwrap();
    let file = at.join("repo/all.yml");
    std::fs::write(&file, &text).unwrap();
    let flags = [
        "reseal",
        "--cert",
        "k4096b.crt",
        "--recovery-private-key",
        "k4096.key,k4096b.key",
        "--recursive",
        "repo",
    ];
    let said = run(&ours(), at, &[&flags[..], &["--dry-run"]].concat(), "").ok();
    assert!(
        said.contains("shop/login: 2 of 2 items resealed") && said.contains("shop/new: 0 of 2 items"),
        "{said}"
    );
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
    run(&ours(), at, &flags, "").ok();
    let after = std::fs::read_to_string(&file).unwrap();
    assert_ne!(after, text);
    let differing: Vec<_> = text
        .lines()
        .zip(after.lines())
        .filter(|(old, new)| old != new)
        .collect();
    assert_eq!(
        (text.lines().count(), differing.len()),
        (after.lines().count(), 2)
    );
    let first = after.split("# Another").next().unwrap();
    assert_eq!(
        recover(&ORIGINAL, at, first, "k4096b.key")["data"]["user"],
        "YWRtaW4="
    );
    // Again: nothing is left to do.
    run(&ours(), at, &flags, "").ok();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), after);
    // Without the key: said, and nothing written.
    std::fs::write(&file, &text).unwrap();
    let flags = [
        "reseal",
        "--cert",
        "k4096b.crt",
        "--recovery-private-key",
        "k4096b.key",
        "repo",
    ];
    let said = run(&ours(), at, &flags, "");
    assert!(
        said.stderr.contains("shop/login: no key could decrypt secret"),
        "{}",
        said.stderr
    );
    assert_eq!(said.code, 1);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
}

#[test]
fn several_certificates_seal_one_file_each_or_none() {
    let directory = workspace();
    let at = directory.path();
    let certificates = ["--cert", "k2048.crt", "--cert", "k4096.crt"];
    let with = |rest: &[&str]| run(&ours(), at, &[&certificates[..], rest].concat(), SECRET);
    with(&["-w", "login-{}.yaml"]).ok();
    for key in ["k2048", "k4096"] {
        let sealed = std::fs::read_to_string(at.join(format!("login-{key}.yaml"))).unwrap();
        let opened = recover(&ORIGINAL, at, &sealed, &format!("{key}.key"));
        assert_eq!(opened["data"]["user"], "YWRtaW4=");
    }
    assert!(with(&[]).failure().contains("several --cert seal one file each"));
    assert!(with(&["-w", "one.yaml"]).failure().contains("two certificates"));
    assert!(!at.join("one.yaml").exists());
}
