//! The fuzz targets on the stable compiler: random input, and good input with something broken in it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test's helpers fail the test"
)]
#![allow(unreachable_pub, reason = "a module of two packages")]

#[path = "../../../fuzz/src/sealed_secrets.rs"]
mod targets;

use proptest::prelude::*;
use serde_json::Value;

/// A change to bytes: where (of 65536 parts), what, and how.
type Mutation = (u16, Vec<u8>, u8);

fn mutations() -> impl Strategy<Value = Vec<Mutation>> {
    proptest::collection::vec(
        (
            any::<u16>(),
            proptest::collection::vec(any::<u8>(), 0..6),
            0..4_u8,
        ),
        0..4,
    )
}

/// `good` with every mutation applied.
fn mutated(good: &[u8], mutations: &[Mutation]) -> Vec<u8> {
    let mut bytes = good.to_vec();
    for (place, new, how) in mutations {
        let at = bytes.len() * usize::from(*place) / 65536;
        match how {
            // Overwrite, insert, cut out, cut off.
            0 => drop(bytes.splice(at..(at + new.len()).min(bytes.len()), new.iter().copied())),
            1 => drop(bytes.splice(at..at, new.iter().copied())),
            2 => drop(bytes.splice(at..(at + 1 + new.len() * 7).min(bytes.len()), [])),
            _ => bytes.truncate(at),
        }
    }
    bytes
}

fn vectors() -> Value {
    serde_json::from_str(include_str!("data/vectors.json")).unwrap()
}

/// Ciphertexts, and objects around them.
fn items() -> Vec<String> {
    let vectors = vectors();
    let texts = vectors["vectors"].as_array().unwrap().iter();
    texts
        .map(|vector| vector["CiphertextB64"].as_str().unwrap().to_owned())
        .collect()
}

fn objects() -> Vec<Vec<u8>> {
    let yaml = |item: &String| {
        format!(
            "apiVersion: bitnami.com/v1alpha1\nkind: SealedSecret\nmetadata: {{name: a, namespace: b}}\nspec:\n  \
             encryptedData:\n    a: {item}\n    b: |\n      x\n  template:\n    metadata: {{labels: {{a: b}}}}\n    data: {{c: '{{{{ .a }}}}'}}\n"
        )
    };
    let json = |item: &String| {
        format!("{{\"kind\":\"SealedSecret\",\"metadata\":{{}},\"spec\":{{\"data\":\"{item}\"}}}}")
    };
    let items = items();
    items
        .iter()
        .map(yaml)
        .chain(items.iter().map(json))
        .map(String::into_bytes)
        .collect()
}

/// Private key and certificate behind the byte that says where to cut.
fn keys() -> Vec<Vec<u8>> {
    let vectors = vectors();
    let keys = vectors["keys"].as_array().unwrap().iter();
    keys.map(|key| {
        let der =
            plumbline_sealed_secrets::crypto::decode(key["PrivPKCS1DerBase64"].as_str().unwrap()).unwrap();
        let label = "RSA PRIVATE KEY";
        let body = plumbline_sealed_secrets::crypto::encode(&der);
        let lines: Vec<&str> = body
            .as_bytes()
            .chunks(64)
            .map(|line| std::str::from_utf8(line).unwrap())
            .collect();
        let private = format!(
            "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
            lines.join("\n")
        );
        let certificate = key["CertPEM"].as_str().unwrap();
        let cut = private.len() * 256 / (private.len() + certificate.len()) + 1;
        [
            &[u8::try_from(cut).unwrap()],
            private.as_bytes(),
            certificate.as_bytes(),
        ]
        .concat()
    })
    .collect()
}

fn templates() -> Vec<Vec<u8>> {
    let lines = include_str!("data/templates.txt").lines();
    // Slow by design, and no readers of anything.
    let slow = |line: &str| {
        ["bcrypt", "htpasswd", "derivePassword"]
            .iter()
            .any(|name| line.contains(name))
    };
    lines
        .filter(|line| !line.starts_with('#') && !slow(line))
        .map(|line| line.as_bytes().to_vec())
        .collect()
}

#[test]
fn good_input_holds_in_every_target() {
    for item in items() {
        targets::envelope(item.as_bytes());
    }
    for object in objects() {
        targets::object(&object);
    }
    for key in keys() {
        targets::key(&key);
    }
    for template in templates() {
        targets::template(&template);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn random_bytes(data in proptest::collection::vec(any::<u8>(), 0..800)) {
        targets::envelope(&data);
        targets::object(&data);
        targets::key(&data);
        targets::template(&data);
    }

    #[test]
    fn envelopes(item in proptest::sample::select(items()), changes in mutations()) {
        let bytes = plumbline_sealed_secrets::crypto::decode(&item).unwrap_or_default();
        targets::envelope(&mutated(&bytes, &changes));
        targets::envelope(&mutated(item.as_bytes(), &changes));
    }

    #[test]
    fn objects_of_all_kinds(object in proptest::sample::select(objects()), changes in mutations()) {
        targets::object(&mutated(&object, &changes));
    }

    #[test]
    fn templates_of_all_kinds(template in proptest::sample::select(templates()), changes in mutations()) {
        targets::template(&mutated(&template, &changes));
    }
}

proptest! {
    // Checking a private key costs a millisecond and more.
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn key_secrets(key in proptest::sample::select(keys()), changes in mutations()) {
        targets::key(&mutated(&key, &changes));
    }
}
