//! The sealing keys as they lie in the cluster: Secrets of the controller's namespace.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::Timestamp;
use kube::api::ListParams;
use kube::{Api, Client};
use tokio::sync::watch;

use crate::config::Config;
use crate::crypto::{Backup, Keyring, RegisteredKey};

mod follow;
mod renewal;

/// The label of key Secrets; its value says whether the key is used.
pub const KEY_LABEL: &str = "sealedsecrets.bitnami.com/sealed-secrets-key";
/// The value of [`KEY_LABEL`] on a key in use; any other takes the key out of use.
const ACTIVE: &str = "active";
/// Annotation of key Secrets: `false` on a key whose backup nobody has acknowledged; anything else (`true`, a time) says that
/// there is one. Keys without it were brought by somebody who has them.
pub const ACKNOWLEDGED: &str = "plumbline.dev/backup-acknowledged";

/// Where keys are, and how new ones are made.
#[derive(Clone)]
pub struct Keystore {
    secrets: Api<Secret>,
    namespace: String,
    config: Arc<Config>,
    /// What was complained about, so that it is said once.
    reported: Arc<Mutex<BTreeMap<String, String>>>,
}

impl Keystore {
    /// The keys of `namespace`.
    pub fn new(client: Client, namespace: &str, config: Arc<Config>) -> Self {
        Self {
            secrets: Api::namespaced(client, namespace),
            namespace: namespace.to_owned(),
            config,
            reported: Arc::default(),
        }
    }

    /// Reads every key, and makes one when there is none or the newest is too old at `now`.
    pub async fn start(&self, now: Timestamp) -> anyhow::Result<Keyring> {
        tracing::info!("Searching for existing private keys");
        let keyring = self.chosen(self.load().await?);
        for key in keyring.registered() {
            tracing::info!(secretname = key.name, "registered private key");
        }
        let cutoff = self.config.key_cutoff_time.0;
        let due = keyring
            .latest()
            .is_none_or(|latest| cutoff.is_some_and(|cutoff| latest.since < cutoff));
        if due {
            Ok(self.chosen(self.renew(&keyring, now).await?))
        } else {
            Ok(keyring)
        }
    }

    /// Whether a key has to be backed up before it seals.
    fn backup(&self) -> Backup {
        if self.config.require_key_backup {
            Backup::Required
        } else {
            Backup::Optional
        }
    }

    /// `keyring` with the key that seals from now on.
    fn chosen(&self, keyring: Keyring) -> Keyring {
        keyring.choosing(Timestamp::now(), self.backup())
    }

    /// The name of a key that waits for its backup.
    fn pending(&self, keyring: &Keyring) -> Option<String> {
        let waiting = keyring.registered().iter().find(|key| !key.acknowledged)?;
        (self.backup() == Backup::Required).then(|| waiting.name.clone())
    }

    /// Puts `loaded` in the place of the keyring, if it differs.
    fn publish(&self, keyring: &watch::Sender<Arc<Keyring>>, loaded: Keyring) {
        let loaded = self.chosen(loaded);
        keyring.send_if_modified(|current| {
            let differs = current.summary() != loaded.summary();
            if differs {
                let sealing = loaded.sealing().map(|key| key.name.as_str());
                tracing::info!(
                    keys = loaded.registered().len(),
                    sealing,
                    "the sealing keys changed"
                );
                *current = Arc::new(loaded);
            }
            differs
        });
    }

    /// Reads every key that is labelled active, and the one that old versions kept without a label.
    pub async fn load(&self) -> anyhow::Result<Keyring> {
        let labelled = ListParams::default().labels(&format!("{KEY_LABEL}={ACTIVE}"));
        let mut secrets = self
            .secrets
            .list(&labelled)
            .await
            .with_context(|| format!("cannot list the key Secrets of namespace {}", self.namespace))?
            .items;
        match self.secrets.get_opt(&self.config.key_prefix).await {
            Ok(Some(legacy))
                if !legacy
                    .metadata
                    .labels
                    .as_ref()
                    .is_some_and(|labels| labels.contains_key(KEY_LABEL)) =>
            {
                secrets.push(legacy);
            }
            Ok(_) => {}
            // The Role may name the key Secrets one by one.
            Err(error) => tracing::debug!(error = %error, "no access to a key without a label"),
        }
        Ok(self.read(secrets.iter()))
    }

    fn read<'a>(&self, secrets: impl Iterator<Item = &'a Secret>) -> Keyring {
        let mut secrets: Vec<&Secret> = secrets.collect();
        secrets.sort_by_key(|secret| &secret.metadata.name);
        Keyring::new(secrets.into_iter().filter_map(|secret| self.read_one(secret)))
    }

    /// One key; a Secret that holds none is reported and skipped.
    fn read_one(&self, secret: &Secret) -> Option<RegisteredKey> {
        let name = secret.metadata.name.clone().unwrap_or_default();
        let entry = |key: &str| {
            secret
                .data
                .as_ref()
                .and_then(|data| data.get(key))
                .map_or(&[][..], |bytes| &bytes.0)
        };
        let created = secret.metadata.creation_timestamp.as_ref().map(|time| time.0);
        let read = RegisteredKey::read(
            &name,
            created,
            self.config.key_order_priority,
            entry("tls.key"),
            entry("tls.crt"),
        );
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        match read {
            Ok(mut key) => {
                reported.remove(&name);
                let annotations = secret.metadata.annotations.as_ref();
                key.acknowledged = annotations
                    .and_then(|map| map.get(ACKNOWLEDGED))
                    .map(String::as_str)
                    != Some("false");
                Some(key)
            }
            Err(error) => {
                let text = error.to_string();
                if reported.insert(name.clone(), text.clone()).as_ref() != Some(&text) {
                    tracing::error!(
                        secret = format!("{}/{name}", self.namespace),
                        error = text,
                        "a key Secret cannot be used and is skipped: repair it, or label it {KEY_LABEL}=compromised"
                    );
                }
                None
            }
        }
    }
}
