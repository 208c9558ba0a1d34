//! A SealedSecret and a keyring in, opened items out. Pure: no clock, no client, no randomness.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::api::SealedSecret;
use crate::crypto::{Fingerprint, Keyring, Plaintext, decode};
use crate::scope::Scope;

/// What opened.
#[derive(Default)]
pub struct Items {
    /// The values.
    pub data: BTreeMap<String, Plaintext>,
    /// The type that a deprecated whole-Secret blob brought along.
    pub type_: Option<String>,
    /// The public fingerprint of the key that opened each item; empty key for a whole-Secret blob.
    pub keys: BTreeMap<String, Fingerprint>,
}

/// Whether a Secret sealed as one blob is still taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeprecatedData {
    /// As by default.
    #[default]
    Accept,
    /// `--accept-deprecated-v1-data=false`.
    Refuse,
}

impl DeprecatedData {
    /// What `--accept-deprecated-v1-data` says.
    pub fn from_flag(accept: bool) -> Self {
        if accept { Self::Accept } else { Self::Refuse }
    }
}

/// Why an object did not open. Says which items, never why: the outside must not learn more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnsealError {
    /// Items that no key opens.
    #[error("no key could decrypt secret{}", named(.0))]
    NoKey(Vec<String>),
    /// Both forms at once.
    #[error("cannot use the field 'encryptedData' and the deprecated field 'data' at the same time")]
    Both,
    /// The old form, switched off.
    #[error("using deprecated 'data' field, use 'encryptedData' or flip the feature flag")]
    Deprecated,
    /// The old form opened, and holds something else than a Secret.
    #[error("the deprecated field 'data' does not hold a Secret")]
    NotASecret,
}

fn named(items: &[String]) -> String {
    if items.is_empty() {
        String::new()
    } else {
        format!(" ({})", items.join(", "))
    }
}

/// Opens everything `sealed` holds, or nothing.
///
/// The scope is what the SealedSecret's own metadata says; its template is not authenticated and is not asked.
/// `hints` are fingerprints that opened items before; a wrong hint costs one operation and nothing else.
pub fn unseal(
    sealed: &SealedSecret,
    keyring: &Keyring,
    deprecated: DeprecatedData,
    hints: &BTreeMap<String, Fingerprint>,
) -> Result<Items, UnsealError> {
    let metadata = &sealed.metadata;
    let label = Scope::of(metadata.annotations.as_ref()).label(
        metadata.namespace.as_deref().unwrap_or_default(),
        metadata.name.as_deref().unwrap_or_default(),
    );
    if let Some(blob) = &sealed.spec.data {
        if !sealed.spec.encrypted_data.is_empty() {
            return Err(UnsealError::Both);
        }
        if deprecated == DeprecatedData::Refuse {
            return Err(UnsealError::Deprecated);
        }
        return unseal_whole(blob, &label, keyring);
    }
    let mut items = Items::default();
    let mut failed = Vec::new();
    let mut last: Option<Fingerprint> = None;
    let mut misled = false;
    for (name, item) in &sealed.spec.encrypted_data {
        // One object is nearly always sealed with one key: once a hint was wrong, the key of the item before is the better one.
        let hint = hints.get(name).filter(|_| !misled);
        match keyring.open(&label, item, hint.or(last.as_ref())) {
            Ok(opened) => {
                misled |= hint.is_some_and(|hint| *hint != opened.fingerprint);
                last = Some(opened.fingerprint.clone());
                items.data.insert(name.clone(), opened.plaintext);
                items.keys.insert(name.clone(), opened.fingerprint);
            }
            Err(_) => failed.push(name.clone()),
        }
    }
    if failed.is_empty() {
        Ok(items)
    } else {
        Err(UnsealError::NoKey(failed))
    }
}

/// The deprecated form: one item whose plaintext is the JSON of a Secret.
fn unseal_whole(blob: &str, label: &[u8], keyring: &Keyring) -> Result<Items, UnsealError> {
    let opened = keyring
        .open(label, blob, None)
        .map_err(|_| UnsealError::NoKey(Vec::new()))?;
    let secret: Value = serde_json::from_slice(&opened.plaintext).map_err(|_| UnsealError::NotASecret)?;
    if !secret.is_object() || secret.get("kind").is_some_and(|kind| kind != "Secret") {
        return Err(UnsealError::NotASecret);
    }
    let mut items = Items {
        type_: secret.get("type").and_then(Value::as_str).map(str::to_owned),
        keys: BTreeMap::from([(String::new(), opened.fingerprint)]),
        ..Items::default()
    };
    let entries = |field: &str| secret.get(field).and_then(Value::as_object).into_iter().flatten();
    for (key, value) in entries("data") {
        let value = value.as_str().and_then(decode).ok_or(UnsealError::NotASecret)?;
        items.data.insert(key.clone(), value.into());
    }
    for (key, value) in entries("stringData") {
        let value = value.as_str().ok_or(UnsealError::NotASecret)?;
        items.data.insert(key.clone(), value.as_bytes().to_vec().into());
    }
    Ok(items)
}
