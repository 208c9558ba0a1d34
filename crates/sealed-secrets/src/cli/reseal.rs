//! `kubeseal reseal`: new ciphertexts in the files of a repository, and not one other byte changed.

use rand::rngs::SysRng;

use super::args::ResealArguments;
use super::manifest::{Change, Edit, Manifest, Object};
use super::output::Target;
use super::{Error, files, recover, set};
use crate::crypto::cert::Certificate;
use crate::crypto::{Keyring, seal};

/// Seals every item below `arguments.paths` for `certificate`, unless it is already.
pub(super) fn run(arguments: &ResealArguments, certificate: &Certificate) -> Result<(), Error> {
    let keyring = recover::keyring(&arguments.recovery_private_key)?;
    let (mut report, mut problems) = (Vec::new(), Vec::new());
    for path in files::find(&arguments.paths)? {
        let text = std::fs::read(&path).map_err(Error::open(&path))?;
        // Templates of charts and the like are no YAML, and none of our business.
        if !files::mentions_sealed_secret(&text) {
            continue;
        }
        let manifest = match Manifest::open(&path) {
            Ok(manifest) => manifest,
            Err(error) => {
                problems.push(error.to_string());
                continue;
            }
        };
        let mut edits = Vec::new();
        for object in &manifest.objects {
            let place = format!("{}: {}", path.display(), object.title());
            match reseal(object, &keyring, certificate) {
                Ok((total, found)) => {
                    report.push(format!("{place}: {} of {total} items resealed\n", found.len()));
                    let sealed: Vec<&str> = found.iter().map(|(key, _)| key.as_str()).collect();
                    if !sealed.is_empty() {
                        let key = certificate.public_key.fingerprint();
                        edits.extend(set::hint(object, &sealed, &[], key, arguments.sealed_with)?);
                    }
                    edits.extend(found.into_iter().map(|(_, edit)| edit));
                }
                Err(problem) => problems.push(format!("{place}: {problem}")),
            }
        }
        // A dry run goes as far as it can without writing.
        let outcome = if arguments.dry_run {
            manifest.edited(&edits).map(drop)
        } else {
            manifest.write(&edits)
        };
        problems.extend(outcome.err().map(|error| error.to_string()));
    }
    Target::Stdout.write(&report.concat())?;
    if problems.is_empty() {
        Ok(())
    } else {
        Err(Error::Input(problems.join("\n")))
    }
}

/// How many items one object has, and the new ones; or why it cannot be resealed. An object is resealed whole or not at all.
fn reseal(
    object: &Object,
    keyring: &Keyring,
    certificate: &Certificate,
) -> Result<(usize, Vec<(String, Edit)>), Error> {
    let sealed = object.read()?;
    let label = object.label()?;
    let key = &certificate.public_key;
    let new = |item: &str, text: &str| -> Result<Option<String>, Error> {
        let opened = keyring
            .open(&label, text, Some(key.fingerprint()))
            .map_err(|error| Error::Input(format!("{error} ({item})")))?;
        if opened.fingerprint == *key.fingerprint() {
            return Ok(None);
        }
        Ok(Some(seal(&mut SysRng, key, &label, &opened.plaintext)?))
    };
    let mut edits = Vec::new();
    for (item, text) in &sealed.spec.encrypted_data {
        if let Some(text) = new(item, text)? {
            edits.push((item.clone(), object.item(item, Change::Set(text))));
        }
    }
    let mut total = sealed.spec.encrypted_data.len();
    if let Some(text) = &sealed.spec.data {
        total += 1;
        if let Some(text) = new("data", text)? {
            edits.push((
                "data".to_owned(),
                object.edit(&["spec", "data"], Change::Set(text)),
            ));
        }
    }
    Ok((total, edits))
}
