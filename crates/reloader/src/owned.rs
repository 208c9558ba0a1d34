//! Which fields are ours, read from `metadata.managedFields`.
//!
//! A server-side apply takes away what its manager owns and no longer states. So what is ours and stays is stated again,
//! and what someone else has changed since is theirs and is left to them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

/// The field manager of every apply. Never to be changed: the old name's fields would be orphaned.
pub const MANAGER: &str = "plumbline-reloader";

/// The fields that our manager's applies own.
#[derive(Debug, Clone, Default)]
pub struct Owned<'a> {
    fields: Option<&'a Value>,
}

impl<'a> Owned<'a> {
    /// Reads an object's metadata.
    pub fn of(meta: &'a ObjectMeta) -> Self {
        let ours = meta.managed_fields.iter().flatten().find(|entry| {
            entry.manager.as_deref() == Some(MANAGER)
                && entry.operation.as_deref() == Some("Apply")
                && entry.subresource.as_deref().unwrap_or_default().is_empty()
        });
        Self {
            fields: ours
                .and_then(|entry| entry.fields_v1.as_ref())
                .map(|fields| &fields.0),
        }
    }

    /// An annotation of the pod template of a Deployment, StatefulSet, DaemonSet or Rollout.
    pub fn template_annotation(&self, key: &str) -> bool {
        self.at(&[
            "f:spec",
            "f:template",
            "f:metadata",
            "f:annotations",
            &format!("f:{key}"),
        ])
    }

    /// `spec.paused`.
    pub fn paused(&self) -> bool {
        self.at(&["f:spec", "f:paused"])
    }

    /// `spec.restartAt` of a Rollout.
    pub fn restart_at(&self) -> bool {
        self.at(&["f:spec", "f:restartAt"])
    }

    /// A variable of a container of the pod template.
    pub fn variable(&self, container: &str, variable: &str) -> bool {
        let container = format!("k:{}", serde_json::json!({ "name": container }));
        let variable = format!("k:{}", serde_json::json!({ "name": variable }));
        self.at(&[
            "f:spec",
            "f:template",
            "f:spec",
            "f:containers",
            &container,
            "f:env",
            &variable,
        ])
    }

    fn at(&self, path: &[&str]) -> bool {
        let mut at = self.fields;
        for key in path {
            at = at.and_then(|value| value.get(key));
        }
        at.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_our_applies_count() {
        let fields = json!({"f:spec": {"f:template": {
            "f:metadata": {"f:annotations": {"f:example.com/a": {}}},
            "f:spec": {"f:containers": {"k:{\"name\":\"web\"}": {"f:env": {"k:{\"name\":\"X\"}": {".": {}, "f:value": {}}}}}},
        }}});
        let meta = |manager: &str, operation: &str| -> ObjectMeta {
            serde_json::from_value(json!({"managedFields": [
                {"manager": manager, "operation": operation, "fieldsType": "FieldsV1", "fieldsV1": fields}]}))
            .unwrap()
        };
        let ours = meta(MANAGER, "Apply");
        let ours = Owned::of(&ours);
        assert!(ours.template_annotation("example.com/a"));
        assert!(!ours.template_annotation("example.com/b"));
        assert!(ours.variable("web", "X"));
        assert!(!ours.variable("web", "Y") && !ours.variable("db", "X"));
        for (manager, operation) in [(MANAGER, "Update"), ("kubectl", "Apply")] {
            assert!(!Owned::of(&meta(manager, operation)).variable("web", "X"));
        }
        assert!(!Owned::of(&ObjectMeta::default()).variable("web", "X"));
    }
}
