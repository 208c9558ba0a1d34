//! `--merge-into`: new items for a SealedSecret that exists.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::output::{Format, Object, Rest, Target};
use super::seal::{check, seal_items, secrets};
use super::{Arguments, Error};
use crate::crypto::cert::Certificate;
use crate::documents;
use crate::scope::Scope;

/// Seals the Secret of `input` under the name, namespace and scope of the SealedSecret in `path`, and adds its items there.
pub(super) fn into_file(
    arguments: &Arguments,
    certificate: &Certificate,
    input: &[u8],
    path: &Path,
) -> Result<(), Error> {
    let text = std::fs::read(path).map_err(Error::open(path))?;
    let was_json = text.trim_ascii_start().starts_with(b"{");
    let mut sealed = sealed_secret(&text)?;
    for mut secret in secrets(input)? {
        let metadata = sealed.get("metadata").cloned().unwrap_or_default();
        let field = |name: &str| {
            metadata
                .get(name)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        secret.name = field("name");
        secret.namespace = field("namespace");
        secret.scope = scope(&metadata);
        // Items of two scopes in one object would never open together.
        if let Some(wanted) = arguments.scope.filter(|wanted| *wanted != secret.scope) {
            return Err(Error::Input(format!(
                "{} is sealed with scope {}, not {wanted}: items of two scopes cannot open together",
                path.display(),
                secret.scope
            )));
        }
        check(&secret, arguments)?;
        for (key, item) in seal_items(&secret, certificate)? {
            object(&mut sealed, &["spec", "encryptedData"])?.insert(key, json!(item));
        }
        for field in ["labels", "annotations"] {
            if let Some(Value::Object(entries)) = secret.metadata.get(field) {
                object(&mut sealed, &["spec", "template", "metadata", field])?.extend(entries.clone());
            }
        }
    }
    let format = match &arguments.format {
        Some(format) => Format::choose(Some(format), Some(path))?,
        None if was_json => Format::Json,
        None => Format::Yaml,
    };
    let metadata = sealed.get("metadata").cloned().unwrap_or_default();
    let spec = sealed.get("spec").cloned().unwrap_or_default();
    let text = format.render(&Object {
        kind: "SealedSecret",
        api_version: "bitnami.com/v1alpha1",
        metadata: &metadata,
        rest: Rest::Sealed { spec: &spec },
    })?;
    Target::File(path.to_owned()).write(&text)
}

/// The one SealedSecret that `text` holds.
pub(super) fn sealed_secret(text: &[u8]) -> Result<Value, Error> {
    let mut documents = documents::parse(text)?;
    let Some(sealed) = documents.pop().filter(|_| documents.is_empty()) else {
        return Err(Error::Usage("expected exactly one SealedSecret"));
    };
    if sealed.get("kind").and_then(Value::as_str) != Some("SealedSecret") {
        return Err(Error::Input(format!(
            "expected a SealedSecret, found {}",
            sealed.get("kind").unwrap_or(&Value::Null)
        )));
    }
    Ok(sealed)
}

/// The scope that `metadata` of a SealedSecret states.
pub(super) fn scope(metadata: &Value) -> Scope {
    let annotations = metadata
        .get("annotations")
        .and_then(Value::as_object)
        .into_iter()
        .flatten();
    Scope::of(Some(
        &annotations
            .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
            .collect(),
    ))
}

/// The map at `path`, made when it is not there (or null).
fn object<'a>(root: &'a mut Value, path: &[&str]) -> Result<&'a mut Map<String, Value>, Error> {
    let mut at = root;
    for field in path {
        if at.is_null() {
            *at = json!({});
        }
        at = at
            .as_object_mut()
            .ok_or_else(|| Error::Input(format!("{} is not a map", path.join("."))))?
            .entry((*field).to_owned())
            .or_insert_with(|| json!({}));
    }
    if at.is_null() {
        *at = json!({});
    }
    at.as_object_mut()
        .ok_or_else(|| Error::Input(format!("{} is not a map", path.join("."))))
}
