//! The formats Stakater's Reloader leaves in pod templates: its SHA-1, its variable and its annotation.

use std::{collections::BTreeMap, fmt};

use aws_lc_rs::digest;
use base64::{Engine, engine::general_purpose::STANDARD};
use k8s_openapi::ByteString;
use serde::{Deserialize, Serialize};

use crate::source::{SourceKey, SourceKind};

/// What every variable of the env-vars strategy starts with.
pub const VARIABLE_PREFIX: &str = "STAKATER_";

/// Stakater's content hash. Written as 40 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sha1([u8; 20]);

impl Sha1 {
    /// The hash of a text.
    pub fn of(text: &[u8]) -> Self {
        let digest = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, text);
        let mut bytes = [0; 20];
        for (to, from) in bytes.iter_mut().zip(digest.as_ref()) {
            *to = *from;
        }
        Self(bytes)
    }

    /// What Stakater writes when a source was deleted.
    pub fn of_deleted() -> Self {
        Self::of(b"__RELOADER_EMPTY_DELETE_MARKER__")
    }

    /// The hash of a ConfigMap.
    pub fn of_config_map(
        data: Option<&BTreeMap<String, String>>,
        binary: Option<&BTreeMap<String, ByteString>>,
    ) -> Self {
        let text = data
            .into_iter()
            .flatten()
            .map(|(key, value)| format!("{key}={value}"));
        let bytes = binary
            .into_iter()
            .flatten()
            .map(|(key, value)| format!("{key}={}", STANDARD.encode(&value.0)));
        Self::of_lines(
            text.map(String::into_bytes)
                .chain(bytes.map(String::into_bytes))
                .collect(),
        )
    }

    /// The hash of a Secret: of its decoded bytes.
    pub fn of_secret(data: Option<&BTreeMap<String, ByteString>>) -> Self {
        let line = |(key, value): (&String, &ByteString)| [key.as_bytes(), b"=", &value.0].concat();
        Self::of_lines(data.into_iter().flatten().map(line).collect())
    }

    /// The hash of a SecretProviderClass as a pod's status tells it: object ids with their versions.
    pub fn of_class<'a>(name: &str, objects: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut lines: Vec<_> = objects
            .into_iter()
            .map(|(id, version)| format!("{id}={version}").into_bytes())
            .collect();
        lines.push(format!("SecretProviderClassName={name}").into_bytes());
        Self::of_lines(lines)
    }

    fn of_lines(mut lines: Vec<Vec<u8>>) -> Self {
        lines.sort();
        Self::of(&lines.join(&b';'))
    }
}

impl fmt::Display for Sha1 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Sha1 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sha1({self})")
    }
}

/// The variable of a source: `STAKATER_MY_APP_CONFIGMAP`. Different sources can share one (`a.b` and `a-b`).
pub fn variable(source: &SourceKey) -> String {
    let mut name = String::with_capacity(source.name.len());
    for c in source.name.chars().map(|c| c.to_ascii_uppercase()) {
        if c.is_ascii_uppercase() || c.is_ascii_digit() {
            name.push(c);
        } else if !name.is_empty() && !name.ends_with('_') {
            name.push('_');
        }
    }
    format!("{VARIABLE_PREFIX}{name}_{}", source.kind.shout())
}

/// The value of the annotation `reloader.stakater.com/last-reloaded-from`, fields in Stakater's order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastReloadedFrom {
    /// `CONFIGMAP`, `SECRET` or `SECRETPROVIDERCLASS`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The source's name.
    pub name: String,
    /// The source's namespace.
    pub namespace: String,
    /// Its SHA-1.
    pub hash: String,
    /// The container that uses it.
    #[serde(rename = "containerRefs")]
    pub container_refs: Vec<String>,
    /// Seconds since 1970.
    #[serde(rename = "observedAt")]
    pub observed_at: i64,
}

