//! Keyed content digests: 128 bits of HMAC-SHA256 over a framing in which no two contents look alike.
//!
//! The digest stands in an annotation that people may read who must not read the Secret. Without the key nobody can
//! test guesses of its content against it.

use std::fmt;

use aws_lc_rs::{digest, hmac};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::source::SourceKind;

/// The length in bytes of a [`Keyer`]'s secret.
pub const KEY_LENGTH: usize = 32;

/// 128 bits of content digest. Written as 22 characters of base64url.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 16]);

impl Digest {
    /// Its bytes, to make another digest of.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn of(tag: &[u8]) -> Self {
        let mut bytes = [0; 16];
        for (to, from) in bytes.iter_mut().zip(tag) {
            *to = *from;
        }
        Self(bytes)
    }

    /// A digest as it was written, `None` when it is none.
    pub fn parse(text: &str) -> Option<Self> {
        URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok().map(Self)
    }
}

/// One digest of several keyed ones and their names. It needs no key: they tell nothing as they are.
pub fn merge<'a>(parts: impl IntoIterator<Item = (&'a str, Option<&'a Digest>)>) -> Digest {
    let mut context = digest::Context::new(&digest::SHA256);
    for (name, part) in parts {
        context.update(&(name.len() as u64).to_be_bytes());
        context.update(name.as_bytes());
        match part {
            Some(part) => context.update(&part.0),
            None => context.update(b"-"),
        }
    }
    Digest::of(context.finish().as_ref())
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

/// Makes digests with one secret key.
pub struct Keyer {
    key: hmac::Key,
    id: String,
}

impl Keyer {
    /// A keyer for this secret. Whoever has another secret gets other digests and another [`Keyer::id`].
    pub fn new(secret: &[u8; KEY_LENGTH]) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let tag = hmac::sign(&key, b"plumbline-reloader key id");
        let id = URL_SAFE_NO_PAD.encode(tag.as_ref().get(..6).unwrap_or_default());
        Self { key, id }
    }

    /// Names the key without telling it: digests of different ids cannot be compared.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Starts the digest of a source.
    pub fn content(&self, kind: SourceKind) -> Content {
        let mut content = Content {
            context: hmac::Context::with_key(&self.key),
        };
        content.frame(kind.short().as_bytes());
        content
    }

    /// One digest of several, whatever their order was.
    pub fn combine<'a>(&self, parts: impl IntoIterator<Item = (String, &'a Digest)>) -> Digest {
        let mut parts: Vec<_> = parts.into_iter().collect();
        parts.sort();
        let mut content = Content {
            context: hmac::Context::with_key(&self.key),
        };
        for (name, digest) in parts {
            content.frame(name.as_bytes());
            content.frame(&digest.0);
        }
        content.finish()
    }
}

impl fmt::Debug for Keyer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyer")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// A digest being made. Entries are to be given in a fixed order (a map's).
pub struct Content {
    context: hmac::Context,
}

impl Content {
    /// Adds one entry of a section (`data`, `binaryData`): text and bytes of the same value differ.
    pub fn entry(&mut self, section: &str, key: &str, value: &[u8]) {
        self.frame(section.as_bytes());
        self.frame(key.as_bytes());
        self.frame(value);
    }

    /// The digest of all that was added.
    pub fn finish(self) -> Digest {
        Digest::of(self.context.sign().as_ref())
    }

    // A length before every part: no content can imitate another's boundaries.
    fn frame(&mut self, bytes: &[u8]) {
        self.context.update(&(bytes.len() as u64).to_be_bytes());
        self.context.update(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keyer(byte: u8) -> Keyer {
        Keyer::new(&[byte; KEY_LENGTH])
    }

    fn digest(entries: &[(&str, &str, &str)]) -> Digest {
        let mut content = keyer(1).content(SourceKind::ConfigMap);
        for (section, key, value) in entries {
            content.entry(section, key, value.as_bytes());
        }
        content.finish()
    }

    #[test]
    fn what_collides_for_stakater_does_not_collide_here() {
        let all = [
            digest(&[]),
            digest(&[("data", "a", "1"), ("data", "b", "2")]),
            digest(&[("data", "a", "1;b=2")]),
            digest(&[("binaryData", "a", "1;b=2")]),
            digest(&[("data", "a", ""), ("data", "b", "2")]),
            keyer(1).content(SourceKind::Secret).finish(),
            keyer(2).content(SourceKind::ConfigMap).finish(),
        ];
        let distinct: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
    }

    #[test]
    fn a_digest_survives_being_written_and_read() {
        let digest = digest(&[("data", "a", "1")]);
        assert_eq!(digest.to_string().len(), 22);
        assert_eq!(Digest::parse(&digest.to_string()), Some(digest));
        assert_eq!(Digest::parse("short"), None);
    }

    #[test]
    fn the_combination_does_not_depend_on_order() {
        let (a, b) = (digest(&[("data", "a", "1")]), digest(&[]));
        let keyer = keyer(1);
        let there = keyer.combine([("cm/a".into(), &a), ("cm/b".into(), &b)]);
        assert_eq!(there, keyer.combine([("cm/b".into(), &b), ("cm/a".into(), &a)]));
        assert_ne!(there, keyer.combine([("cm/b".into(), &a), ("cm/a".into(), &b)]));
    }

    #[test]
    fn a_keyer_does_not_tell_its_key() {
        let text = format!("{:?}", keyer(7));
        assert!(!text.contains('7') || text.contains("id"), "{text}");
        assert_ne!(keyer(1).id(), keyer(2).id());
    }

    proptest::proptest! {
        #[test]
        fn equal_contents_and_only_they_have_equal_digests(
            one in proptest::collection::btree_map(".{0,4}", ".{0,6}", 0..4),
            other in proptest::collection::btree_map(".{0,4}", ".{0,6}", 0..4),
        ) {
            let digest = |map: &std::collections::BTreeMap<String, String>| {
                let mut content = keyer(1).content(SourceKind::ConfigMap);
                for (key, value) in map {
                    content.entry("data", key, value.as_bytes());
                }
                content.finish()
            };
            proptest::prop_assert_eq!(one == other, digest(&one) == digest(&other));
        }
    }
}
