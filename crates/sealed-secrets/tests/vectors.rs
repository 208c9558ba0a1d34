//! The wire format against items that the original implementation sealed, and against a second implementation.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use aes_gcm::aead::{Aead as _, KeyInit as _};
use aes_gcm::{Aes256Gcm, Nonce};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use plumbline_sealed_secrets::crypto::{
    Envelope, PublicKey, SealingKey, cert::Certificate, decode, open, seal,
};
use plumbline_sealed_secrets::scope::Scope;
use proptest::prelude::*;
use rand::rngs::SysRng;
use rsa::pkcs1::DecodeRsaPrivateKey as _;
use rsa::traits::Decryptor as _;
use serde_json::Value;
use sha2::Sha256;

struct Key {
    name: String,
    certificate: Certificate,
    der: Vec<u8>,
    private: SealingKey,
    fingerprint: String,
}

fn data() -> Value {
    serde_json::from_str(include_str!("data/vectors.json")).unwrap()
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap()
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

fn keys() -> Vec<Key> {
    let read = |entry: &Value| {
        let der = STANDARD.decode(text(entry, "PrivPKCS1DerBase64")).unwrap();
        Key {
            name: text(entry, "Name").to_owned(),
            certificate: Certificate::from_pem(text(entry, "CertPEM").as_bytes()).unwrap(),
            private: SealingKey::from_pkcs1_der(&der).unwrap(),
            der,
            fingerprint: text(entry, "Fingerprint").to_owned(),
        }
    };
    data()["keys"].as_array().unwrap().iter().map(read).collect()
}

/// Opens an item with `rsa` and `aes-gcm` alone.
fn open_in_pure_rust(der: &[u8], label: &[u8], item: &[u8]) -> Option<Vec<u8>> {
    let private = rsa::PrivateKey::from_pkcs1_der(der).unwrap();
    let Envelope {
        wrapped_key,
        ciphertext,
    } = Envelope::parse(item)?;
    let session_key = rsa::oaep::DecryptingKey::<Sha256>::new_with_label(private, label)
        .decrypt(wrapped_key)
        .ok()?;
    Aes256Gcm::new_from_slice(&session_key)
        .ok()?
        .decrypt(&Nonce::default(), ciphertext)
        .ok()
}

#[test]
fn certificates_belong_to_their_keys() {
    for key in keys() {
        assert_eq!(key.private.public(), &key.certificate.public_key, "{}", key.name);
        assert_eq!(key.private.public().fingerprint().to_string(), key.fingerprint);
    }
}

#[test]
fn known_answers_open_or_fail_as_recorded() {
    let keys = keys();
    let mut seen = (0, 0);
    for vector in data()["vectors"].as_array().unwrap() {
        let name = text(vector, "Name");
        let key = keys.iter().find(|key| key.name == text(vector, "Key")).unwrap();
        let label = hex(text(vector, "LabelHex"));
        if let Ok(scope) = text(vector, "Scope").parse::<Scope>() {
            assert_eq!(
                scope.label(text(vector, "Namespace"), text(vector, "SecretName")),
                label,
                "{name}"
            );
        }
        let opened = open(
            &key.private,
            &label,
            &decode(text(vector, "CiphertextB64")).unwrap(),
        );
        match text(vector, "Expect") {
            "ok" => {
                // The vector of the short session key records no plaintext.
                let plaintext = opened.unwrap_or_else(|error| panic!("{name}: {error}"));
                if !name.starts_with("quirk-") {
                    assert_eq!(
                        STANDARD.encode(&*plaintext),
                        text(vector, "PlaintextB64"),
                        "{name}"
                    );
                }
                seen.0 += 1;
            }
            failure => {
                assert_eq!(
                    failure,
                    format!("error: {}", opened.map(|_| ()).unwrap_err()),
                    "{name}"
                );
                seen.1 += 1;
            }
        }
    }
    assert_eq!(seen, (11, 12));
}

#[test]
fn both_implementations_agree_on_every_vector() {
    let keys = keys();
    for vector in data()["vectors"].as_array().unwrap() {
        let name = text(vector, "Name");
        if name.starts_with("quirk-") {
            continue;
        }
        let key = keys.iter().find(|key| key.name == text(vector, "Key")).unwrap();
        let label = hex(text(vector, "LabelHex"));
        let item = decode(text(vector, "CiphertextB64")).unwrap();
        let ours = open(&key.private, &label, &item)
            .ok()
            .map(|plaintext| plaintext.to_vec());
        assert_eq!(ours, open_in_pure_rust(&key.der, &label, &item), "{name}");
    }
}

#[test]
fn two_seals_of_one_value_share_nothing() {
    let key = &keys()[0];
    let seal =
        || decode(&seal(&mut SysRng, &key.certificate.public_key, b"ns/name", b"same").unwrap()).unwrap();
    let (one, other) = (seal(), seal());
    let (one, other) = (Envelope::parse(&one).unwrap(), Envelope::parse(&other).unwrap());
    assert_ne!(one.wrapped_key, other.wrapped_key);
    assert_ne!(one.ciphertext, other.ciphertext);
}

#[test]
fn hostile_items_never_open_and_never_panic() {
    let key = &keys()[0];
    let size = key.private.public().modulus_len();
    let good = decode(&seal(&mut SysRng, &key.certificate.public_key, b"a/b", b"value").unwrap()).unwrap();
    let with = |wrapped_key: Vec<u8>| {
        Envelope {
            wrapped_key: &wrapped_key,
            ciphertext: &good[2 + size..],
        }
        .to_bytes()
        .unwrap()
    };
    let mut one = vec![0; size];
    one[size - 1] = 1;
    let mut items = vec![
        vec![],
        vec![0],
        vec![0, 0],
        vec![1, 0],
        vec![0xff, 0xff, 0],
        good[..good.len() - 1].to_vec(),
        [&good[..], &[0]].concat(),
        good[..2 + size].to_vec(),
        good[..2 + size + 15].to_vec(),
        with(vec![0; size]),
        with(one),
        with(vec![0xff; size]),
        with(vec![0xff; 512]),
        with(vec![]),
        with(vec![7; 511]),
    ];
    for at in 0..good.len() {
        let mut flipped = good.clone();
        flipped[at] ^= 1;
        items.push(flipped);
    }
    for item in items {
        assert!(open(&key.private, b"a/b", &item).is_err(), "{} bytes", item.len());
    }
    assert_eq!(&*open(&key.private, b"a/b", &good).unwrap(), b"value");
}

#[test]
fn a_key_of_1024_bits_is_refused_with_its_size() {
    let private = rsa::PrivateKey::new(&mut SysRng, 1024).unwrap();
    let der = rsa::pkcs1::EncodeRsaPrivateKey::to_pkcs1_der(&private).unwrap();
    let error = SealingKey::from_pkcs1_der(der.as_bytes()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "RSA keys of 1024 bits are not supported: use 2048 to 8192 bits"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_is_sealed_opens_in_both_implementations_and_nowhere_else(
        plaintext in proptest::collection::vec(any::<u8>(), 0..2048),
        namespace in "[a-z0-9-]{1,20}",
        name in "[a-z0-9.-]{1,20}",
        scope in prop_oneof![Just(Scope::Strict), Just(Scope::NamespaceWide), Just(Scope::ClusterWide)],
    ) {
        let key = &KEYS[0];
        let label = scope.label(&namespace, &name);
        let public: &PublicKey = &key.certificate.public_key;
        let item = decode(&seal(&mut SysRng, public, &label, &plaintext).unwrap()).unwrap();
        prop_assert_eq!(item.len(), 2 + 256 + plaintext.len() + 16);
        prop_assert_eq!(&*open(&key.private, &label, &item).unwrap(), &plaintext);
        prop_assert_eq!(open_in_pure_rust(&key.der, &label, &item).unwrap(), plaintext);
        prop_assert!(open(&key.private, &[&label[..], b"x"].concat(), &item).is_err());
    }
}

static KEYS: std::sync::LazyLock<Vec<Key>> = std::sync::LazyLock::new(keys);
