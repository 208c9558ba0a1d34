//! Pure: what has to be sent to bring a status from what it is to what it should be.

use serde::Serialize;
use serde_json::{Map, Value, json};

/// A JSON merge patch of the top-level status fields that differ; `None` when none does. Fields that did not change
/// are not sent: an inventory of ten thousand entries is not repeated for a condition.
pub fn patch<S: Serialize>(old: &S, new: &S) -> Result<Option<Value>, serde_json::Error> {
    let (old, new) = (fields(old)?, fields(new)?);
    let mut changed = Map::new();
    for (key, value) in &new {
        if old.get(key) != Some(value) {
            changed.insert(key.clone(), value.clone());
        }
    }
    for key in old.keys().filter(|key| !new.contains_key(*key)) {
        changed.insert(key.clone(), Value::Null);
    }
    Ok((!changed.is_empty()).then(|| json!({ "status": changed })))
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
