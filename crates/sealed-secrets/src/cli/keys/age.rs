//! The age format (C2SP age v1) of backups: any `age` program opens them, without this one and without a cluster.
//! Recipients are X25519 keys (`age1…`) or one passphrase. See docs/adr/0040-age-backups.md.

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{PrivateKey, UnparsedPublicKey, X25519, agree};
use aws_lc_rs::{hkdf, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use rand::TryRng as _;
use rand::rngs::SysRng;
use zeroize::Zeroizing;

const VERSION: &str = "age-encryption.org/v1";
const CHUNK: usize = 64 << 10;
const TAG: usize = 16;
/// What `age` itself uses: about a second of work and 256 MiB for every guess.
const WORK_FACTOR: u8 = 18;
/// A file must not be able to ask for any amount of work.
const MAX_WORK_FACTOR: u8 = 22;

type Key = Zeroizing<[u8; 32]>;

/// Why a backup cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub(super) enum AgeError {
    #[error("not an age recipient: expected age1… (age-keygen makes one)")]
    Recipient,
    #[error("holds no age identity: expected a line AGE-SECRET-KEY-1…")]
    Identity,
    #[error("not an age file")]
    NotAge,
    #[error("none of the identities opens it")]
    NoIdentity,
    #[error("the passphrase does not open it")]
    Passphrase,
    #[error("it is encrypted with a passphrase: give --passphrase-file")]
    NeedsPassphrase,
    #[error("it is encrypted for recipients: give --identity")]
    NeedsIdentity,
    #[error("it is damaged or cut off")]
    Damaged,
    #[error("the cryptographic library failed")]
    Library,
}

