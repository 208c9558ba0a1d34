//! The sealing keys as they lie in the cluster: Secrets of the controller's namespace.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context as _;
use futures::TryStreamExt as _;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::{ListParams, PostParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client};
use rand::TryRng as _;
use rand::rngs::SysRng;
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

use crate::config::Config;
use crate::crypto::{Keyring, RegisteredKey, cert, generate_private_key};

/// The label of key Secrets; its value says whether the key is used.
pub const KEY_LABEL: &str = "sealedsecrets.bitnami.com/sealed-secrets-key";
/// The value of [`KEY_LABEL`] on a key in use; any other takes the key out of use.
const ACTIVE: &str = "active";

/// Where keys are, and how new ones are made.
#[derive(Clone)]
pub struct Keystore {
    secrets: Api<Secret>,
    namespace: String,
    config: Arc<Config>,
    /// What was complained about, so that it is said once.
    reported: Arc<std::sync::Mutex<BTreeMap<String, String>>>,
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
        let keyring = self.load().await?;
        for key in keyring.registered() {
            tracing::info!(secretname = key.name, "registered private key");
        }
        let cutoff = self.config.key_cutoff_time.0;
        let due = keyring
            .newest()
            .is_none_or(|newest| cutoff.is_some_and(|cutoff| newest.since < cutoff));
        if due {
            self.renew(&keyring, now).await
        } else {
            Ok(keyring)
        }
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
        let mut reported = self
            .reported
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        match read {
            Ok(key) => {
                reported.remove(&name);
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

    /// Makes a new key after `before`, unless another replica has just done so.
    ///
    /// The name follows from the newest key that is known: two replicas that decide at once try to create the same
    /// Secret, and one of them is told that it exists.
    pub async fn renew(&self, before: &Keyring, now: Timestamp) -> anyhow::Result<Keyring> {
        let config = Arc::clone(&self.config);
        let made = tokio::task::spawn_blocking(move || make(&config, now))
            .await
            .context("key generation panicked")??;
        for attempt in 0..16 {
            let name = self.next_name(before, attempt);
            let secret = self.secret(&name, &made);
            match self.secrets.create(&PostParams::default(), &secret).await {
                Ok(_) => {
                    tracing::info!(namespace = self.namespace, name, "New key written");
                    tracing::info!(certificate = made.certificate, "Certificate generated");
                    return self.load().await;
                }
                Err(kube::Error::Api(status)) if status.code == 409 => {
                    let keyring = self.load().await?;
                    if keyring.registered().iter().any(|key| key.name == name) {
                        tracing::info!(name, "another replica has written the new key");
                        return Ok(keyring);
                    }
                    // A key of this name was taken out of use: the next name.
                }
                Err(error) => {
                    return Err(error)
                        .with_context(|| format!("cannot create the key Secret {}/{name}", self.namespace));
                }
            }
        }
        anyhow::bail!(
            "every name for a new key Secret in namespace {} is taken",
            self.namespace
        )
    }

    /// Five characters behind the prefix, as the API server's generated names have, but determined by what came before.
    fn next_name(&self, before: &Keyring, attempt: u32) -> String {
        const ALPHABET: &[u8; 32] = b"bcdfghjklmnpqrstvwxz245678902346";
        let last = before.newest().map_or("", |newest| newest.name.as_str());
        let hash = Sha256::digest(format!("{}/{last}/{attempt}", self.namespace));
        let suffix = hash
            .iter()
            .take(5)
            .filter_map(|byte| ALPHABET.get(usize::from(byte & 31)));
        let suffix: String = suffix.map(|byte| char::from(*byte)).collect();
        format!("{}{suffix}", self.config.key_prefix)
    }

    fn secret(&self, name: &str, made: &Made) -> Secret {
        let mut labels = self.config.privatekey_labels.0.clone();
        labels.insert(KEY_LABEL.to_owned(), ACTIVE.to_owned());
        Secret {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                namespace: Some(self.namespace.clone()),
                labels: Some(labels),
                annotations: Some(self.config.privatekey_annotations.0.clone()).filter(|map| !map.is_empty()),
                ..ObjectMeta::default()
            },
            type_: Some("kubernetes.io/tls".to_owned()),
            data: Some(BTreeMap::from([
                (
                    "tls.key".to_owned(),
                    ByteString(made.private_key.as_bytes().to_vec()),
                ),
                (
                    "tls.crt".to_owned(),
                    ByteString(made.certificate.as_bytes().to_vec()),
                ),
            ])),
            ..Secret::default()
        }
    }

    /// Follows the key Secrets: keys that are added, relabelled or removed take effect at once.
    pub async fn watch(self, keyring: watch::Sender<Arc<Keyring>>) -> anyhow::Result<()> {
        let labelled = watcher::Config::default().labels(&format!("{KEY_LABEL}={ACTIVE}"));
        let mut events = std::pin::pin!(watcher(self.secrets.clone(), labelled).default_backoff());
        loop {
            match events.try_next().await {
                // The list at the start has just been read.
                Ok(Some(watcher::Event::Init | watcher::Event::InitApply(_))) => continue,
                Ok(Some(_)) => {}
                Ok(None) => anyhow::bail!("the watch of key Secrets ended"),
                Err(error) => {
                    tracing::warn!(%error, "watching key Secrets");
                    continue;
                }
            }
            match self.load().await {
                Ok(loaded) => {
                    keyring.send_if_modified(|current| {
                        let differs = current.fingerprints() != loaded.fingerprints()
                            || current.newest().map(|key| &key.name) != loaded.newest().map(|key| &key.name);
                        if differs {
                            tracing::info!(keys = loaded.registered().len(), "the sealing keys changed");
                            *current = Arc::new(loaded);
                        }
                        differs
                    });
                }
                Err(error) => tracing::warn!(%error, "reading key Secrets"),
            }
        }
    }

    /// Renews in time, and on SIGUSR1.
    pub async fn renew_in_time(self, keyring: watch::Sender<Arc<Keyring>>) -> anyhow::Result<()> {
        let mut signal = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::user_defined1())?;
        let mut keys = keyring.subscribe();
        loop {
            let newest = keyring.borrow().newest().map(|newest| newest.since);
            let wait = until_renewal(newest, self.config.key_renew_period, Timestamp::now());
            tokio::select! {
                () = sleep(wait) => {}
                _ = signal.recv() => {}
                changed = keys.changed() => {
                    changed.context("the keyring is gone")?;
                    continue;
                }
            }
            let before = Arc::clone(&keyring.borrow());
            match self.renew(&before, Timestamp::now()).await {
                Ok(renewed) => drop(keyring.send_replace(Arc::new(renewed))),
                Err(error) => {
                    tracing::error!(
                        error = format!("{error:#}"),
                        "renewing the sealing key: next attempt in a minute"
                    );
                    tokio::time::sleep(std::time::Duration::from_mins(1)).await;
                }
            }
        }
    }
}

