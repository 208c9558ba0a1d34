//! RSA keys: the public half that seals, the private half that opens.

use std::fmt;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rsa::{KeyPair, KeySize, OaepPrivateDecryptingKey, PrivateDecryptingKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use rsa::pkcs1::der::asn1::OctetStringRef;
use rsa::pkcs1::{DecodeRsaPrivateKey as _, EncodeRsaPrivateKey as _, LineEnding};
use rsa::pkcs8::{DecodePrivateKey as _, DecodePublicKey as _, PrivateKeyInfoRef, SecretDocument};
use rsa::traits::PublicKeyParts as _;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

/// Why a key cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// No PEM block of a private key.
    #[error("no private key found: expected a PEM block RSA PRIVATE KEY (PKCS#1) or PRIVATE KEY (PKCS#8)")]
    NotPem,
    /// A PEM block of some other algorithm, or damaged.
    #[error("the private key is not a usable RSA key: {0}")]
    NotRsa(String),
    /// Outside of what the private-key implementation supports.
    #[error("RSA keys of {0} bits are not supported: use 2048 to 8192 bits")]
    Size(usize),
    /// The certificate was made for another key.
    #[error("the certificate does not belong to the private key")]
    Mismatch,
    /// The certificate cannot be read.
    #[error(transparent)]
    Certificate(#[from] super::cert::CertError),
}

/// The public identity of a sealing key, in OpenSSH's notation (`SHA256:` and unpadded base64). Not secret.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(String);

impl From<String> for Fingerprint {
    /// Takes a recorded fingerprint; one that is wrong matches no key.
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A public key that seals.
#[derive(Clone, Debug)]
pub struct PublicKey {
    rsa: rsa::PublicKey,
    fingerprint: Fingerprint,
}

impl PublicKey {
    /// Reads a DER SubjectPublicKeyInfo.
    pub fn from_spki_der(der: &[u8]) -> Result<Self, KeyError> {
        let rsa =
            rsa::PublicKey::from_public_key_der(der).map_err(|error| KeyError::NotRsa(error.to_string()))?;
        let fingerprint = fingerprint(&rsa);
        Ok(Self { rsa, fingerprint })
    }

    /// The key's public identity.
    pub fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    /// Length of the modulus, which is the length of the wrapped key in every item, in bytes.
    pub fn modulus_len(&self) -> usize {
        self.rsa.size()
    }

    pub(super) fn rsa(&self) -> &rsa::PublicKey {
        &self.rsa
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }
}

/// The hash of the key's `ssh-rsa` blob: three length-prefixed strings.
fn fingerprint(key: &rsa::PublicKey) -> Fingerprint {
    let mut hash = Sha256::new();
    let mut field = |bytes: &[u8], sign_pad: bool| {
        let pad = sign_pad && bytes.first().is_some_and(|byte| byte & 0x80 != 0);
        let length = u32::try_from(bytes.len() + usize::from(pad)).unwrap_or(u32::MAX);
        hash.update(length.to_be_bytes());
        if pad {
            hash.update([0]);
        }
        hash.update(bytes);
    };
    field(b"ssh-rsa", false);
    field(trimmed(&key.e_bytes()), true);
    field(trimmed(&key.n_bytes()), true);
    Fingerprint(format!("SHA256:{}", STANDARD_NO_PAD.encode(hash.finalize())))
}

fn trimmed(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    bytes.get(zeros..).unwrap_or_default()
}

/// A private key that opens. Has no way out of the process and no `Debug` of its content.
pub struct SealingKey {
    decrypting: OaepPrivateDecryptingKey,
    public: PublicKey,
}

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SealingKey")
            .field(&self.public.fingerprint)
            .finish()
    }
}

impl SealingKey {
    /// Reads the first private key of `pem`, PKCS#1 or PKCS#8.
    pub fn from_pem(pem: &[u8]) -> Result<Self, KeyError> {
        let text = std::str::from_utf8(pem).map_err(|_| KeyError::NotPem)?;
        let rejected = |error: &dyn fmt::Display| KeyError::NotRsa(error.to_string());
        if let Some(block) = pem_block(text, "RSA PRIVATE KEY") {
            let (_, der) = SecretDocument::from_pem(block).map_err(|error| rejected(&error))?;
            Self::from_pkcs1_der(der.as_bytes())
        } else if let Some(block) = pem_block(text, "PRIVATE KEY") {
            let (_, der) = SecretDocument::from_pem(block).map_err(|error| rejected(&error))?;
            Self::from_pkcs8_der(der.as_bytes())
        } else {
            Err(KeyError::NotPem)
        }
    }

