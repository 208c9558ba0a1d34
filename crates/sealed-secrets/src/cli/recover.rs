//! `--recovery-unseal`: opens a SealedSecret with keys from a backup, without a cluster.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::output::{Format, Object, Rest};
use super::{Error, merge};
use crate::api::SealedSecret;
use crate::crypto::{Keyring, SealingKey, decode, encode};
use crate::documents;
use crate::unseal::{DeprecatedData, unseal as open};

/// The Secret inside the SealedSecret `input`.
pub(super) fn unseal(input: &[u8], keys: &[PathBuf], format: Format) -> Result<String, Error> {
    let value = merge::sealed_secret(input)?;
    let sealed: SealedSecret = serde_json::from_value(value)
        .map_err(|error| Error::Input(format!("malformed SealedSecret: {error}")))?;
    let keyring = keyring(keys)?;
    let items = open(&sealed, &keyring, DeprecatedData::Accept, &BTreeMap::new())?;
    let template = &sealed.spec.template;
    let mut metadata: Map<String, Value> = template.metadata.clone().unwrap_or_default();
    metadata.remove("creationTimestamp");
    for (field, value) in [
        ("name", &sealed.metadata.name),
        ("namespace", &sealed.metadata.namespace),
    ] {
        if let Some(value) = value {
            metadata.insert(field.to_owned(), json!(value));
        }
    }
    let data: BTreeMap<&String, String> = items
        .data
        .iter()
        .map(|(key, value)| (key, encode(value)))
        .collect();
    format.render(&Object {
        kind: "Secret",
        api_version: "v1",
        metadata: &Value::Object(metadata),
        rest: Rest::Secret {
            data: &json!(data),
            type_: template.type_.as_deref().or(items.type_.as_deref()),
            immutable: template.immutable,
        },
    })
}

/// All keys of `files`.
pub(super) fn keyring(files: &[PathBuf]) -> Result<Keyring, Error> {
    let mut keys = Vec::new();
    for path in files {
        let bytes = zeroize::Zeroizing::new(std::fs::read(path).map_err(Error::open(path))?);
        read_keys(path, &bytes, &mut keys)?;
    }
    Ok(Keyring::without_certificates(keys))
}

fn read_keys(path: &Path, bytes: &[u8], keys: &mut Vec<SealingKey>) -> Result<(), Error> {
    let unusable = |reason: String| Error::Input(format!("{}: {reason}", path.display()));
    if bytes.windows(11).any(|window| window == b"-----BEGIN ") {
        keys.push(SealingKey::from_pem(bytes).map_err(|error| unusable(error.to_string()))?);
        return Ok(());
    }
    for document in documents::parse(bytes).map_err(|error| unusable(error.to_string()))? {
        let secrets = match document.get("kind").and_then(Value::as_str) {
            Some("Secret") => vec![&document],
            Some("List" | "SecretList") => document
                .get("items")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .collect(),
            kind => {
                return Err(unusable(format!(
                    "expected a PEM private key, a Secret or a List of Secrets, found {kind:?}"
                )));
            }
        };
        for secret in secrets {
            let pem = secret
                .pointer("/data/tls.key")
                .and_then(Value::as_str)
                .and_then(decode);
            let pem = pem.ok_or(Error::Usage("secret must contain a 'tls.data' key"))?;
            keys.push(SealingKey::from_pem(&pem).map_err(|error| unusable(error.to_string()))?);
        }
    }
    Ok(())
}
