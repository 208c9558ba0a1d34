//! Pure: from one YAML document to the objects in it, and from an object to the body that is applied.

use std::{collections::BTreeMap, fmt::Write as _, sync::Arc};

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::{Variables, yaml};
use crate::{
    api::{DIGEST, IgnoreRule, PRUNE, REVISION},
    object::{Gvk, Identity, ObjectId},
};

/// Digest of an object's content as Git has it: the first 16 bytes of a SHA-256.
pub type ContentDigest = [u8; 16];

/// One object of a file, without its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Its identity, with `metadata.namespace` as written; whether that counts depends on the kind's scope.
    pub id: ObjectId,
    /// API version it is written in.
    pub version: Arc<str>,
    /// Digest of its content.
    pub digest: ContentDigest,
    /// How it wants to be applied.
    pub policy: ApplyPolicy,
    /// Whether it asks to be replaced where an immutable field changes.
    pub force: bool,
    /// Whether Kubernetes deletes it when it is done.
    pub expires: bool,
    /// Where in the file it stands.
    pub place: Place,
}

/// How an object is applied: the label or annotation `kustomize.toolkit.fluxcd.io/ssa`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ApplyPolicy {
    /// Fields of `kubectl` and Flux are taken over when the object is adopted.
    #[default]
    Override,
    /// Fields of others stay theirs.
    Merge,
    /// It is only made, never changed.
    IfNotPresent,
    /// It is neither applied nor deleted; `kustomize.toolkit.fluxcd.io/reconcile: disabled` says the same.
    Ignore,
}

/// Prefix of the labels and annotations by which a single object says how it wants to be treated.
pub const POLICY_PREFIX: &str = "kustomize.toolkit.fluxcd.io/";

/// Where in a file an object stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Document of the file, counted from 1.
    pub document: usize,
    /// Line of the document's first node, counted from 1.
    pub line: usize,
    /// Index in a `kind: List`, counted from 0.
    pub item: Option<usize>,
}

/// Something in a file that cannot be applied. Its identity may be unknown, so nothing is pruned while it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flaw {
    /// Document, counted from 1; 0 means the file as a whole.
    pub document: usize,
    /// Line, counted from 1; 0 means the file as a whole.
    pub line: usize,
    /// What is wrong, and what to do.
    pub message: String,
}

/// What a file holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parsed {
    /// Its objects, in order.
    pub manifests: Vec<Manifest>,
    /// What cannot be read.
    pub flaws: Vec<Flaw>,
}

/// Reads all objects of a file.
pub fn parse(content: &[u8], variables: Option<&Variables>) -> Parsed {
    let mut parsed = Parsed::default();
    let text = match std::str::from_utf8(content) {
        Ok(text) => text,
        Err(error) => {
            let message = format!("the file is not UTF-8 (byte {})", error.valid_up_to());
            parsed.flaws.push(Flaw {
                document: 0,
                line: 0,
                message,
            });
            return parsed;
        }
    };
    for document in yaml::documents(text) {
        let place = Place {
            document: document.number,
            line: document.line,
            item: None,
        };
        match document.content {
            Ok(content) => object(content, place, variables, &mut parsed),
            Err(error) => parsed.flaws.push(Flaw {
                document: document.number,
                line: error.line,
                message: format!("not valid YAML: {error}"),
            }),
        }
    }
    parsed
}

/// The body of the object at `place`, as Git has it.
pub fn body(content: &[u8], place: Place, variables: Option<&Variables>) -> Option<Value> {
    let text = std::str::from_utf8(content).ok()?;
    let document = yaml::documents(text)
        .into_iter()
        .find(|d| d.number == place.document)?;
    let content = document.content.ok()?;
    let mut object = match place.item {
        None => content,
        Some(item) => content.get("items")?.get(item)?.clone(),
    };
    if let Some(variables) = variables {
        variables.substitute(&mut object).ok()?;
    }
    Some(object)
}

