use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};

use serde_json::json;

use super::yaml::documents;

fn one(text: &str) -> serde_json::Value {
    let mut all = documents(text);
    assert_eq!(all.len(), 1, "{text}");
    all.remove(0).content.unwrap()
}

fn error(text: &str) -> String {
    documents(text).remove(0).content.unwrap_err().to_string()
}

#[test]
fn plain_scalars_mean_what_kubernetes_makes_of_them() {
    for (text, value) in [
        ("0644", json!(420)),
        ("0o17", json!(15)),
        ("0x1F", json!(31)),
        ("0b101", json!(5)),
        ("-12", json!(-12)),
        ("1_000", json!(1000)),
        ("18446744073709551615", json!(u64::MAX)),
        ("1.5", json!(1.5)),
        ("1e3", json!(1000.0)),
        ("yes", json!(true)),
        ("Off", json!(false)),
        ("~", json!(null)),
        ("0.38.0", json!("0.38.0")),
        ("089", json!(89.0)),
        ("2001-01-01", json!("2001-01-01")),
        ("1-2", json!("1-2")),
        ("e3", json!("e3")),
        ("'0644'", json!("0644")),
        ("\"yes\"", json!("yes")),
        ("!!str 12", json!("12")),
        ("10.0.0.0/8", json!("10.0.0.0/8")),
    ] {
        assert_eq!(one(&format!("a: {text}\n"))["a"], value, "{text}");
    }
}

#[test]
fn keys_become_strings_and_merges_are_resolved() {
    assert_eq!(one("{1: a, true: b}"), json!({ "1": "a", "true": "b" }));
    assert_eq!(
        one("base: &b {x: 1, y1: 2}\nuse:\n  <<: *b\n  x: 3\n"),
        json!({ "base": { "x": 1, "y1": 2 }, "use": { "x": 3, "y1": 2 } })
    );
}

#[test]
fn documents_keep_their_number_and_line() {
    let all = documents("# nothing\n---\na: 1\n---\n# empty\n---\n\nb: 2\n");
    let places: Vec<_> = all.iter().map(|d| (d.number, d.line)).collect();
    assert_eq!(places, [(1, 3), (3, 8)]);
}

#[test]
fn a_broken_document_does_not_hide_the_next() {
    let all = documents("a: 1\n---\nb: [1,\n---\nc: 3\n");
    assert_eq!(all.len(), 3);
    assert!(all[0].content.is_ok() && all[1].content.is_err() && all[2].content.is_ok());
    assert_eq!(all[2].number, 3);
}

#[test]
fn an_error_between_documents_is_no_part_of_the_one_before() {
    let found = documents("a\n# what is this?\n- b\n---\nc: 1\n");
    let numbers: Vec<_> = found.iter().map(|d| d.number).collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
    assert!(found.iter().any(|d| d.content.is_err()));
    let last = found.last().unwrap();
    assert_eq!(
        (last.line, last.content.clone().unwrap()),
        (5, serde_json::json!({ "c": 1 }))
    );
}

#[test]
fn what_is_ambiguous_is_refused_with_its_place() {
    assert_eq!(
        error("a: 1\nb: 2\na: 3\n"),
        "line 3, column 4: the key \"a\" is set twice in one mapping"
    );
    assert!(error("? [a]\n: b\n").contains("key must be"));
    assert!(error("a: .nan").contains("JSON"));
    assert!(error("a: !ruby/object x").contains("means nothing"));
    assert!(error("a:\n\t- b\n").starts_with("line 2"));
}

#[test]
fn bombs_end_quickly_with_an_error() {
    let mut aliases = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for i in 1..20 {
        let refs = vec![format!("*a{}", i - 1); 10].join(", ");
        writeln!(aliases, "a{i}: &a{i} [{refs}]").unwrap();
    }
    let mut deep = String::new();
    for i in 0..100_000 {
        writeln!(deep, "{}a:", " ".repeat(i.min(400))).unwrap();
    }
    let begin = Instant::now();
    assert!(error(&aliases).contains("expands to more than"));
    assert!(error(&"[".repeat(100_000)).contains("line 1"));
    assert!(error(&deep).contains("line"));
    let long = format!("a: '{}'", "x".repeat(5 << 20));
    assert!(error(&long).contains("expands to more than"));
    // Not a speed test: these inputs take hours where expansion or nesting is unbounded.
    assert!(begin.elapsed() < Duration::from_mins(1));
}
