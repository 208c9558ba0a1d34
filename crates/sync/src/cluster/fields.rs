//! Pure: what `managedFields` tells. After a server-side apply by a manager its Apply entry lists the fields it
//! owns; when anyone else changes or removes one of them, that field leaves the entry. So a digest of our entry, taken
//! from the response to our apply, is all that is needed to notice drift.

use std::fmt;

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry},
    jiff::Timestamp,
};
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

/// Our entry's fields, as text.
pub fn ours_as_text(entries: &[ManagedFieldsEntry]) -> Option<Box<str>> {
    let fields = &ours(entries)?.fields_v1.as_ref()?.0;
    Some(fields.to_string().into())
}

/// Whether our entry still has every field of `body`, which was applied by us. A field that anybody else changed or took
/// since is missing, so this tells drift from metadata and Git alone. In doubt the answer is no: applying once more costs
/// one request.
pub fn covers(fields: &Value, body: &Value) -> bool {
    let (Some(fields), Some(body)) = (fields.as_object(), body.as_object()) else {
        return false;
    };
    body.iter().all(|(key, value)| match key.as_str() {
        "apiVersion" | "kind" => true,
        "metadata" => {
            let none = Map::new();
            let owned = fields
                .get("f:metadata")
                .and_then(Value::as_object)
                .unwrap_or(&none);
            let metadata = value.as_object().unwrap_or(&none);
            let named = metadata
                .iter()
                .filter(|(key, _)| !matches!(key.as_str(), "name" | "namespace"));
            named
                .into_iter()
                .all(|(key, value)| field_is_covered(owned, key, value))
        }
        _ => field_is_covered(fields, key, value),
    })
}

fn field_is_covered(fields: &Map<String, Value>, key: &str, value: &Value) -> bool {
    // What Git sets to null nobody owns.
    value.is_null()
        || fields
            .get(&format!("f:{key}"))
            .is_some_and(|owned| value_is_covered(owned, value))
}

fn value_is_covered(owned: &Value, value: &Value) -> bool {
    let Some(owned) = owned.as_object() else {
        return false;
    };
    match value {
        // Nothing deeper: it is owned as a whole.
        _ if owned.is_empty() => true,
        Value::Object(map) => map.iter().all(|(key, value)| field_is_covered(owned, key, value)),
        Value::Array(items) => items.iter().all(|item| item_is_covered(owned, item)),
        _ => true,
    }
}

/// Items of a set are listed by value (`v:`), those of a map by their keys (`k:`). A key that Git leaves to its default
/// fits any; two entries that fit are one too many.
fn item_is_covered(owned: &Map<String, Value>, item: &Value) -> bool {
    if !item.is_object() {
        return owned.contains_key(&format!("v:{item}"));
    }
    let mut fitting = owned.iter().filter(|(key, _)| {
        let keys = key
            .strip_prefix("k:")
            .and_then(|keys| serde_json::from_str::<Map<String, Value>>(keys).ok());
        keys.is_some_and(|keys| {
            let fits = |(key, value): (&String, &Value)| item.get(key).is_none_or(|it| it == value);
            keys.iter().all(fits)
        })
    });
    match (fitting.next(), fitting.next()) {
        (Some((_, fields)), None) => value_is_covered(fields, item),
        _ => false,
    }
}

/// Who changed an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Writer {
    /// Field manager.
    pub manager: String,
    /// `Update` or `Apply`.
    pub operation: String,
    /// When.
    pub time: Option<Timestamp>,
}

impl fmt::Display for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}", self.manager, self.operation)?;
        match &self.time {
            Some(time) => write!(f, ", {time})"),
            None => f.write_str(")"),
        }
    }
}

/// Our Apply entry's fields.
pub fn our_fields(entries: &[ManagedFieldsEntry]) -> Option<&Value> {
    Some(&ours(entries)?.fields_v1.as_ref()?.0)
}

/// Who else last changed the object's main resource: the likely cause of drift.
pub fn last_other_writer(entries: &[ManagedFieldsEntry]) -> Option<Writer> {
    entries
        .iter()
        .filter(|entry| {
            entry.manager.as_deref() != Some(MANAGER) && entry.subresource.as_deref().unwrap_or("").is_empty()
        })
        .max_by_key(|entry| entry.time.as_ref().map(|time| time.0))
        .and_then(|entry| {
            Some(Writer {
                manager: entry.manager.clone()?,
                operation: entry.operation.clone().unwrap_or_else(|| "Update".to_owned()),
                time: entry.time.as_ref().map(|time| time.0),
            })
        })
}

