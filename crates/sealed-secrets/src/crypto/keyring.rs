//! All keys that open, and the one that seals.

use std::collections::BTreeSet;
use std::str::FromStr;
use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;

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
        })
    }
}

/// The keys of a controller, newest first.
#[derive(Clone, Debug, Default)]
pub struct Keyring {
    registered: Vec<RegisteredKey>,
    opening: Vec<Arc<SealingKey>>,
}

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
        }
    }

    /// A keyring that only opens: of private keys from a backup.
    pub fn without_certificates(keys: impl IntoIterator<Item = SealingKey>) -> Self {
        Self {
            registered: Vec::new(),
            opening: keys.into_iter().map(Arc::new).collect(),
        }
    }

    /// The key that seals and whose certificate is served.
    pub fn newest(&self) -> Option<&RegisteredKey> {
        self.registered.first()
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
