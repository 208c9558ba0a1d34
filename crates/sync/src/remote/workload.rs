//! Pure: what the ConfigMap of `spec.kubeConfig.configMapRef` says. Of Flux's providers there is `generic`: the other cluster
//! trusts the tokens that our own API server issues for an account.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::json;
use zeroize::Zeroizing;

use super::kubeconfig::Refusal;

/// A cluster, and the account whose token it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Workload {
    address: String,
    authority: Option<String>,
    /// Whom the token is for.
    pub(super) audiences: Vec<String>,
    /// ServiceAccount of the Kustomization's namespace.
    pub(super) account: String,
}

/// Reads the ConfigMap.
pub(super) fn read(data: &BTreeMap<String, String>) -> Result<Workload, Refusal> {
    let text = |key: &str| {
        data.get(key)
            .map(|text| text.trim())
            .filter(|text| !text.is_empty())
    };
    let invalid = |message: String| Err(Refusal::Invalid(message));
    match text("provider") {
        Some("generic") => {}
        Some(other) => {
            return invalid(format!(
                "provider: {other:?} is not supported: use generic, or a secretRef with the token of an account of that cluster"
            ));
        }
        None => return invalid("provider: it is missing: write generic".into()),
    }
    let Some(address) = text("address") else {
        return invalid("address: it is missing: the URL of the API server".into());
    };
    let Some(account) = text("serviceAccountName") else {
        // Flux takes its own account then: whoever writes the ConfigMap would choose who gets its tokens.
        return Err(Refusal::Denied(
            "serviceAccountName: it is missing: name a ServiceAccount of this namespace, because tokens of the controller's own \
             account are not given away"
                .into(),
        ));
    };
    let audiences = text("audiences").map_or_else(
        || vec![address.to_owned()],
        |lines| lines.lines().map(|line| line.trim().to_owned()).collect(),
    );
    Ok(Workload {
        address: address.to_owned(),
        authority: text("ca.crt").map(str::to_owned),
        audiences: audiences.into_iter().filter(|line| !line.is_empty()).collect(),
        account: account.to_owned(),
    })
}

impl Workload {
    /// A kubeconfig, which is then read like any other.
    pub(super) fn kubeconfig(&self, token: &str) -> Zeroizing<Vec<u8>> {
        let authority = self.authority.as_ref().map(|pem| STANDARD.encode(pem));
        let config = json!({
            "current-context": "cluster",
            "contexts": [{ "name": "cluster", "context": { "cluster": "cluster", "user": "account" } }],
            "clusters": [{ "name": "cluster", "cluster": {
                "server": self.address, "certificate-authority-data": authority,
            } }],
            "users": [{ "name": "account", "user": { "token": token } }],
        });
        Zeroizing::new(config.to_string().into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remote::{KubeconfigPolicy, kubeconfig};

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let pairs = pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        pairs.collect()
    }

    #[test]
    fn the_address_is_the_audience_unless_others_are_named() {
        let mut data = map(&[
            ("provider", "generic"),
            ("address", "https://example.com:6443"),
            ("serviceAccountName", "deployer"),
        ]);
        let workload = read(&data).unwrap();
        assert_eq!(workload.audiences, ["https://example.com:6443"]);
        let access = kubeconfig::read(&workload.kubeconfig("t"), &KubeconfigPolicy::default());
        let Ok(access) = access else { panic!("refused") };
        assert_eq!(access.server.to_string(), "https://example.com:6443/");
        data.insert("audiences".into(), "a\n\n b \n".into());
        assert_eq!(read(&data).unwrap().audiences, ["a", "b"]);
    }

    #[test]
    fn what_is_missing_or_not_supported_is_named() {
        for (pairs, part) in [
            (&[][..], "provider: it is missing"),
            (&[("provider", "aws")], "secretRef"),
            (&[("provider", "generic")], "address: it is missing"),
            (
                &[("provider", "generic"), ("address", "https://e")],
                "serviceAccountName: it is missing",
            ),
        ] {
            let refusal = read(&map(pairs)).unwrap_err();
            assert!(refusal.to_string().contains(part), "{refusal}");
        }
    }
}
