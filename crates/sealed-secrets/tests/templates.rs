//! Templates against the real text/template and sprig, in Go.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test's helpers fail the test"
)]

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use plumbline_sealed_secrets::template::render;
use plumbline_testkit::go_run;
use serde_json::{Value, json};
use zeroize::Zeroizing;

/// Every function that the guide lists, at least once, and the syntax around them.
const TEMPLATES: &str = include_str!("data/templates.txt");

fn context() -> BTreeMap<String, Vec<u8>> {
    let entries: [(&str, &[u8]); 9] = [
        ("user", b"admin"),
        (
            "password",
            "pa\u{df}w\u{f6}rd <&> \"q\" 'x' \\ \t\n end".as_bytes(),
        ),
        ("empty", b""),
        ("binary", &[0, 1, 0x7f, 0x80, 0xff, 0xc3, 0x28, b'a']),
        ("number", b"42"),
        ("json", br#"{"a":{"b":[1,2.5,"x",null,true]},"z":"<>"}"#),
        ("list", b"b,a,c,a"),
        ("dash-ed", b"dashed"),
        ("lines", b"one\n  two\n\nthree"),
    ];
    entries
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_vec()))
        .collect()
}

/// What the original makes of every template.
fn reference(templates: &[&str]) -> Vec<Value> {
    let context: BTreeMap<String, String> = context()
        .into_iter()
        .map(|(key, value)| (key, STANDARD.encode(value)))
        .collect();
    let request = |template: &&str| {
        // A template sees itself, too.
        let mut context = context.clone();
        context.insert("out".to_owned(), STANDARD.encode(template));
        json!({"template": template, "context": context})
    };
    let requests: Vec<Value> = templates.iter().map(request).collect();
    let answers = go_run("sprig", &[], json!(requests).to_string().as_bytes()).unwrap();
    serde_json::from_slice(&answers).unwrap()
}

#[test]
fn the_reference_lists_exactly_the_functions_there_are() {
    let page = include_str!("../../../docs/reference/sealed-secrets-templates.md");
    let listed: std::collections::BTreeSet<&str> = page
        .lines()
        .filter(|line| line.starts_with("- "))
        .flat_map(|line| line.split('`').skip(1).step_by(2))
        .collect();
    let there: Vec<String> = plumbline_sealed_secrets::template::function_names();
    let there: std::collections::BTreeSet<&str> = there.iter().map(String::as_str).collect();
    assert_eq!(listed, there);
    for name in there {
        assert!(TEMPLATES.contains(name), "{name} is compared with nothing");
    }
}

#[test]
fn templates_render_as_in_go() {
    let templates: Vec<&str> = TEMPLATES
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect();
    let answers = reference(&templates);
    assert_eq!(answers.len(), templates.len());
    let mut differences = Vec::new();
    for (template, answer) in templates.iter().zip(answers) {
        let items = context()
            .into_iter()
            .map(|(key, value)| (key, Zeroizing::new(value)))
            .collect();
        let ours = render(
            Some(&BTreeMap::from([("out".to_owned(), (*template).to_owned())])),
            items,
        );
        let failure = answer["error"].as_str().unwrap();
        match ours {
            Ok(ours) if failure.is_empty() => {
                let expected = STANDARD
                    .decode(answer["output"].as_str().unwrap_or_default())
                    .unwrap();
                if *ours["out"] != expected {
                    differences.push(format!(
                        "{template}\n  Go:   {:?}\n  ours: {:?}",
                        String::from_utf8_lossy(&expected),
                        String::from_utf8_lossy(&ours["out"])
                    ));
                }
            }
            Ok(_) => differences.push(format!("{template}\n  Go fails: {failure}\n  ours does not")),
            Err(error) if failure.is_empty() => {
                differences.push(format!("{template}\n  ours fails: {error}"));
            }
            Err(_) => {}
        }
    }
    assert!(
        differences.is_empty(),
        "{} of {}:\n{}",
        differences.len(),
        templates.len(),
        differences.join("\n")
    );
}