/// Who can open a backup.
pub(super) enum Lock<'a> {
    /// Public keys.
    Recipients(&'a [Recipient]),
    /// A passphrase.
    Passphrase(&'a [u8]),
}

/// A public key.
#[derive(Clone, Debug)]
pub(super) struct Recipient([u8; 32]);

impl std::str::FromStr for Recipient {
    type Err = AgeError;

    fn from_str(text: &str) -> Result<Self, AgeError> {
        decoded("age", text)
            .map(|key| Self(*key))
            .ok_or(AgeError::Recipient)
    }
}

/// A private key.
pub(super) struct Identity(Key);

impl Identity {
    /// All keys of an identity file; comments and empty lines are skipped.
    pub(super) fn read(text: &str) -> Result<Vec<Self>, AgeError> {
        let lines = text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        let keys: Vec<Self> = lines
            .map(|line| {
                decoded("age-secret-key-", line)
                    .map(Self)
                    .ok_or(AgeError::Identity)
            })
            .collect::<Result<_, _>>()?;
        if keys.is_empty() {
            Err(AgeError::Identity)
        } else {
            Ok(keys)
        }
    }
}

fn decoded(prefix: &str, text: &str) -> Option<Key> {
    // Upper case is for identities; mixed case is no bech32.
    let (hrp, key) = bech32::decode(text).ok()?;
    let key = Zeroizing::new(key);
    (hrp.as_str().to_ascii_lowercase() == prefix)
        .then(|| <[u8; 32]>::try_from(key.as_slice()).ok().map(Zeroizing::new))
        .flatten()
}

/// `plaintext` for whoever holds the key to `lock`.
pub(super) fn encrypt(plaintext: &[u8], lock: &Lock<'_>) -> Result<Vec<u8>, AgeError> {
    let file_key = Zeroizing::new(random::<16>()?);
    let mut header = format!("{VERSION}\n");
    match lock {
        Lock::Recipients(recipients) => {
            for recipient in *recipients {
                let secret = Zeroizing::new(random::<32>()?);
                let share = public(&secret)?;
                let key = shared_key(&secret, &recipient.0, &share, &recipient.0)?;
                header += &stanza(
                    &["X25519", &STANDARD_NO_PAD.encode(share)],
                    &wrap(&key, &*file_key)?,
                );
            }
        }
        Lock::Passphrase(passphrase) => {
            let salt = random::<16>()?;
            let key = stretched(passphrase, &salt, WORK_FACTOR)?;
            let factor = WORK_FACTOR.to_string();
            header += &stanza(
                &["scrypt", &STANDARD_NO_PAD.encode(salt), &factor],
                &wrap(&key, &*file_key)?,
            );
        }
    }
    header += "---";
    let mac = hmac::sign(&mac_key(&*file_key)?, header.as_bytes());
    let nonce = random::<16>()?;
    let mut file = format!("{header} {}\n", STANDARD_NO_PAD.encode(mac)).into_bytes();
    file.extend_from_slice(&nonce);
    let cipher = cipher(&*derived(&*file_key, &nonce, b"payload")?)?;
    // An empty plaintext is one empty chunk.
    let count = plaintext.len().div_ceil(CHUNK).max(1);
    for number in 0..count {
        let chunk = plaintext.get(number * CHUNK..plaintext.len().min((number + 1) * CHUNK));
        let mut sealed = chunk.unwrap_or_default().to_vec();
        cipher
            .seal_in_place_append_tag(
                chunk_nonce(number, number + 1 == count),
                Aad::empty(),
                &mut sealed,
            )
            .map_err(|_| AgeError::Library)?;
        file.extend_from_slice(&sealed);
    }
    Ok(file)
}

/// What a file is opened with.
pub(super) enum Unlock<'a> {
    /// Private keys.
    Identities(&'a [Identity]),
    /// A passphrase.
    Passphrase(&'a [u8]),
}

/// The plaintext of `file`.
pub(super) fn decrypt(file: &[u8], unlock: &Unlock<'_>) -> Result<Zeroizing<Vec<u8>>, AgeError> {
    let armored = dearmored(file);
    let file = armored.as_deref().unwrap_or(file);
    let header = Header::parse(file).ok_or(AgeError::NotAge)?;
    let by_passphrase = header.stanzas.iter().any(|stanza| stanza.is("scrypt"));
    let file_key = match unlock {
        Unlock::Identities(_) if by_passphrase => return Err(AgeError::NeedsPassphrase),
        Unlock::Passphrase(_) if !by_passphrase => return Err(AgeError::NeedsIdentity),
        Unlock::Identities(identities) => header
            .stanzas
            .iter()
            .filter(|stanza| stanza.is("X25519"))
            .find_map(|stanza| identities.iter().find_map(|identity| stanza.open(identity)))
            .ok_or(AgeError::NoIdentity)?,
        Unlock::Passphrase(passphrase) => {
            // It stands alone: whoever knows a passphrase must not be able to pass the file off as another's.
            let [stanza] = header.stanzas.as_slice() else {
                return Err(AgeError::Damaged);
            };
            stanza.open_with(passphrase)?.ok_or(AgeError::Passphrase)?
        }
    };
    hmac::verify(&mac_key(&file_key)?, header.authenticated, &header.mac).map_err(|_| AgeError::Damaged)?;
    let (nonce, mut rest) = header
        .payload
        .split_first_chunk::<16>()
        .ok_or(AgeError::Damaged)?;
    let cipher = cipher(&*derived(&file_key, nonce, b"payload")?)?;
    let mut plaintext = Zeroizing::new(Vec::with_capacity(rest.len()));
    for number in 0.. {
        let (chunk, behind) = rest.split_at(rest.len().min(CHUNK + TAG));
        let is_last = behind.is_empty();
        let mut chunk = Zeroizing::new(chunk.to_vec());
        let opened = cipher
            .open_in_place(chunk_nonce(number, is_last), Aad::empty(), &mut chunk)
            .map_err(|_| AgeError::Damaged)?;
        if opened.is_empty() && number > 0 {
            return Err(AgeError::Damaged);
        }
        plaintext.extend_from_slice(opened);
        if is_last {
            break;
        }
        rest = behind;
    }
    Ok(plaintext)
}

fn dearmored(file: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(file).ok()?.trim();
    let body = text.strip_prefix("-----BEGIN AGE ENCRYPTED FILE-----")?;
    crate::crypto::decode(body.strip_suffix("-----END AGE ENCRYPTED FILE-----")?)
}

struct Header<'a> {
    stanzas: Vec<Stanza<'a>>,
    /// What the MAC is over.
    authenticated: &'a [u8],
    mac: Vec<u8>,
    payload: &'a [u8],
}

struct Stanza<'a> {
    words: Vec<&'a str>,
    body: Vec<u8>,
}

