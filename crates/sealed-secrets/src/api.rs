//! `bitnami.com/v1alpha1` SealedSecret, as every existing client writes it.

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

/// Annotation of an existing Secret that lets a SealedSecret take it over.
pub const MANAGED: &str = "sealedsecrets.bitnami.com/managed";
/// Annotation of an existing Secret that lets a SealedSecret merge its items into it.
pub const PATCH: &str = "sealedsecrets.bitnami.com/patch";
/// Annotation of `spec.template.metadata`: the Secret outlives its SealedSecret.
pub const SKIP_SET_OWNER_REFERENCES: &str = "sealedsecrets.bitnami.com/skip-set-owner-references";

/// SealedSecret is a Secret that is safe to commit: only the controller of the cluster it was sealed for can open it.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[kube(
    group = "bitnami.com",
    version = "v1alpha1",
    kind = "SealedSecret",
    plural = "sealedsecrets",
    singular = "sealedsecret",
    namespaced,
    derive = "Default",
    derive = "PartialEq",
    status = "SealedSecretStatus",
    printcolumn = r#"{"name":"Status","type":"string","jsonPath":".status.conditions[0].message"}"#,
    printcolumn = r#"{"name":"Synced","type":"string","jsonPath":".status.conditions[0].status"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = require_items)]
pub struct SealedSecretSpec {
    /// The Secret that comes out, apart from its data.
    #[serde(
        default,
        skip_serializing_if = "SecretTemplate::is_empty",
        deserialize_with = "null_is_nothing"
    )]
    pub template: SecretTemplate,
    /// Deprecated: one sealed blob that holds a whole Secret. Use encryptedData.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "text_or_none"
    )]
    #[schemars(schema_with = "base64_schema")]
    pub data: Option<String>,
    /// The sealed items by the key they get in the Secret.
    #[serde(default, deserialize_with = "lenient_items")]
    #[schemars(schema_with = "items_schema")]
    pub encrypted_data: BTreeMap<String, String>,
}

/// What the produced Secret carries besides its data.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretTemplate {
    /// Metadata of the Secret: labels, annotations and finalizers are taken; name and namespace are the SealedSecret's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "metadata_schema")]
    pub metadata: Option<Map<String, Value>>,
    /// Type of the Secret.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub type_: Option<String>,
    /// Whether the Secret is made immutable. Once it is, only deleting it changes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub immutable: Option<bool>,
    /// Items rendered from Go templates over the opened items.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<BTreeMap<String, String>>,
}

impl SecretTemplate {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// A map of strings (`labels`, `annotations`) of the metadata; `None` when it is there and is something else.
    pub fn strings(&self, field: &str) -> Option<BTreeMap<String, String>> {
        match self.metadata.as_ref().and_then(|metadata| metadata.get(field)) {
            None | Some(Value::Null) => Some(BTreeMap::new()),
            Some(Value::Object(map)) => map
                .iter()
                .map(|(key, value)| value.as_str().map(|value| (key.clone(), value.to_owned())))
                .collect(),
            Some(_) => None,
        }
    }
}

/// What the controller found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SealedSecretStatus {
    /// The condition Synced, always first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// The generation that the conditions speak of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// What was unsealed last: lets a restart skip what has not changed since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unsealed: Option<Unsealed>,
}

/// A record of the last successful unsealing. Holds nothing derived from plaintext.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Unsealed {
    /// Hash of the sealed spec, the scope and the name; ciphertexts only.
    #[serde(default)]
    pub source: String,
    /// UID of the Secret that was written.
    #[serde(default)]
    pub secret_uid: String,
    /// Resource version that the Secret had then.
    #[serde(default)]
    pub secret_resource_version: String,
    /// Whether the items were merged into a Secret that is somebody else's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub merged: bool,
    /// The public fingerprints of the sealing keys, by item.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub keys: BTreeMap<String, String>,
}

/// One observation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Synced.
    #[serde(rename = "type")]
    pub type_: String,
    /// True, False or Unknown.
    pub status: String,
    /// When the status last became what it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "time_schema")]
    pub last_transition_time: Option<String>,
    /// When this condition was last written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "time_schema")]
    pub last_update_time: Option<String>,
    /// One word for programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What, where and what to do, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Items as the original reads them: what is not a string becomes an empty one (and then fails to open, by name), what is
/// not a map becomes an empty map. A damaged object must not stop the watch of the others.
fn lenient_items<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    Ok(match Value::deserialize(deserializer)? {
        Value::Object(items) => items
            .into_iter()
            .map(|(key, value)| match value {
                Value::String(text) => (key, text),
                _ => (key, String::new()),
            })
            .collect(),
        _ => BTreeMap::new(),
    })
}

/// As Go reads it.
fn null_is_nothing<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SecretTemplate, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// A damaged `data` is there, and fails to open.
fn text_or_none<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(match Value::deserialize(deserializer)? {
        Value::Null => None,
        Value::String(text) => Some(text),
        _ => Some(String::new()),
    })
}

/// The API server wants encryptedData; files of the deprecated form that lack it are read all the same.
fn require_items(schema: &mut Schema) {
    schema.insert("required".to_owned(), Value::from(["encryptedData"].as_slice()));
}

fn base64_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string", "format": "byte",
        "description": "Deprecated: one sealed blob that holds a whole Secret. Use encryptedData.",
    })
}

fn items_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object", "additionalProperties": {"type": "string"},
        "x-kubernetes-preserve-unknown-fields": true,
        "description": "The sealed items by the key they get in the Secret.",
    })
}

fn metadata_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object", "nullable": true, "x-kubernetes-preserve-unknown-fields": true,
        "description": "Metadata of the Secret: labels, annotations and finalizers are taken; name and namespace are the SealedSecret's.",
    })
}

fn time_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "format": "date-time"})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items(encrypted_data: &str) -> Vec<(String, String)> {
        let spec: SealedSecretSpec =
            serde_json::from_str(&format!(r#"{{"encryptedData":{encrypted_data}}}"#)).unwrap();
        spec.encrypted_data.into_iter().collect()
    }

    #[test]
    fn damaged_items_become_empty_ones() {
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(
            items(r#"{"a":"x","b":5,"c":null,"d":{"e":"f"}}"#),
            [pair("a", "x"), pair("b", ""), pair("c", ""), pair("d", "")]
        );
        for garbage in ["[]", "5", "null", r#""x""#] {
            assert_eq!(items(garbage), []);
        }
    }

    #[test]
    fn labels_that_are_not_strings_are_noticed() {
        let template = |metadata: &str| -> SecretTemplate {
            serde_json::from_str(&format!(r#"{{"metadata":{metadata}}}"#)).unwrap()
        };
        assert_eq!(
            template(r#"{"labels":{"a":"b"}}"#)
                .strings("labels")
                .unwrap()
                .len(),
            1
        );
        assert_eq!(template(r#"{"labels":{"a":1}}"#).strings("labels"), None);
        assert_eq!(template("null").strings("labels"), Some(BTreeMap::new()));
    }
}
