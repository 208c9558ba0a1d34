//! The Kubernetes client every controller uses.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use axum::http::Uri;
use hyper::rt::{Read, Write};
use hyper_timeout::TimeoutConnector;
use hyper_util::{
    client::legacy::{
        self,
        connect::{Connection, HttpConnector},
    },
    rt::TokioExecutor,
};
use kube::{
    Client, Config,
    client::{Body, ConfigExt as _, retry::RetryPolicy},
    config::KubeConfigOptions,
};
use tower::{BoxError, Service, ServiceBuilder, retry::RetryLayer};

use crate::watched::{Observe, Observer};

/// Which kubeconfig to read.
#[derive(Clone, Debug, Default)]
pub struct ClientOptions {
    /// Path of a kubeconfig file; without it `KUBECONFIG`, `~/.kube/config`, then the Pod's ServiceAccount.
    pub kubeconfig: Option<std::path::PathBuf>,
    /// Context of the kubeconfig; without it the current one.
    pub context: Option<String>,
}

/// Delays after 429, 503 and 504, and how often they are tried again: about 5 s in all. kube's own goes on for so long that
/// whoever asks about a kind whose server is down waits for nothing but its own time-out, and holds others up meanwhile.
const RETRIES: (Duration, Duration, u32) = (Duration::from_millis(20), Duration::from_secs(1), 9);

/// Chooses aws-lc-rs as the process's TLS provider. Call it first in `main`: rustls refuses to guess.
pub fn install_crypto_provider() {
    // `Err` carries the provider that is already installed, which is the same one.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
}

/// Reads the configuration of the cluster to talk to.
pub async fn config(options: &ClientOptions) -> anyhow::Result<Config> {
    let context = KubeConfigOptions {
        context: options.context.clone(),
        ..Default::default()
    };
    let mut config = if let Some(path) = &options.kubeconfig {
        let kubeconfig = kube::config::Kubeconfig::read_from(path)
            .with_context(|| format!("cannot read the kubeconfig {}", path.display()))?;
        Config::from_custom_kubeconfig(kubeconfig, &context)
            .await
            .with_context(|| format!("the kubeconfig {} cannot be used", path.display()))?
    } else if options.context.is_some() {
        Config::from_kubeconfig(&context)
            .await
            .context("the kubeconfig's context cannot be used")?
    } else {
        Config::infer().await.context(
            "no cluster to talk to: set KUBECONFIG, create ~/.kube/config, or run in a Pod with a ServiceAccount",
        )?
    };
    // A dead API server must not hold a request for ever; watches send bookmarks every minute.
    config.read_timeout = Some(Duration::from_secs(295));
    config.reset_reader_on_write = true;
    Ok(config)
}

/// A client whose requests carry `user_agent` (`plumbline-sync/0.1.0`), by which the audit log tells them apart.
pub async fn connect(options: &ClientOptions, user_agent: &str) -> anyhow::Result<Client> {
    connect_observed(options, user_agent, None).await
}

/// As [`connect`], telling an observer of every request.
pub async fn connect_observed(
    options: &ClientOptions,
    user_agent: &str,
    observer: Option<Arc<dyn Observer>>,
) -> anyhow::Result<Client> {
    let mut config = config(options).await?;
    let value = user_agent
        .parse()
        .with_context(|| format!("{user_agent:?} is no user agent"))?;
    config.headers.push((axum::http::header::USER_AGENT, value));
    of(&config, observer)
}

/// A client of a configuration.
///
/// kube's own client leaves Nagle's algorithm on: the first request of every new connection then waits for a delayed
/// acknowledgement, 40 ms on Linux. This one is made of the same parts, and sends at once. Behind a proxy it is kube's own.
pub fn of(config: &Config, observer: Option<Arc<dyn Observer>>) -> anyhow::Result<Client> {
    if config.proxy_url.is_some() {
        return Ok(Client::try_from(config.clone())?);
    }
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_nodelay(true);
    over(config, http, observer)
}

/// A client whose connections `connector` makes. A proxy of the configuration is the connector's business.
pub fn over<C>(config: &Config, connector: C, observer: Option<Arc<dyn Observer>>) -> anyhow::Result<Client>
where
    C: Service<Uri> + Clone + Send + Sync + 'static,
    C::Response: Connection + Read + Write + Send + Unpin + 'static,
    C::Future: Send + 'static,
    C::Error: Into<BoxError>,
{
    let mut connector = TimeoutConnector::new(config.rustls_https_connector_with_connector(connector)?);
    connector.set_connect_timeout(config.connect_timeout);
    connector.set_read_timeout(config.read_timeout);
    connector.set_write_timeout(config.write_timeout);
    connector.set_reset_reader_on_write(config.reset_reader_on_write);
    let client: legacy::Client<_, Body> = legacy::Client::builder(TokioExecutor::new()).build(connector);
    let (least, most, times) = RETRIES;
    let policy =
        RetryPolicy::new(least, most, times, true).context("the delays between retries are no delays")?;
    let retry = config.default_retry.then(|| RetryLayer::new(policy));
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(retry)
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .layer(Observe(observer))
        .service(client);
    Ok(Client::new(service, config.default_namespace.clone()))
}
