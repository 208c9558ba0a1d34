//! All keys that open, and the one that seals.

use std::collections::BTreeSet;
use std::str::FromStr;
use std::sync::Arc;

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::cert::Certificate;
use super::{Envelope, Fingerprint, KeyError, Plaintext, SealingKey, Unopened, decode, open};

/// What makes one key newer than another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// The start of the certificate's validity.
    #[default]
    CertNotBefore,
    /// The creation of the Secret that holds the key.
    SecretCreationTimestamp,
}

/// A value of `--key-order-priority` that is none of the two.
#[derive(Debug, thiserror::Error)]
#[error("must be one of: CertNotBefore, SecretCreationTimestamp")]
pub struct UnknownOrder;

impl FromStr for Order {
    type Err = UnknownOrder;

    fn from_str(text: &str) -> Result<Self, UnknownOrder> {
        match text {
            "CertNotBefore" => Ok(Self::CertNotBefore),
            "SecretCreationTimestamp" => Ok(Self::SecretCreationTimestamp),
            _ => Err(UnknownOrder),
        }
    }
}

/// Whether a key has to be backed up before it seals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backup {
    /// The newest key seals.
    #[default]
    Optional,
    /// The newest key whose backup is acknowledged seals.
    Required,
}

/// Clocks of those who make certificates and of those who use them may differ by so much.
const SKEW: SignedDuration = SignedDuration::from_hours(24);

/// One key Secret, read.
#[derive(Clone, Debug)]
pub struct RegisteredKey {
    /// Name of the Secret it came from.
    pub name: String,
    /// Its place in time, by [`Order`].
    pub since: Timestamp,
    /// The private half.
    pub key: Arc<SealingKey>,
    /// The public half as people get it.
    pub certificate: Certificate,
    /// Whether there is a backup, as far as anybody said.
    pub acknowledged: bool,
}

impl RegisteredKey {
    /// Reads the two entries of a key Secret called `name`, created at `created`.
    pub fn read(
        name: &str,
        created: Option<Timestamp>,
        order: Order,
        tls_key: &[u8],
        tls_crt: &[u8],
    ) -> Result<Self, KeyError> {
        let key = SealingKey::from_pem(tls_key)?;
        let certificate = Certificate::from_pem(tls_crt)?;
        if key.public() != &certificate.public_key {
            return Err(KeyError::Mismatch);
        }
        let since = match order {
            Order::CertNotBefore => certificate.not_before,
            Order::SecretCreationTimestamp => created.unwrap_or(certificate.not_before),
        };
        Ok(Self {
            name: name.to_owned(),
            since,
            key: Arc::new(key),
            certificate,
            acknowledged: true,
        })
    }

    /// Whether the certificate may be used at `now`.
    pub fn is_valid_at(&self, now: Timestamp) -> bool {
        starts(&self.certificate) <= now && now <= self.certificate.not_after
    }
}

fn starts(certificate: &Certificate) -> Timestamp {
    certificate
        .not_before
        .saturating_sub(SKEW)
        .unwrap_or(Timestamp::MIN)
}

/// The keys of a controller, newest first.
#[derive(Clone, Debug, Default)]
pub struct Keyring {
    registered: Vec<RegisteredKey>,
    opening: Vec<Arc<SealingKey>>,
    /// Place of the newest key that is valid.
    latest: usize,
    /// Place of the key that seals.
    sealing: usize,
}

/// What tells one keyring from another: the name and certificate of each key, whether it is acknowledged, and which one seals.
pub type Summary<'a> = (usize, Vec<(&'a str, &'a str, bool)>);

/// An opened item and the key that did it.
pub struct Opened {
    /// The value.
    pub plaintext: Plaintext,
    /// Who opened it; public.
    pub fingerprint: Fingerprint,
}

impl Keyring {
    /// A keyring of `keys` in the order they were registered. Of keys with the same time the first is the newest;
    /// the same key under a second name changes nothing.
    pub fn new(keys: impl IntoIterator<Item = RegisteredKey>) -> Self {
        let mut unique: Vec<RegisteredKey> = Vec::new();
        for key in keys {
            if !unique.iter().any(|known| known.key.public() == key.key.public()) {
                unique.push(key);
            }
        }
        unique.sort_by_key(|key| std::cmp::Reverse(key.since));
        Self {
            opening: unique.iter().map(|key| Arc::clone(&key.key)).collect(),
            registered: unique,
            latest: 0,
            sealing: 0,
        }
    }