    /// Reads a bare PKCS#1 DER key.
    pub fn from_pkcs1_der(der: &[u8]) -> Result<Self, KeyError> {
        let malformed = |error: &dyn fmt::Display| KeyError::NotRsa(error.to_string());
        let key = OctetStringRef::new(der).map_err(|error| malformed(&error))?;
        let wrapped = SecretDocument::try_from(PrivateKeyInfoRef::new(rsa::pkcs1::ALGORITHM_ID, key))
            .map_err(|error| malformed(&error))?;
        Self::from_pkcs8_der(wrapped.as_bytes())
    }

    fn from_pkcs8_der(der: &[u8]) -> Result<Self, KeyError> {
        let private = match PrivateDecryptingKey::from_pkcs8(der) {
            Ok(private) => private,
            // Say the size when that is what was refused: 1024-bit keys were once common.
            Err(rejected) => {
                return Err(rsa::PrivateKey::from_pkcs8_der(der)
                    .ok()
                    .map(|key| key.size() * 8)
                    .filter(|bits| !(2048..=8192).contains(bits))
                    .map_or_else(|| KeyError::NotRsa(rejected.to_string()), KeyError::Size));
            }
        };
        let spki = AsDer::<PublicKeyX509Der<'_>>::as_der(&private.public_key())
            .map_err(|error| KeyError::NotRsa(error.to_string()))?;
        let public = PublicKey::from_spki_der(spki.as_ref())?;
        let decrypting =
            OaepPrivateDecryptingKey::new(private).map_err(|error| KeyError::NotRsa(error.to_string()))?;
        Ok(Self { decrypting, public })
    }

    /// The public half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    pub(super) fn decrypting(&self) -> &OaepPrivateDecryptingKey {
        &self.decrypting
    }
}

/// The text of the first PEM block with exactly this label.
fn pem_block<'a>(text: &'a str, label: &str) -> Option<&'a str> {
    let begin = format!("-----BEGIN {label}-----");
    let end = format!("-----END {label}-----");
    let start = text.find(&begin)?;
    let rest = text.get(start..)?;
    let stop = rest.find(&end)? + end.len();
    rest.get(..stop)
}

/// Makes a new private key of `bits` (2048, 3072, 4096 or 8192), as a PKCS#1 PEM block. Takes up to seconds of CPU.
pub fn generate_private_key(bits: usize) -> Result<Zeroizing<String>, KeyError> {
    let size = match bits {
        2048 => KeySize::Rsa2048,
        3072 => KeySize::Rsa3072,
        4096 => KeySize::Rsa4096,
        8192 => KeySize::Rsa8192,
        other => return Err(KeyError::Size(other)),
    };
    let failed = |error: &dyn fmt::Display| KeyError::NotRsa(error.to_string());
    let pair = KeyPair::generate(size).map_err(|error| failed(&error))?;
    let der = AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).map_err(|error| failed(&error))?;
    let key = rsa::PrivateKey::from_pkcs8_der(der.as_ref()).map_err(|error| failed(&error))?;
    key.to_pkcs1_pem(LineEnding::LF).map_err(|error| failed(&error))
}

/// A PKCS#1 PEM key as PKCS#8 PEM, for libraries that read nothing else.
pub(super) fn to_pkcs8_pem(pkcs1_pem: &str) -> Result<Zeroizing<String>, KeyError> {
    use rsa::pkcs8::EncodePrivateKey as _;
    rsa::PrivateKey::from_pkcs1_pem(pkcs1_pem)
        .map_err(|error| KeyError::NotRsa(error.to_string()))?
        .to_pkcs8_pem(LineEnding::LF)
        .map_err(|error| KeyError::NotRsa(error.to_string()))
}
