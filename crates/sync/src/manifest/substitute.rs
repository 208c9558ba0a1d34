//! Pure: variables in the values of an object. Flux replaces text in YAML; here a value stays one value, whatever a variable
//! holds: it cannot become a second field or a comment.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::{
    ContentDigest, POLICY_PREFIX,
    envsubst::{self, SubstituteError},
    yaml,
};

/// The variables of a Kustomization. They may come from Secrets: `Debug` shows names only.
#[derive(Default)]
pub struct Variables {
    values: BTreeMap<String, Zeroizing<String>>,
    /// Names of those that come from Secrets.
    secret: BTreeSet<String>,
    digest: ContentDigest,
}

/// Shorter values occur everywhere, and are no secrets.
const SECRET: usize = 4;

impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.values.keys()).finish()
    }
}

/// Where a value is wrong, from the root of its object, and how.
pub type At = (String, SubstituteError);

impl Variables {
    /// From names and values.
    pub fn new(values: BTreeMap<String, Zeroizing<String>>) -> Self {
        let mut hasher = Sha256::new();
        for (name, value) in &values {
            for text in [name, value] {
                hasher.update(text.len().to_le_bytes());
                hasher.update(text.as_bytes());
            }
        }
        let mut digest = ContentDigest::default();
        for (byte, hashed) in digest.iter_mut().zip(hasher.finalize()) {
            *byte = hashed;
        }
        Self {
            values,
            secret: BTreeSet::new(),
            digest,
        }
    }

    /// The same; the values of these names come from Secrets.
    #[must_use]
    pub fn with_secrets(self, secret: BTreeSet<String>) -> Self {
        Self { secret, ..self }
    }

    /// What somebody says about an object that these were put into, without the values of Secrets.
    pub fn hide(&self, text: &str) -> String {
        let secrets = self.secret.iter().filter_map(|name| self.values.get(name));
        secrets
            .filter(|value| value.len() >= SECRET)
            .fold(text.to_owned(), |text, value| {
                text.replace(value.as_str(), "[from a Secret]")
            })
    }

    /// Tells them from others.
    pub fn digest(&self) -> &ContentDigest {
        &self.digest
    }

    /// Substitutes in all keys and values of an object, unless its label or annotation
    /// `kustomize.toolkit.fluxcd.io/substitute: disabled` forbids it.
    pub fn substitute(&self, object: &mut Value) -> Result<(), At> {
        if is_disabled(object) {
            return Ok(());
        }
        self.value(object, &mut Vec::new())
    }

    fn text(&self, text: &str, path: &[String]) -> Result<String, At> {
        let lookup = |name: &str| self.values.get(name).map(|value| value.as_str());
        envsubst::substitute(text, &lookup).map_err(|error| (path.join("."), error))
    }

    fn value(&self, value: &mut Value, path: &mut Vec<String>) -> Result<(), At> {
        match value {
            Value::String(text) if envsubst::has_expressions(text) => {
                let result = self.text(text, path)?;
                *value = if must_be_text(path) || !reads_plain(text) {
                    Value::String(result)
                } else {
                    typed(result, envsubst::is_one_expression(text))
                };
            }
            Value::Array(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    path.push(index.to_string());
                    self.value(item, path)?;
                    path.pop();
                }
            }
            Value::Object(entries) => {
                if entries.keys().any(|key| envsubst::has_expressions(key)) {
                    self.keys(entries, path)?;
                }
                for (key, value) in entries.iter_mut() {
                    path.push(key.clone());
                    self.value(value, path)?;
                    path.pop();
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn keys(&self, entries: &mut Map<String, Value>, path: &[String]) -> Result<(), At> {
        let mut renamed = Map::new();
        for (key, value) in std::mem::take(entries) {
            let name = self.text(&key, path)?;
            if renamed.insert(name, value).is_some() {
                let error = SubstituteError::Syntax(format!("the key {key:?} is there twice then"));
                return Err((path.join("."), error));
            }
        }
        *entries = renamed;
        Ok(())
    }
}

fn is_disabled(object: &Value) -> bool {
    let name = format!("{POLICY_PREFIX}substitute");
    ["labels", "annotations"]
        .iter()
        .any(|kind| object["metadata"][kind][&name].as_str() == Some("disabled"))
}

/// Where only text can stand; Flux makes numbers of it, which the API server refuses.
fn must_be_text(path: &[String]) -> bool {
    let Some((last, parents)) = path.split_last() else {
        return false;
    };
    let parent = |back: usize| parents.iter().rev().nth(back).map(String::as_str);
    match parent(0) {
        Some("labels" | "annotations" | "matchLabels" | "nodeSelector" | "command" | "args") => true,
        Some("data" | "stringData") => parents.len() == 1,
        // env: [{name, value}]
        Some(_) => last == "value" && parent(1) == Some("env"),
        None => false,
    }
}

/// Whether Flux's intermediate YAML has the text without quotes, so that the result is read anew.
fn reads_plain(text: &str) -> bool {
    let special = [
        '-', '?', ':', ',', '[', ']', '{', '}', '#', '&', '*', '!', '|', '>', '\'', '"', '%', '@', '`', ' ',
    ];
    !text.starts_with(special)
        && !text.ends_with([':', ' '])
        && !text.contains(": ")
        && !text.contains(" #")
        && !text.contains(|c: char| c.is_control())
}

fn typed(result: String, whole: bool) -> Value {
    let quoted = result.len() > 1
        && ['"', '\'']
            .iter()
            .any(|quote| result.starts_with(*quote) && result.ends_with(*quote));
    let flow = whole && result.starts_with(['[', '{']);
    if (quoted || flow)
        && let Some(value) = read(&result)
        && (value.is_string() || flow)
    {
        return value;
    }
    yaml::plain_value(&result).unwrap_or(Value::String(result))
}

/// A text that is one YAML document.
fn read(text: &str) -> Option<Value> {
    let mut documents = yaml::documents(text).into_iter();
    let value = documents.next()?.content.ok()?;
    documents.next().is_none().then_some(value)
}

#[cfg(test)]
#[path = "substitute_tests.rs"]
mod tests;
