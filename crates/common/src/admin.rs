//! The administrative HTTP server: liveness, readiness, metrics.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::Context as _;
use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use prometheus_client::{encoding::text::encode, registry::Registry};

use crate::shutdown::Stopping;

/// What `/readyz` and `/metrics` answer from. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Admin {
    ready: Arc<AtomicBool>,
    registry: Arc<Mutex<Registry>>,
}

impl Admin {
    /// Not ready yet, with the metrics of `registry`.
    pub fn new(registry: Registry) -> Self {
        Self {
            ready: Arc::default(),
            registry: Arc::new(Mutex::new(registry)),
        }
    }

    /// Says from now on whether the process is ready.
    pub fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Relaxed);
    }

    /// The metrics in OpenMetrics text form.
    pub fn metrics(&self) -> Result<String, std::fmt::Error> {
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        encode(&mut text, &registry)?;
        Ok(text)
    }

    /// `/livez`, `/healthz`, `/readyz` and `/metrics`; a controller may merge its own routes into it.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/livez", get(async || "ok\n"))
            .route("/healthz", get(async || "ok\n"))
            .route("/readyz", get(readyz))
            .route("/metrics", get(metrics))
            .with_state(self.clone())
    }
}

async fn readyz(State(admin): State<Admin>) -> (StatusCode, &'static str) {
    if admin.ready.load(Ordering::Relaxed) {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
    }
}

async fn metrics(State(admin): State<Admin>) -> axum::response::Response {
    match admin.metrics() {
        Ok(text) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// Parses Go's listen address: `:8080` means every interface, `0` or nothing means no server.
pub fn listen_address(text: &str) -> anyhow::Result<Option<SocketAddr>> {
    if text.is_empty() || text == "0" {
        return Ok(None);
    }
    let full = if text.starts_with(':') {
        format!("[::]{text}")
    } else {
        text.to_owned()
    };
    let address = full.replace("localhost", "127.0.0.1");
    address
        .parse()
        .map(Some)
        .with_context(|| format!("{text:?} is no address to listen on: write :PORT or HOST:PORT"))
}

/// Serves `router` on `address` until the process stops.
pub async fn serve(address: SocketAddr, router: Router, stopping: Stopping) -> anyhow::Result<()> {
    axum::serve(listen(address).await?, router)
        .with_graceful_shutdown(stopping.wait())
        .await?;
    Ok(())
}

/// Listens on `address`.
pub async fn listen(address: SocketAddr) -> anyhow::Result<tokio::net::TcpListener> {
    match tokio::net::TcpListener::bind(address).await {
        // A node without IPv6: the same port on every IPv4 interface.
        Err(_) if address.is_ipv6() && address.ip().is_unspecified() => {
            tokio::net::TcpListener::bind(SocketAddr::from(([0, 0, 0, 0], address.port()))).await
        }
        bound => bound,
    }
    .with_context(|| format!("cannot listen on {address}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listen_addresses_follow_go() {
        assert_eq!(listen_address(":8080").unwrap().unwrap().to_string(), "[::]:8080");
        assert_eq!(
            listen_address("localhost:1").unwrap().unwrap().to_string(),
            "127.0.0.1:1"
        );
        assert_eq!(listen_address("0").unwrap(), None);
        assert!(listen_address("nonsense").is_err());
    }
}
