//! The Secret that a SealedSecret asks for, and what it must not ask for. Pure.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use crate::api::{SKIP_SET_OWNER_REFERENCES, SealedSecret};
use crate::crypto::Plaintext;

/// The longest key of an item that a Secret can have.
const MAX_KEY: usize = 253;

/// The Secret that a SealedSecret asks for.
pub struct Desired {
    /// Labels of the template.
    pub labels: BTreeMap<String, String>,
    /// Annotations of the template.
    pub annotations: BTreeMap<String, String>,
    /// Finalizers of the template.
    pub finalizers: Vec<String>,
    /// Type, when said.
    pub type_: Option<String>,
    /// Immutable, when said.
    pub immutable: Option<bool>,
    /// The opened and rendered items.
    pub data: BTreeMap<String, Plaintext>,
    /// The SealedSecret as owner; none when the template says that the Secret outlives it.
    pub owner: Option<OwnerReference>,
}

/// Where sealing keys are: what must not come out of a SealedSecret.
#[derive(Clone, Copy, Debug)]
pub struct Keys<'a> {
    /// The controller's namespace.
    pub namespace: &'a str,
    /// The name of the key that old versions kept without a label.
    pub prefix: &'a str,
}

/// A template that cannot become a Secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadTemplate {
    /// Labels, annotations.
    #[error("spec.template.metadata.{0} must be a map of strings: quote numbers and true/false")]
    NotStrings(&'static str),
    /// A Secret of that type is filled by the API server: it would mint a token for whoever may write SealedSecrets.
    #[error(
        "spec.template.type kubernetes.io/service-account-token is refused: it would mint a token, not hold a sealed value"
    )]
    ServiceAccountToken,
    /// A key that takes part in sealing must not come from a SealedSecret in the controller's namespace.
    #[error(
        "spec.template.metadata.labels must not have sealedsecrets.bitnami.com/sealed-secrets-key in the controller's namespace: it would inject a sealing key"
    )]
    SealingKey,
    /// Old versions kept their key under a fixed name, and it is found there without a label.
    #[error(
        "a SealedSecret in the controller's namespace must not be called {0:?}: its Secret would be taken for a sealing key; choose another name"
    )]
    SealingKeyName(String),
    /// Secrets do not have such keys.
    #[error(
        "{0:?} cannot be a key of a Secret: use at most 253 letters, digits, '-', '_' and '.', not starting with '..'; rename the item (that needs no new sealing)"
    )]
    Key(String),
}

/// The Secret that `sealed` asks for, given its opened items.
pub fn desired(
    sealed: &SealedSecret,
    data: BTreeMap<String, Plaintext>,
    type_: Option<String>,
    keys: Keys<'_>,
) -> Result<Desired, BadTemplate> {
    let template = &sealed.spec.template;
    let strings = |field| template.strings(field).ok_or(BadTemplate::NotStrings(field));
    let (labels, annotations) = (strings("labels")?, strings("annotations")?);
    let type_ = template.type_.clone().or(type_).filter(|text| !text.is_empty());
    if type_.as_deref() == Some("kubernetes.io/service-account-token") {
        return Err(BadTemplate::ServiceAccountToken);
    }
    if sealed.metadata.namespace.as_deref() == Some(keys.namespace) {
        if labels.contains_key(crate::keystore::KEY_LABEL) {
            return Err(BadTemplate::SealingKey);
        }
        if sealed.metadata.name.as_deref() == Some(keys.prefix) {
            return Err(BadTemplate::SealingKeyName(keys.prefix.to_owned()));
        }
    }
    if let Some(key) = data.keys().find(|key| !is_key(key)) {
        return Err(BadTemplate::Key(key.chars().take(MAX_KEY).collect()));
    }
    let keeps = annotations
        .get(SKIP_SET_OWNER_REFERENCES)
        .is_some_and(|value| value == "true");
    let finalizers = template
        .metadata
        .as_ref()
        .and_then(|metadata| metadata.get("finalizers"))
        .and_then(serde_json::Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|name| name.as_str().map(str::to_owned))
        .collect();
    Ok(Desired {
        labels,
        annotations,
        finalizers,
        type_,
        immutable: template.immutable,
        data,
        owner: (!keeps).then(|| owner(sealed)),
    })
}

/// Whether the API server takes `key` as a key of a Secret.
fn is_key(key: &str) -> bool {
    !key.is_empty()
        && key.len() <= MAX_KEY
        && key != "."
        && !key.starts_with("..")
        && key
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

fn owner(sealed: &SealedSecret) -> OwnerReference {
    OwnerReference {
        api_version: "bitnami.com/v1alpha1".to_owned(),
        kind: "SealedSecret".to_owned(),
        name: sealed.metadata.name.clone().unwrap_or_default(),
        uid: sealed.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn refused(namespace: &str, name: &str, template: &Value, item: &str) -> Option<BadTemplate> {
        let sealed = json!({
            "apiVersion": "bitnami.com/v1alpha1", "kind": "SealedSecret",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"encryptedData": {}, "template": template},
        });
        let sealed = serde_json::from_value(sealed).unwrap();
        let data = BTreeMap::from([(item.to_owned(), Plaintext::default())]);
        let keys = Keys {
            namespace: "keys",
            prefix: "sealed-secrets-key",
        };
        desired(&sealed, data, None, keys).err()
    }

    #[test]
    fn nothing_that_is_more_than_a_secret_comes_out() {
        let key = json!({"metadata": {"labels": {"sealedsecrets.bitnami.com/sealed-secrets-key": "x"}}});
        assert_eq!(refused("keys", "a", &key, "k"), Some(BadTemplate::SealingKey));
        assert_eq!(refused("elsewhere", "a", &key, "k"), None);
        let name = "sealed-secrets-key";
        assert_eq!(
            refused("keys", name, &json!({}), "k"),
            Some(BadTemplate::SealingKeyName(name.to_owned()))
        );
        assert_eq!(refused("elsewhere", name, &json!({}), "k"), None);
        let token = json!({"type": "kubernetes.io/service-account-token"});
        assert_eq!(
            refused("a", "a", &token, "k"),
            Some(BadTemplate::ServiceAccountToken)
        );
    }

    #[test]
    fn keys_are_those_of_secrets() {
        let long = "x".repeat(254);
        for key in ["", ".", "..", "..x", "a/b", "a b", "ä", &long] {
            assert!(
                matches!(refused("a", "a", &json!({}), key), Some(BadTemplate::Key(_))),
                "{key:?}"
            );
        }
        for key in ["a", ".x", "a..b", "-", "_", "A-1", &long[1..]] {
            assert_eq!(refused("a", "a", &json!({}), key), None, "{key:?}");
        }
    }
}
