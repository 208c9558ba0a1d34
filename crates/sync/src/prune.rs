//! Deleting what Git no longer wants: only what is ours, exactly the object that was looked at, in reverse order.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt as _, stream};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Client;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::{
    api::{ADOPTED, DIGEST, OWNER_NAME, OWNER_NAMESPACE, PRUNE, REVISION},
    cascade::{Occupied, Scope},
    cluster::{
        fields::MANAGER,
        kinds::{Kind, Kinds, KindsError},
        live::{self, Live, Owner},
        requests::{self, RequestError},
    },
    decide::stage_of,
    inventory::Inventory,
    object::{Gvk, ObjectId},
    order::STAGES,
    vital::Vital,
};

/// What deleting needs.
pub struct Tools<'a> {
    /// The Kubernetes API, as the Kustomization's identity.
    pub client: &'a Client,
    /// Requests in flight, over all Kustomizations.
    pub in_flight: &'a Semaphore,
    /// Requests in flight of one Kustomization.
    pub concurrency: usize,
    /// Kinds that are served.
    pub kinds: &'a Kinds,
    /// What is known of objects.
    pub live: &'a Live,
    /// The Kustomization.
    pub owner: &'a Owner,
    /// What stays because everything stands on it.
    pub vital: Vital<'a>,
    /// What the objects hold that others are in.
    pub scopes: &'a BTreeMap<ObjectId, Scope>,
    /// Those that hold something that has to stay.
    pub occupied: &'a BTreeMap<ObjectId, Occupied>,
}

/// What became of an object that Git no longer wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removal {
    /// It was deleted.
    Deleted,
    /// It was being deleted already.
    Terminating,
    /// It was gone already.
    Gone,
    /// It stays and is no longer ours, for this reason.
    Released(&'static str),
    /// It stays: this other Kustomization wants it, and has it from now on.
    HandedOver(Owner),
    /// It could not be deleted, and stays ours.
    Failed(String),
    /// It stays ours until an object of the same kind can be applied.
    Waits,
    /// It stays ours as long as others are in it.
    Occupied(Occupied),
}

impl Removal {
    /// Whether the object is still there, and stays in the inventory.
    pub fn stays_ours(&self) -> bool {
        matches!(self, Self::Failed(_) | Self::Waits | Self::Occupied(_))
    }
}

/// Whether an object can be what keeps others from being applied: it never waits for them.
pub(crate) fn is_in_the_way(id: &ObjectId) -> bool {
    id.group == "admissionregistration.k8s.io"
}

/// Deletes `surplus`. Kinds in `troubled` wait.
pub async fn prune(
    tools: &Tools<'_>,
    surplus: &[ObjectId],
    inventory: &Inventory,
    troubled: &BTreeSet<(String, String)>,
) -> BTreeMap<ObjectId, Removal> {
    let mut removals = BTreeMap::new();
    for stage in STAGES.iter().rev() {
        let due: Vec<ObjectId> = surplus
            .iter()
            .filter(|id| stage_of(id) == *stage)
            .cloned()
            .collect();
        // What turned out to stay just now keeps what it is in.
        let kept: BTreeMap<ObjectId, Kept> = due
            .iter()
            .filter_map(|id| Some((id.clone(), kept_in(tools.scopes.get(id)?, &removals)?)))
            .collect();
        let kept = &kept;
        let mut results = stream::iter(due)
            .map(|id| async move {
                if troubled.contains(&(id.group.clone(), id.kind.clone())) {
                    return (id, Removal::Waits);
                }
                // `Err`: the semaphore is never closed.
                let _permit = tools.in_flight.acquire().await;
                let version = inventory.get(&id).map(AsRef::as_ref).unwrap_or_default();
                let removal = remove(tools, &id, version, kept.get(&id)).await;
                (
                    id,
                    removal.unwrap_or_else(|error| Removal::Failed(error.to_string())),
                )
            })
            .buffer_unordered(tools.concurrency);
        while let Some((id, removal)) = results.next().await {
            if !removal.stays_ours() {
                tools.live.forget(&id);
            }
            removals.insert(id, removal);
        }
    }
    removals
}

/// Why an object stays that holds others.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Kept {
    /// Something in it stays for good, and is no longer ours.
    ForGood,
    /// Something in it stays for now.
    ForNow(Occupied),
}

/// What became of the objects in `scope`, if that keeps what holds them.
fn kept_in(scope: &Scope, removals: &BTreeMap<ObjectId, Removal>) -> Option<Kept> {
    let inside = || removals.iter().filter(|(id, _)| scope.holds(id));
    if inside().any(|(_, removal)| matches!(removal, Removal::Released(_))) {
        return Some(Kept::ForGood);
    }
    let mut staying = inside().filter(|(_, removal)| removal.stays_ours());
    let (one, _) = staying.next()?;
    Some(Kept::ForNow(Occupied::Own {
        one: one.clone(),
        objects: staying.count() + 1,
    }))
}

