//! Pure: which fields of an object differ, without what the server keeps for itself and without the values of Secrets.

use std::{collections::BTreeSet, fmt};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use serde::Serialize;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use crate::{
    api::OWN_ANNOTATIONS,
    cluster::fields::{self, MANAGER},
};

/// Metadata that no manifest decides.
const SERVER_METADATA: [&str; 6] = [
    "creationTimestamp",
    "generation",
    "managedFields",
    "resourceVersion",
    "selfLink",
    "uid",
];
/// Fields that name an element of a list, the first that all elements have.
const NAMING: [&str; 5] = ["name", "containerPort", "port", "mountPath", "type"];
/// What stands instead of a value that is not shown.
const REDACTED: &str = "(redacted)";
/// Longer values are cut for people.
const SHOWN: usize = 160;

/// A field that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Field {
    /// `.spec.template.spec.containers[name=app].image`.
    pub(super) path: String,
    /// What it is; left out when it is not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) before: Option<Value>,
    /// What it becomes; left out when it goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) after: Option<Value>,
}

impl Field {
    /// Hides values in which one of `secrets` occurs.
    pub(super) fn hide(&mut self, secrets: &[Zeroizing<String>]) {
        for value in [&mut self.before, &mut self.after].into_iter().flatten() {
            let text = bare(value);
            // Shorter ones occur everywhere, and are no secrets.
            if secrets
                .iter()
                .any(|secret| secret.len() >= 4 && text.contains(secret.as_str()))
            {
                *value = REDACTED.into();
            }
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.before, &self.after) {
            (Some(before), Some(after)) => write!(f, "{}: {} → {}", self.path, shown(before), shown(after)),
            (None, Some(after)) => write!(f, "{}: + {}", self.path, shown(after)),
            (Some(before), None) => write!(f, "{}: - {}", self.path, shown(before)),
            (None, None) => f.write_str(&self.path),
        }
    }
}

fn shown(value: &Value) -> String {
    let text = match value {
        Value::String(text) if text == REDACTED => return text.clone(),
        other => other.to_string(),
    };
    if text.chars().count() <= SHOWN {
        return text;
    }
    let start: String = text.chars().take(SHOWN).collect();
    format!("{start}… ({} bytes)", text.len())
}

/// The fields in which two states of an object differ.
pub(super) fn fields(before: &Value, after: &Value) -> Vec<Field> {
    let mut out = Vec::new();
    differ(&cleaned(before), &cleaned(after), "", &mut out);
    if is_secret(after) || is_secret(before) {
        out.iter_mut().for_each(redact);
    }
    out
}

/// Whether it is a Secret of Kubernetes.
pub(super) fn is_secret(object: &Value) -> bool {
    object["kind"] == "Secret" && object["apiVersion"] == "v1"
}

/// The object with what must not be shown of a Secret replaced.
pub(super) fn redacted(mut object: Value) -> Value {
    if is_secret(&object) {
        for field in ["data", "stringData"] {
            for (_, value) in object
                .get_mut(field)
                .and_then(Value::as_object_mut)
                .into_iter()
                .flatten()
            {
                *value = REDACTED.into();
            }
        }
        let annotations = object
            .pointer_mut("/metadata/annotations")
            .and_then(Value::as_object_mut);
        if let Some(applied) = annotations.and_then(|all| all.get_mut(LAST_APPLIED)) {
            *applied = REDACTED.into();
        }
    }
    object
}

/// Where `kubectl apply` keeps the whole object, values of Secrets included. Taking over removes it.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

fn redact(field: &mut Field) {
    let path = field.path.as_str();
    if path.starts_with(".data") || path.starts_with(".stringData") {
        for value in [&mut field.before, &mut field.after].into_iter().flatten() {
            *value = match value {
                Value::Object(map) => map
                    .keys()
                    .map(|key| (key.clone(), Value::from(REDACTED)))
                    .collect(),
                _ => REDACTED.into(),
            };
        }
    }
}

fn cleaned(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(root) = object.as_object_mut() {
        root.remove("status");
    }
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        for field in SERVER_METADATA {
            metadata.remove(field);
        }
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            for name in OWN_ANNOTATIONS.iter().chain(&[LAST_APPLIED]) {
                annotations.remove(*name);
            }
            if annotations.is_empty() {
                metadata.remove("annotations");
            }
        }
    }
    object
}

