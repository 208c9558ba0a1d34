//! Which key an item was probably sealed with. Hints come from annotations and the status, and are never trusted: a wrong one
//! costs one more operation, and makes a message less helpful. Pure.

use std::collections::BTreeMap;

use crate::api::SealedSecret;
use crate::crypto::{Envelope, Fingerprint, Keyring, decode};
use crate::record;
use crate::scope::Scope;

/// Annotation of a SealedSecret: the fingerprint of the certificate it was sealed with, or `item=fingerprint,…` when items
/// differ.
pub const SEALED_WITH: &str = "plumbline.dev/sealed-with";
/// So many items are spoken of; a message is for people.
const MAX_TOLD: usize = 5;

/// What `annotation` says, by item; the empty name stands for every item that is not named.
fn annotated(annotation: &str) -> BTreeMap<&str, &str> {
    let parts = annotation.split(',').map(str::trim);
    parts
        .map(|part| part.split_once('=').unwrap_or(("", part)))
        .filter(|(_, fingerprint)| is_fingerprint(fingerprint))
        .collect()
}

/// Anybody may write anything into an annotation; what goes into messages has the form of a fingerprint.
fn is_fingerprint(text: &str) -> bool {
    let hash = text.strip_prefix("SHA256:").unwrap_or_default();
    let base64 = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/';
    hash.len() == 43 && hash.bytes().all(base64)
}

/// The key that each item was probably sealed with: by the annotation, else by the record of the last time.
pub fn hints(sealed: &SealedSecret) -> BTreeMap<String, Fingerprint> {
    let says = seal_time(sealed);
    let items = sealed.spec.encrypted_data.keys();
    items
        .filter_map(|item| {
            let recorded = || record::of(sealed)?.keys.get(item).cloned();
            let fingerprint = said(&says, item).map(str::to_owned).or_else(recorded)?;
            Some((item.clone(), Fingerprint::from(fingerprint)))
        })
        .collect()
}

fn seal_time(sealed: &SealedSecret) -> BTreeMap<&str, &str> {
    let annotations = sealed.metadata.annotations.as_ref();
    annotated(
        annotations
            .and_then(|map| map.get(SEALED_WITH))
            .map_or("", String::as_str),
    )
}

fn said<'a>(says: &BTreeMap<&str, &'a str>, item: &str) -> Option<&'a str> {
    says.get(item).or_else(|| says.get("")).copied()
}

/// What can be told about `failed` items that no key opens, from what everybody can see: their form, their size, the
/// annotation. Whoever reads the SealedSecret learns nothing from it; it is never said to callers of the HTTP API.
pub fn advice(sealed: &SealedSecret, keyring: &Keyring, failed: &[String]) -> Option<String> {
    let says = seal_time(sealed);
    let mut by_cause: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for item in failed {
        let text = sealed.spec.encrypted_data.get(item)?;
        if let Some(cause) = cause(text, said(&says, item), keyring) {
            by_cause.entry(cause).or_default().push(item);
        }
    }
    let mut told: Vec<String> = by_cause
        .into_iter()
        .map(|(cause, items)| format!("{}: {cause}", named(&items)))
        .collect();
    told.extend(scopes_differ(sealed));
    (!told.is_empty()).then(|| told.join("; "))
}

fn named(items: &[&str]) -> String {
    let first: Vec<&str> = items.iter().copied().take(MAX_TOLD).collect();
    let more = items.len() - first.len();
    let first = first.join(", ");
    if more == 0 {
        first
    } else {
        format!("{first} and {more} more")
    }
}

fn cause(item: &str, hint: Option<&str>, keyring: &Keyring) -> Option<String> {
    let Some(bytes) = decode(item) else {
        return Some("not base64".to_owned());
    };
    let Some(envelope) = Envelope::parse(&bytes) else {
        return Some("too short for a sealed item".to_owned());
    };
    let length = envelope.wrapped_key.len();
    if !keyring.has_modulus_of(length) {
        return Some(format!(
            "sealed with a key of {} bits, and none of that size is loaded",
            length * 8
        ));
    }
    let key = Fingerprint::from(hint?.to_owned());
    Some(if keyring.fingerprints().contains(&&key) {
        format!(
            "sealed for key {key} (says {SEALED_WITH}), which is loaded: so for another name, namespace or scope, or it is damaged"
        )
    } else {
        format!(
            "sealed for key {key} (says {SEALED_WITH}), which is not loaded: bring that key back, or seal again with the certificate of this cluster"
        )
    })
}

/// kubeseal writes the scope into both places; where only one was edited, that is the likely mistake.
fn scopes_differ(sealed: &SealedSecret) -> Option<String> {
    let template = sealed.spec.template.strings("annotations")?;
    let (claimed, scope) = (
        Scope::of(Some(&template)),
        Scope::of(sealed.metadata.annotations.as_ref()),
    );
    (claimed != scope).then(|| {
        format!("the scope is {scope} by metadata.annotations, which count, and {claimed} by spec.template")
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sealed(annotation: &str, template: &str) -> SealedSecret {
        serde_json::from_value(json!({
            "apiVersion": "bitnami.com/v1alpha1", "kind": "SealedSecret",
            "metadata": {"name": "a", "namespace": "b", "annotations": {SEALED_WITH: annotation}},
            "spec": {
                "encryptedData": {"a": "AgAA", "b": "!", "c": "AAEA"},
                "template": {"metadata": {"annotations": {template: "true"}}},
            },
            "status": {"unsealed": {"keys": {"a": "SHA256:old", "c": "SHA256:older"}}},
        }))
        .unwrap()
    }

    fn hinted(annotation: &str) -> Vec<(String, String)> {
        hints(&sealed(annotation, "x"))
            .into_iter()
            .map(|(item, key)| (item, key.to_string()))
            .collect()
    }

    /// A fingerprint of nothing.
    fn print(letter: &str) -> String {
        format!("SHA256:{}", letter.repeat(43))
    }

    #[test]
    fn the_annotation_goes_before_the_record() {
        let pairs = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            let of = |text: &str| {
                if text.len() == 1 {
                    print(text)
                } else {
                    format!("SHA256:{text}")
                }
            };
            pairs.iter().map(|(a, b)| ((*a).to_owned(), of(b))).collect()
        };
        let recorded = pairs(&[("a", "old"), ("c", "older")]);
        for nothing in ["", ",=,a=b=c,", "SHA256:short", &format!("{}x", print("x"))] {
            assert_eq!(hinted(nothing), recorded, "{nothing}");
        }
        assert_eq!(hinted(&print("+")), pairs(&[("a", "+"), ("b", "+"), ("c", "+")]));
        assert_eq!(
            hinted(&format!("a={}, b={}", print("x"), print("y"))),
            pairs(&[("a", "x"), ("b", "y"), ("c", "older")])
        );
    }

    #[test]
    fn advice_is_about_what_everybody_sees() {
        let failed = ["a", "b", "c"].map(str::to_owned);
        let told = |sealed, failed| advice(&sealed, &Keyring::default(), failed);
        assert_eq!(
            told(sealed("", "x"), &failed).unwrap(),
            "b: not base64; c: sealed with a key of 8 bits, and none of that size is loaded; a: too short for a sealed item"
        );
        assert_eq!(
            told(sealed("", crate::scope::CLUSTER_WIDE), &[]).unwrap(),
            "the scope is strict by metadata.annotations, which count, and cluster-wide by spec.template"
        );
        assert_eq!(told(sealed("", "x"), &[]), None);
        let many: Vec<&str> = "a b c d e f g".split(' ').collect();
        assert_eq!(named(&many), "a, b, c, d, e and 2 more");
    }
}