    /// The same keys, with the one that seals at `now`: the newest with a valid certificate and, if that is required, an
    /// acknowledged backup. Where nothing is acknowledged the oldest goes on: a renewal must not change what seals.
    #[must_use]
    pub fn choosing(mut self, now: Timestamp, backup: Backup) -> Self {
        let places = 0..self.registered.len();
        let is_valid = |place: &usize| {
            self.registered
                .get(*place)
                .is_some_and(|key| key.is_valid_at(now))
        };
        let mut usable: Vec<usize> = places.clone().filter(is_valid).collect();
        if usable.is_empty() {
            usable = places.collect();
        }
        let acknowledged = |place: &usize| self.registered.get(*place).is_some_and(|key| key.acknowledged);
        let latest = usable.first().copied();
        let sealing = match backup {
            Backup::Optional => latest,
            Backup::Required => {
                let backed_up = usable.iter().copied().find(acknowledged);
                backed_up.or(usable.last().copied())
            }
        };
        self.latest = latest.unwrap_or_default();
        self.sealing = sealing.unwrap_or_default();
        self
    }

    /// How long until a certificate becomes valid or expires, seen from `now`.
    pub fn until_turn(&self, now: Timestamp) -> Option<std::time::Duration> {
        let certificates = self.registered.iter().map(|key| &key.certificate);
        let turns = certificates.flat_map(|certificate| [starts(certificate), certificate.not_after]);
        let next = turns.filter(|turn| *turn > now).min()?;
        // A moment later, so that it has passed.
        std::time::Duration::try_from(next.duration_since(now))
            .ok()
            .map(|wait| wait + std::time::Duration::from_secs(1))
    }

    /// What tells this keyring from another.
    pub fn summary(&self) -> Summary<'_> {
        let keys = self.registered.iter();
        (
            self.sealing,
            keys.map(|key| (key.name.as_str(), key.certificate.pem.as_str(), key.acknowledged))
                .collect(),
        )
    }

    /// A keyring that only opens: of private keys from a backup.
    pub fn without_certificates(keys: impl IntoIterator<Item = SealingKey>) -> Self {
        Self {
            opening: keys.into_iter().map(Arc::new).collect(),
            ..Self::default()
        }
    }

    /// The key that seals and whose certificate is served.
    pub fn sealing(&self) -> Option<&RegisteredKey> {
        self.registered.get(self.sealing)
    }

    /// The newest key that is valid: what the next one comes after.
    pub fn latest(&self) -> Option<&RegisteredKey> {
        self.registered.get(self.latest)
    }

    /// How many keys wait for their backup to be acknowledged.
    pub fn unacknowledged(&self) -> usize {
        self.registered.iter().filter(|key| !key.acknowledged).count()
    }

    /// Every key with its certificate, newest first.
    pub fn registered(&self) -> &[RegisteredKey] {
        &self.registered
    }

    /// The fingerprints of all keys that open, which say whether a keyring differs from another.
    pub fn fingerprints(&self) -> BTreeSet<&Fingerprint> {
        self.opening
            .iter()
            .map(|key| key.public().fingerprint())
            .collect()
    }

    /// Whether some key could have sealed an item whose wrapped key has this length, in bytes.
    pub fn has_modulus_of(&self, length: usize) -> bool {
        self.opening
            .iter()
            .any(|key| key.public().modulus_len() == length)
    }

    /// Opens the base64 text `item` with `hint` first, then the newest key, then older ones.
    ///
    /// Keys whose modulus is not as long as the wrapped key cannot have sealed it and cost nothing.
    pub fn open(&self, label: &[u8], item: &str, hint: Option<&Fingerprint>) -> Result<Opened, Unopened> {
        let item = decode(item).ok_or(Unopened)?;
        let length = Envelope::parse(&item).ok_or(Unopened)?.wrapped_key.len();
        let fits = |key: &&Arc<SealingKey>| key.public().modulus_len() == length;
        let hinted = |key: &SealingKey| Some(key.public().fingerprint()) == hint;
        let first = self.opening.iter().filter(|key| hinted(key));
        let rest = self.opening.iter().filter(|key| !hinted(key));
        first
            .chain(rest)
            .filter(fits)
            .find_map(|key| {
                let plaintext = open(key, label, &item).ok()?;
                Some(Opened {
                    plaintext,
                    fingerprint: key.public().fingerprint().clone(),
                })
            })
            .ok_or(Unopened)
    }
}