fn differ(before: &Value, after: &Value, path: &str, out: &mut Vec<Field>) {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
            for name in names {
                let path = format!("{path}{}", step(name));
                one(before.get(name), after.get(name), path, out);
            }
        }
        (Value::Array(before), Value::Array(after)) => match naming(before, after) {
            Some(key) => {
                let find = |list: &[Value], element: &Value| {
                    let same = |it: &&Value| it[key] == element[key];
                    list.iter().find(same).cloned()
                };
                let gone = before.iter().filter(|element| find(after, element).is_none());
                for element in after.iter().chain(gone) {
                    let path = format!("{path}[{key}={}]", bare(&element[key]));
                    let (before, after) = (find(before, element), find(after, element));
                    one(before.as_ref(), after.as_ref(), path, out);
                }
            }
            None if before.len() == after.len() => {
                for (index, (before, after)) in before.iter().zip(after).enumerate() {
                    differ(before, after, &format!("{path}[{index}]"), out);
                }
            }
            None => one_whole(before.clone().into(), after.clone().into(), path, out),
        },
        (before, after) if before == after => {}
        (before, after) => one_whole(before.clone(), after.clone(), path, out),
    }
}

fn one(before: Option<&Value>, after: Option<&Value>, path: String, out: &mut Vec<Field>) {
    match (before, after) {
        (Some(before), Some(after)) => differ(before, after, &path, out),
        (before, after) => out.push(Field {
            path,
            before: before.cloned(),
            after: after.cloned(),
        }),
    }
}

fn one_whole(before: Value, after: Value, path: &str, out: &mut Vec<Field>) {
    out.push(Field {
        path: path.to_owned(),
        before: Some(before),
        after: Some(after),
    });
}

/// The field by which the elements of two lists can be told apart.
fn naming(before: &[Value], after: &[Value]) -> Option<&'static str> {
    NAMING.into_iter().find(|key| {
        [before, after].iter().all(|list| {
            let names: BTreeSet<String> = list.iter().filter_map(|it| Some(bare(it.get(key)?))).collect();
            names.len() == list.len()
        })
    })
}

fn bare(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn step(name: &str) -> String {
    if !name.is_empty()
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
    {
        format!(".{name}")
    } else {
        format!("[{name:?}]")
    }
}

/// The fields that go when an object is taken over: those that only the managers have that are taken over.
/// `answer` is what the dry run returned.
pub(super) fn taken_away(answer: &Value, more: &[String]) -> Vec<Field> {
    let entries: Vec<ManagedFieldsEntry> =
        serde_json::from_value(answer["metadata"]["managedFields"].clone()).unwrap_or_default();
    if fields::take_over(&entries, more).is_none() {
        return Vec::new();
    }
    let (theirs, rest): (Vec<_>, Vec<_>) = entries
        .iter()
        .partition(|entry| fields::is_taken_over(entry, more));
    let paths = |entries: &[&ManagedFieldsEntry]| {
        let mut paths = BTreeSet::new();
        for fields in entries.iter().filter_map(|entry| entry.fields_v1.as_ref()) {
            leaves(&fields.0, "", &mut paths);
        }
        paths
    };
    let mut kept = paths(&rest);
    if !rest.iter().any(|entry| entry.manager.as_deref() == Some(MANAGER)) {
        return Vec::new();
    }
    kept.insert(step("metadata"));
    let gone = paths(&theirs).into_iter().filter(|path| {
        !kept.contains(path)
            && !path.contains(LAST_APPLIED)
            && !kept
                .iter()
                .any(|it| it.starts_with(&format!("{path}.")) || it.starts_with(&format!("{path}[")))
    });
    gone.map(|path| Field {
        path,
        before: Some(json!("(removed: only what is taken over has it)")),
        after: None,
    })
    .collect()
}

/// The paths of `fieldsV1` at which nothing lies deeper.
fn leaves(fields: &Value, path: &str, out: &mut BTreeSet<String>) {
    let none = Map::new();
    let inner = fields.as_object().unwrap_or(&none);
    let mut deeper = inner.iter().filter(|(key, _)| key.as_str() != ".").peekable();
    if deeper.peek().is_none() {
        out.insert(path.to_owned());
        return;
    }
    for (key, value) in deeper {
        let next = match key.split_once(':') {
            Some(("f", name)) => step(name),
            Some(("k", keys)) => match serde_json::from_str::<Map<String, Value>>(keys) {
                Ok(keys) => {
                    let keys: Vec<String> = keys.iter().map(|(k, v)| format!("{k}={}", bare(v))).collect();
                    format!("[{}]", keys.join(","))
                }
                Err(_) => format!("[{keys}]"),
            },
            _ => format!("[{key}]"),
        };
        leaves(value, &format!("{path}{next}"), out);
    }
}

#[cfg(test)]
#[path = "diff_tests.rs"]
mod tests;
