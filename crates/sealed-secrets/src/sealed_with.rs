//! The annotation that says which key sealed what: for people and as a hint, never to be trusted.
//!
//! `SHA256:…` says it of every item; `item=SHA256:…,other=SHA256:…` of each one.

use std::collections::BTreeMap;

use crate::crypto::Fingerprint;

pub use crate::hint::SEALED_WITH;

/// The key of every item that `text` speaks of; `items` are the items there are.
pub fn parse<'a>(text: &str, items: impl Iterator<Item = &'a String>) -> BTreeMap<String, Fingerprint> {
    // A fingerprint without a name is that of every item that is not named.
    let said: BTreeMap<&str, &str> = text
        .split(',')
        .map(str::trim)
        .map(|part| part.split_once('=').unwrap_or(("", part)))
        .filter(|(_, fingerprint)| fingerprint.starts_with("SHA256:"))
        .collect();
    items
        .filter_map(|item| {
            let fingerprint = said.get(item.as_str()).or_else(|| said.get(""))?;
            Some((item.clone(), Fingerprint::from((*fingerprint).to_owned())))
        })
        .collect()
}

/// The annotation's text for `known`, the keys of some or all of `count` items; `None` when nothing is known.
pub fn render(known: &BTreeMap<String, Fingerprint>, count: usize) -> Option<String> {
    let first = known.values().next()?;
    if known.len() == count && known.values().all(|fingerprint| fingerprint == first) {
        return Some(first.to_string());
    }
    let pairs: Vec<String> = known
        .iter()
        .map(|(item, fingerprint)| format!("{item}={fingerprint}"))
        .collect();
    Some(pairs.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_key_is_said_once_and_several_by_item() {
        let items = ["a".to_owned(), "b".to_owned()];
        for (text, written) in [
            ("SHA256:x", Some("SHA256:x")),
            ("a=SHA256:x,b=SHA256:x", Some("SHA256:x")),
            ("a=SHA256:x, b=SHA256:y", Some("a=SHA256:x,b=SHA256:y")),
            ("a=SHA256:x,gone=SHA256:y", Some("a=SHA256:x")),
            ("SHA256:x,a=SHA256:y", Some("a=SHA256:y,b=SHA256:x")),
            ("a=x", None),
            ("", None),
            ("=,,=", None),
        ] {
            let known = parse(text, items.iter());
            assert_eq!(render(&known, items.len()).as_deref(), written, "{text}");
        }
    }
}
