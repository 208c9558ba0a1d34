//! `lint` and `reseal`: whole repositories.

use serde_json::json;

use crate::support::{ORIGINAL, ours, run, workspace};
use crate::{SECRET, recover};

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
    // By the annotation, a key of the right size is told from the right key. Members of Lists are looked at, too.
    let sealed = run(&ours(), at, &["--cert", "k4096.crt", "--sealed-with"], SECRET).ok();
    std::fs::write(
        at.join("list.json"),
        format!("{{\"apiVersion\": \"v1\", \"kind\": \"List\", \"items\": [{sealed}]}}"),
    )
    .unwrap();
    run(&ours(), at, &["lint", "--cert", "k4096.crt", "list.json"], "").ok();
    let said = run(&ours(), at, &["lint", "--cert", "k4096b.crt", "list.json"], "").failure();
    assert!(
        said.contains("shop/login: spec.encryptedData.password: sealed with key SHA256:"),
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
fn resealing_knows_every_way_of_writing_an_item() {
    let directory = workspace();
    let at = directory.path();
    let sealed = run(&ours(), at, &["--cert", "k2048.crt"], SECRET).ok();
    let mut sealed: serde_json::Value = serde_json::from_str(&sealed).unwrap();
    let item = |key: &str| sealed["spec"]["encryptedData"][key].as_str().unwrap().to_owned();
    let (user, password) = (item("user"), item("password"));
    let head =
        "kind: SealedSecret\napiVersion: bitnami.com/v1alpha1\nmetadata: {name: login, namespace: shop}\n";
    let wrapped: Vec<&str> = user
        .as_bytes()
        .chunks(60)
        .map(|line| std::str::from_utf8(line).unwrap())
        .collect();
    let text = format!(
        "{head}spec:\n  encryptedData:\n    user: |  # wrapped\n      {}\n    \"password\": '{password}'\n",
        wrapped.join("\n      ")
    );
    std::fs::create_dir(at.join("repo")).unwrap();
    std::fs::write(at.join("repo/a.yaml"), &text).unwrap();
    sealed["metadata"]["name"] = json!("login");
    let list = json!({"apiVersion": "v1", "kind": "List", "items": [{"kind": "ConfigMap"}, sealed]});
    let list = serde_json::to_string_pretty(&list).unwrap().replace("  ", "\t");
    std::fs::write(at.join("repo/b.json"), &list).unwrap();
    let flags = [
        "reseal",
        "--cert",
        "k4096.crt",
        "--recovery-private-key",
        "k2048.key",
        "--recursive",
        "repo",
    ];
    let said = run(&ours(), at, &flags, "").ok();
    assert_eq!(said.matches("2 of 2 items resealed").count(), 2, "{said}");
    let after = std::fs::read_to_string(at.join("repo/a.yaml")).unwrap();
    assert!(
        after.contains("user: |  # wrapped\n      Ag") && after.contains("\"password\": 'Ag"),
        "{after}"
    );
    assert_eq!(
        recover(&ORIGINAL, at, &after, "k4096.key")["data"]["user"],
        "YWRtaW4="
    );
    let after = std::fs::read_to_string(at.join("repo/b.json")).unwrap();
    let (old, new): (Vec<&str>, Vec<&str>) = (list.lines().collect(), after.lines().collect());
    assert_eq!(old.iter().zip(&new).filter(|(old, new)| old != new).count(), 2);
    assert_eq!(old.len(), new.len());
}
