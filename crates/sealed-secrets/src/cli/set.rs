//! `kubeseal set`: one item of a file.

use rand::rngs::SysRng;

use super::args::SetArguments;
use super::manifest::{Change, Edit, Manifest, Object};
use super::{Arguments, Error, certificate_for, read};
use crate::crypto::{Fingerprint, seal};
use crate::sealed_with::{self, SEALED_WITH};

/// Seals a value under the name, namespace and scope of the SealedSecret in the file, and puts it there.
pub(super) async fn run(set: &SetArguments, arguments: &Arguments) -> Result<(), Error> {
    let manifest = Manifest::open(&set.file)?;
    let object = manifest.only(set.name.as_deref())?;
    check(object, &set.key)?;
    let label = object.label()?;
    let certificate = certificate_for(set.cert.as_deref(), arguments).await?;
    let value = zeroize::Zeroizing::new(match &set.from_file {
        Some(path) => std::fs::read(path).map_err(Error::open(path))?,
        None => read(None, "expecting a secret to encrypt in stdin")?,
    });
    let key = &certificate.public_key;
    let mut edits = vec![object.item(&set.key, Change::Set(seal(&mut SysRng, key, &label, &value)?))];
    edits.extend(hint(
        object,
        &[&set.key],
        &[],
        key.fingerprint(),
        set.sealed_with,
    )?);
    manifest.write(&edits)
}

/// Refuses a key that no Secret can have, and the deprecated form, which has no items.
pub(super) fn check(object: &Object, key: &str) -> Result<(), Error> {
    if object.read()?.spec.data.is_some() {
        return Err(Error::Input(format!(
            "{}: uses the deprecated field spec.data, which holds no single items: seal it again",
            object.title()
        )));
    }
    if is_valid_key(key) {
        Ok(())
    } else {
        Err(Error::Input(format!(
            "{key:?} is not a valid key of a Secret: letters, digits, '-', '_' and '.', at most 253"
        )))
    }
}

/// What the API server takes as a key of a Secret.
pub(super) fn is_valid_key(key: &str) -> bool {
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    !key.is_empty() && key.len() <= 253 && !matches!(key, "." | "..") && key.bytes().all(valid)
}

/// Keeps the annotation that says which key sealed what true, where it is there or `wanted`.
pub(super) fn hint(
    object: &Object,
    sealed: &[&str],
    removed: &[&str],
    fingerprint: &Fingerprint,
    wanted: bool,
) -> Result<Option<Edit>, Error> {
    let before = object.annotation(SEALED_WITH);
    if before.is_none() && !wanted {
        return Ok(None);
    }
    let mut items: Vec<String> = object.read()?.spec.encrypted_data.into_keys().collect();
    let mut known = sealed_with::parse(before.unwrap_or_default(), items.iter());
    for key in sealed {
        known.insert((*key).to_owned(), fingerprint.clone());
        if !items.iter().any(|item| item == key) {
            items.push((*key).to_owned());
        }
    }
    known.retain(|key, _| !removed.contains(&key.as_str()));
    items.retain(|key| !removed.contains(&key.as_str()));
    let change = match sealed_with::render(&known, items.len()) {
        Some(text) => Change::Set(text),
        None if before.is_some() => Change::Remove,
        None => return Ok(None),
    };
    Ok(Some(
        object.edit(&["metadata", "annotations", SEALED_WITH], change),
    ))
}
