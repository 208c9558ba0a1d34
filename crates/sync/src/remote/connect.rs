//! Clients of remote clusters.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{self, Poll},
    time::Duration,
    vec,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::HeaderValue;
use hyper_util::client::legacy::connect::{
    HttpConnector,
    dns::{GaiResolver, Name},
    proxy::Tunnel,
};
use kube::{Client, Config, config::KubeConfigOptions};
use percent_encoding::percent_decode_str;
use plumbline_common::{client, watched::Observer};
use tower::Service;

use super::{gate::Gate, kubeconfig::Access};
use crate::git::admit_address;

/// Bound on connecting; a cluster that is far away needs less than a second.
const CONNECT: Duration = Duration::from_secs(5);
/// Told apart in the audit log of the cluster.
const USER_AGENT: &str = concat!("plumbline-sync/", env!("CARGO_PKG_VERSION"));

/// How to reach the cluster of a kubeconfig, as the user that it names.
pub(super) async fn config(access: &Access) -> anyhow::Result<Config> {
    let options = KubeConfigOptions::default();
    let mut config = Config::from_custom_kubeconfig(access.kubeconfig.clone(), &options).await?;
    config.connect_timeout = Some(CONNECT);
    // As for our own cluster: a dead API server must not hold a watch for ever.
    config.read_timeout = Some(Duration::from_secs(295));
    config.reset_reader_on_write = true;
    config
        .headers
        .push((http::header::USER_AGENT, HeaderValue::from_static(USER_AGENT)));
    Ok(config)
}

/// The same as somebody else.
pub(super) fn acting_as(mut config: Config, user: &str) -> Config {
    config.auth_info.impersonate = Some(user.to_owned());
    // What the kubeconfig impersonates would add its rights.
    config.auth_info.impersonate_uid = None;
    config.auth_info.impersonate_groups = None;
    config.auth_info.impersonate_user_extra = None;
    config
}

/// A client. Names are resolved here, so that they cannot lead where they may not; a proxy resolves names itself.
pub(super) fn client(
    config: &Config,
    proxy: Option<&http::Uri>,
    observer: Option<Arc<dyn Observer>>,
) -> anyhow::Result<Client> {
    let mut http = HttpConnector::new_with_resolver(Admitted(GaiResolver::new()));
    http.enforce_http(false);
    http.set_nodelay(true);
    http.set_connect_timeout(Some(CONNECT));
    match (proxy, &config.proxy_url) {
        (Some(proxy), _) => {
            let authority = proxy.authority().map(http::uri::Authority::as_str);
            let credentials = authority.and_then(|text| text.rsplit_once('@'));
            let mut tunnel = Tunnel::new(proxy.clone(), http);
            if let Some((user, _)) = credentials {
                tunnel = tunnel.with_auth(basic(user)?);
            }
            client::over(config, tunnel, observer)
        }
        // The environment of this process names one.
        (None, Some(_)) => Ok(Client::try_from(config.clone())?),
        (None, None) => client::over(config, http, observer),
    }
}

fn basic(credentials: &str) -> anyhow::Result<HeaderValue> {
    let credentials: Vec<u8> = percent_decode_str(credentials).collect();
    let mut value = HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(credentials)))?;
    value.set_sensitive(true);
    Ok(value)
}

/// A client whose requests pass a gate.
pub(super) fn gated(client: Client, gate: Arc<Gate>) -> Client {
    let namespace = client.default_namespace().to_owned();
    Client::new(super::gate::Gated { client, gate }, namespace)
}

/// Resolves names, and leaves out the addresses that give away a machine's credentials.
#[derive(Clone)]
struct Admitted(GaiResolver);

impl Service<Name> for Admitted {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, context: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let resolving = self.0.call(name);
        Box::pin(async move {
            let mut admitted = Vec::new();
            let mut refused = None;
            for address in resolving.await? {
                match admit_address(address.ip()) {
                    Ok(()) => admitted.push(address),
                    Err(why) => refused = Some(why),
                }
            }
            match refused {
                Some(why) if admitted.is_empty() => Err(io::Error::other(why)),
                _ => Ok(admitted.into_iter()),
            }
        })
    }
}
