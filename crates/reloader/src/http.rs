//! One HTTP POST, for alerts, notifications and the webhook. Blocking inside, on the blocking pool, bounded by one deadline.

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use ureq::{
    Agent, Proxy,
    tls::{Certificate, RootCerts, TlsConfig, TlsProvider},
};

/// The system's authorities, read once.
static AUTHORITIES: LazyLock<Vec<Certificate<'static>>> = LazyLock::new(|| {
    let found = rustls_native_certs::load_native_certs();
    found
        .certs
        .iter()
        .map(|certificate| Certificate::from_der(certificate).to_owned())
        .collect()
});

/// Posts a body. The error is told without the address, which is a secret.
pub(crate) async fn post(
    url: &str,
    proxy: Option<&str>,
    (content_type, body): (&'static str, String),
    timeout: Duration,
) -> Result<(), String> {
    let proxy = proxy
        .map(Proxy::new)
        .transpose()
        .map_err(|_| "the proxy is no proxy address".to_owned())?;
    let url = url.to_owned();
    let posted = tokio::task::spawn_blocking(move || {
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .root_certs(RootCerts::new_with_certs(&AUTHORITIES))
            .build();
        let config = Agent::config_builder()
            .timeout_global(Some(timeout))
            .proxy(proxy)
            .tls_config(tls)
            .build();
        config
            .new_agent()
            .post(&url)
            .header("content-type", content_type)
            .send(body)
            .map(drop)
    });
    match posted.await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(ureq::Error::StatusCode(code))) => Err(format!("the webhook answered {code}")),
        Ok(Err(ureq::Error::Timeout(_))) => Err(format!("no answer within {} s", timeout.as_secs())),
        Ok(Err(ureq::Error::BadUri(_))) => Err("the webhook is no address".into()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("posting panicked".into()),
    }
}
