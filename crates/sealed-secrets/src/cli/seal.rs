//! Secrets in, SealedSecrets out.

use std::collections::BTreeMap;

use rand::rngs::SysRng;
use serde_json::{Map, Value, json};

use super::output::{Format, Object, Rest};
use super::{Arguments, Error, cluster};
use crate::crypto::cert::Certificate;
use crate::crypto::{decode, seal as seal_item};
use crate::documents;
use crate::scope::Scope;
use crate::sealed_with::SEALED_WITH;

/// Annotations in which kubectl and its like keep the whole plaintext object.
const LAST_APPLIED: [&str; 2] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    "kubecfg.ksonnet.io/last-applied-configuration",
];

/// Fields of metadata that belong to the cluster, not to the author.
const SERVER_FIELDS: [&str; 9] = [
    "selfLink",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "ownerReferences",
    "managedFields",
];

/// A Secret as somebody wrote it.
pub(super) struct Input {
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) scope: Scope,
    /// Metadata for the template.
    pub(super) metadata: Map<String, Value>,
    pub(super) type_: Option<String>,
    pub(super) immutable: Option<bool>,
    pub(super) items: BTreeMap<String, zeroize::Zeroizing<Vec<u8>>>,
}

/// Seals every Secret of `input`.
pub(super) fn seal(
    arguments: &Arguments,
    certificate: &Certificate,
    input: &[u8],
    format: Format,
) -> Result<String, Error> {
    let mut text = String::new();
    for mut secret in secrets(input)? {
        apply_flags(&mut secret, arguments)?;
        check(&secret, arguments)?;
        text += &seal_one(&secret, certificate, format, arguments.sealed_with)?;
    }
    Ok(text)
}

/// Reads the Secrets of `input`, those inside Lists included.
pub(super) fn secrets(input: &[u8]) -> Result<Vec<Input>, Error> {
    let mut secrets = Vec::new();
    for document in documents::parse(input)? {
        if document.as_object().is_some_and(Map::is_empty) {
            continue;
        }
        match document.get("kind").and_then(Value::as_str) {
            Some("List" | "SecretList") => {
                let items = document
                    .get("items")
                    .and_then(Value::as_array)
                    .into_iter()
                    .flatten();
                for item in items {
                    secrets.push(parse(item)?);
                }
            }
            _ => secrets.push(parse(&document)?),
        }
    }
    if secrets.is_empty() {
        return Err(Error::Usage(
            "no secrets found. Ensure the input is valid and UTF-8 encoded",
        ));
    }
    Ok(secrets)
}

fn parse(document: &Value) -> Result<Input, Error> {
    let kind = document.get("kind").and_then(Value::as_str).unwrap_or_default();
    let version = document
        .get("apiVersion")
        .and_then(Value::as_str)
        .unwrap_or_default();
    if kind != "Secret" || version != "v1" {
        return Err(Error::Input(format!(
            "expected a Secret of v1, found {version:?} {kind:?}"
        )));
    }
    let mut metadata = document
        .get("metadata")
        .and_then(Value::as_object)
        .cloned()
        .unwrap_or_default();
    let text = |metadata: &Map<String, Value>, field: &str| {
        metadata
            .get(field)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    for field in SERVER_FIELDS {
        metadata.remove(field);
    }
    let annotations: BTreeMap<String, String> = metadata
        .get("annotations")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .filter(|(key, _)| !LAST_APPLIED.contains(&key.as_str()))
        .map(|(key, value)| value.as_str().map(|value| (key.clone(), value.to_owned())))
        .collect::<Option<_>>()
        .ok_or(Error::Usage(
            "metadata.annotations of the input Secret must be strings (quote numbers and true/false)",
        ))?;
    set_annotations(&mut metadata, &annotations);
    let mut items = BTreeMap::new();
    for (key, value) in entries(document, "data")? {
        let value = match value {
            Value::Null => Vec::new(),
            value => value.as_str().and_then(decode).ok_or_else(|| {
                Error::Input(format!(
                    "data.{key} of the input Secret is not base64; plain text belongs in stringData"
                ))
            })?,
        };
        items.insert(key.clone(), value.into());
    }
    for (key, value) in entries(document, "stringData")? {
        let value = value.as_str().ok_or_else(|| {
            Error::Input(format!(
                "stringData.{key} of the input Secret is not a string: quote it"
            ))
        })?;
        items.insert(key.clone(), value.as_bytes().to_vec().into());
    }
    if let Some(key) = items.keys().find(|key| !super::set::is_valid_key(key)) {
        return Err(Error::Input(format!(
            "{key:?} in the input Secret is not a valid key of a Secret: letters, digits, '-', '_' and '.', at most 253"
        )));
    }
    Ok(Input {
        name: text(&metadata, "name"),
        namespace: text(&metadata, "namespace"),
        scope: Scope::of(Some(&annotations)),
        metadata,
        type_: document
            .get("type")
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
            .map(str::to_owned),
        immutable: document.get("immutable").and_then(Value::as_bool),
        items,
    })
}

fn entries<'a>(
    document: &'a Value,
    field: &str,
) -> Result<impl Iterator<Item = (&'a String, &'a Value)>, Error> {
    match document.get(field) {
        None | Some(Value::Null) => Ok(None.into_iter().flatten()),
        Some(Value::Object(map)) => Ok(Some(map).into_iter().flatten()),
        Some(_) => Err(Error::Input(format!("{field} of the input Secret is not a map"))),
    }
}

