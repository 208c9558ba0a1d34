//! Hashes, passwords, AES. The slow ones are rationed.

use aws_lc_rs::cipher::{
    AES_256, DecryptingKey, DecryptionContext, EncryptingKey, EncryptionContext, UnboundCipherKey,
};
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA512, digest};
use aws_lc_rs::{hmac, iv::FixedLength};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gotmpl::{Result, Value};
use zeroize::Zeroizing;

use super::super::text;
use super::encoding::hex;
use super::{Entry, Impure, Surroundings, fails, integer, string};

pub(super) const TABLE: &[Entry] = &[
    ("sha1sum", 1, 1, |a| {
        Ok(hex(digest(&SHA1_FOR_LEGACY_USE_ONLY, &text::to_bytes(string(a, 0)?)).as_ref()).into())
    }),
    ("sha512sum", 1, 1, |a| {
        Ok(hex(digest(&SHA512, &text::to_bytes(string(a, 0)?)).as_ref()).into())
    }),
    ("adler32sum", 1, 1, |a| {
        let (low, high) = text::to_bytes(string(a, 0)?)
            .iter()
            .fold((1_u32, 0_u32), |(low, high), byte| {
                let low = (low + u32::from(*byte)) % 65521;
                (low, (high + low) % 65521)
            });
        Ok((high << 16 | low).to_string().into())
    }),
    ("decryptAES", 2, 2, decrypt_aes),
];

pub(super) const IMPURE: &[Impure] = &[
    ("bcrypt", 1, 1, |s, a| Ok(bcrypt(s, string(a, 0)?)?.into())),
    ("htpasswd", 2, 2, |s, a| {
        let user = string(a, 0)?;
        if user.contains(':') {
            return Err(fails("a user name with a colon"));
        }
        Ok(format!("{user}:{}", bcrypt(s, string(a, 1)?)?).into())
    }),
    ("derivePassword", 5, 5, derive_password),
    ("encryptAES", 2, 2, encrypt_aes),
];

fn bcrypt(surroundings: &Surroundings, password: &str) -> Result<String> {
    surroundings.slow()?;
    let password = Zeroizing::new(text::to_bytes(password));
    // As in Go, which does not cut a password off silently.
    if password.len() > 72 {
        return Err(fails("a password of more than 72 bytes"));
    }
    let mut salt = [0; 16];
    surroundings.fill(&mut salt)?;
    bcrypt::hash_with_salt(&*password, 10, salt)
        .map(|parts| parts.format_for_version(bcrypt::Version::TwoA))
        .map_err(|_| fails("bcrypt failed"))
}

fn aes_key(password: &str) -> Result<UnboundCipherKey> {
    let mut key = Zeroizing::new([0; 32]);
    key.iter_mut()
        .zip(text::to_bytes(password))
        .for_each(|(target, byte)| *target = byte);
    UnboundCipherKey::new(&AES_256, &*key).map_err(|_| fails("AES failed"))
}

fn encrypt_aes(surroundings: &Surroundings, arguments: &[Value]) -> Result<Value> {
    let plaintext = text::to_bytes(string(arguments, 1)?);
    if plaintext.is_empty() {
        return Ok("".into());
    }
    let padding = 16 - plaintext.len() % 16;
    let mut block = Zeroizing::new(plaintext);
    block.extend(std::iter::repeat_n(u8::try_from(padding).unwrap_or(16), padding));
    let mut iv = [0; 16];
    surroundings.fill(&mut iv)?;
    EncryptingKey::cbc(aes_key(string(arguments, 0)?)?)
        .and_then(|key| key.less_safe_encrypt(&mut block, EncryptionContext::Iv128(FixedLength::from(iv))))
        .map_err(|_| fails("AES failed"))?;
    Ok(STANDARD.encode([&iv[..], &block].concat()).into())
}

