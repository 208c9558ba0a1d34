//! Whom we trust over `https://`: the system's authorities and those of the Secret.

use std::sync::{Arc, LazyLock};

use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, TlsProvider, parse_pem};

use super::super::{GitError, remote::Tls};

/// The system's authorities, read once.
static SYSTEM: LazyLock<Vec<Certificate<'static>>> = LazyLock::new(|| {
    let found = rustls_native_certs::load_native_certs();
    found
        .certs
        .iter()
        .map(|certificate| Certificate::from_der(certificate).to_owned())
        .collect()
});

/// TLS by rustls over aws-lc-rs, whatever else the process has chosen.
pub(super) fn config(tls: &Tls) -> Result<TlsConfig, GitError> {
    let mut authorities = SYSTEM.clone();
    if let Some(pem) = &tls.ca {
        authorities.extend(certificates(pem, "ca.crt")?);
    }
    let client = match &tls.client {
        Some((pem, key)) => {
            let key = PrivateKey::from_pem(key.expose().as_bytes()).map_err(|_| {
                GitError::InvalidCredentials("'tls.key' holds no private key in PEM form".to_owned())
            })?;
            Some(ClientCert::new_with_certs(&certificates(pem, "tls.crt")?, key))
        }
        None => None,
    };
    Ok(TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .root_certs(RootCerts::new_with_certs(&authorities))
        .client_cert(client)
        .build())
}

fn certificates(pem: &str, key: &'static str) -> Result<Vec<Certificate<'static>>, GitError> {
    let found: Vec<_> = parse_pem(pem.as_bytes())
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if found.is_empty() {
        return Err(GitError::InvalidCredentials(format!(
            "'{key}' holds no certificate in PEM form"
        )));
    }
    Ok(found)
}