fn set_annotations(metadata: &mut Map<String, Value>, annotations: &BTreeMap<String, String>) {
    if annotations.is_empty() {
        metadata.remove("annotations");
    } else {
        metadata.insert("annotations".to_owned(), json!(annotations));
    }
}

/// `--name`, `--scope` and `--namespace` on top of what the Secret says.
fn apply_flags(secret: &mut Input, arguments: &Arguments) -> Result<(), Error> {
    if let Some(name) = &arguments.name {
        secret.name.clone_from(name);
    }
    if let Some(scope) = arguments.scope.filter(|scope| *scope != Scope::Strict) {
        secret.scope = scope;
        let mut annotations: BTreeMap<String, String> = secret
            .metadata
            .get("annotations")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
            .collect();
        scope.annotate(&mut annotations);
        set_annotations(&mut secret.metadata, &annotations);
    }
    if secret.scope != Scope::ClusterWide {
        // An empty flag is none, as everywhere in kubectl.
        match arguments
            .cluster
            .namespace
            .as_deref()
            .filter(|wanted| !wanted.is_empty())
        {
            Some(wanted) if !secret.namespace.is_empty() && wanted != secret.namespace => {
                return Err(Error::Input(format!(
                    "namespace mismatch: input secret is in namespace {:?} but {wanted:?} was specified",
                    secret.namespace
                )));
            }
            Some(wanted) => wanted.clone_into(&mut secret.namespace),
            None if secret.namespace.is_empty() => {
                secret.namespace = cluster::default_namespace(&arguments.cluster)?;
            }
            None => {}
        }
    }
    Ok(())
}

pub(super) fn check(secret: &Input, arguments: &Arguments) -> Result<(), Error> {
    if secret.items.is_empty() && !arguments.allow_empty_data {
        return Err(Error::Usage(
            "secret.data is empty in input Secret, assuming this is an error and aborting. To work with empty data, --allow-empty-data can be used",
        ));
    }
    if secret.name.is_empty() {
        return Err(Error::Usage("missing metadata.name in input Secret"));
    }
    if secret.scope != Scope::ClusterWide && secret.namespace.is_empty() {
        return Err(Error::Usage("secret must declare a namespace"));
    }
    Ok(())
}

/// The sealed items of `secret`.
pub(super) fn seal_items(
    secret: &Input,
    certificate: &Certificate,
) -> Result<BTreeMap<String, String>, Error> {
    let label = secret.scope.label(&secret.namespace, &secret.name);
    let seal = |value: &[u8]| seal_item(&mut SysRng, &certificate.public_key, &label, value);
    secret
        .items
        .iter()
        .map(|(key, value)| Ok((key.clone(), seal(value)?)))
        .collect()
}

fn seal_one(
    secret: &Input,
    certificate: &Certificate,
    format: Format,
    sealed_with: bool,
) -> Result<String, Error> {
    let mut template_metadata = secret.metadata.clone();
    let mut metadata = Map::new();
    for (field, value) in [("name", &secret.name), ("namespace", &secret.namespace)] {
        if !value.is_empty() {
            metadata.insert(field.to_owned(), json!(value));
            template_metadata.insert(field.to_owned(), json!(value));
        }
    }
    let mut annotations = Map::new();
    if let Some(key) = secret.scope.annotation() {
        annotations.insert(key.to_owned(), json!("true"));
    }
    if sealed_with {
        let fingerprint = certificate.public_key.fingerprint().to_string();
        annotations.insert(SEALED_WITH.to_owned(), json!(fingerprint));
    }
    if !annotations.is_empty() {
        metadata.insert("annotations".to_owned(), Value::Object(annotations));
    }
    let mut template = json!({ "metadata": template_metadata });
    if let Some(type_) = &secret.type_ {
        template["type"] = json!(type_);
    }
    if let Some(immutable) = secret.immutable {
        template["immutable"] = json!(immutable);
    }
    format.render(&Object {
        kind: "SealedSecret",
        api_version: "bitnami.com/v1alpha1",
        metadata: &Value::Object(metadata),
        rest: Rest::Sealed {
            spec: &json!({ "template": template, "encryptedData": seal_items(secret, certificate)? }),
        },
    })
}