fn decrypt_aes(arguments: &[Value]) -> Result<Value> {
    let ciphertext = string(arguments, 1)?;
    if ciphertext.is_empty() {
        return Ok("".into());
    }
    let bytes = crate::crypto::decode(ciphertext).ok_or_else(|| fails("not base64"))?;
    let (iv, block) = bytes
        .split_first_chunk::<16>()
        .ok_or_else(|| fails("too short"))?;
    let mut block = Zeroizing::new(block.to_vec());
    let key = DecryptingKey::cbc(aes_key(string(arguments, 0)?)?).map_err(|_| fails("AES failed"))?;
    let plaintext = key
        .decrypt(&mut block, DecryptionContext::Iv128(FixedLength::from(iv)))
        .map_err(|_| fails("not whole blocks"))?;
    let padding = plaintext
        .last()
        .copied()
        .map(usize::from)
        .ok_or_else(|| fails("too short"))?;
    let length = plaintext
        .len()
        .checked_sub(padding)
        .ok_or_else(|| fails("not encrypted with this password"))?;
    Ok(text::from_bytes(plaintext.get(..length).unwrap_or_default()).into())
}

/// The patterns of the Master Password algorithm (version 1), by kind.
fn patterns(kind: &str) -> Option<&'static [&'static str]> {
    Some(match kind {
        "maximum" => &["anoxxxxxxxxxxxxxxxxx", "axxxxxxxxxxxxxxxxxno"],
        "long" => &[
            "CvcvnoCvcvCvcv",
            "CvcvCvcvnoCvcv",
            "CvcvCvcvCvcvno",
            "CvccnoCvcvCvcv",
            "CvccCvcvnoCvcv",
            "CvccCvcvCvcvno",
            "CvcvnoCvccCvcv",
            "CvcvCvccnoCvcv",
            "CvcvCvccCvcvno",
            "CvcvnoCvcvCvcc",
            "CvcvCvcvnoCvcc",
            "CvcvCvcvCvccno",
            "CvccnoCvccCvcv",
            "CvccCvccnoCvcv",
            "CvccCvccCvcvno",
            "CvcvnoCvccCvcc",
            "CvcvCvccnoCvcc",
            "CvcvCvccCvccno",
            "CvccnoCvcvCvcc",
            "CvccCvcvnoCvcc",
            "CvccCvcvCvccno",
        ],
        "medium" => &["CvcnoCvc", "CvcCvcno"],
        "short" => &["Cvcn"],
        "basic" => &["aaanaaan", "aannaaan", "aaannaaa"],
        "pin" => &["nnnn"],
        _ => return None,
    })
}

/// The characters that a letter of a pattern stands for.
fn class(letter: char) -> &'static str {
    match letter {
        'V' => "AEIOU",
        'C' => "BCDFGHJKLMNPQRSTVWXYZ",
        'v' => "aeiou",
        'c' => "bcdfghjklmnpqrstvwxyz",
        'A' => "AEIOUBCDFGHJKLMNPQRSTVWXYZ",
        'a' => "AEIOUaeiouBCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz",
        'n' => "0123456789",
        'o' => "@&%?,=[]_:-+*$#!'^~;()/.",
        _ => "AEIOUaeiouBCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz0123456789!@#$%^&*()",
    }
}

fn derive_password(surroundings: &Surroundings, arguments: &[Value]) -> Result<Value> {
    const SEED: &[u8] = b"com.lyndir.masterpassword";
    let counter = u32::try_from(integer(arguments, 0)?).map_err(|_| fails("counter out of range"))?;
    let bytes = |n| string(arguments, n).map(text::to_bytes);
    let (password, user, site) = (Zeroizing::new(bytes(2)?), bytes(3)?, bytes(4)?);
    let patterns = patterns(string(arguments, 1)?).ok_or_else(|| fails("no such kind of password"))?;
    surroundings.slow()?;
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes();
    let salt = [SEED, &length(&user), &user].concat();
    let params = scrypt::Params::new(15, 8, 2).map_err(|_| fails("scrypt failed"))?;
    let mut key = Zeroizing::new([0; 64]);
    scrypt::scrypt(&password, &salt, &params, &mut *key).map_err(|_| fails("scrypt failed"))?;
    let message = [SEED, &length(&site), &site, &counter.to_be_bytes()].concat();
    let seed = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &*key), &message);
    let mut seed = seed.as_ref().iter().copied().map(usize::from);
    let pick = |seed: usize, count: usize| seed.checked_rem(count).unwrap_or_default();
    let pattern = patterns
        .get(pick(seed.next().unwrap_or_default(), patterns.len()))
        .unwrap_or(&"");
    let letters = pattern.chars().zip(seed).filter_map(|(letter, seed)| {
        let class = class(letter).as_bytes();
        class.get(pick(seed, class.len())).map(|byte| char::from(*byte))
    });
    Ok(letters.collect::<String>().into())
}