impl<'a> Header<'a> {
    fn parse(file: &'a [u8]) -> Option<Self> {
        let mut at = 0;
        let mut line = || {
            let rest = file.get(at..)?;
            let length = rest.iter().position(|byte| *byte == b'\n')?;
            let start = at;
            at += length + 1;
            Some((start, std::str::from_utf8(rest.get(..length)?).ok()?))
        };
        if line()?.1 != VERSION {
            return None;
        }
        let mut stanzas = Vec::new();
        loop {
            let (start, text) = line()?;
            if let Some(mac) = text.strip_prefix("--- ") {
                return Some(Self {
                    stanzas,
                    authenticated: file.get(..start + 3)?,
                    mac: STANDARD_NO_PAD.decode(mac).ok()?,
                    payload: file.get(start + text.len() + 1..)?,
                });
            }
            let words: Vec<&str> = text.strip_prefix("-> ")?.split(' ').collect();
            let mut body = String::new();
            loop {
                let (_, text) = line()?;
                body += text;
                // The last line is the one that is not full.
                if text.len() != 64 {
                    break;
                }
            }
            stanzas.push(Stanza {
                words,
                body: STANDARD_NO_PAD.decode(body).ok()?,
            });
        }
    }
}

impl Stanza<'_> {
    fn is(&self, kind: &str) -> bool {
        self.words.first() == Some(&kind)
    }

    fn open(&self, identity: &Identity) -> Option<Zeroizing<Vec<u8>>> {
        let share: [u8; 32] = STANDARD_NO_PAD.decode(self.words.get(1)?).ok()?.try_into().ok()?;
        let recipient = public(&identity.0).ok()?;
        let key = shared_key(&identity.0, &share, &share, &recipient).ok()?;
        unwrap(&key, &self.body)
    }

    fn open_with(&self, passphrase: &[u8]) -> Result<Option<Zeroizing<Vec<u8>>>, AgeError> {
        let [_, salt, factor] = self.words.as_slice() else {
            return Err(AgeError::Damaged);
        };
        let salt: [u8; 16] = STANDARD_NO_PAD
            .decode(salt)
            .ok()
            .and_then(|salt| salt.try_into().ok())
            .ok_or(AgeError::Damaged)?;
        let factor = factor
            .parse()
            .ok()
            .filter(|factor| (1..=MAX_WORK_FACTOR).contains(factor));
        let key = stretched(passphrase, &salt, factor.ok_or(AgeError::Damaged)?)?;
        Ok(unwrap(&key, &self.body))
    }
}

fn stanza(words: &[&str], body: &[u8]) -> String {
    format!("-> {}\n{}\n", words.join(" "), STANDARD_NO_PAD.encode(body))
}

fn random<const N: usize>() -> Result<[u8; N], AgeError> {
    let mut bytes = [0; N];
    SysRng.try_fill_bytes(&mut bytes).map_err(|_| AgeError::Library)?;
    Ok(bytes)
}

fn public(secret: &[u8; 32]) -> Result<[u8; 32], AgeError> {
    let key = PrivateKey::from_private_key(&X25519, secret);
    let key = key.ok().and_then(|key| key.compute_public_key().ok());
    key.and_then(|key| key.as_ref().try_into().ok())
        .ok_or(AgeError::Library)
}

/// The key that wraps the file key between two X25519 keys.
fn shared_key(
    secret: &[u8; 32],
    peer: &[u8; 32],
    share: &[u8; 32],
    recipient: &[u8; 32],
) -> Result<Key, AgeError> {
    let secret = PrivateKey::from_private_key(&X25519, secret).map_err(|_| AgeError::Library)?;
    let salt = [&share[..], &recipient[..]].concat();
    agree(
        &secret,
        UnparsedPublicKey::new(&X25519, peer),
        AgeError::Library,
        |shared| derived(shared, &salt, b"age-encryption.org/v1/X25519"),
    )
}

fn stretched(passphrase: &[u8], salt: &[u8; 16], factor: u8) -> Result<Key, AgeError> {
    let params = scrypt::Params::new(factor, 8, 1).map_err(|_| AgeError::Library)?;
    let salt = [b"age-encryption.org/v1/scrypt", &salt[..]].concat();
    let mut key = Key::default();
    scrypt::scrypt(passphrase, &salt, &params, &mut *key).map_err(|_| AgeError::Library)?;
    Ok(key)
}

fn derived(secret: &[u8], salt: &[u8], info: &[u8]) -> Result<Key, AgeError> {
    let mut key = Key::default();
    hkdf::Salt::new(hkdf::HKDF_SHA256, salt)
        .extract(secret)
        .expand(&[info], hkdf::HKDF_SHA256)
        .and_then(|okm| okm.fill(&mut *key))
        .map_err(|_| AgeError::Library)?;
    Ok(key)
}