fn object(mut content: Value, place: Place, variables: Option<&Variables>, parsed: &mut Parsed) {
    if let Some(variables) = variables
        && !is_list(&content)
        && let Err((field, error)) = variables.substitute(&mut content)
    {
        parsed.flaws.push(Flaw {
            document: place.document,
            line: place.line,
            message: format!("{field}: {error}"),
        });
        return;
    }
    let content = &content;
    let text = |key: &str| content.get(key).and_then(Value::as_str).unwrap_or_default();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let mut flaw = |message: String| {
        parsed.flaws.push(Flaw {
            document: place.document,
            line: place.line,
            message,
        });
    };
    if !content.is_object() {
        return flaw(
            "not a Kubernetes object: a mapping with apiVersion, kind and metadata is expected".into(),
        );
    }
    if api_version.is_empty() || kind.is_empty() {
        let missing = if kind.is_empty() { "kind" } else { "apiVersion" };
        return flaw(format!(
            "not a Kubernetes object: {missing} is missing; if the file is no manifest, exclude it in .sourceignore"
        ));
    }
    if is_list(content) {
        if place.item.is_some() {
            return flaw(format!(
                "a {kind} inside a List is not supported: write its items out"
            ));
        }
        for (index, item) in content
            .get("items")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .enumerate()
        {
            object(
                item.clone(),
                Place {
                    item: Some(index),
                    ..place
                },
                variables,
                parsed,
            );
        }
        return;
    }
    if let Some(message) = no_manifest(content, api_version, kind) {
        return flaw(message);
    }
    let empty = Map::new();
    let metadata = content
        .get("metadata")
        .and_then(Value::as_object)
        .unwrap_or(&empty);
    let field = |key: &str| metadata.get(key).and_then(Value::as_str).unwrap_or_default();
    let (name, namespace) = (field("name"), field("namespace"));
    if name.is_empty() {
        return flaw(if field("generateName").is_empty() {
            format!("the {kind} has no metadata.name (a string)")
        } else {
            format!(
                "the {kind} has metadata.generateName, which would make a new object at every apply: give it a name"
            )
        });
    }
    if let Some(message) = forged(api_version, kind, name, namespace) {
        return flaw(message);
    }
    let gvk = Gvk::parse(api_version, kind);
    let identity = Identity {
        namespace: namespace.to_owned(),
        group: gvk.group.to_owned(),
        kind: kind.to_owned(),
        name: name.to_owned(),
    };
    parsed.manifests.push(Manifest {
        id: identity.into(),
        version: gvk.version.into(),
        digest: digest(content),
        policy: policy(metadata),
        force: says(metadata, "force", "enabled"),
        expires: expires(content),
        place,
    });
}

/// Why something that has a kind is nothing to apply.
fn no_manifest(content: &Value, api_version: &str, kind: &str) -> Option<String> {
    if content.get("sops").is_some() {
        return Some(format!(
            "the {kind} is encrypted with SOPS, which is not supported: seal it with kubeseal and commit the SealedSecret"
        ));
    }
    let is_kustomize = api_version.starts_with("kustomize.config.k8s.io/");
    is_kustomize.then(|| {
        format!("a kustomize {kind} is no manifest: name its file kustomization.yaml, or exclude it in .sourceignore")
    })
}

/// Its items are objects of their own.
fn is_list(content: &Value) -> bool {
    let kind = content.get("kind").and_then(Value::as_str);
    kind.is_some_and(|kind| kind.ends_with("List")) && content.get("items").is_some_and(Value::is_array)
}

/// Whether a label or annotation of ours has this value, in whatever case.
fn says(metadata: &Map<String, Value>, key: &str, value: &str) -> bool {
    ["labels", "annotations"].iter().any(|kind| {
        let text = metadata
            .get(*kind)
            .and_then(|map| map.get(format!("{POLICY_PREFIX}{key}")));
        text.and_then(Value::as_str)
            .is_some_and(|text| text.eq_ignore_ascii_case(value))
    })
}

/// Whether Kubernetes deletes it when it is done: a Job with `ttlSecondsAfterFinished`.
fn expires(content: &Value) -> bool {
    content["kind"] == "Job"
        && content["apiVersion"]
            .as_str()
            .is_some_and(|version| version.starts_with("batch/"))
        && content["spec"]["ttlSecondsAfterFinished"].is_u64()
}

fn policy(metadata: &Map<String, Value>) -> ApplyPolicy {
    let says = |key: &str, value: &str| says(metadata, key, value);
    if says("reconcile", "disabled") || says("ssa", "Ignore") {
        ApplyPolicy::Ignore
    } else if says("ssa", "IfNotPresent") {
        ApplyPolicy::IfNotPresent
    } else if says("ssa", "Merge") {
        ApplyPolicy::Merge
    } else {
        ApplyPolicy::Override
    }
}

/// Names end up in URL paths and in inventory entries, where `_` separates: what could forge either is refused.
fn forged(api_version: &str, kind: &str, name: &str, namespace: &str) -> Option<String> {
    let path_safe = |text: &str| {
        !text.contains(['/', '%', '?', '#', ' '])
            && !text.chars().any(char::is_control)
            && text != "."
            && text != ".."
    };
    let (what, text) = if !kind.chars().all(|c| c.is_ascii_alphanumeric()) {
        ("kind", kind)
    } else if !api_version
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '/'))
    {
        ("apiVersion", api_version)
    } else if !path_safe(name) || name.contains("__") || name.starts_with('_') || name.ends_with('_') {
        ("metadata.name", name)
    } else if !path_safe(namespace) || namespace.contains('_') {
        ("metadata.namespace", namespace)
    } else {
        return None;
    };
    Some(format!("{what} {text:?} of the {kind} is not a valid name"))
}

