//! A client whose new connections send small writes at once.
//!
//! kube's own client leaves Nagle's algorithm on: the first request of a connection waits for a delayed acknowledgement, 40 ms
//! on Linux. The reloader keeps its connections; this program drops one with every watch, and would measure itself.

use std::time::Duration;

use anyhow::Context as _;
use hyper_timeout::TimeoutConnector;
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::TokioExecutor,
};
use kube::{
    Client,
    client::{Body, ConfigExt},
};
use plumbline_common::client::{self, ClientOptions};
use tower::{BoxError, ServiceBuilder};

const CONNECT: Duration = Duration::from_secs(10);

/// A client whose requests carry `user_agent`. Through a proxy it is kube's own.
pub(crate) async fn connect(options: &ClientOptions, user_agent: &str) -> anyhow::Result<Client> {
    let config = client::config(options).await?;
    if config.proxy_url.is_some() {
        return client::connect(options, user_agent).await;
    }
    let mut config = config;
    let name = user_agent
        .parse()
        .with_context(|| format!("{user_agent:?} is no user agent"))?;
    config.headers.push((http::header::USER_AGENT, name));

    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_nodelay(true);
    let mut connector = TimeoutConnector::new(config.rustls_https_connector_with_connector(http)?);
    connector.set_connect_timeout(Some(config.connect_timeout.unwrap_or(CONNECT)));
    connector.set_read_timeout(config.read_timeout);
    connector.set_write_timeout(config.write_timeout);
    connector.set_reset_reader_on_write(config.reset_reader_on_write);
    let client: legacy::Client<_, Body> = legacy::Client::builder(TokioExecutor::new()).build(connector);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(client);
    Ok(Client::new(service, config.default_namespace))
}
