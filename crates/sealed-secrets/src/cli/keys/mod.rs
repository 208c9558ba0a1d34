//! `kubeseal keys`: the sealing keys of a cluster, by the user's own rights.

mod age;
mod backup;
mod list;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use k8s_openapi::api::core::v1::Secret;
use kube::api::ListParams;
use kube::{Api, Client};
use zeroize::Zeroizing;

use super::{Arguments, Error, cluster, remote};
use crate::keystore::KEY_LABEL;

/// Of `kubeseal keys`.
#[derive(Debug, Args)]
pub struct KeysArguments {
    /// What to do with them.
    #[command(subcommand)]
    pub command: KeysCommand,
}

/// What can be done with keys.
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Show every key, how much is sealed with it, and whether it can be retired
    List(ListArguments),
    /// Write all keys into an encrypted file (age format: the program `age` opens it, too)
    Backup(BackupArguments),
    /// Open a backup: as a manifest on standard output, or back into a cluster
    Restore(RestoreArguments),
}

/// Of `kubeseal keys list`.
#[derive(Debug, Args)]
pub struct ListArguments {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Of `kubeseal keys backup`.
#[derive(Debug, Args)]
pub struct BackupArguments {
    /// Who can open the backup: a public key of age, age1… (can be repeated)
    #[arg(long, short = 'r', value_name = "AGE1…")]
    pub recipient: Vec<String>,
    /// A passphrase that opens the backup: the first line of this file
    #[arg(long, value_name = "FILE", conflicts_with = "recipient")]
    pub passphrase_file: Option<PathBuf>,
    /// Where to write it (default: standard output)
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Tell the controller that the keys are backed up: a pending key may then seal
    #[arg(long, requires = "output")]
    pub acknowledge: bool,
}

/// Of `kubeseal keys restore`.
#[derive(Debug, Args)]
pub struct RestoreArguments {
    /// The backup
    pub file: PathBuf,
    /// File with the private key of age, AGE-SECRET-KEY-1…
    #[arg(long, short = 'i', value_name = "FILE")]
    pub identity: Option<PathBuf>,
    /// The passphrase: the first line of this file
    #[arg(long, value_name = "FILE", conflicts_with = "identity")]
    pub passphrase_file: Option<PathBuf>,
    /// Create the key Secrets in the cluster instead of printing them
    #[arg(long)]
    pub apply: bool,
    /// With --apply: the namespace to create them in (default: the one they were backed up from)
    #[arg(long, value_name = "NAMESPACE", requires = "apply")]
    pub into: Option<String>,
}

/// Does what `keys` say.
pub(super) async fn run(keys: &KeysArguments, arguments: &Arguments) -> Result<(), Error> {
    match &keys.command {
        KeysCommand::List(list) => list::run(list, arguments).await,
        KeysCommand::Backup(backup) => backup::write(backup, arguments).await,
        KeysCommand::Restore(restore) => backup::restore(restore, arguments).await,
    }
}

/// Every key Secret of the controller's namespace, whatever its state, and the one that old versions kept without a label.
async fn key_secrets(client: &Client, namespace: &str) -> Result<Vec<Secret>, Error> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let mut found = secrets
        .list(&ListParams::default().labels(KEY_LABEL))
        .await
        .map_err(|error| {
            Error::Input(format!(
                "cannot list the key Secrets of namespace {namespace}: {}",
                remote::message(&error)
            ))
        })?
        .items;
    let unlabelled = |secret: &Secret| {
        let labels = secret.metadata.labels.as_ref();
        !labels.is_some_and(|labels| labels.contains_key(KEY_LABEL))
    };
    // Who may list but not get has no key of that age, or cannot see it: the list says what there is.
    if let Ok(Some(legacy)) = secrets.get_opt("sealed-secrets-key").await
        && unlabelled(&legacy)
    {
        found.push(legacy);
    }
    if found.is_empty() {
        return Err(Error::Input(format!(
            "namespace {namespace} holds no sealing keys: --controller-namespace says where the controller is"
        )));
    }
    found.sort_by(|one, other| one.metadata.name.cmp(&other.metadata.name));
    Ok(found)
}

/// The first line of `path`.
fn passphrase(path: &Path) -> Result<Zeroizing<Vec<u8>>, Error> {
    let text = Zeroizing::new(std::fs::read(path).map_err(Error::open(path))?);
    let line = text
        .split(|byte| matches!(byte, b'\r' | b'\n'))
        .next()
        .unwrap_or_default();
    if line.is_empty() {
        return Err(Error::Input(format!(
            "{}: the passphrase is empty",
            path.display()
        )));
    }
    Ok(Zeroizing::new(line.to_vec()))
}

async fn client(arguments: &Arguments) -> Result<Client, Error> {
    cluster::client(&arguments.cluster).await
}
