//! Positions in JSON: every raw value is a slice of the text.

use std::ops::Range;

use serde_json::value::RawValue;

use super::tree::{Content, Entry, Node, Style};

/// The values of the JSON stream `text` behind byte `start`. The text has been parsed before: its nesting is bounded.
pub(super) fn parse(text: &str, start: usize) -> Option<Vec<Node>> {
    serde_json::Deserializer::from_str(text.get(start..)?)
        .into_iter::<&RawValue>()
        .map(|raw| node(text, raw.ok()?))
        .collect()
}

fn node(text: &str, raw: &RawValue) -> Option<Node> {
    let slice = raw.get();
    let span = position(text, slice)?;
    let content = match slice.as_bytes().first()? {
        b'{' => {
            let raw: Raw<'_> = serde_json::from_str(slice).ok()?;
            let entries = raw
                .0
                .into_iter()
                .map(|(key, value)| {
                    Some(Entry {
                        key: serde_json::from_str(key.get()).ok()?,
                        key_span: position(text, key.get())?,
                        value: node(text, value)?,
                    })
                })
                .collect::<Option<_>>()?;
            Content::Map(entries, Style::Flow)
        }
        b'[' => {
            let raw: Vec<&RawValue> = serde_json::from_str(slice).ok()?;
            Content::List(
                raw.into_iter()
                    .map(|raw| node(text, raw))
                    .collect::<Option<_>>()?,
            )
        }
        b'"' => Content::Scalar(serde_json::from_str(slice).ok()?),
        _ => Content::Scalar(Some(slice.to_owned())),
    };
    Some(Node { span, content })
}

/// Where `slice` stands in `text`, of which it is a part.
fn position(text: &str, slice: &str) -> Option<Range<usize>> {
    let start = slice.as_ptr().addr().checked_sub(text.as_ptr().addr())?;
    let range = start..start.checked_add(slice.len())?;
    (text.get(range.clone()) == Some(slice)).then_some(range)
}

/// The entries of an object, keys as they are written.
struct Raw<'a>(Vec<(&'a RawValue, &'a RawValue)>);

impl<'de: 'a, 'a> serde::Deserialize<'de> for Raw<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;

        impl<'de> serde::de::Visitor<'de> for Entries {
            type Value = Vec<(&'de RawValue, &'de RawValue)>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(entries)
            }
        }

        deserializer.deserialize_map(Entries).map(Raw)
    }
}
