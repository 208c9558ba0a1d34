//! What to do about one SealedSecret. Pure: plain values in, a plan out.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::api::{MANAGED, PATCH, SKIP_SET_OWNER_REFERENCES, SealedSecret, Unsealed};
use crate::crypto::{Fingerprint, Plaintext, encode};
use crate::observe::Mark;
use crate::scope::Scope;

/// Changes with every version of this program that renders another Secret from the same SealedSecret.
const RENDERING: u32 = 1;

/// What to do with a Secret that somebody else changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Drift {
    /// Put it right.
    #[default]
    Correct,
    /// Say so in the status.
    Report,
    /// Leave it until the SealedSecret changes.
    Ignore,
}

impl std::str::FromStr for Drift {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        match text {
            "correct" => Ok(Self::Correct),
            "report" => Ok(Self::Report),
            "ignore" => Ok(Self::Ignore),
            _ => Err("must be one of: correct, report, ignore"),
        }
    }
}

/// The Secret that a SealedSecret asks for.
pub struct Desired {
    /// Labels of the template.
    pub labels: BTreeMap<String, String>,
    /// Annotations of the template.
    pub annotations: BTreeMap<String, String>,
    /// Finalizers of the template.
    pub finalizers: Vec<String>,
    /// Type, when said.
    pub type_: Option<String>,
    /// Immutable, when said.
    pub immutable: Option<bool>,
    /// The opened and rendered items.
    pub data: BTreeMap<String, Plaintext>,
    /// The SealedSecret as owner; none when the template says that the Secret outlives it.
    pub owner: Option<OwnerReference>,
}

/// What to write.
#[derive(Clone, Debug, PartialEq)]
pub enum Plan {
    /// Everything is as it should be.
    Nothing,
    /// Make the Secret.
    Create(Box<Secret>),
    /// Replace the Secret, guarded by the resource version it was read in.
    Update(Box<Secret>),
    /// Leave it alone, and say why.
    Refuse(Refusal),
}

/// Why a Secret is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Somebody else's.
    Unmanaged,
    /// It says that it never changes.
    Immutable,
    /// Changed by somebody else, and the policy is to report that.
    Drifted,
}

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
    let Some(status) = &sealed.status else {
        return false;
    };
    let (Some(record), Some(secret)) = (&status.unsealed, secret) else {
        return false;
    };
    is_synced(sealed)
        && record.secret_uid == secret.uid
        && record.secret_resource_version == secret.version
        && record.source == source(sealed)
}

/// Whether the status says that this generation was unsealed.
fn is_synced(sealed: &SealedSecret) -> bool {
    sealed.status.as_ref().is_some_and(|status| {
        status.observed_generation == sealed.metadata.generation
            && status
                .conditions
                .first()
                .is_some_and(|first| first.type_ == "Synced" && first.status == "True")
    })
}

/// The fingerprints that opened the items the last time.
pub fn hints(sealed: &SealedSecret) -> BTreeMap<String, Fingerprint> {
    let recorded = sealed.status.as_ref().and_then(|status| status.unsealed.as_ref());
    recorded
        .map(|record| record.keys.iter())
        .into_iter()
        .flatten()
        .map(|(k, v)| (k.clone(), Fingerprint::from(v.clone())))
        .collect()
}

/// A template that cannot become a Secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadTemplate {
    /// Labels, annotations.
    #[error("spec.template.metadata.{0} must be a map of strings: quote numbers and true/false")]
    NotStrings(&'static str),
    /// A Secret of that type is filled by the API server: it would mint a token for whoever may write SealedSecrets.
    #[error(
        "spec.template.type kubernetes.io/service-account-token is refused: it would mint a token, not hold a sealed value"
    )]
    ServiceAccountToken,
    /// A key that takes part in sealing must not come from a SealedSecret in the controller's namespace.
    #[error(
        "spec.template.metadata.labels must not have sealedsecrets.bitnami.com/sealed-secrets-key in the controller's namespace: it would inject a sealing key"
    )]
    SealingKey,
}

/// The Secret that `sealed` asks for, given its opened items.
pub fn desired(
    sealed: &SealedSecret,
    data: BTreeMap<String, Plaintext>,
    type_: Option<String>,
    key_namespace: &str,
) -> Result<Desired, BadTemplate> {
    let template = &sealed.spec.template;
    let labels = template
        .strings("labels")
        .ok_or(BadTemplate::NotStrings("labels"))?;
    let annotations = template
        .strings("annotations")
        .ok_or(BadTemplate::NotStrings("annotations"))?;
    let type_ = template.type_.clone().or(type_).filter(|text| !text.is_empty());
    if type_.as_deref() == Some("kubernetes.io/service-account-token") {
        return Err(BadTemplate::ServiceAccountToken);
    }
    let here = sealed.metadata.namespace.as_deref() == Some(key_namespace);
    if here && labels.contains_key(crate::keystore::KEY_LABEL) {
        return Err(BadTemplate::SealingKey);
    }
    let keeps = annotations
        .get(SKIP_SET_OWNER_REFERENCES)
        .is_some_and(|value| value == "true");
    let finalizers = template
        .metadata
        .as_ref()
        .and_then(|metadata| metadata.get("finalizers"))
        .and_then(serde_json::Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|name| name.as_str().map(str::to_owned))
        .collect();
    Ok(Desired {
        labels,
        annotations,
        finalizers,
        type_,
        immutable: template.immutable,
        data,
        owner: (!keeps).then(|| owner(sealed)),
    })
}

