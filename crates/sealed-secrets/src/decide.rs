//! What to do about one SealedSecret. Pure: plain values in, a plan out.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::api::{MANAGED, PATCH, SealedSecret, Unsealed};
use crate::desired::Desired;
use crate::record;

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

/// What to write. Has no `Debug`: it holds the values.
#[derive(Clone, PartialEq)]
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
    /// It has another type, which the API server does not let anybody change.
    OtherType,
    /// Changed by somebody else, and the policy is to report that.
    Drifted,
}

/// Compares the Secret that is there with the one asked for.
pub fn decide(sealed: &SealedSecret, existing: Option<&Secret>, desired: &Desired, drift: Drift) -> Plan {
    let Some(existing) = existing else {
        return Plan::Create(Box::new(create(sealed, desired)));
    };
    let record = record::of(sealed);
    let ours = is_ours(existing, sealed);
    let (managed, patched) = (says(existing, MANAGED), says(existing, PATCH));
    // Without an owner and without a record: the status alone says that this was done before, so only if nothing is to be done.
    let outlives = desired.owner.is_none() && record.is_none() && record::is_synced(sealed);
    if !ours && !managed && !patched && !outlives {
        return Plan::Refuse(Refusal::Unmanaged);
    }
    let drifted = match record {
        // Only somebody else's change: what was asked for is what was written last.
        Some(record) => {
            record.source == record::source(sealed)
                && Some(&record.secret_uid) == existing.metadata.uid.as_ref()
        }
        // Written by the original, which leaves no record but says when it was done.
        None => record::is_synced(sealed),
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
        match &desired.owner {
            Some(owner) => wanted.metadata.owner_references = Some(vec![owner.clone()]),
            // It is to outlive the SealedSecret from now on: nothing may collect it with that.
            None => wanted
                .metadata
                .owner_references
                .get_or_insert_default()
                .retain(|owner| !is_owner(owner, sealed)),
        }
    }
    if let Some(type_) = &desired.type_ {
        wanted.type_ = Some(type_.clone());
    }
    let other_type = existing.type_ != wanted.type_;
    if same(existing, &wanted) {
        return Plan::Nothing;
    }
    if !ours && !managed && !patched {
        return Plan::Refuse(Refusal::Unmanaged);
    }
    match drift {
        Drift::Ignore if drifted => Plan::Nothing,
        Drift::Report if drifted => Plan::Refuse(Refusal::Drifted),
        _ if existing.immutable == Some(true) && existing.data != wanted.data => {
            Plan::Refuse(Refusal::Immutable)
        }
        _ if other_type => Plan::Refuse(Refusal::OtherType),
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

fn says(secret: &Secret, annotation: &str) -> bool {
    let annotations = secret.metadata.annotations.as_ref();
    annotations
        .and_then(|map| map.get(annotation))
        .is_some_and(|value| value == "true")
}

/// Whether the Secret was made for this SealedSecret, or taken over: by its owner or, where it was to have none, by the record.
fn is_ours(existing: &Secret, sealed: &SealedSecret) -> bool {
    let recorded =
        |record: &Unsealed| !record.merged && Some(&record.secret_uid) == existing.metadata.uid.as_ref();
    is_controlled_by(&existing.metadata, sealed) || record::of(sealed).is_some_and(recorded)
}

/// Whether the items are only merged into this Secret, which is and stays somebody else's.
pub fn is_merged_into(existing: &Secret, sealed: &SealedSecret) -> bool {
    says(existing, PATCH) && !says(existing, MANAGED) && !is_ours(existing, sealed)
}

fn is_controlled_by(metadata: &ObjectMeta, sealed: &SealedSecret) -> bool {
    metadata
        .owner_references
        .iter()
        .flatten()
        .any(|owner| owner.controller == Some(true) && is_owner(owner, sealed))
}

/// Whether `owner` is this SealedSecret, or one that had its name before: deleted and made anew, or restored from a backup.
/// Kubernetes would collect the Secret of the former one, and the values would be gone for a while.
fn is_owner(owner: &OwnerReference, sealed: &SealedSecret) -> bool {
    owner.kind == "SealedSecret"
        && owner.api_version.starts_with("bitnami.com/")
        && Some(&owner.name) == sealed.metadata.name.as_ref()
}

/// Equal but for the difference between nothing and an empty map.
fn same(one: &Secret, other: &Secret) -> bool {
    fn map(map: Option<&BTreeMap<String, String>>) -> Option<&BTreeMap<String, String>> {
        map.filter(|map| !map.is_empty())
    }
    let data = |secret: &Secret| secret.data.clone().unwrap_or_default();
    let owners = |secret: &Secret| secret.metadata.owner_references.clone().unwrap_or_default();
    map(one.metadata.labels.as_ref()) == map(other.metadata.labels.as_ref())
        && map(one.metadata.annotations.as_ref()) == map(other.metadata.annotations.as_ref())
        && owners(one) == owners(other)
        && one.type_ == other.type_
        && data(one) == data(other)
}
