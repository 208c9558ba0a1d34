//! What the editor shows, and what is read back.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use crate::cli::manifest::Object;
use crate::cli::set::is_valid_key;
use crate::crypto::{Plaintext, decode, encode};
use crate::{documents, emit};

/// The items of one SealedSecret as text.
pub(super) struct Form {
    head: String,
    body: Zeroizing<String>,
}

impl Form {
    pub(super) fn new(
        object: &Object,
        file: &Path,
        known: &BTreeMap<String, Plaintext>,
        unknown: &[&String],
    ) -> Self {
        let mut head = format!(
            "# The items of SealedSecret {} in {}.\n\
             # What you change or add is sealed, what you remove goes, the rest keeps its ciphertext.\n\
             # stringData is text, data is base64. Leave without saving to change nothing.\n",
            object.title(),
            file.display()
        );
        head.extend(unknown.iter().flat_map(|item| {
            [
                "# ",
                item,
                ": its value is not at hand; it stays as it is unless you write it here\n",
            ]
        }));
        let (mut text, mut binary) = (Map::new(), Map::new());
        for (key, value) in known {
            match std::str::from_utf8(value).ok().filter(|text| is_editable(text)) {
                Some(value) => text.insert(key.clone(), json!(value)),
                None => binary.insert(key.clone(), json!(encode(value))),
            };
        }
        let mut whole = Map::from_iter([("stringData".to_owned(), Value::Object(text))]);
        if !binary.is_empty() {
            whole.insert("data".to_owned(), Value::Object(binary));
        }
        Self {
            head,
            body: Zeroizing::new(emit::yaml(&Value::Object(whole))),
        }
    }

    /// The text to show.
    pub(super) fn text(&self, complaint: Option<&str>) -> Zeroizing<String> {
        Zeroizing::new(format!("{}{}{}", complained(complaint), self.head, *self.body))
    }

    /// What the user wrote, with what is wrong with it on top.
    pub(super) fn again(text: &str, complaint: &str) -> Zeroizing<String> {
        let own: Vec<&str> = text.lines().filter(|line| !line.starts_with(ERROR)).collect();
        Zeroizing::new(format!("{}{}\n", complained(Some(complaint)), own.join("\n")))
    }
}

const ERROR: &str = "#! ";

fn complained(complaint: Option<&str>) -> String {
    let lines = complaint.into_iter().flat_map(str::lines);
    lines.flat_map(|line| [ERROR, line, "\n"]).collect()
}

/// Text that an editor shows as it is.
fn is_editable(text: &str) -> bool {
    text.chars().all(|c| matches!(c, '\n' | '\t') || !c.is_control())
}

/// The items of an edited text: `None` when there is nothing left at all, or what is wrong with it. Never quotes a value.
pub(super) fn read(text: &str) -> Result<Option<BTreeMap<String, Plaintext>>, String> {
    let mut documents = documents::parse(text.as_bytes()).map_err(|_| syntax(text))?;
    let Some(document) = documents.pop() else {
        return Ok(None);
    };
    let Value::Object(document) = document else {
        return Err("expected stringData and data, found something else".to_owned());
    };
    if !documents.is_empty() {
        return Err("there is more than one document".to_owned());
    }
    let mut items = BTreeMap::new();
    for (section, entries) in &document {
        let entries = match (section.as_str(), entries) {
            ("stringData" | "data", Value::Object(entries)) => entries,
            ("stringData" | "data", Value::Null) => continue,
            ("stringData" | "data", _) => return Err(format!("{section} is not a map")),
            _ => return Err(format!("{section:?} is neither stringData nor data")),
        };
        for (key, value) in entries {
            if !is_valid_key(key) {
                return Err(format!("{key:?} is not a valid key of a Secret"));
            }
            let Some(value) = value.as_str() else {
                return Err(format!("{section}.{key} is not a string: quote it"));
            };
            let value = match section.as_str() {
                "data" => decode(value).ok_or_else(|| format!("data.{key} is not base64"))?,
                _ => value.as_bytes().to_vec(),
            };
            if items.insert(key.clone(), Zeroizing::new(value)).is_some() {
                return Err(format!("{key} is in stringData and in data"));
            }
        }
    }
    Ok(Some(items))
}

/// Where the text is no YAML; the parser's words can quote it, its position does not.
fn syntax(text: &str) -> String {
    granit_parser::Parser::new_from_str(text)
        .find_map(Result::err)
        .map_or_else(
            || "this is not YAML".to_owned(),
            |error| format!("line {}: this is not YAML", error.marker().line()),
        )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn form(items: &[(&str, &[u8])]) -> Form {
        let known = items
            .iter()
            .map(|(key, value)| ((*key).to_owned(), Zeroizing::new(value.to_vec())))
            .collect();
        let manifest =
            crate::cli::manifest::tests_support("kind: SealedSecret\nmetadata: {name: a, namespace: b}\n");
        Form::new(&manifest.objects[0], Path::new("x.yaml"), &known, &[])
    }

    #[test]
    fn text_is_text_and_bytes_are_base64() {
        let form = form(&[
            ("y", b"no"),
            ("pem", b"a\n b\n"),
            ("bin", &[0xff, 0]),
            ("bell", b"\x07"),
        ]);
        let text = form.text(None);
        assert!(
            text.ends_with(
                "data:\n  bell: Bw==\n  bin: /wA=\nstringData:\n  pem: |\n    a\n     b\n  \"y\": \"no\"\n"
            ),
            "{}",
            *text
        );
    }

    #[test]
    fn mistakes_are_told_without_their_values() {
        for (text, expected) in [
            ("stringData: {a: 1}", "stringData.a is not a string: quote it"),
            ("data: {a: hunter2}", "data.a is not base64"),
            ("stringData: [hunter2]", "stringData is not a map"),
            ("other: hunter2", "\"other\" is neither stringData nor data"),
            (
                "stringData: {a: x}\ndata: {a: eA==}",
                "a is in stringData and in data",
            ),
            ("stringData:\n  a: 'hunter2\n", "line 2: this is not YAML"),
            (
                "stringData: {'a/b': hunter2}",
                "\"a/b\" is not a valid key of a Secret",
            ),
            ("a: b\n---\nc: d", "there is more than one document"),
        ] {
            assert_eq!(read(text).unwrap_err(), expected, "{text}");
        }
        assert!(read("# nothing\n").unwrap().is_none());
        assert!(read("stringData:\n").unwrap().unwrap().is_empty());
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_back(items in proptest::collection::btree_map(
            "[a-zA-Z0-9._-]{1,8}x",
            prop_oneof![any::<String>().prop_map(String::into_bytes), proptest::collection::vec(any::<u8>(), 0..40)],
            0..5,
        )) {
            let pairs: Vec<(&str, &[u8])> = items.iter().map(|(key, value)| (key.as_str(), value.as_slice())).collect();
            let read = read(&form(&pairs).text(None)).unwrap().unwrap();
            let read: BTreeMap<String, Vec<u8>> = read.into_iter().map(|(key, value)| (key, value.to_vec())).collect();
            prop_assert_eq!(read, items);
        }
    }
}
