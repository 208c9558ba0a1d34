//! New keys: when they are due, and how two replicas make one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::PostParams;
use rand::TryRng as _;
use rand::rngs::SysRng;
use sha2::{Digest as _, Sha256};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::{ACKNOWLEDGED, ACTIVE, KEY_LABEL, Keystore};
use crate::config::Config;
use crate::crypto::{Backup, Keyring, RegisteredKey, cert, generate_private_key};

impl Keystore {
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
                    let since = before.latest().map_or(Timestamp::MIN, |latest| latest.since);
                    let follows = |key: &&RegisteredKey| key.since >= since && key.is_valid_at(now);
                    if keyring
                        .registered()
                        .iter()
                        .filter(follows)
                        .any(|key| key.name == name)
                    {
                        tracing::info!(name, "another replica has written the new key");
                        return Ok(keyring);
                    }
                    // A key of this name was taken out of use, or is no successor: the next name.
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
        let last = before.latest().map_or("", |latest| latest.name.as_str());
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
        let mut annotations = self.config.privatekey_annotations.0.clone();
        if self.backup() == Backup::Required {
            annotations.insert(ACKNOWLEDGED.to_owned(), "false".to_owned());
        }
        Secret {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                namespace: Some(self.namespace.clone()),
                labels: Some(labels),
                annotations: Some(annotations).filter(|map| !map.is_empty()),
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

    /// Renews in time, and on SIGUSR1; chooses the sealing key anew when a certificate becomes valid or expires.
    pub async fn renew_in_time(self, keyring: watch::Sender<Arc<Keyring>>) -> anyhow::Result<()> {
        let mut signal = signal(SignalKind::user_defined1())?;
        let mut keys = keyring.subscribe();
        let mut reminded = None;
        loop {
            let before = Arc::clone(&keys.borrow_and_update());
            let now = Timestamp::now();
            let due = until_renewal(
                before.latest().map(|latest| latest.since),
                self.config.key_renew_period,
                now,
            );
            let pending = self.pending(&before);
            // Another key that may not seal either helps nobody.
            let wait = due.filter(|due| pending.is_none() || !due.is_zero());
            if due.is_some_and(|due| due.is_zero()) && pending.is_some() && reminded != pending {
                tracing::warn!(
                    key = pending,
                    "a new sealing key is due, but the backup of this one is not acknowledged: back it up and annotate it {ACKNOWLEDGED}=true"
                );
                reminded.clone_from(&pending);
            }
            tokio::select! {
                () = sleep(wait) => {
                    // Due, and perhaps held back: the loop says so.
                    if pending.is_some() {
                        continue;
                    }
                }
                _ = signal.recv() => {}
                () = sleep(before.until_turn(now)) => {
                    self.publish(&keyring, (*before).clone());
                    continue;
                }
                changed = keys.changed() => {
                    changed.context("the keyring is gone")?;
                    continue;
                }
            }
            match self.renew(&before, Timestamp::now()).await {
                Ok(renewed) => self.publish(&keyring, renewed),
                Err(error) => {
                    tracing::error!(
                        error = format!("{error:#}"),
                        "renewing the sealing key: next attempt in a minute"
                    );
                    tokio::time::sleep(Duration::from_mins(1)).await;
                }
            }
        }
    }
}

async fn sleep(duration: Option<Duration>) {
    match duration {
        Some(duration) => tokio::time::sleep(duration).await,
        None => std::future::pending().await,
    }
}

/// How long to wait until the key from `newest` is `period` old; `None` for ever.
fn until_renewal(newest: Option<Timestamp>, period: Duration, now: Timestamp) -> Option<Duration> {
    if period.is_zero() {
        return None;
    }
    let period = SignedDuration::try_from(period).ok()?;
    let due = newest?.checked_add(period).ok()?;
    // Clocks differ a little: a key from just ahead is taken as made now.
    let wait = due.duration_since(now).min(period);
    Some(Duration::try_from(wait).unwrap_or_default())
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
