//! Everything of a repository that the syncer reads: YAML, manifests, expressions in them, ignore rules.
//!
//! `crates/sync/tests/fuzz.rs` drives the same functions with random and mutated input in every run of the tests.

use std::collections::BTreeMap;

use plumbline_sync::{
    git::IgnoreRules,
    inventory,
    manifest::{self, Overlay, Variables, yaml},
};
use serde_json::json;
use zeroize::Zeroizing;

/// What no error may repeat.
const SECRET: &str = "hunter2hunter2";

/// One YAML stream: every document has a place, is bounded, and is the same when it is read again as the JSON it became.
pub fn yaml(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    // A carriage return alone ends a line, too (YAML 1.2, 5.4).
    let lines = text.matches(['\n', '\r']).count() + 1;
    let mut last = 0;
    for document in yaml::documents(text) {
        assert!(document.number > last, "documents are counted");
        last = document.number;
        assert!(document.line <= lines + 1, "line {} of {lines}", document.line);
        let Ok(content) = document.content else {
            continue;
        };
        let written = content.to_string();
        assert!(written.len() <= 64 << 20, "{} bytes", written.len());
        // `<<` is a key like any other in JSON, and merges in YAML.
        if let [again] = &yaml::documents(&written)[..]
            && let Ok(again) = &again.content
            && !written.contains("<<")
        {
            assert_eq!(*again, content);
        }
    }
}

/// One manifest file: whatever has an identity can be found again, written into an inventory and read back, and is made
/// ours by what is applied.
pub fn manifests(data: &[u8]) {
    let labels = BTreeMap::from([("kustomize.toolkit.fluxcd.io/name".to_owned(), "app".to_owned())]);
    let overlay = Overlay {
        labels,
        annotations: BTreeMap::new(),
        ignored: Vec::new(),
    };
    for found in manifest::parse(data, None).manifests {
        let entry = inventory::encode(&found.id);
        assert_eq!(inventory::decode(&entry).as_ref(), Some(&found.id), "{entry}");
        let body = manifest::body(data, found.place, None).expect("what was found is there");
        assert_eq!(manifest::digest(&body), found.digest);
        let mut ours = manifest::finish(body, "somewhere", &overlay);
        manifest::stamp(&mut ours, "main@sha1:0", &found.digest);
        assert_eq!(ours["metadata"]["namespace"], "somewhere");
        assert!(ours["status"].is_null());
        if ours["metadata"]["labels"].is_object() {
            assert_eq!(
                ours["metadata"]["labels"]["kustomize.toolkit.fluxcd.io/name"],
                "app"
            );
        }
    }
}

/// One text with expressions: a value stays one value, and no error repeats what a variable holds.
pub fn substitute(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let value = |text: &str| Zeroizing::new(text.to_owned());
    let values = BTreeMap::from([
        ("a".to_owned(), value(SECRET)),
        ("b".to_owned(), value("x: y\n- z # \"'")),
        ("n".to_owned(), value("8080")),
    ]);
    let variables = Variables::new(values);
    let mut object = json!({ "kind": "X", "data": { "text": text } });
    match variables.substitute(&mut object) {
        Ok(()) => {
            let root = object.as_object().expect("an object stays one");
            let names: Vec<&String> = root.keys().collect();
            assert_eq!(names, ["data", "kind"]);
            assert_eq!(object["data"].as_object().map(serde_json::Map::len), Some(1));
            assert!(object.to_string().len() <= 64 << 20);
        }
        Err((field, error)) => {
            let said = format!("{field}: {error}");
            assert!(text.contains("hunter2") || !said.contains("hunter2"), "{said}");
        }
    }
}

/// One file of ignore rules: deciding twice is deciding the same, and what is not named is not left out.
pub fn ignore(data: &[u8]) {
    let paths = [
        "a.yaml",
        "deploy/a.yaml",
        "deploy/deep/er/b.yml",
        "ä/ö.yaml",
        "[x]/y z.yaml",
    ];
    let files = [("deploy".to_owned(), data.to_vec())];
    if let Ok(excluded) = IgnoreRules::default().excluded(&files, &paths) {
        // The rules of a directory hold in it only.
        assert!(!excluded[0] && !excluded[3] && !excluded[4]);
    }
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let Ok(rules) = IgnoreRules::new(Some(text)) else {
        return;
    };
    let first = rules.excluded(&[], &paths).expect("they were read already");
    let second = rules.excluded(&[], &paths).expect("and again");
    assert_eq!(first, second);
    if text
        .lines()
        .all(|line| line.trim().is_empty() || line.starts_with('#'))
    {
        assert!(first.iter().all(|excluded| !excluded));
    }
}
