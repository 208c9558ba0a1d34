//! Pure: what `managedFields` tells. After a server-side apply by a manager its Apply entry lists the fields it
//! owns; when anyone else changes or removes one of them, that field leaves the entry. So a digest of our entry, taken
//! from the response to our apply, is all that is needed to notice drift.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry};
use serde_json::{Map, Value};

use crate::manifest::{ContentDigest, digest};

/// Our field manager.
pub const MANAGER: &str = "plumbline-sync";

/// Whose fields become ours when an object is adopted: Flux's, and those of `kubectl` users before it. Names match
/// by prefix, as in Flux (`kubectl-client-side-apply`, `kubectl-edit`, …).
const TAKEN_OVER: [&str; 3] = ["kustomize-controller", "kubectl", "before-first-apply"];

/// Digest of the fields we own of an object; `None` when we own none.
pub fn owned(entries: &[ManagedFieldsEntry]) -> Option<ContentDigest> {
    let fields = &ours(entries)?.fields_v1.as_ref()?.0;
    Some(digest(fields))
}

/// Who else last changed the object's main resource, and by which operation: the likely cause of drift.
pub fn last_other_writer(entries: &[ManagedFieldsEntry]) -> Option<(&str, &str)> {
    entries
        .iter()
        .filter(|entry| {
            entry.manager.as_deref() != Some(MANAGER) && entry.subresource.as_deref().unwrap_or("").is_empty()
        })
        .max_by_key(|entry| entry.time.as_ref().map(|time| time.0))
        .and_then(|entry| {
            Some((
                entry.manager.as_deref()?,
                entry.operation.as_deref().unwrap_or("Update"),
            ))
        })
}

/// The entries with the fields of `kubectl`, Flux and `more` managers moved into our Apply entry, or `None` when there is
/// nothing to move. Applying again then removes what Git does not want of them.
pub fn take_over(entries: &[ManagedFieldsEntry], more: &[String]) -> Option<Vec<ManagedFieldsEntry>> {
    let foreign = |entry: &ManagedFieldsEntry| {
        let manager = entry.manager.as_deref().unwrap_or_default();
        let main = entry.subresource.as_deref().unwrap_or("").is_empty();
        let own_update = manager == MANAGER && entry.operation.as_deref() != Some("Apply");
        main && (own_update
            || TAKEN_OVER.iter().any(|name| manager.starts_with(name))
            || more.iter().any(|name| manager == name))
    };
    let mut ours = ours(entries)?.clone();
    let mut fields = ours
        .fields_v1
        .take()
        .map_or_else(|| Value::Object(Map::new()), |fields| fields.0);
    let mut moved = false;
    for entry in entries.iter().filter(|entry| foreign(entry)) {
        if let Some(theirs) = &entry.fields_v1 {
            union(&mut fields, &theirs.0);
        }
        moved = true;
    }
    if !moved {
        return None;
    }
    ours.fields_v1 = Some(FieldsV1(fields));
    let mut kept: Vec<ManagedFieldsEntry> = entries
        .iter()
        .filter(|entry| !foreign(entry) && !is_ours(entry))
        .cloned()
        .collect();
    kept.push(ours);
    Some(kept)
}

fn ours(entries: &[ManagedFieldsEntry]) -> Option<&ManagedFieldsEntry> {
    entries.iter().find(|entry| is_ours(entry))
}

fn is_ours(entry: &ManagedFieldsEntry) -> bool {
    entry.manager.as_deref() == Some(MANAGER)
        && entry.operation.as_deref() == Some("Apply")
        && entry.subresource.as_deref().unwrap_or("").is_empty()
}

fn union(into: &mut Value, from: &Value) {
    if let (Value::Object(into), Value::Object(from)) = (into, from) {
        for (key, value) in from {
            union(
                into.entry(key.as_str())
                    .or_insert_with(|| Value::Object(Map::new())),
                value,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn entry(manager: &str, operation: &str, fields: Value) -> ManagedFieldsEntry {
        ManagedFieldsEntry {
            manager: Some(manager.into()),
            operation: Some(operation.into()),
            fields_v1: Some(FieldsV1(fields)),
            ..ManagedFieldsEntry::default()
        }
    }

    #[test]
    fn only_our_own_apply_entry_counts() {
        let ours = entry(MANAGER, "Apply", json!({ "f:data": { "f:a": {} } }));
        let other = entry("someone", "Update", json!({ "f:metadata": {} }));
        let digest = owned(std::slice::from_ref(&ours));
        assert!(digest.is_some());
        assert_eq!(owned(&[other.clone(), ours]), digest);
        assert_eq!(owned(&[other, entry(MANAGER, "Update", json!({}))]), None);
    }

    #[test]
    fn flux_and_kubectl_are_taken_over_and_others_left() {
        let entries = [
            entry(MANAGER, "Apply", json!({ "f:data": { "f:a": {} } })),
            entry(
                "kustomize-controller",
                "Apply",
                json!({ "f:data": { "f:b": {} } }),
            ),
            entry(
                "kubectl-client-side-apply",
                "Update",
                json!({ "f:data": { "f:c": {} } }),
            ),
            entry("kube-controller-manager", "Update", json!({ "f:spec": {} })),
        ];
        let taken = take_over(&entries, &[]).unwrap();
        assert_eq!(taken.len(), 2);
        let fields = &taken[1].fields_v1.as_ref().unwrap().0;
        assert_eq!(fields, &json!({ "f:data": { "f:a": {}, "f:b": {}, "f:c": {} } }));
        assert_eq!(take_over(&taken, &[]), None);
        assert!(take_over(&taken, &["kube-controller-manager".into()]).is_some());
    }
}
