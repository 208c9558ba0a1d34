//! What is done with the one SealedSecret of a request. Pure but for the session keys' randomness.

use std::collections::BTreeMap;

use rand::rngs::SysRng;
use serde_json::Value;

use crate::api::SealedSecret;
use crate::crypto::{Keyring, seal};
use crate::documents;
use crate::scope::Scope;
use crate::unseal::{DeprecatedData, UnsealError, unseal};

/// The one SealedSecret of `body`, and whether it opens.
pub(super) fn verify(
    body: &[u8],
    keyring: &Keyring,
    deprecated: DeprecatedData,
) -> Option<Result<(), UnsealError>> {
    let (_, sealed) = read(body)?;
    Some(unseal(&sealed, keyring, deprecated, &BTreeMap::new()).map(drop))
}

/// The one SealedSecret of `body`.
fn read(body: &[u8]) -> Option<(Value, SealedSecret)> {
    let [value]: [Value; 1] = documents::parse(body).ok()?.try_into().ok()?;
    if value.get("kind")?.as_str()? != "SealedSecret"
        || value.get("apiVersion")?.as_str()? != "bitnami.com/v1alpha1"
    {
        return None;
    }
    let sealed: SealedSecret = serde_json::from_value(value.clone()).ok()?;
    // A label joins namespace and name with a slash: names that contain one would move the border.
    let valid = |name: Option<&String>| {
        name.is_none_or(|name| {
            name.len() <= 253
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte))
        })
    };
    (valid(sealed.metadata.name.as_ref()) && valid(sealed.metadata.namespace.as_ref()))
        .then_some((value, sealed))
}

/// The same object with every ciphertext under the key that seals, for the scope it had; everything else as it came.
pub(super) fn reseal(body: &[u8], keyring: &Keyring, deprecated: DeprecatedData) -> Option<String> {
    let (mut value, sealed) = read(body)?;
    let newest = &keyring.sealing()?.certificate.public_key;
    let metadata = &sealed.metadata;
    let label = Scope::of(metadata.annotations.as_ref()).label(
        metadata.namespace.as_deref().unwrap_or_default(),
        metadata.name.as_deref().unwrap_or_default(),
    );
    // Both forms at once do not open, and so are not sealed either.
    let whole = sealed.spec.data.is_some();
    if whole && (!sealed.spec.encrypted_data.is_empty() || deprecated == DeprecatedData::Refuse) {
        return None;
    }
    let mut items = sealed.spec.encrypted_data.clone();
    items.extend(sealed.spec.data.iter().map(|blob| (String::new(), blob.clone())));
    // Everything is opened, and only then something is sealed: where it fails makes no difference in time.
    let opened: Vec<_> = items
        .into_iter()
        .map(|(key, item)| (key, keyring.open(&label, &item, None)))
        .collect();
    let opened = opened
        .into_iter()
        .map(|(key, opened)| Some((key, opened.ok()?.plaintext)))
        .collect::<Option<Vec<_>>>()?;
    let mut resealed = opened.iter().map(|(key, plaintext)| {
        let item = seal(&mut SysRng, newest, &label, plaintext).ok()?;
        Some((key.clone(), Value::String(item)))
    });
    let spec = value.get_mut("spec")?.as_object_mut()?;
    if whole {
        let (_, blob) = resealed.next()??;
        spec.insert("data".to_owned(), blob);
    } else {
        let items = resealed.collect::<Option<_>>()?;
        spec.insert("encryptedData".to_owned(), Value::Object(items));
    }
    serde_json::to_string(&value).ok()
}
