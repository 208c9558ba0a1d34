//! Giving up the ownership of fields.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry};
use serde_json::{Map, Value};

use crate::cluster::fields;

/// Who owns the fields that are left to others, until somebody else writes them.
pub(super) const MANAGER: &str = "plumbline-ignored";

/// The entries with these fields of `body` moved out of ours; `None` when none of them is ours. The error is for the condition.
pub fn release(
    entries: &[ManagedFieldsEntry],
    body: &Value,
    paths: &[Vec<String>],
) -> Result<Option<Vec<ManagedFieldsEntry>>, String> {
    let Some(ours) = entries.iter().position(fields::is_ours) else {
        return Ok(None);
    };
    let mut entries = entries.to_vec();
    let Some(mut own) = entries[ours].fields_v1.take() else {
        return Ok(None);
    };
    let mut released = Value::Object(Map::new());
    for path in paths {
        let steps = steps(&own.0, body, path)?;
        if let Some(steps) = steps
            && let Some(taken) = take(&mut own.0, &steps)
        {
            put(&mut released, &steps, taken);
        }
    }
    entries[ours].fields_v1 = Some(own);
    if released.as_object().is_none_or(Map::is_empty) {
        return Ok(None);
    }
    let is_theirs = |entry: &ManagedFieldsEntry| {
        entry.manager.as_deref() == Some(MANAGER) && entry.operation.as_deref() == Some("Update")
    };
    if let Some(theirs) = entries.iter_mut().find(|entry| is_theirs(entry)) {
        let mut all = theirs.fields_v1.take().map_or(Value::Null, |it| it.0);
        if all.is_null() {
            all = Value::Object(Map::new());
        }
        fields::union(&mut all, &released);
        theirs.fields_v1 = Some(FieldsV1(all));
    } else {
        let entry = ManagedFieldsEntry {
            manager: Some(MANAGER.into()),
            operation: Some("Update".into()),
            fields_v1: Some(FieldsV1(released)),
            ..entries[ours].clone()
        };
        entries.push(entry);
    }
    Ok(Some(entries))
}

/// The way to a field in `managedFields`; `None` when it is not there.
fn steps(owned: &Value, body: &Value, path: &[String]) -> Result<Option<Vec<String>>, String> {
    let (mut owned, mut value) = (owned, body);
    let mut steps = Vec::new();
    for part in path {
        let inside = owned
            .as_object()
            .filter(|fields| fields.keys().any(|key| key != "."));
        let Some(inside) = inside else {
            if steps.is_empty() || owned.is_null() {
                return Ok(None);
            }
            return Err(format!(
                "/{} is part of a value that the API server only takes as a whole: leave the whole of it to others",
                path.join("/")
            ));
        };
        let (step, next) = match value {
            Value::Array(items) => {
                let Some(item) = part.parse::<usize>().ok().and_then(|index| items.get(index)) else {
                    return Ok(None);
                };
                let step = inside.keys().find(|key| is_item(key, item));
                (step.cloned(), item)
            }
            value => (Some(format!("f:{part}")), &value[part]),
        };
        let Some((step, below)) = step.and_then(|step| Some((step.clone(), inside.get(&step)?))) else {
            return Ok(None);
        };
        steps.push(step);
        owned = below;
        value = next;
    }
    Ok(Some(steps))
}

/// Whether a key of `managedFields` is about this item of a list.
fn is_item(key: &str, item: &Value) -> bool {
    let read = |text: &str| serde_json::from_str::<Value>(text).ok();
    if let Some(value) = key.strip_prefix("v:") {
        return read(value).is_some_and(|value| value == *item);
    }
    let Some(names) = key.strip_prefix("k:").and_then(read) else {
        return false;
    };
    // What the item leaves out has its default there.
    let fields: BTreeMap<String, Value> = serde_json::from_value(names).unwrap_or_default();
    let mut all = fields.iter();
    !fields.is_empty() && all.all(|(name, value)| item[name].is_null() || item[name] == *value)
}

/// Takes a field out, and what is empty then.
fn take(owned: &mut Value, steps: &[String]) -> Option<Value> {
    let (first, rest) = steps.split_first()?;
    let fields = owned.as_object_mut()?;
    if rest.is_empty() {
        return fields.remove(first);
    }
    let below = fields.get_mut(first)?;
    let taken = take(below, rest);
    if below.as_object().is_some_and(Map::is_empty) {
        fields.remove(first);
    }
    taken
}

fn put(into: &mut Value, steps: &[String], value: Value) {
    let mut at = into;
    for step in steps {
        if !at.is_object() {
            *at = Value::Object(Map::new());
        }
        at = &mut at[step.as_str()];
    }
    *at = value;
}
