//! What a SealedSecret's status remembers of the last unsealing, so that nothing is done twice. Pure.

use std::collections::BTreeMap;

use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::api::{SealedSecret, Unsealed};
use crate::crypto::{Fingerprint, encode};
use crate::observe::Mark;
use crate::scope::Scope;

/// Changes with every version of this program that renders another Secret from the same SealedSecret.
const RENDERING: u32 = 1;

/// A hash of what a Secret is made from: the sealed spec, the scope and the place. Ciphertexts only, so that it may be
/// published.
pub fn source(sealed: &SealedSecret) -> String {
    let scope = Scope::of(sealed.metadata.annotations.as_ref());
    let whole = json!([
        RENDERING,
        sealed.spec,
        scope.to_string(),
        sealed.metadata.namespace,
        sealed.metadata.name,
    ]);
    format!("sha256:{}", encode(&Sha256::digest(whole.to_string())))
}

/// Whether nothing has changed since the record in the status was written: neither the SealedSecret nor the Secret.
pub fn is_up_to_date(sealed: &SealedSecret, secret: Option<&Mark>) -> bool {
    let (Some(record), Some(secret)) = (of(sealed), secret) else {
        return false;
    };
    is_synced(sealed)
        && record.secret_uid == secret.uid
        && record.secret_resource_version == secret.version
        && record.source == source(sealed)
}

/// The record in the status.
pub fn of(sealed: &SealedSecret) -> Option<&Unsealed> {
    sealed.status.as_ref()?.unsealed.as_ref()
}

/// Whether the status says that this generation was unsealed.
pub fn is_synced(sealed: &SealedSecret) -> bool {
    sealed.status.as_ref().is_some_and(|status| {
        status.observed_generation == sealed.metadata.generation
            && status
                .conditions
                .first()
                .is_some_and(|first| first.type_ == "Synced" && first.status == "True")
    })
}

/// The record for the status of what was just found or written; `merged` into somebody else's Secret or not.
pub fn record(
    sealed: &SealedSecret,
    secret: &Mark,
    merged: bool,
    keys: &BTreeMap<String, Fingerprint>,
) -> Unsealed {
    Unsealed {
        merged,
        source: source(sealed),
        secret_uid: secret.uid.clone(),
        secret_resource_version: secret.version.clone(),
        keys: keys
            .iter()
            .map(|(item, key)| (item.clone(), key.to_string()))
            .collect(),
    }
}
