//! Pure: what has to be sent to bring a status from what it is to what it should be.

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::api::ResourceInventory;

/// A JSON merge patch of the top-level status fields that differ; `None` when none does. Fields that did not change
/// are not sent.
pub fn patch<S: Serialize>(old: &S, new: &S) -> Result<Option<Value>, serde_json::Error> {
    let changed = changes(old, new)?;
    Ok((!changed.is_empty()).then(|| json!({ "status": changed })))
}

/// A merge patch of a Kustomization's status. The inventory may have ten thousand entries: as a tree of JSON values it
/// would take many times its text.
#[derive(Debug, Serialize)]
pub struct Patch<'a> {
    /// What changed.
    pub status: Changed<'a>,
}

/// The fields of a [`Patch`].
#[derive(Debug, Serialize)]
pub struct Changed<'a> {
    /// All but the inventory.
    #[serde(flatten)]
    pub fields: Map<String, Value>,
    /// The inventory, if it changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inventory: Option<&'a ResourceInventory>,
}

/// The top-level fields that differ; what is to go is null.
pub fn changes<S: Serialize>(old: &S, new: &S) -> Result<Map<String, Value>, serde_json::Error> {
    let (old, new) = (fields(old)?, fields(new)?);
    let gone: Vec<String> = old
        .keys()
        .filter(|key| !new.contains_key(*key))
        .cloned()
        .collect();
    let mut changed: Map<String, Value> = new
        .into_iter()
        .filter(|(key, value)| old.get(key) != Some(value))
        .collect();
    changed.extend(gone.into_iter().map(|key| (key, Value::Null)));
    Ok(changed)
}

fn fields<S: Serialize>(status: &S) -> Result<Map<String, Value>, serde_json::Error> {
    match serde_json::to_value(status)? {
        Value::Object(fields) => Ok(fields),
        _ => Ok(Map::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_changed_is_sent() {
        let old = json!({ "a": 1, "b": [1, 2], "c": "x" });
        assert_eq!(patch(&old, &old).unwrap(), None);
        let new = json!({ "a": 2, "b": [1, 2] });
        assert_eq!(
            patch(&old, &new).unwrap(),
            Some(json!({ "status": { "a": 2, "c": null } }))
        );
    }
}
