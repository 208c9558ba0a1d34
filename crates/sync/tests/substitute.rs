//! Expressions of `spec.postBuild` against Flux's own envsubst, in Go.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test's helpers fail the test"
)]

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use plumbline_sync::manifest::envsubst::{SubstituteError, substitute};
use plumbline_testkit::go_run;
use serde_json::{Value, json};

fn variables() -> BTreeMap<&'static str, &'static str> {
    [
        ("a", "abcABC123ABCabc"),
        ("b", ""),
        ("path", "/home/me/file.tar.gz"),
        ("n", "2"),
        ("u", "\u{e4}\u{df}x"),
        ("d", "$${a} ${a} $"),
    ]
    .into()
}

/// What the original makes of every text.
fn reference(texts: &[String]) -> Vec<Value> {
    let requests: Vec<Value> = texts
        .iter()
        .map(|text| json!({"text": text, "variables": variables()}))
        .collect();
    let answers = go_run("envsubst", &[], json!(requests).to_string().as_bytes()).unwrap();
    serde_json::from_slice(&answers).unwrap()
}

/// What comes after the name of a variable.
const FUNCTIONS: &[&str] = &[
    "",
    "^",
    "^^",
    ",",
    ",,",
    ":1",
    ":-1",
    ":1:2",
    ":99",
    ":1:99",
    ": -2",
    ":x",
    ":1:x",
    ":-d",
    ":=d",
    "=d",
    ":-",
    ":=",
    ":=${a}",
    ":=x${n}y",
    ":=${none:=z}",
    "#a",
    "##a",
    "#*a",
    "##*a",
    "#*/",
    "##*/",
    "%.*",
    "%%.*",
    "%c",
    "%[a-c]",
    "#[a-c]",
    "##[^x]*",
    "#[",
    "#?",
    "##?",
    "%\\",
    "#${b}",
    "#${n}",
    "/a/x",
    "//a/x",
    "//a/",
    "/#a/x",
    "/%c/x",
    "/#a/",
    "/a",
    "//\\//-",
    "/\\\\/x",
    "/a/${n}",
    "/${n}/y",
    "/a/x${n}",
    "///x",
    "-x",
    "+x",
    "?x",
    "!",
    " ",
    "[0]",
    "###a",
    "%%%c",
    "^,",
    "#",
    "%",
];

/// What random texts are made of.
const TOKENS: &[&str] = &[
    "${", "${a", "${b", "${none", "}", "}", "a", "#", "##", "%", "/", "//", ":", ":=", "=", "^", ",", "$",
    "$$", "*", "?", "[a-c]", "\\", "1", "-", "\u{e4}", "\n", " ",
];

/// Every function on every variable, and texts put together at random from what means something.
fn texts() -> Vec<String> {
    let names = [
        "a", "b", "path", "n", "u", "d", "none", "#a", "#none", "", "1", "a-b",
    ];
    let mut texts: Vec<String> = names
        .iter()
        .flat_map(|name| {
            FUNCTIONS
                .iter()
                .map(move |function| format!("<${{{name}{function}}}>"))
        })
        .collect();
    for text in [
        "",
        "$",
        "$$",
        "$$$",
        "$$${a}",
        "$${a}",
        "$a",
        "${",
        "${a",
        "x ${a}$${b$${a}$a${a}",
        "\\$${a}",
        "a$$b$$$$c",
    ] {
        texts.push(text.to_owned());
    }
    let mut state = 1_u64;
    for _ in 0..4000 {
        let mut text = String::new();
        for _ in 0..8 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let at = usize::try_from(state >> 33).unwrap() % TOKENS.len();
            text.push_str(TOKENS[at]);
        }
        texts.push(text);
    }
    texts
}

#[test]
fn expressions_give_what_flux_gives() {
    let texts = texts();
    let variables = variables();
    let lookup = |name: &str| variables.get(name).copied();
    let mut differences = Vec::new();
    let (mut same, mut errors) = (0, 0);
    for (text, theirs) in texts.iter().zip(reference(&texts)) {
        let output = theirs["output"]
            .as_str()
            .map(|text| STANDARD.decode(text).unwrap());
        let error = theirs["error"].as_str().unwrap();
        match substitute(text, &lookup) {
            Ok(ours) if error.is_empty() && Some(ours.as_bytes()) == output.as_deref() => same += 1,
            Err(_) if !error.is_empty() => errors += 1,
            // Refused, because they mean something else than in a shell.
            Err(SubstituteError::Syntax(message))
                if message.starts_with(":?") || message.starts_with(":+") => {}
            // Flux cuts characters in two: ours removes whole ones, or says so.
            Ok(_) | Err(SubstituteError::Cut(_))
                if output
                    .as_ref()
                    .is_some_and(|output| std::str::from_utf8(output).is_err()) => {}
            // Two changes of case that contradict one another: Flux makes neither.
            Err(_) if ["^,", ",^"].iter().any(|both| text.contains(both)) => {}
            ours => differences.push(format!(
                "{text:?}: {ours:?}, Flux: {:?} {error}",
                output.map(String::from_utf8)
            )),
        }
    }
    assert!(
        differences.is_empty(),
        "{}:\n{}",
        differences.len(),
        differences.join("\n")
    );
    assert!(same > 1000 && errors > 1000, "{same} {errors}");
}
