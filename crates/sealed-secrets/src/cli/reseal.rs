//! `kubeseal reseal`: new ciphertexts in the files of a repository, and not one other byte changed.

use std::path::Path;

use rand::rngs::SysRng;
use serde_json::Value;

use super::args::ResealArguments;
use super::output::Target;
use super::{Error, files, merge, recover};
use crate::api::SealedSecret;
use crate::crypto::cert::Certificate;
use crate::crypto::{Keyring, seal};
use crate::documents;

/// What became of one item.
enum Item {
    /// Sealed with the certificate's key already.
    Newest,
    /// Old text, new text.
    Resealed(String, String),
}

/// Seals every item below `arguments.paths` for `certificate`, unless it is already.
pub(super) fn run(arguments: &ResealArguments, certificate: &Certificate) -> Result<(), Error> {
    let keyring = recover::keyring(&arguments.recovery_private_key)?;
    let (mut report, mut problems) = (Vec::new(), Vec::new());
    for path in files::find(&arguments.paths)? {
        let text = std::fs::read_to_string(&path).map_err(Error::open(&path))?;
        let Ok(documents) = documents::parse(text.as_bytes()) else {
            continue;
        };
        let mut edited = text.clone();
        for document in documents
            .iter()
            .filter(|document| document.get("kind").and_then(Value::as_str) == Some("SealedSecret"))
        {
            match reseal(document, &keyring, certificate) {
                Ok(items) => {
                    let total = items.len();
                    let mut changed = 0;
                    for item in items {
                        if let Item::Resealed(old, new) = item {
                            if edited.contains(&old) {
                                edited = edited.replace(&old, &new);
                                changed += 1;
                            } else {
                                problems.push(format!(
                                    "{}: {}: an item is wrapped over several lines: write it in one line to have it resealed",
                                    path.display(),
                                    name(document)
                                ));
                            }
                        }
                    }
                    report.push(format!(
                        "{}: {}: {changed} of {total} items resealed\n",
                        path.display(),
                        name(document)
                    ));
                }
                Err(problem) => problems.push(format!("{}: {}: {problem}", path.display(), name(document))),
            }
        }
        if edited != text && !arguments.dry_run {
            verify(&path, &text, &edited)?;
            Target::File(path).write(&edited)?;
        }
    }
    Target::Stdout.write(&report.concat())?;
    if problems.is_empty() {
        Ok(())
    } else {
        Err(Error::Input(problems.join("\n")))
    }
}

fn name(document: &Value) -> String {
    let field = |name: &str| {
        document
            .pointer(name)
            .and_then(Value::as_str)
            .unwrap_or("?")
            .to_owned()
    };
    format!("{}/{}", field("/metadata/namespace"), field("/metadata/name"))
}

/// The items of one object, or why it cannot be resealed. An object is resealed whole or not at all.
fn reseal(document: &Value, keyring: &Keyring, certificate: &Certificate) -> Result<Vec<Item>, String> {
    let sealed: SealedSecret =
        serde_json::from_value(document.clone()).map_err(|error| format!("malformed: {error}"))?;
    let scope = merge::scope(document.get("metadata").unwrap_or(&Value::Null));
    let metadata = &sealed.metadata;
    let label = scope.label(
        metadata.namespace.as_deref().unwrap_or_default(),
        metadata.name.as_deref().unwrap_or_default(),
    );
    let key = &certificate.public_key;
    let items = sealed
        .spec
        .encrypted_data
        .iter()
        .map(|(key, text)| (key.as_str(), text));
    let items = items.chain(sealed.spec.data.iter().map(|text| ("data", text)));
    items
        .map(|(item, text)| {
            let opened = keyring
                .open(&label, text, Some(key.fingerprint()))
                .map_err(|error| format!("{error} ({item})"))?;
            if opened.fingerprint == *key.fingerprint() {
                return Ok(Item::Newest);
            }
            let new = seal(&mut SysRng, key, &label, &opened.plaintext).map_err(|error| error.to_string())?;
            Ok(Item::Resealed(text.clone(), new))
        })
        .collect()
}

/// A replacement that hit something else than an item must not be written.
fn verify(path: &Path, before: &str, after: &str) -> Result<(), Error> {
    let without_items = |text: &str| -> Result<Vec<Value>, Error> {
        let mut documents = documents::parse(text.as_bytes())?;
        for document in &mut documents {
            if let Some(spec) = document.get_mut("spec").and_then(Value::as_object_mut) {
                spec.remove("encryptedData");
                spec.remove("data");
            }
        }
        Ok(documents)
    };
    if without_items(before)? == without_items(after)? {
        Ok(())
    } else {
        Err(Error::Input(format!(
            "{}: resealing would change more than ciphertexts; nothing was written",
            path.display()
        )))
    }
}