async fn sleep(duration: Option<std::time::Duration>) {
    match duration {
        Some(duration) => tokio::time::sleep(duration).await,
        None => std::future::pending().await,
    }
}

/// How long to wait until the key from `newest` is `period` old; `None` for ever.
fn until_renewal(
    newest: Option<Timestamp>,
    period: std::time::Duration,
    now: Timestamp,
) -> Option<std::time::Duration> {
    if period.is_zero() {
        return None;
    }
    let period = SignedDuration::try_from(period).ok()?;
    let due = newest?.checked_add(period).ok()?;
    // A key from the future must not pin "newest" for ever; it is taken as made now.
    let wait = due.duration_since(now).min(period);
    Some(std::time::Duration::try_from(wait).unwrap_or_default())
}

struct Made {
    private_key: zeroize::Zeroizing<String>,
    certificate: String,
}

fn make(config: &Config, now: Timestamp) -> anyhow::Result<Made> {
    let private_key = generate_private_key(config.key_size)?;
    let mut serial = [0; 16];
    SysRng
        .try_fill_bytes(&mut serial)
        .context("no randomness for a serial number")?;
    let ttl = SignedDuration::try_from(config.key_ttl).context("--key-ttl is out of range")?;
    let request = cert::Request {
        common_name: &config.my_cn,
        not_before: now,
        not_after: now.checked_add(ttl).context("--key-ttl is out of range")?,
        serial,
    };
    let certificate = cert::self_signed(&private_key, &request)?;
    Ok(Made {
        private_key,
        certificate,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn renewal_counts_from_the_newest_key() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let now = at("2026-01-10T00:00:00Z");
        let day = Duration::from_hours(24);
        assert_eq!(
            until_renewal(Some(at("2026-01-01T00:00:00Z")), 30 * day, now),
            Some(21 * day)
        );
        assert_eq!(
            until_renewal(Some(at("2025-01-01T00:00:00Z")), 30 * day, now),
            Some(Duration::ZERO)
        );
        assert_eq!(
            until_renewal(Some(at("2036-01-01T00:00:00Z")), 30 * day, now),
            Some(30 * day)
        );
        assert_eq!(until_renewal(Some(now), Duration::ZERO, now), None);
    }
}
