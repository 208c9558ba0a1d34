//! ConfigMaps and Secrets → digests. What they hold is looked at here and nowhere else.

use std::hash::{DefaultHasher, Hash, Hasher};

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::ResourceExt;

use crate::{
    annotations::Marks,
    digest::{Digest, Keyer},
    index::SeenSource,
    keys::Keys,
    observe::Object,
    source::{SourceKey, SourceKind},
    stakater::Sha1,
    workload::version,
};

/// Names a key of a source within this process.
pub fn key_id(key: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}

/// All that is kept of a content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hashed {
    /// Our digest of it.
    pub digest: Digest,
    /// Stakater's.
    pub sha1: Sha1,
    /// Our digest of each key's value, by [`key_id`].
    pub keys: Box<[(u64, Digest)]>,
}

/// A kind of source that is an object with content.
pub(crate) trait Content: Object {
    const SOURCE: SourceKind;
    fn hashed(&self, keyer: &Keyer) -> Hashed;
}

impl SeenSource {
    /// What is kept of an object.
    pub(crate) fn of<K: Content>(object: &K, keyer: &Keyer, keys: &Keys) -> Self {
        let hashed = object.hashed(keyer);
        Self {
            namespace: object.namespace().unwrap_or_default(),
            key: SourceKey::new(K::SOURCE, object.name_any()),
            digest: hashed.digest,
            sha1: hashed.sha1,
            keys: hashed.keys,
            marks: Marks::parse(object.meta().annotations.as_ref(), keys),
            version: version(object.meta()),
        }
    }
}

impl Content for ConfigMap {
    const SOURCE: SourceKind = SourceKind::ConfigMap;

    fn hashed(&self, keyer: &Keyer) -> Hashed {
        let text = self.data.iter().flatten();
        let text = text.map(|(key, value)| ("data", key, value.as_bytes()));
        let binary = self.binary_data.iter().flatten();
        let binary = binary.map(|(key, value)| ("binaryData", key, value.0.as_slice()));
        let (digest, keys) = digests(keyer, Self::SOURCE, text.chain(binary));
        Hashed {
            digest,
            sha1: Sha1::of_config_map(self.data.as_ref(), self.binary_data.as_ref()),
            keys,
        }
    }
}

impl Content for Secret {
    const SOURCE: SourceKind = SourceKind::Secret;

    fn hashed(&self, keyer: &Keyer) -> Hashed {
        let data = self.data.iter().flatten();
        let data = data.map(|(key, value)| ("data", key, value.0.as_slice()));
        let (digest, keys) = digests(keyer, Self::SOURCE, data);
        Hashed {
            digest,
            sha1: Sha1::of_secret(self.data.as_ref()),
            keys,
        }
    }
}

// The whole is the digest of its parts: each value is read once.
fn digests<'a>(
    keyer: &Keyer,
    kind: SourceKind,
    entries: impl Iterator<Item = (&'static str, &'a String, &'a [u8])>,
) -> (Digest, Box<[(u64, Digest)]>) {
    let mut whole = keyer.content(kind);
    let mut keys = Vec::new();
    for (section, key, value) in entries {
        let mut part = keyer.content(kind);
        part.entry(section, key, value);
        let part = part.finish();
        whole.entry(section, key, part.bytes());
        keys.push((key_id(key), part));
    }
    (whole.finish(), keys.into())
}
