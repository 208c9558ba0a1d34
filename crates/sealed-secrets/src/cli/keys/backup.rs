//! `kubeseal keys backup` and `restore`.

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::age::{self, Identity, Lock, Recipient, Unlock};
use super::{Arguments, BackupArguments, Error, RestoreArguments};
use crate::cli::output::Target;
use crate::cli::{remote, tell};
use crate::crypto::SealingKey;
use crate::documents;
use crate::keystore::ACKNOWLEDGED;

/// Metadata that belongs to the one cluster.
const SERVER_FIELDS: [&str; 6] = [
    "uid",
    "resourceVersion",
    "generation",
    "managedFields",
    "ownerReferences",
    "selfLink",
];

pub(super) async fn write(backup: &BackupArguments, arguments: &Arguments) -> Result<(), Error> {
    let recipients = backup
        .recipient
        .iter()
        .map(|text| {
            text.parse::<Recipient>()
                .map_err(|error| Error::Input(error.to_string()))
        })
        .collect::<Result<Vec<_>, _>>()?;
    let passphrase = backup
        .passphrase_file
        .as_deref()
        .map(super::passphrase)
        .transpose()?;
    let lock = match &passphrase {
        Some(passphrase) => Lock::Passphrase(passphrase),
        None if recipients.is_empty() => {
            return Err(Error::Usage(
                "a backup is always encrypted: give --recipient age1… or --passphrase-file",
            ));
        }
        None => Lock::Recipients(&recipients),
    };
    let client = super::client(arguments).await?;
    let namespace = &arguments.controller_namespace;
    let secrets = super::key_secrets(&client, namespace).await?;
    let text = manifest(&secrets)?;
    let file = age::encrypt(text.as_bytes(), &lock).map_err(|error| Error::Input(error.to_string()))?;
    backup
        .output
        .clone()
        .map_or(Target::Stdout, Target::File)
        .write_private(&file)?;
    tell(&format!(
        "{} keys of namespace {namespace} backed up",
        secrets.len()
    ));
    if backup.acknowledge {
        let api: Api<Secret> = Api::namespaced(client, namespace);
        for secret in &secrets {
            let name = secret.metadata.name.as_deref().unwrap_or_default();
            // Of exactly the Secret that is in the backup, not of another one of its name.
            let patch =
                json!({"metadata": {"uid": secret.metadata.uid, "annotations": {ACKNOWLEDGED: "true"}}});
            api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.map_err(|error| {
                Error::Input(format!(
                    "the backup is written, but {namespace}/{name} cannot be annotated {ACKNOWLEDGED}=true: {}",
                    remote::message(&error)
                ))
            })?;
        }
    }
    Ok(())
}

/// A List of the Secrets that any cluster takes, and `--recovery-private-key` reads.
fn manifest(secrets: &[Secret]) -> Result<Zeroizing<String>, Error> {
    let failed = |error: serde_json::Error| Error::Input(error.to_string());
    let items = secrets
        .iter()
        .map(|secret| {
            let mut value = serde_json::to_value(secret).map_err(failed)?;
            if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
                for field in SERVER_FIELDS {
                    metadata.remove(field);
                }
            }
            Ok(value)
        })
        .collect::<Result<Vec<_>, Error>>()?;
    Ok(Zeroizing::new(documents::to_yaml(
        &json!({"apiVersion": "v1", "kind": "List", "items": items}),
    )?))
}

pub(super) async fn restore(restore: &RestoreArguments, arguments: &Arguments) -> Result<(), Error> {
    let path = &restore.file;
    let unusable = |error: &dyn std::fmt::Display| Error::Input(format!("{}: {error}", path.display()));
    let file = std::fs::read(path).map_err(Error::open(path))?;
    let passphrase = restore
        .passphrase_file
        .as_deref()
        .map(super::passphrase)
        .transpose()?;
    let plaintext = if let Some(passphrase) = &passphrase {
        age::decrypt(&file, &Unlock::Passphrase(passphrase))
    } else {
        let Some(identity) = &restore.identity else {
            return Err(Error::Usage(
                "give --identity or --passphrase-file to open the backup",
            ));
        };
        let text = Zeroizing::new(std::fs::read_to_string(identity).map_err(Error::open(identity))?);
        let identities = Identity::read(&text)
            .map_err(|error| Error::Input(format!("{}: {error}", identity.display())))?;
        age::decrypt(&file, &Unlock::Identities(&identities))
    };
    let plaintext = plaintext.map_err(|error| unusable(&error))?;
    if !restore.apply {
        let text = std::str::from_utf8(&plaintext).map_err(|error| unusable(&error))?;
        return Target::Stdout.write(text);
    }
    let secrets = documents::parse(&plaintext)?
        .iter()
        .filter_map(|document| document.get("items").and_then(Value::as_array))
        .flatten()
        .map(|item| serde_json::from_value(item.clone()).map_err(|error| unusable(&error)))
        .collect::<Result<Vec<Secret>, _>>()?;
    if secrets.is_empty() {
        return Err(unusable(&"holds no key Secrets"));
    }
    let client = super::client(arguments).await?;
    let mut problems = Vec::new();
    for mut secret in secrets {
        let name = secret.metadata.name.clone().unwrap_or_default();
        let recorded = secret.metadata.namespace.take();
        let namespace = restore
            .into
            .clone()
            .or(recorded)
            .unwrap_or_else(|| arguments.controller_namespace.clone());
        secret.metadata.namespace = Some(namespace.clone());
        secret.metadata.creation_timestamp = None;
        match create(&Api::namespaced(client.clone(), &namespace), &name, &secret).await {
            Ok(outcome) => tell(&format!("{namespace}/{name}: {outcome}")),
            Err(error) => problems.push(Error::Input(format!("{namespace}/{name}: {error}"))),
        }
    }
    if problems.is_empty() {
        Ok(())
    } else {
        Err(Error::Several(problems))
    }
}

/// Creates a key Secret. One that is there is never written over.
async fn create(api: &Api<Secret>, name: &str, secret: &Secret) -> Result<&'static str, String> {
    match api.create(&PostParams::default(), secret).await {
        Ok(_) => return Ok("restored"),
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        Err(error) => return Err(remote::message(&error)),
    }
    let there = api.get(name).await.map_err(|error| remote::message(&error))?;
    let fingerprint = |secret: &Secret| {
        let pem = &secret.data.as_ref()?.get("tls.key")?.0;
        Some(SealingKey::from_pem(pem).ok()?.public().fingerprint().clone())
    };
    if fingerprint(&there) == fingerprint(secret) && fingerprint(secret).is_some() {
        Ok("is there already")
    } else {
        Err(
            "a Secret of this name holds another key: delete it, or restore by hand under another name"
                .to_owned(),
        )
    }
}
