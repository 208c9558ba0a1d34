//! Pure: whether something was signed by a key that its reader trusts. OpenPGP (RFC 9580) and OpenSSH signatures
//! (PROTOCOL.sshsig), as `git commit -S` and `git tag -s` make them.

mod pgp;
mod ssh;

use std::{collections::BTreeMap, fmt::Write as _};

use k8s_openapi::{ByteString, jiff::Timestamp};
use sha2::{Digest as _, Sha256};

/// Keys with this suffix hold OpenSSH public keys, in the form of `authorized_keys`. All others hold OpenPGP keys.
const SSH_SUFFIX: &str = ".sshpub";

/// Public keys that are trusted.
#[derive(Clone)]
pub struct Keys {
    pgp: Vec<pgp::Certificate>,
    ssh: Vec<ssh::Key>,
    digest: String,
}

/// The keys cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeysError {
    /// An entry cannot be read.
    #[error("the entry {entry:?} is no {expected}: {reason}")]
    Entry {
        /// Name of the entry.
        entry: String,
        /// What it should be.
        expected: &'static str,
        /// Why it is not.
        reason: String,
    },
    /// There is nothing in it.
    #[error(
        "it has no keys: put OpenPGP public keys into entries like 'author.asc', OpenSSH public keys into entries like 'author.sshpub'"
    )]
    Empty,
}

/// Why a signature is not accepted.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nobody signed it.
    #[error("it is not signed")]
    Unsigned,
    /// Neither OpenPGP nor OpenSSH, or damaged.
    #[error("its signature cannot be read: {0}")]
    Unreadable(String),
    /// None of the trusted keys.
    #[error("it is signed by {0}, which is none of the trusted keys")]
    UnknownKey(String),
    /// Not of this content.
    #[error("its signature by {0} does not belong to this content: it was changed after it was signed")]
    Mismatch(String),
    /// The key may not sign any more, or not yet, or not this.
    #[error("it is signed by {key}, which {problem}")]
    Key {
        /// Its fingerprint.
        key: String,
        /// What is wrong with it.
        problem: String,
    },
}

impl Keys {
    /// Reads the entries of a Secret.
    pub fn parse(entries: &BTreeMap<String, ByteString>) -> Result<Self, KeysError> {
        let mut keys = Self {
            pgp: Vec::new(),
            ssh: Vec::new(),
            digest: String::new(),
        };
        let mut hash = Sha256::new();
        for (name, ByteString(content)) in entries {
            hash.update((content.len() as u64).to_be_bytes());
            hash.update(content);
            let failed = |expected| {
                move |reason| KeysError::Entry {
                    entry: name.clone(),
                    expected,
                    reason,
                }
            };
            if name.ends_with(SSH_SUFFIX) {
                keys.ssh
                    .extend(ssh::keys(content).map_err(failed("list of OpenSSH public keys"))?);
            } else {
                keys.pgp
                    .extend(pgp::certificates(content).map_err(failed("OpenPGP public key"))?);
            }
        }
        if keys.pgp.is_empty() && keys.ssh.is_empty() {
            return Err(KeysError::Empty);
        }
        for byte in hash.finalize() {
            // Writing to a String cannot fail.
            let _ = write!(keys.digest, "{byte:02x}");
        }
        Ok(keys)
    }

    /// Names the set of keys: another digest, other keys.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Who of the trusted signed `content`, by fingerprint.
    pub fn verify(
        &self,
        content: &[u8],
        signature: Option<&[u8]>,
        now: Timestamp,
    ) -> Result<String, Refusal> {
        let signature = signature.ok_or(Refusal::Unsigned)?;
        let text = std::str::from_utf8(signature)
            .map_err(|_| Refusal::Unreadable("it is not text".to_owned()))?
            .trim();
        if text.starts_with("-----BEGIN SSH SIGNATURE-----") {
            ssh::verify(&self.ssh, content, text)
        } else if text.starts_with("-----BEGIN PGP SIGNATURE-----") {
            pgp::verify(&self.pgp, content, text, now)
        } else {
            Err(Refusal::Unreadable(
                "it is neither an OpenPGP nor an OpenSSH signature".to_owned(),
            ))
        }
    }
}