async fn remove(
    tools: &Tools<'_>,
    id: &ObjectId,
    version: &str,
    kept: Option<&Kept>,
) -> Result<Removal, RequestError> {
    if let Some(reason) = tools.vital.reason_to_keep(id) {
        return Ok(Removal::Released(reason));
    }
    let gvk = Gvk {
        group: &id.group,
        version,
        kind: &id.kind,
    };
    let Some(kind) = tools
        .kinds
        .find(gvk)
        .or_else(|| tools.kinds.find_any_version(&id.group, &id.kind))
    else {
        return without_kind(tools, id).await;
    };
    for attempt in 0.. {
        let metadata = match requests::read(tools.client, &kind, id).await {
            Ok(Some(metadata)) => metadata,
            Ok(None) => return Ok(Removal::Gone),
            Err(unknown @ RequestError::NotServed(_)) => {
                let asked = tools.kinds.asked().await;
                let refreshed = tools.kinds.refresh_since(asked).await;
                refreshed.map_err(|error| not_looked_up(id, &error))?;
                let is_served = tools.kinds.find_any_version(&id.group, &id.kind).is_some();
                return if is_served {
                    Err(unknown)
                } else {
                    without_kind(tools, id).await
                };
            }
            Err(error) => return Err(error),
        };
        if metadata.deletion_timestamp.is_some() {
            return Ok(Removal::Terminating);
        }
        if let Some(reason) = reason_to_keep(&metadata, tools.owner) {
            if reason == WAS_THERE_BEFORE {
                release(tools.client, &kind, id).await?;
            }
            return Ok(Removal::Released(reason));
        }
        match (kept, tools.occupied.get(id)) {
            (Some(Kept::ForGood), _) => return Ok(Removal::Released(HOLDS_WHAT_STAYS)),
            (Some(Kept::ForNow(occupied)), _) | (None, Some(occupied)) => {
                return Ok(Removal::Occupied(occupied.clone()));
            }
            (None, None) => {}
        }
        match requests::delete(tools.client, &kind, id, &metadata).await {
            // It changed between reading and deleting: look again.
            Err(RequestError::Conflict(_)) if attempt < 5 => {}
            result => return result.map(|()| Removal::Deleted),
        }
    }
    Ok(Removal::Gone)
}

/// An object whose kind is not served: it is gone with its kind, if the API server is sure of that.
async fn without_kind(tools: &Tools<'_>, id: &ObjectId) -> Result<Removal, RequestError> {
    match tools.kinds.is_certainly_gone(&id.group, &id.kind).await {
        Ok(true) => Ok(Removal::Gone),
        Ok(false) => {
            // It may have come back since the kinds were asked for: the next try has to know.
            let asked = tools.kinds.asked().await;
            let refreshed = tools.kinds.refresh_since(asked).await;
            refreshed.map_err(|error| not_looked_up(id, &error))?;
            Ok(Removal::Failed(format!(
                "the kind {} was not served in a known version",
                id.kind
            )))
        }
        Err(error) => Err(not_looked_up(id, &error)),
    }
}

fn not_looked_up(id: &ObjectId, error: &KindsError) -> RequestError {
    RequestError::Unavailable(format!("the kind {} cannot be looked up: {error}", id.kind))
}

const WAS_THERE_BEFORE: &str =
    "it was there before this Kustomization first applied it: delete it by hand if it should go";

const HOLDS_WHAT_STAYS: &str = "something is in it that stays: delete it by hand if it should go";

/// Why an object stays although Git no longer wants it.
pub(crate) fn reason_to_keep(metadata: &ObjectMeta, owner: &Owner) -> Option<&'static str> {
    let says = |key: &str, value: &str| live::says(metadata, key, value);
    let carries = |key: &str| {
        let annotations = metadata.annotations.as_ref();
        annotations.is_some_and(|annotations| annotations.contains_key(key))
    };
    if live::owner(metadata).as_ref() != Some(owner) {
        Some("it does not carry this Kustomization's owner labels")
    } else if says("prune", "disabled") {
        Some("pruning is disabled on it")
    } else if carries(PRUNE) {
        Some("pruning was disabled on it in Git when it was last applied")
    } else if says("reconcile", "disabled") || says("ssa", "Ignore") {
        Some("reconciliation is disabled on it")
    } else if carries(ADOPTED) {
        Some(WAS_THERE_BEFORE)
    } else {
        None
    }
}

/// Takes our marks off an object that stays.
async fn release(client: &Client, kind: &Kind, id: &ObjectId) -> Result<(), RequestError> {
    let marks: Value = json!({ "metadata": {
        "labels": { OWNER_NAME: null, OWNER_NAMESPACE: null },
        "annotations": { ADOPTED: null, REVISION: null, DIGEST: null, PRUNE: null },
    } });
    requests::merge(client, kind, id, MANAGER, &marks).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_ours_and_wants_to_go_is_deleted() {
        let owner = Owner {
            namespace: "flux-system".into(),
            name: "app".into(),
        };
        let ours = |annotations: &[(&str, &str)]| ObjectMeta {
            labels: Some(
                [
                    (OWNER_NAME.into(), "app".into()),
                    (OWNER_NAMESPACE.into(), "flux-system".into()),
                ]
                .into(),
            ),
            annotations: Some(
                annotations
                    .iter()
                    .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                    .collect(),
            ),
            ..ObjectMeta::default()
        };
        assert_eq!(reason_to_keep(&ours(&[]), &owner), None);
        for annotation in [
            ("kustomize.toolkit.fluxcd.io/prune", "Disabled"),
            ("kustomize.toolkit.fluxcd.io/ssa", "ignore"),
            (ADOPTED, "true"),
            (PRUNE, "disabled"),
        ] {
            assert!(
                reason_to_keep(&ours(&[annotation]), &owner).is_some(),
                "{annotation:?}"
            );
        }
        assert!(reason_to_keep(&ObjectMeta::default(), &owner).is_some());
        let other = Owner {
            name: "other".into(),
            ..owner
        };
        assert!(reason_to_keep(&ours(&[]), &other).is_some());
    }
}
