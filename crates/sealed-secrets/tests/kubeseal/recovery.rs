//! `--merge-into` and `--recovery-unseal`.

use serde_json::json;

use crate::support::{ORIGINAL, ours, run, workspace};
use crate::{SECRET, recover, yaml};

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
