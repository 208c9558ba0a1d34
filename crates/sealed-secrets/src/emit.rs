//! Objects as YAML that every reader understands alike.
//!
//! Go's Kubernetes tools read YAML 1.1, where a bare `y`, `no`, `1_0` or `12:30` is not a string; libraries for YAML 1.2
//! write such strings bare. An item called `y` would come back as `true`. So: bare only what is a word in both.

use std::fmt::Write as _;

use serde_json::{Map, Value};

/// What YAML 1.1 takes for something else than a string, in lower case.
const WORDS: [&str; 12] = [
    "y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf", "~",
];

/// `value` as a block of YAML, keys in the order of the map.
pub(crate) fn yaml(value: &Value) -> String {
    let mut text = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => object(&mut text, map, 0),
        Value::Array(list) if !list.is_empty() => array(&mut text, list, 0),
        scalar => {
            inline(&mut text, scalar, 2);
            text.push('\n');
        }
    }
    text
}

fn object(text: &mut String, map: &Map<String, Value>, indent: usize) {
    for (number, (key, value)) in map.iter().enumerate() {
        // The first key of an object in a list stands behind the dash.
        if number > 0 || !text.ends_with("- ") {
            pad(text, indent);
        }
        string(text, key);
        text.push(':');
        match value {
            Value::Object(map) if !map.is_empty() => {
                text.push('\n');
                object(text, map, indent + 2);
            }
            Value::Array(list) if !list.is_empty() => {
                text.push('\n');
                array(text, list, indent);
            }
            scalar => {
                text.push(' ');
                inline(text, scalar, indent + 2);
                text.push('\n');
            }
        }
    }
}

fn array(text: &mut String, list: &[Value], indent: usize) {
    for value in list {
        pad(text, indent);
        text.push_str("- ");
        match value {
            Value::Object(map) if !map.is_empty() => object(text, map, indent + 2),
            other => {
                // Lists in lists are rare enough for flow style, which JSON is.
                inline(text, other, indent + 2);
                text.push('\n');
            }
        }
    }
}

fn inline(text: &mut String, value: &Value, indent: usize) {
    match value {
        Value::String(content) if is_block(content) => block(text, content, indent),
        Value::String(content) => string(text, content),
        // JSON is YAML; writing to a String cannot fail.
        other => drop(write!(text, "{other}")),
    }
}

/// Whether `content` reads well as a literal block, and comes back byte by byte.
fn is_block(content: &str) -> bool {
    content.contains('\n')
        && !content.starts_with([' ', '\n', '\t'])
        && !content.ends_with("\n\n")
        && content
            .chars()
            .all(|c| c == '\n' || (c >= ' ' && c != '\u{7f}' && c < '\u{d7ff}' && !is_break(c)))
        && content.lines().all(|line| !line.ends_with(' '))
}

fn is_break(c: char) -> bool {
    matches!(c, '\u{80}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}')
}

fn block(text: &mut String, content: &str, indent: usize) {
    text.push_str(if content.ends_with('\n') { "|" } else { "|-" });
    for line in content.lines() {
        text.push('\n');
        if !line.is_empty() {
            pad(text, indent);
            text.push_str(line);
        }
    }
}

fn string(text: &mut String, content: &str) {
    if is_plain(content) {
        text.push_str(content);
        return;
    }
    text.push('"');
    for c in content.chars() {
        match c {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            c if c < ' ' || c == '\u{7f}' || is_break(c) => drop(write!(text, "\\u{:04x}", u32::from(c))),
            c => text.push(c),
        }
    }
    text.push('"');
}

/// A letter first, then letters, digits and what base64, names and paths need; and no word of YAML's.
fn is_plain(content: &str) -> bool {
    content.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && content
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | '+' | '='))
        && !WORDS.contains(&content.to_ascii_lowercase().as_str())
}

fn pad(text: &mut String, indent: usize) {
    text.extend(std::iter::repeat_n(' ', indent));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn reads_as_people_write_it() {
        let value = json!({
            "a": {"y": "no", "x": "1", "n": 1, "list": [{"a": "b", "c": []}, "x", true], "empty": {}},
            "text": "one\n two\n\nthree\n", "cut": "a\nb", "odd": "a\n\n", "tab": "\ta", "plain": "AgB/+=",
        });
        let text = yaml(&value);
        let expected = "a:\n  empty: {}\n  list:\n  - a: b\n    c: []\n  - x\n  - true\n  \"n\": 1\n  x: \"1\"\n  \"y\": \"no\"\n\
            cut: |-\n  a\n  b\nodd: \"a\\n\\n\"\nplain: AgB/+=\ntab: \"\\ta\"\ntext: |\n  one\n   two\n\n  three\n";
        assert_eq!(text, expected);
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<String>().prop_map(Value::from),
            "[a-z ~:#\n'\"-]{0,12}".prop_map(Value::from),
            "(y|n|Yes|NO|on|Off|true|null|~|1_0|0x1f|012|1:20|1e3|2001-01-01|=|<<|\\.inf|-)"
                .prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<bool>().prop_map(Value::from),
            Just(Value::Null),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map(any::<String>(), inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(value in any_value()) {
            let text = yaml(&value);
            let back: Value = serde_yaml::from_str(&text)
                .map_err(|error| TestCaseError::fail(format!("{error}\n{text}")))?;
            prop_assert_eq!(back, value, "{}", text);
        }
    }
}
