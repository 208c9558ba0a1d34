//! Everything that the unsealer reads and others write: items, objects, key Secrets, templates.
//!
//! `crates/sealed-secrets/tests/fuzz.rs` drives the same functions with random and mutated input in every run of the tests.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use plumbline_sealed_secrets::api::SealedSecret;
use plumbline_sealed_secrets::crypto::cert::Certificate;
use plumbline_sealed_secrets::crypto::{
    Envelope, Keyring, Order, RegisteredKey, SealingKey, decode, encode, generate_private_key, open,
};
use plumbline_sealed_secrets::unseal::{DeprecatedData, unseal};
use plumbline_sealed_secrets::{documents, template};
use zeroize::Zeroizing;

/// A key that nobody has sealed anything for.
static KEY: LazyLock<SealingKey> = LazyLock::new(|| {
    let pem = generate_private_key(2048).expect("a key can be made");
    SealingKey::from_pem(pem.as_bytes()).expect("and be read")
});

/// One item: taken apart and put together it is the same, and it does not open.
pub fn envelope(data: &[u8]) {
    if let Some(envelope) = Envelope::parse(data) {
        let again = envelope
            .to_bytes()
            .expect("what was parsed has a length that fits");
        assert_eq!(again, data);
    }
    assert!(open(&KEY, b"namespace/name", data).is_err());
    if let Ok(text) = std::str::from_utf8(data)
        && let Some(bytes) = decode(text)
    {
        assert_eq!(decode(&encode(&bytes)).as_deref(), Some(&bytes[..]));
    }
}

/// One object as text: read as the watch does, and unsealed without any key.
pub fn object(data: &[u8]) {
    let Ok(documents) = documents::parse(data) else {
        return;
    };
    for document in documents {
        let text = documents::to_yaml(&document).expect("what was read can be written");
        let again = documents::parse(text.as_bytes()).expect("and read again");
        if !document.is_null() {
            assert_eq!(again.first(), Some(&document));
        }
        let Ok(object) = serde_json::from_value::<SealedSecret>(document) else {
            continue;
        };
        let is_empty = object.spec.encrypted_data.is_empty() && object.spec.data.is_none();
        let opened = unseal(
            &object,
            &Keyring::default(),
            DeprecatedData::Accept,
            &BTreeMap::new(),
        );
        assert_eq!(opened.is_ok(), is_empty);
        for field in ["labels", "annotations"] {
            drop(object.spec.template.strings(field));
        }
        serde_json::to_value(&object).expect("what was read can be written");
    }
}

/// One key Secret: private key and certificate, cut anywhere.
pub fn key(data: &[u8]) {
    let (split, rest) = data
        .split_first()
        .map_or((0, data), |(first, rest)| (usize::from(*first), rest));
    let (private, certificate) = rest.split_at(rest.len() * split / 256);
    drop(SealingKey::from_pem(rest));
    drop(SealingKey::from_pkcs1_der(rest));
    if let Ok(certificate) = Certificate::from_pem(rest) {
        let again = Certificate::from_pem(certificate.pem.as_bytes()).expect("its own text can be read");
        assert!(again.public_key == certificate.public_key);
    }
    if let Ok(key) = RegisteredKey::read("key", None, Order::default(), private, certificate) {
        assert!(*key.key.public() == key.certificate.public_key);
    }
}

/// One template over a value that must not show in an error.
pub fn template(data: &[u8]) {
    const SECRET: &str = "hunter2hunter2";
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let templates = BTreeMap::from([("out".to_owned(), text.to_owned())]);
    let items = BTreeMap::from([("p".to_owned(), Zeroizing::new(SECRET.as_bytes().to_vec()))]);
    if let Err(error) = template::render(Some(&templates), items) {
        assert!(
            text.contains(SECRET) || !error.to_string().contains(SECRET),
            "{error}"
        );
    }
}
