//! The state annotation: which content of each source the workload's pods were started with.
//!
//! `v1:<key id>:{"cm/app":"<digest>","sec/gone":"-"}`. `-` says that the source was not there. Where only some keys of a
//! source count, `cm/app#<which>` names them. Of more than [`LIMIT`] sources only two digests are kept, of their names and
//! of their contents: `{"*":"<names>.<contents>"}`. A text of another version or another key is as good as none: the
//! workload is adopted anew, never rolled for it.

use std::collections::BTreeMap;

use crate::{
    digest::{Digest, Keyer, merge},
    source::SourceKey,
};

const VERSION: &str = "v1:";
const ABSENT: &str = "-";
const MERGED: &str = "*";
/// With so many sources each has an entry of its own; an object's annotations have room for 256 KiB in all.
pub const LIMIT: usize = 64;

/// What the pods saw of a source when they were started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// This content.
    Content(Digest),
    /// Nothing: the source was not there.
    Absent,
}

/// Every source the pods depend on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Baseline {
    /// In the order in which they are written.
    pub sources: BTreeMap<SourceKey, Seen>,
    /// Instead of them, of too many.
    pub merged: Option<Merged>,
}

/// What is kept of too many sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Merged {
    /// Which they were.
    pub names: Digest,
    /// What they held.
    pub contents: Digest,
}

impl Merged {
    fn parse(text: &str) -> Option<Self> {
        let (names, contents) = text.split_once('.')?;
        Some(Self {
            names: Digest::parse(names)?,
            contents: Digest::parse(contents)?,
        })
    }
}

impl Baseline {
    /// Reads the annotation. `None`: written by another version or with another key, or no state at all.
    pub fn parse(text: &str, key_id: &str) -> Option<Self> {
        let json = text
            .strip_prefix(VERSION)?
            .strip_prefix(key_id)?
            .strip_prefix(':')?;
        let entries: BTreeMap<String, String> = serde_json::from_str(json).ok()?;
        let mut sources = BTreeMap::new();
        if let Some(text) = entries.get(MERGED) {
            let merged = Some(Merged::parse(text)?);
            return Some(Self { sources, merged });
        }
        for (key, value) in entries {
            let seen = if value == ABSENT {
                Seen::Absent
            } else {
                Seen::Content(Digest::parse(&value)?)
            };
            sources.insert(key.parse().ok()?, seen);
        }
        let merged = None;
        Some(Self { sources, merged })
    }

    /// What is kept of the sources when they are too many.
    pub fn merge(&self) -> Merged {
        let names: Vec<_> = self.sources.keys().map(ToString::to_string).collect();
        let contents = self.sources.values().map(|seen| match seen {
            Seen::Content(digest) => Some(digest),
            Seen::Absent => None,
        });
        Merged {
            names: merge(names.iter().map(|name| (name.as_str(), None))),
            contents: merge(names.iter().map(String::as_str).zip(contents)),
        }
    }

    /// The annotation's value.
    pub fn encode(&self, key_id: &str) -> String {
        let entries: BTreeMap<String, String> = self
            .sources
            .iter()
            .map(|(key, seen)| {
                let value = match seen {
                    Seen::Content(digest) => digest.to_string(),
                    Seen::Absent => ABSENT.into(),
                };
                (key.to_string(), value)
            })
            .collect();
        let merged = (self.sources.len() > LIMIT).then(|| self.merge()).or(self.merged);
        let entries = match merged {
            Some(Merged { names, contents }) => {
                BTreeMap::from([(MERGED.to_owned(), format!("{names}.{contents}"))])
            }
            None => entries,
        };
        let json: serde_json::Map<String, serde_json::Value> = entries
            .into_iter()
            .map(|(key, value)| (key, value.into()))
            .collect();
        format!("{VERSION}{key_id}:{}", serde_json::Value::Object(json))
    }

    /// One digest of everything that was there.
    pub fn combined(&self, keyer: &Keyer) -> Digest {
        keyer.combine(self.sources.iter().filter_map(|(key, seen)| match seen {
            Seen::Content(digest) => Some((key.to_string(), digest)),
            Seen::Absent => None,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::SourceKind;

    fn baseline() -> Baseline {
        let keyer = Keyer::new(&[3; 32]);
        let digest = keyer.content(SourceKind::ConfigMap).finish();
        let sources = [
            (
                SourceKey::new(SourceKind::ConfigMap, "app"),
                Seen::Content(digest),
            ),
            (SourceKey::new(SourceKind::Secret, "gone"), Seen::Absent),
        ];
        Baseline {
            sources: sources.into(),
            merged: None,
        }
    }

    #[test]
    fn of_too_many_sources_two_digests_are_kept() {
        let mut many = Baseline::default();
        for number in 0..=LIMIT {
            let key = SourceKey::new(SourceKind::ConfigMap, format!("app-{number}"));
            many.sources.insert(key, Seen::Absent);
        }
        let text = many.encode("keyid");
        assert!(text.len() < 100, "{text}");
        let read = Baseline::parse(&text, "keyid").unwrap();
        assert_eq!(read.merged, Some(many.merge()));
        assert_eq!(read.encode("keyid"), text);
        let digest = Keyer::new(&[3; 32]).content(SourceKind::ConfigMap).finish();
        let other = SourceKey::new(SourceKind::ConfigMap, "app-0");
        many.sources.insert(other, Seen::Content(digest));
        assert_eq!(many.merge().names, read.merged.unwrap().names);
        assert_ne!(many.merge().contents, read.merged.unwrap().contents);
    }

    #[test]
    fn a_baseline_survives_being_written_and_read() {
        let text = baseline().encode("keyid");
        assert!(text.starts_with(r#"v1:keyid:{"cm/app":""#), "{text}");
        assert!(text.ends_with(r#","sec/gone":"-"}"#), "{text}");
        assert_eq!(Baseline::parse(&text, "keyid"), Some(baseline()));
    }

    #[test]
    fn anything_else_is_no_baseline() {
        let text = baseline().encode("keyid");
        assert_eq!(Baseline::parse(&text, "other"), None);
        assert_eq!(Baseline::parse(&text.replace("v1:", "v2:"), "keyid"), None);
        for junk in [
            "",
            "v1:",
            "v1:keyid:",
            "v1:keyid:[]",
            r#"v1:keyid:{"cm/a":"x"}"#,
            r#"v1:keyid:{"pod/a":"-"}"#,
        ] {
            assert_eq!(Baseline::parse(junk, "keyid"), None, "{junk}");
        }
        assert_eq!(Baseline::parse("v1:keyid:{}", "keyid"), Some(Baseline::default()));
    }
}
