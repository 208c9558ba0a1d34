//! `kubeseal edit`: the items of a file in an editor. What is not changed keeps its ciphertext.

mod editor;
mod form;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use rand::rngs::SysRng;

use self::editor::Editor;
use self::form::Form;
use super::args::EditArguments;
use super::manifest::{Change, Manifest, Object};
use super::{Arguments, Error, certificate_for, cluster, recover, remote, set, tell};
use crate::crypto::{Plaintext, seal};

/// Opens, lets the user edit, seals what has changed.
pub(super) async fn run(edit: &EditArguments, arguments: &Arguments) -> Result<(), Error> {
    let manifest = Manifest::open(&edit.file)?;
    let object = manifest.only(edit.name.as_deref())?;
    set::check(object, "any")?;
    let label = object.label()?;
    // Everything that can fail comes before the plaintext is written anywhere.
    let certificate = certificate_for(edit.cert.as_deref(), arguments).await?;
    let known = if edit.recovery_private_key.is_empty() {
        from_cluster(object, arguments).await?
    } else {
        from_keys(object, &label, edit)?
    };
    let items = object.read()?.spec.encrypted_data;
    let unknown: Vec<&String> = items.keys().filter(|item| !known.contains_key(*item)).collect();
    let form = Form::new(object, &edit.file, &known, &unknown);
    let Some(edited) = ask(&form).await? else {
        tell("nothing changed");
        return Ok(());
    };
    let key = &certificate.public_key;
    let (mut edits, mut sealed, mut removed) = (Vec::new(), Vec::new(), Vec::new());
    for (item, value) in &edited {
        if known.get(item) == Some(value) {
            continue;
        }
        edits.push(object.item(item, Change::Set(seal(&mut SysRng, key, &label, value)?)));
        sealed.push(item.as_str());
    }
    for item in known.keys().filter(|item| !edited.contains_key(*item)) {
        edits.push(object.item(item, Change::Remove));
        removed.push(item.as_str());
    }
    if edits.is_empty() {
        tell("nothing changed");
        return Ok(());
    }
    edits.extend(set::hint(
        object,
        &sealed,
        &removed,
        key.fingerprint(),
        edit.sealed_with,
    )?);
    manifest.write(&edits)?;
    tell(&format!(
        "{} items sealed, {} removed",
        sealed.len(),
        removed.len()
    ));
    Ok(())
}

/// Runs the editor until what it leaves can be read, or was left as it was.
async fn ask(form: &Form) -> Result<Option<BTreeMap<String, Plaintext>>, Error> {
    let mut editor = Editor::new()?;
    let mut shown = form.text(None);
    loop {
        let text = editor.edit(&shown).await?;
        if *text == *shown {
            return Ok(None);
        }
        match form::read(&text) {
            Ok(items) => return Ok(items),
            Err(complaint) => shown = Form::again(&text, &complaint),
        }
    }
}

/// The values of the file's items in the cluster's Secret, by the user's own rights.
async fn from_cluster(object: &Object, arguments: &Arguments) -> Result<BTreeMap<String, Plaintext>, Error> {
    let namespace = match object.metadata("namespace") {
        "" => cluster::default_namespace(&arguments.cluster)?,
        namespace => namespace.to_owned(),
    };
    let name = object.metadata("name");
    let client = cluster::client(&arguments.cluster).await?;
    let secret = Api::<Secret>::namespaced(client, &namespace).get(name).await.map_err(|error| {
        Error::Input(format!(
            "cannot read Secret {namespace}/{name}: {}.\nkubeseal edit takes the values from the cluster's Secret; \
             --recovery-private-key opens the file without it, kubeseal set needs no values at all",
            remote::message(&error)
        ))
    })?;
    let items = object.read()?.spec.encrypted_data;
    Ok(secret
        .data
        .unwrap_or_default()
        .into_iter()
        .filter(|(key, _)| items.contains_key(key))
        .map(|(key, value)| (key, Plaintext::new(value.0)))
        .collect())
}

/// The values of the items that the recovery keys open.
fn from_keys(
    object: &Object,
    label: &[u8],
    edit: &EditArguments,
) -> Result<BTreeMap<String, Plaintext>, Error> {
    let keyring = recover::keyring(&edit.recovery_private_key)?;
    let items = object.read()?.spec.encrypted_data;
    let opened: BTreeMap<String, Plaintext> = items
        .iter()
        .filter_map(|(key, text)| Some((key.clone(), keyring.open(label, text, None).ok()?.plaintext)))
        .collect();
    if opened.is_empty() && !items.is_empty() {
        return Err(Error::Input(format!(
            "{}: no key could decrypt secret",
            object.title()
        )));
    }
    Ok(opened)
}
