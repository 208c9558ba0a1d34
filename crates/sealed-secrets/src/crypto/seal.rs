//! Sealing: needs only a public key.

use aes_gcm::aead::{Aead as _, KeyInit as _};
use aes_gcm::{Aes256Gcm, Nonce};
use rsa::rand_core::TryCryptoRng;
use rsa::traits::RandomizedEncryptor as _;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::key::PublicKey;
use super::{Envelope, encode};

/// Why a value could not be sealed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The operating system gave no randomness.
    #[error("the random number generator failed: {0}")]
    Random(String),
    /// The public key is too small for SHA-256 OAEP, or not usable at all.
    #[error("the certificate's RSA key cannot wrap a session key: {0}")]
    Wrap(#[source] rsa::errors::Error),
    /// The value is beyond what AES-GCM or the framing can carry.
    #[error("the value is too large to be sealed")]
    TooLarge,
}

/// Seals `plaintext` for whoever holds the private half of `key`, bound to `label`, as base64 text.
pub fn seal<R: TryCryptoRng>(
    rng: &mut R,
    key: &PublicKey,
    label: &[u8],
    plaintext: &[u8],
) -> Result<String, SealError> {
    let mut session_key = Zeroizing::new([0_u8; 32]);
    rng.try_fill_bytes(session_key.as_mut())
        .map_err(|error| SealError::Random(error.to_string()))?;
    let wrapped_key = rsa::oaep::EncryptingKey::<Sha256>::new_with_label(key.rsa().clone(), label)
        .encrypt_with_rng(rng, session_key.as_ref())
        .map_err(SealError::Wrap)?;
    let cipher = Aes256Gcm::new_from_slice(session_key.as_ref()).map_err(|_| SealError::TooLarge)?;
    let ciphertext = cipher
        .encrypt(&Nonce::default(), plaintext)
        .map_err(|_| SealError::TooLarge)?;
    let item = Envelope {
        wrapped_key: &wrapped_key,
        ciphertext: &ciphertext,
    }
    .to_bytes()
    .ok_or(SealError::TooLarge)?;
    Ok(encode(&item))
}
