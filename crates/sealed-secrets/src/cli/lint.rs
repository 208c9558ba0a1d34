//! `kubeseal lint`: what can be said about SealedSecrets without a cluster and without a private key.

use std::path::Path;

use serde_json::Value;

use super::args::LintArguments;
use super::output::Target;
use super::{Error, files, merge};
use crate::api::SealedSecret;
use crate::crypto::cert::Certificate;
use crate::crypto::{Envelope, TAG_LEN, decode};
use crate::scope::Scope;
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
        match documents::parse(&std::fs::read(&path).map_err(Error::open(&path))?) {
            Ok(documents) => {
                for (number, document) in documents.iter().enumerate() {
                    if document.get("kind").and_then(Value::as_str) == Some("SealedSecret") {
                        objects += 1;
                        let found = check(document, &certificates);
                        problems.extend(
                            found
                                .into_iter()
                                .map(|problem| place(&path, number, document, &problem)),
                        );
                    }
                }
            }
            // Templates of charts and the like are no YAML, and none of our business.
            Err(error) if mentions_sealed_secret(&path) => {
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

fn mentions_sealed_secret(path: &Path) -> bool {
    std::fs::read_to_string(path).is_ok_and(|text| text.contains("kind: SealedSecret"))
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
        let valid = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        if key.is_empty() || key.len() > 253 || !key.bytes().all(valid) {
            problems.push(format!("spec.encryptedData.{key}: not a valid key of a Secret"));
        }
        problems
            .extend(item(text, certificates).map(|problem| format!("spec.encryptedData.{key}: {problem}")));
    }
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
