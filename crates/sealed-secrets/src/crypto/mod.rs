//! The item format: `base64(u16be(len(R)) ‖ R ‖ G)`, where `R` is a fresh session key under RSA-OAEP (SHA-256, the scope's
//! label) and `G` is AES-GCM of the value under that key with a nonce of zeroes.
//!
//! The zero nonce is sound only because a session key is made for every item and never used again.
//! Sealing is pure Rust, so that `kubeseal` builds anywhere; opening is aws-lc-rs: constant-time and several times faster.

pub mod cert;
mod encoding;
mod envelope;
mod key;
mod keyring;
mod open;
mod seal;

pub use encoding::{decode, encode};
pub use envelope::{Envelope, TAG_LEN};
pub use key::{Fingerprint, KeyError, PublicKey, SealingKey, generate_private_key};
pub use keyring::{Backup, Keyring, Opened, Order, RegisteredKey, Summary};
pub use open::{Plaintext, Unopened, open, private_key_operations};
pub use seal::{SealError, seal};