impl LastReloadedFrom {
    /// Which source it tells of, `None` for a kind we do not know.
    pub fn source(&self) -> Option<SourceKey> {
        let kind = SourceKind::ALL
            .into_iter()
            .find(|kind| kind.shout() == self.kind)?;
        Some(SourceKey::new(kind, self.name.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
        entries
            .iter()
            .map(|(key, value)| ((*key).into(), (*value).into()))
            .collect()
    }

    fn bytes(entries: &[(&str, &[u8])]) -> BTreeMap<String, ByteString> {
        entries
            .iter()
            .map(|(key, value)| ((*key).into(), ByteString(value.to_vec())))
            .collect()
    }

    #[test]
    fn hashes_are_the_golden_values() {
        let cases = [
            (data(&[]), "da39a3ee5e6b4b0d3255bfef95601890afd80709"),
            (
                data(&[("key", "updated")]),
                "6b3093988321555757cc9b88a5f2d59101a0261c",
            ),
            (data(&[("key", "v1")]), "f13ef89ed63c4502ee0823d85edd08d736f51300"),
            (
                data(&[("a", "1"), ("b", "2")]),
                "f83e99e324ba68ccc373a58ef1eb42f8ab88646a",
            ),
            (
                data(&[("a", "1;b=2")]),
                "f83e99e324ba68ccc373a58ef1eb42f8ab88646a",
            ),
        ];
        for (data, hash) in cases {
            assert_eq!(
                Sha1::of_config_map(Some(&data), None).to_string(),
                hash,
                "{data:?}"
            );
        }
        assert_eq!(
            Sha1::of_deleted().to_string(),
            "aae45badef99284e4dae01d6046154ea9d99532f"
        );
    }

    #[test]
    fn binary_data_is_hashed_as_base64_and_secrets_as_bytes() {
        let text = data(&[("key", "djE=")]);
        let binary = bytes(&[("key", b"v1")]);
        assert_eq!(
            Sha1::of_config_map(None, Some(&binary)),
            Sha1::of_config_map(Some(&text), None)
        );
        assert_eq!(
            Sha1::of_secret(Some(&binary)).to_string(),
            "f13ef89ed63c4502ee0823d85edd08d736f51300"
        );
        assert_eq!(
            Sha1::of_secret(None).to_string(),
            "da39a3ee5e6b4b0d3255bfef95601890afd80709"
        );
    }

    #[test]
    fn a_class_is_hashed_with_its_name() {
        let there = Sha1::of_class("vault", [("a", "1"), ("b", "2")]);
        assert_eq!(there, Sha1::of_class("vault", [("b", "2"), ("a", "1")]));
        assert_eq!(there, Sha1::of(b"SecretProviderClassName=vault;a=1;b=2"));
    }

    #[test]
    fn variables_are_named_as_stakater_names_them() {
        let cases = [
            ("my.app-config", "STAKATER_MY_APP_CONFIG_CONFIGMAP"),
            ("my--app", "STAKATER_MY_APP_CONFIGMAP"),
            ("a.b", "STAKATER_A_B_CONFIGMAP"),
            ("a-b", "STAKATER_A_B_CONFIGMAP"),
            ("--x1", "STAKATER_X1_CONFIGMAP"),
        ];
        for (name, expected) in cases {
            assert_eq!(variable(&SourceKey::new(SourceKind::ConfigMap, name)), expected);
        }
        assert_eq!(
            variable(&SourceKey::new(SourceKind::Secret, "db")),
            "STAKATER_DB_SECRET"
        );
        let class = SourceKey::new(SourceKind::SecretProviderClass, "vault");
        assert_eq!(variable(&class), "STAKATER_VAULT_SECRETPROVIDERCLASS");
    }

    #[test]
    fn last_reloaded_from_keeps_the_order_of_its_fields() {
        let value = LastReloadedFrom {
            kind: "CONFIGMAP".into(),
            name: "app".into(),
            namespace: "shop".into(),
            hash: "f13e".into(),
            container_refs: vec!["web".into()],
            observed_at: 1,
        };
        assert_eq!(
            serde_json::to_string(&value).unwrap(),
            r#"{"type":"CONFIGMAP","name":"app","namespace":"shop","hash":"f13e","containerRefs":["web"],"observedAt":1}"#
        );
        assert_eq!(value.source(), Some(SourceKey::new(SourceKind::ConfigMap, "app")));
    }
}