fn mac_key(file_key: &[u8]) -> Result<hmac::Key, AgeError> {
    Ok(hmac::Key::new(
        hmac::HMAC_SHA256,
        &*derived(file_key, &[], b"header")?,
    ))
}

fn cipher(key: &[u8]) -> Result<LessSafeKey, AgeError> {
    UnboundKey::new(&CHACHA20_POLY1305, key)
        .map(LessSafeKey::new)
        .map_err(|_| AgeError::Library)
}

/// The key is used once, so its nonce is zero.
fn wrap(key: &Key, file_key: &[u8]) -> Result<Vec<u8>, AgeError> {
    let mut wrapped = file_key.to_vec();
    cipher(&**key)?
        .seal_in_place_append_tag(Nonce::assume_unique_for_key([0; 12]), Aad::empty(), &mut wrapped)
        .map_err(|_| AgeError::Library)?;
    Ok(wrapped)
}

fn unwrap(key: &Key, wrapped: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    // Of no other length, or a file could be made that opens under several keys.
    if wrapped.len() != 16 + TAG {
        return None;
    }
    let mut wrapped = wrapped.to_vec();
    let opened =
        cipher(&**key)
            .ok()?
            .open_in_place(Nonce::assume_unique_for_key([0; 12]), Aad::empty(), &mut wrapped);
    Some(Zeroizing::new(opened.ok()?.to_vec()))
}

/// Eleven bytes of counter and the mark of the last chunk.
fn chunk_nonce(number: usize, is_last: bool) -> Nonce {
    let mut nonce = [0; 12];
    if let Some(counter) = nonce.get_mut(3..11) {
        counter.copy_from_slice(&(number as u64).to_be_bytes());
    }
    if let Some(last) = nonce.last_mut() {
        *last = u8::from(is_last);
    }
    Nonce::assume_unique_for_key(nonce)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of `age-keygen`; opens nothing but this test's files.
    const IDENTITY: &str = "# created: now\n# public key: …\nAGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX\n";

    fn identity() -> Identity {
        Identity(Zeroizing::new([0x42; 32]))
    }

    fn recipient() -> Recipient {
        Recipient(public(&[0x42; 32]).unwrap())
    }

    #[test]
    fn keys_are_read_and_nothing_else_is() {
        assert_eq!(*Identity::read(IDENTITY).unwrap()[0].0, [0x42; 32]);
        let text = "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj";
        assert_eq!(text.parse::<Recipient>().unwrap().0, recipient().0);
        for text in [
            "",
            "age1",
            "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwk",
            IDENTITY,
            "ssh-rsa AAAA",
        ] {
            assert!(text.parse::<Recipient>().is_err(), "{text}");
            assert!(text == IDENTITY || Identity::read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_encrypted_opens_with_its_key_only() {
        for length in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK] {
            let plaintext: Vec<u8> = (0..=250).cycle().take(length).collect();
            let other = Recipient(public(&[7; 32]).unwrap());
            let file = encrypt(&plaintext, &Lock::Recipients(&[other, recipient()])).unwrap();
            let opened = decrypt(&file, &Unlock::Identities(&[identity()])).unwrap();
            assert!(*opened == plaintext, "{length}");
            let stranger = Identity(Zeroizing::new([9; 32]));
            assert!(matches!(
                decrypt(&file, &Unlock::Identities(&[stranger])),
                Err(AgeError::NoIdentity)
            ));
        }
    }

    #[test]
    fn damage_anywhere_is_noticed() {
        let file = encrypt(&[1; 100], &Lock::Recipients(&[recipient()])).unwrap();
        for at in 0..file.len() {
            let mut damaged = file.clone();
            damaged[at] ^= 1;
            assert!(
                decrypt(&damaged, &Unlock::Identities(&[identity()])).is_err(),
                "byte {at}"
            );
            assert!(
                decrypt(&file[..at], &Unlock::Identities(&[identity()])).is_err(),
                "cut at {at}"
            );
        }
        let two = encrypt(&vec![1; 2 * CHUNK], &Lock::Recipients(&[recipient()])).unwrap();
        // A whole chunk less is not the end.
        let cut = &two[..two.len() - CHUNK - TAG];
        assert!(decrypt(cut, &Unlock::Identities(&[identity()])).is_err());
    }
}
