//! What is sealed: both directions of interop with the original, scopes, inputs.

use serde_json::json;

use crate::support::{ORIGINAL, ours, run, workspace};
use crate::{SECRET, recover, yaml};

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
