//! Opening: the private-key operation, on aws-lc-rs.

use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::aead;
use aws_lc_rs::rsa::OAEP_SHA256_MGF1SHA256;
use zeroize::Zeroizing;

use super::key::SealingKey;
use super::{Envelope, TAG_LEN};

/// An opened value; wiped when dropped, never printed.
pub type Plaintext = Zeroizing<Vec<u8>>;

/// The item does not open under the key.
///
/// Deliberately without a cause: telling a bad padding from a bad tag or a bad length is an oracle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no key could decrypt secret")]
pub struct Unopened;

/// Private-key operations of this process.
static OPERATIONS: AtomicU64 = AtomicU64::new(0);

/// How many private-key operations this process has done: what opening costs, whether it worked or not.
pub fn private_key_operations() -> u64 {
    OPERATIONS.load(Ordering::Relaxed)
}

/// Opens one item (the decoded bytes) with `key`, if it was sealed for it and for `label`.
pub fn open(key: &SealingKey, label: &[u8], item: &[u8]) -> Result<Plaintext, Unopened> {
    let Envelope {
        wrapped_key,
        ciphertext,
    } = Envelope::parse(item).ok_or(Unopened)?;
    let mut buffer = Zeroizing::new(vec![0_u8; key.decrypting().min_output_size()]);
    OPERATIONS.fetch_add(1, Ordering::Relaxed);
    let session_key = key
        .decrypting()
        .decrypt(&OAEP_SHA256_MGF1SHA256, wrapped_key, &mut buffer, Some(label))
        .map_err(|_| Unopened)?;
    // Go's AES takes any of its key sizes here; items of other writers may carry a shorter session key.
    let algorithm = match session_key.len() {
        16 => &aead::AES_128_GCM,
        24 => &aead::AES_192_GCM,
        32 => &aead::AES_256_GCM,
        _ => return Err(Unopened),
    };
    let cipher = aead::LessSafeKey::new(aead::UnboundKey::new(algorithm, session_key).map_err(|_| Unopened)?);
    let mut plaintext = Zeroizing::new(ciphertext.to_vec());
    let opened = cipher
        .open_in_place(
            aead::Nonce::assume_unique_for_key([0; 12]),
            aead::Aad::empty(),
            &mut plaintext,
        )
        .map_err(|_| Unopened)?
        .len();
    debug_assert_eq!(opened + TAG_LEN, ciphertext.len());
    plaintext.truncate(opened);
    Ok(plaintext)
}
