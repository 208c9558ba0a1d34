//! Pure: from the Secrets that a GitRepository names to credentials.

use std::collections::BTreeMap;

use k8s_openapi::{ByteString, api::core::v1::Secret as KubeSecret};

use crate::git::{Credentials, GitError, Proxy, Remote, Secret, Tls};

type Data = BTreeMap<String, ByteString>;

/// Adds the credentials and certificates of `spec.secretRef`'s Secret.
pub(super) fn authenticate(mut remote: Remote, secret: &KubeSecret) -> Result<Remote, GitError> {
    let empty = Data::new();
    let data = secret.data.as_ref().unwrap_or(&empty);
    let tls = Tls {
        ca: text(data, "ca.crt")?.or(text(data, "caFile")?),
        client: client_certificate(data)?,
    };
    let credentials = if let Some(token) = text(data, "bearerToken")? {
        Credentials::Bearer(Secret::new(token))
    } else if let Some(identity) = text(data, "identity")? {
        Credentials::Ssh {
            identity: Secret::new(identity),
            known_hosts: text(data, "known_hosts")?.unwrap_or_default(),
            password: text(data, "password")?.map(Secret::new),
        }
    } else if let Some(username) = text(data, "username")? {
        let password =
            text(data, "password")?.ok_or_else(|| invalid("'username' is set and 'password' is missing"))?;
        Credentials::Basic {
            username,
            password: Secret::new(password),
        }
    } else if tls.ca.is_some() || tls.client.is_some() {
        Credentials::None
    } else {
        let keys: Vec<&str> = data.keys().map(String::as_str).collect();
        return Err(invalid(&format!(
            "the Secret has none of 'username' and 'password', 'bearerToken', 'identity' and 'known_hosts', or 'ca.crt' \
             (it has: {})",
            if keys.is_empty() {
                "nothing".to_owned()
            } else {
                keys.join(", ")
            }
        )));
    };
    remote.tls = tls;
    remote.with_credentials(credentials)
}

/// The proxy of `spec.proxySecretRef`'s Secret.
pub(super) fn proxy(secret: &KubeSecret) -> Result<Proxy, GitError> {
    let empty = Data::new();
    let data = secret.data.as_ref().unwrap_or(&empty);
    Ok(Proxy {
        address: text(data, "address")?.ok_or_else(|| invalid("the proxy's Secret has no 'address'"))?,
        username: text(data, "username")?,
        password: text(data, "password")?.map(Secret::new),
    })
}

fn client_certificate(data: &Data) -> Result<Option<(String, Secret)>, GitError> {
    match (text(data, "tls.crt")?, text(data, "tls.key")?) {
        (Some(certificate), Some(key)) => Ok(Some((certificate, Secret::new(key)))),
        (None, None) => Ok(None),
        _ => Err(invalid(
            "'tls.crt' and 'tls.key' belong together: one of them is missing",
        )),
    }
}

fn text(data: &Data, key: &str) -> Result<Option<String>, GitError> {
    let Some(ByteString(bytes)) = data.get(key) else {
        return Ok(None);
    };
    let text = std::str::from_utf8(bytes).map_err(|_| invalid(&format!("'{key}' is not text")))?;
    // A trailing line break comes from `kubectl create secret --from-file` and breaks tokens and passwords.
    let text = if key.contains("password") || key == "bearerToken" || key == "username" || key == "address" {
        text.trim_end_matches(['\r', '\n'])
    } else {
        text
    };
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

fn invalid(reason: &str) -> GitError {
    GitError::InvalidCredentials(reason.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::{FileUrls, RemoteUrl};

    fn secret(entries: &[(&str, &str)]) -> KubeSecret {
        let data = entries
            .iter()
            .map(|(k, v)| ((*k).to_owned(), ByteString(v.as_bytes().to_vec())))
            .collect();
        KubeSecret {
            data: Some(data),
            ..KubeSecret::default()
        }
    }

    fn remote(url: &str) -> Remote {
        Remote::new(RemoteUrl::parse(url, FileUrls::Refused).unwrap())
    }

    #[test]
    fn each_kind_of_secret_gives_its_credentials() {
        let basic = secret(&[("username", "me"), ("password", "s3cret\n")]);
        let got = authenticate(remote("https://example.com/a"), &basic)
            .unwrap()
            .credentials;
        assert_eq!(
            got,
            Credentials::Basic {
                username: "me".into(),
                password: Secret::new("s3cret")
            }
        );
        let bearer = secret(&[("bearerToken", "t"), ("ca.crt", "x"), ("caFile", "y")]);
        let got = authenticate(remote("https://example.com/a"), &bearer).unwrap();
        assert_eq!(
            (got.credentials, got.tls.ca.as_deref()),
            (Credentials::Bearer(Secret::new("t")), Some("x"))
        );
        assert_eq!(
            proxy(&secret(&[("address", "http://p:1")])).unwrap().address,
            "http://p:1"
        );
    }

    #[test]
    fn what_is_missing_is_named_and_values_are_not() {
        for (entries, expected) in [
            (vec![("user", "me")], "it has: user"),
            (vec![("username", "me")], "'password' is missing"),
            (
                vec![("username", "me"), ("password", "s3cret"), ("tls.crt", "x")],
                "belong together",
            ),
        ] {
            let message = authenticate(remote("https://example.com/a"), &secret(&entries))
                .unwrap_err()
                .to_string();
            assert!(
                message.contains(expected) && !message.contains("s3cret"),
                "{message}"
            );
        }
        let ssh = secret(&[("identity", "-----BEGIN OPENSSH PRIVATE KEY-----")]);
        let message = authenticate(remote("ssh://git@example.com/a"), &ssh)
            .unwrap_err()
            .to_string();
        assert!(message.contains("known_hosts"), "{message}");
    }
}