/// Digest of a JSON value; the order of keys does not matter, because `serde_json` keeps them sorted.
pub fn digest(value: &Value) -> ContentDigest {
    let mut hasher = Sha256::new();
    hasher.update(value.to_string().as_bytes());
    let mut out = ContentDigest::default();
    out.copy_from_slice(&hasher.finalize()[..16]);
    out
}

/// A digest in hexadecimal, as an annotation has it.
pub fn format_digest(digest: &ContentDigest) -> String {
    digest.iter().fold(String::with_capacity(32), |mut hex, byte| {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// Reads a digest back.
pub fn parse_digest(text: &str) -> Option<ContentDigest> {
    let mut digest = ContentDigest::default();
    if text.len() != 2 * digest.len() || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (index, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * index..2 * index + 2)?, 16).ok()?;
    }
    Some(digest)
}

/// Writes on a body which revision brought it, that it is not to be deleted where it says so, and the digest of its content.
/// No digest on Secrets: of a value that can be guessed a digest is as good as the value, and `kubectl describe` prints
/// annotations.
pub fn stamp(body: &mut Value, revision: &str, content: &ContentDigest) {
    let is_secret = body["kind"] == "Secret" && body["apiVersion"] == "v1";
    let Some(metadata) = body.get_mut("metadata").and_then(Value::as_object_mut) else {
        return;
    };
    let is_kept = says(metadata, "prune", "disabled");
    let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
    if annotations.is_null() {
        *annotations = json!({});
    }
    // Annotations of another form are the API server's to refuse.
    if let Some(annotations) = annotations.as_object_mut() {
        annotations.insert(REVISION.into(), revision.into());
        if is_kept {
            annotations.insert(PRUNE.into(), "disabled".into());
        }
        if is_secret {
            annotations.remove(DIGEST);
        } else {
            annotations.insert(DIGEST.into(), format_digest(content).into());
        }
    }
}

/// What is set on every object of a Kustomization.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overlay {
    /// Labels: the owner's, and `spec.commonMetadata`'s.
    pub labels: BTreeMap<String, String>,
    /// Annotations of `spec.commonMetadata`.
    pub annotations: BTreeMap<String, String>,
    /// `spec.ignore`: what is not set on it after the first time.
    pub ignored: Vec<IgnoreRule>,
}

/// What the server owns and a manifest (an exported one, usually) may still carry.
const SERVER_FIELDS: [&str; 6] = [
    "creationTimestamp",
    "generation",
    "managedFields",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// The body to apply: overlay set, server-owned fields left out, a Secret's `stringData` as `data`
/// (server-side apply cannot own a write-only field).
pub fn finish(mut object: Value, namespace: &str, overlay: &Overlay) -> Value {
    let is_secret = object.get("kind").is_some_and(|kind| kind == "Secret")
        && object.get("apiVersion").is_some_and(|version| version == "v1");
    let Some(root) = object.as_object_mut() else {
        return object;
    };
    root.remove("status");
    if is_secret {
        encode_string_data(root);
    }
    let metadata = root.entry("metadata").or_insert_with(|| json!({}));
    let Some(metadata) = metadata.as_object_mut() else {
        return object;
    };
    for field in SERVER_FIELDS {
        metadata.remove(field);
    }
    if namespace.is_empty() {
        metadata.remove("namespace");
    } else {
        metadata.insert("namespace".into(), namespace.into());
    }
    for (field, extra) in [("labels", &overlay.labels), ("annotations", &overlay.annotations)] {
        if metadata.get(field).is_some_and(Value::is_null) {
            metadata.remove(field);
        }
        if extra.is_empty() {
            continue;
        }
        if let Some(map) = metadata.entry(field).or_insert_with(|| json!({})).as_object_mut() {
            map.extend(
                extra
                    .iter()
                    .map(|(key, value)| (key.clone(), Value::from(value.as_str()))),
            );
        }
    }
    object
}

fn encode_string_data(secret: &mut Map<String, Value>) {
    use base64::Engine as _;
    // A value that is no string stays, so that the API server names it.
    let strings = |data: &Map<String, Value>| data.values().all(Value::is_string);
    let Some(plain) = secret
        .get("stringData")
        .and_then(Value::as_object)
        .filter(|data| strings(data))
        .cloned()
    else {
        return;
    };
    secret.remove("stringData");
    let data = secret.entry("data").or_insert_with(|| json!({}));
    if data.is_null() {
        *data = json!({});
    }
    if let Some(data) = data.as_object_mut() {
        for (key, value) in plain {
            let encoded =
                base64::engine::general_purpose::STANDARD.encode(value.as_str().unwrap_or_default());
            data.insert(key, encoded.into());
        }
    }
}