fn owner(sealed: &SealedSecret) -> OwnerReference {
    OwnerReference {
        api_version: "bitnami.com/v1alpha1".to_owned(),
        kind: "SealedSecret".to_owned(),
        name: sealed.metadata.name.clone().unwrap_or_default(),
        uid: sealed.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: None,
    }
}

/// Compares the Secret that is there with the one asked for.
pub fn decide(sealed: &SealedSecret, existing: Option<&Secret>, desired: &Desired, drift: Drift) -> Plan {
    let Some(existing) = existing else {
        return Plan::Create(Box::new(create(sealed, desired)));
    };
    let annotation = |key: &str| {
        existing
            .metadata
            .annotations
            .as_ref()
            .and_then(|map| map.get(key))
            .is_some_and(|value| value == "true")
    };
    let record = sealed.status.as_ref().and_then(|status| status.unsealed.as_ref());
    let ours = is_controlled_by(&existing.metadata, sealed)
        || record.is_some_and(|record| Some(&record.secret_uid) == existing.metadata.uid.as_ref());
    let (managed, patched) = (annotation(MANAGED), annotation(PATCH));
    if !ours && !managed && !patched {
        return Plan::Refuse(Refusal::Unmanaged);
    }
    let drifted = match record {
        // Only somebody else's change: what was asked for is what was written last.
        Some(record) => {
            record.source == source(sealed) && Some(&record.secret_uid) == existing.metadata.uid.as_ref()
        }
        // Written by the original, which leaves no record but says when it was done.
        None => is_synced(sealed),
    };
    let mut wanted = existing.clone();
    if patched {
        wanted.data.get_or_insert_default().extend(bytes(desired));
        wanted
            .metadata
            .labels
            .get_or_insert_default()
            .extend(desired.labels.clone());
        wanted
            .metadata
            .annotations
            .get_or_insert_default()
            .extend(desired.annotations.clone());
        if managed && let Some(owner) = &desired.owner {
            wanted.metadata.owner_references = Some(vec![owner.clone()]);
        }
    } else {
        wanted.data = Some(bytes(desired).collect());
        let (labels, annotations) = (wanted.metadata.labels.take(), wanted.metadata.annotations.take());
        // Labels that others added to our Secret are theirs, as long as nothing else is asked for.
        let base = |existing: Option<BTreeMap<String, String>>| if drifted { existing } else { None };
        let mut labels = base(labels).unwrap_or_default();
        labels.extend(desired.labels.clone());
        let mut annotations = base(annotations).unwrap_or_default();
        annotations.extend(desired.annotations.clone());
        wanted.metadata.labels = Some(labels);
        wanted.metadata.annotations = Some(annotations);
        if let Some(owner) = &desired.owner {
            wanted.metadata.owner_references = Some(vec![owner.clone()]);
        }
    }
    if let Some(type_) = &desired.type_ {
        wanted.type_ = Some(type_.clone());
    }
    if same(existing, &wanted) {
        return Plan::Nothing;
    }
    match drift {
        Drift::Ignore if drifted => Plan::Nothing,
        Drift::Report if drifted => Plan::Refuse(Refusal::Drifted),
        _ if existing.immutable == Some(true) && existing.data != wanted.data => {
            Plan::Refuse(Refusal::Immutable)
        }
        _ => Plan::Update(Box::new(wanted)),
    }
}

fn create(sealed: &SealedSecret, desired: &Desired) -> Secret {
    Secret {
        metadata: ObjectMeta {
            name: sealed.metadata.name.clone(),
            namespace: sealed.metadata.namespace.clone(),
            labels: Some(desired.labels.clone()).filter(|map| !map.is_empty()),
            annotations: Some(desired.annotations.clone()).filter(|map| !map.is_empty()),
            finalizers: Some(desired.finalizers.clone()).filter(|list| !list.is_empty()),
            owner_references: desired.owner.clone().map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        data: Some(bytes(desired).collect()),
        immutable: desired.immutable,
        type_: desired.type_.clone(),
        ..Secret::default()
    }
}

fn bytes(desired: &Desired) -> impl Iterator<Item = (String, ByteString)> {
    desired
        .data
        .iter()
        .map(|(key, value)| (key.clone(), ByteString(value.to_vec())))
}

fn is_controlled_by(metadata: &ObjectMeta, sealed: &SealedSecret) -> bool {
    metadata
        .owner_references
        .iter()
        .flatten()
        .any(|owner| owner.controller == Some(true) && Some(&owner.uid) == sealed.metadata.uid.as_ref())
}

/// Equal but for the difference between nothing and an empty map.
fn same(one: &Secret, other: &Secret) -> bool {
    fn map(map: Option<&BTreeMap<String, String>>) -> Option<&BTreeMap<String, String>> {
        map.filter(|map| !map.is_empty())
    }
    let data = |secret: &Secret| secret.data.clone().unwrap_or_default();
    map(one.metadata.labels.as_ref()) == map(other.metadata.labels.as_ref())
        && map(one.metadata.annotations.as_ref()) == map(other.metadata.annotations.as_ref())
        && one.metadata.owner_references == other.metadata.owner_references
        && one.type_ == other.type_
        && data(one) == data(other)
}

/// The record for the status of what was just found or written.
pub fn record(sealed: &SealedSecret, secret: &Mark, keys: &BTreeMap<String, Fingerprint>) -> Unsealed {
    Unsealed {
        source: source(sealed),
        secret_uid: secret.uid.clone(),
        secret_resource_version: secret.version.clone(),
        keys: keys
            .iter()
            .map(|(item, key)| (item.clone(), key.to_string()))
            .collect(),
    }
}