/// The entries with the fields of `kubectl`, Flux and `more` managers moved into our Apply entry, or `None` when there is
/// nothing to move. Applying again then removes what Git does not want of them.
pub fn take_over(entries: &[ManagedFieldsEntry], more: &[String]) -> Option<Vec<ManagedFieldsEntry>> {
    let foreign = |entry: &ManagedFieldsEntry| is_taken_over(entry, more);
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

/// Whether the fields of this entry become ours when an object is adopted.
pub fn is_taken_over(entry: &ManagedFieldsEntry, more: &[String]) -> bool {
    let manager = entry.manager.as_deref().unwrap_or_default();
    let main = entry.subresource.as_deref().unwrap_or("").is_empty();
    let own_update = manager == MANAGER && entry.operation.as_deref() != Some("Apply");
    main && (own_update
        || TAKEN_OVER.iter().any(|name| manager.starts_with(name))
        || more.iter().any(|name| manager == name))
}

fn ours(entries: &[ManagedFieldsEntry]) -> Option<&ManagedFieldsEntry> {
    entries.iter().find(|entry| is_ours(entry))
}

pub(crate) fn is_ours(entry: &ManagedFieldsEntry) -> bool {
    entry.manager.as_deref() == Some(MANAGER)
        && entry.operation.as_deref() == Some("Apply")
        && entry.subresource.as_deref().unwrap_or("").is_empty()
}

pub(crate) fn union(into: &mut Value, from: &Value) {
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
    fn a_body_is_covered_as_long_as_nobody_took_a_field() {
        let body = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": { "name": "a", "namespace": "b", "labels": { "x": "1" }, "creationTimestamp": null },
            "spec": { "selector": { "matchLabels": { "a": "b" } }, "paused": false, "args": [], "finalizers": ["f"],
                      "containers": [ { "name": "c", "image": "i", "command": ["a", "b"],
                                        "ports": [ { "containerPort": 80 }, { "containerPort": 81, "protocol": "TCP" } ] } ] },
        });
        let port = |number: u16| format!(r#"k:{{"containerPort":{number},"protocol":"TCP"}}"#);
        let fields = json!({
            "f:metadata": { "f:labels": { "f:x": {} } },
            "f:spec": { "f:selector": {}, "f:paused": {}, "f:args": {}, "f:finalizers": { "v:\"f\"": {} },
                        "f:containers": { r#"k:{"name":"c"}"#: { ".": {}, "f:name": {}, "f:image": {}, "f:command": {},
                            "f:ports": { port(80): { ".": {}, "f:containerPort": {} },
                                         port(81): { ".": {}, "f:containerPort": {}, "f:protocol": {} } } } } },
        });
        assert!(covers(&fields, &body));
        let container = r#"/f:spec/f:containers/k:{"name":"c"}"#;
        for (at, gone) in [
            ("/f:metadata/f:labels", "f:x"),
            ("/f:spec", "f:paused"),
            ("/f:spec/f:finalizers", "v:\"f\""),
            ("/f:spec/f:containers", r#"k:{"name":"c"}"#),
            (container, "f:image"),
            (&format!("{container}/f:ports"), port(80).as_str()),
        ] {
            let mut taken = fields.clone();
            let map = taken.pointer_mut(at).and_then(Value::as_object_mut).unwrap();
            assert!(map.remove(gone).is_some(), "{at} {gone}");
            // A map of which nothing is left goes too.
            if map.is_empty() {
                let (above, name) = at.rsplit_once('/').unwrap();
                taken
                    .pointer_mut(above)
                    .and_then(Value::as_object_mut)
                    .unwrap()
                    .remove(name);
            }
            assert!(!covers(&taken, &body), "{at} {gone}");
        }
        // Two that fit are not told apart.
        let mut two = fields;
        let ports = two.pointer_mut(&format!("{container}/f:ports")).unwrap();
        ports[r#"k:{"containerPort":80,"protocol":"UDP"}"#] = json!({ ".": {}, "f:containerPort": {} });
        assert!(!covers(&two, &body));
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
