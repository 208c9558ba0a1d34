//! `kubeseal lint`: what can be said about SealedSecrets without a cluster and without a private key.

use std::path::Path;

use serde_json::Value;

use super::args::LintArguments;
use super::output::Target;
use super::{Error, files, manifest, merge};
use crate::api::SealedSecret;
use crate::crypto::cert::Certificate;
use crate::crypto::{Envelope, Fingerprint, TAG_LEN, decode};
use crate::scope::Scope;
use crate::sealed_with::{self, SEALED_WITH};
use crate::{documents, template};

/// Checks every SealedSecret of the files that `arguments` name; an error when there is anything to say.
pub(super) fn run(arguments: &LintArguments) -> Result<(), Error> {
    let certificates = arguments
        .cert
        .iter()
        .map(|path| {
            Ok(Certificate::from_pem(
                &std::fs::read(path).map_err(Error::open(path))?,
            )?)
        })
        .collect::<Result<Vec<_>, Error>>()?;
    let (mut objects, mut problems) = (0, Vec::new());
    for path in files::find(&arguments.paths)? {
        let text = std::fs::read(&path).map_err(Error::open(&path))?;
        match documents::parse(&text) {
            Ok(documents) => {
                for (number, document) in documents.iter().enumerate() {
                    for object in manifest::sealed_secrets(std::slice::from_ref(document)) {
                        objects += 1;
                        let found = check(object, &certificates);
                        problems.extend(
                            found
                                .into_iter()
                                .map(|problem| place(&path, number, object, &problem)),
                        );
                    }
                }
            }
            // Templates of charts and the like are no YAML, and none of our business.
            Err(error) if files::mentions_sealed_secret(&text) => {
                problems.push(format!("{}: {error}", path.display()));
            }
            Err(_) => {}
        }
    }
    if problems.is_empty() {
        return Target::Stdout.write(&format!("{objects} SealedSecrets, no problem found\n"));
    }
    Err(Error::Input(format!(
        "{} problems in {objects} SealedSecrets\n{}",
        problems.len(),
        problems.join("\n")
    )))
}

fn place(path: &Path, number: usize, document: &Value, problem: &str) -> String {
    let field = |name: &str| {
        document
            .pointer(name)
            .and_then(Value::as_str)
            .unwrap_or("?")
            .to_owned()
    };
    let object = format!("{}/{}", field("/metadata/namespace"), field("/metadata/name"));
    format!("{}: document {}: {object}: {problem}", path.display(), number + 1)
}

/// Everything that is wrong with one object.
fn check(document: &Value, certificates: &[Certificate]) -> Vec<String> {
    let mut problems = Vec::new();
    let sealed: SealedSecret = match serde_json::from_value(document.clone()) {
        Ok(sealed) => sealed,
        Err(error) => return vec![format!("malformed: {error}")],
    };
    let metadata = document.get("metadata").cloned().unwrap_or_default();
    let scope = merge::scope(&metadata);
    let templated = merge::scope(
        document
            .pointer("/spec/template/metadata")
            .unwrap_or(&Value::Null),
    );
    if templated != scope && document.pointer("/spec/template/metadata").is_some() {
        problems.push(format!(
            "metadata says scope {scope}, spec.template.metadata says {templated}: metadata counts, so items sealed for the other do not open"
        ));
    }
    if sealed.metadata.name.is_none() {
        problems.push("metadata.name is missing".to_owned());
    }
    if sealed.metadata.namespace.is_none() && scope != Scope::ClusterWide {
        problems.push(format!(
            "metadata.namespace is missing: with scope {scope} the items open only in the namespace they were sealed for"
        ));
    }
    if let Some(data) = &sealed.spec.data {
        problems.push("uses the deprecated field spec.data: seal it again".to_owned());
        if !sealed.spec.encrypted_data.is_empty() {
            problems.push(
                "cannot use the field 'encryptedData' and the deprecated field 'data' at the same time"
                    .to_owned(),
            );
        }
        problems.extend(item(data, certificates).map(|problem| format!("spec.data: {problem}")));
    }
    for (key, text) in &sealed.spec.encrypted_data {
        if !super::set::is_valid_key(key) {
            problems.push(format!("spec.encryptedData.{key}: not a valid key of a Secret"));
        }
        problems
            .extend(item(text, certificates).map(|problem| format!("spec.encryptedData.{key}: {problem}")));
    }
    problems.extend(unknown_keys(&sealed, certificates));
    for (key, source) in sealed.spec.template.data.iter().flatten() {
        problems.extend(template::check(key, source).err().map(|error| error.to_string()));
    }
    for field in ["labels", "annotations"] {
        if sealed.spec.template.strings(field).is_none() {
            problems.push(format!(
                "spec.template.metadata.{field} must be a map of strings: quote numbers and true/false"
            ));
        }
    }
    problems
}

/// Items that, by the annotation, were sealed with none of the certificates.
fn unknown_keys(sealed: &SealedSecret, certificates: &[Certificate]) -> Option<String> {
    let annotation = sealed.metadata.annotations.as_ref()?.get(SEALED_WITH)?;
    let known = |key: &Fingerprint| {
        certificates
            .iter()
            .any(|certificate| certificate.public_key.fingerprint() == key)
    };
    let said = sealed_with::parse(annotation, sealed.spec.encrypted_data.keys());
    let (item, key) = said
        .iter()
        .find(|(_, key)| !known(key))
        .filter(|_| !certificates.is_empty())?;
    Some(format!(
        "spec.encryptedData.{item}: sealed with key {key} (says {SEALED_WITH}), which none of the certificates has"
    ))
}

/// What is wrong with one item.
fn item(text: &str, certificates: &[Certificate]) -> Option<String> {
    let Some(bytes) = decode(text) else {
        return Some("not base64".to_owned());
    };
    let Some(envelope) = Envelope::parse(&bytes) else {
        return Some("too short to be a sealed item".to_owned());
    };
    let bits = envelope.wrapped_key.len() * 8;
    if !(1024..=16384).contains(&bits) || bits % 256 != 0 {
        return Some(format!("starts as no sealed item does (a key of {bits} bits)"));
    }
    if envelope.ciphertext.len() < TAG_LEN {
        return Some("cut off: shorter than its authentication tag".to_owned());
    }
    let fits = |certificate: &Certificate| certificate.public_key.modulus_len() == envelope.wrapped_key.len();
    (!certificates.is_empty() && !certificates.iter().any(fits))
        .then(|| format!("sealed with a key of {bits} bits, which none of the certificates has"))
}
