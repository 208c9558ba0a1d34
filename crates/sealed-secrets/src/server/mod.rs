//! The HTTP API that kubeseal talks to. Whoever is in the cluster may call it, so it never renders a template, never
//! tells one failure from another, and never seals for more than what it was given was sealed for.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use axum::routing::any;
use plumbline_common::shutdown::Stopping;
use tokio::sync::{Semaphore, watch};

use self::body::{Bodies, NotReceived, Received};
use crate::config::Config;
use crate::crypto::Keyring;
use crate::limit::Limit;
use crate::metrics::Metrics;
use crate::unseal::DeprecatedData;

mod body;
mod connections;
mod reseal;

/// What the endpoints answer from.
#[derive(Clone)]
pub struct Server {
    keyring: watch::Receiver<Arc<Keyring>>,
    metrics: Metrics,
    verify_limit: Arc<Mutex<Limit>>,
    rotate_limit: Arc<Mutex<Limit>>,
    deprecated: DeprecatedData,
    /// How long a request may take, body and answer.
    timeout: Duration,
    bodies: Bodies,
    /// One request at a time is worked on: opening is for the cluster's objects first.
    turn: Arc<Semaphore>,
}

impl Server {
    /// Answers by the keys of `keyring`, within the limits of `config`.
    pub fn new(config: &Config, keyring: watch::Receiver<Arc<Keyring>>, metrics: Metrics) -> Self {
        let limit = || Arc::new(Mutex::new(Limit::new(config.rate_limit, config.rate_limit_burst)));
        Self {
            keyring,
            metrics,
            verify_limit: limit(),
            rotate_limit: limit(),
            deprecated: DeprecatedData::from_flag(config.accept_deprecated_v1_data),
            timeout: config.read_timeout.min(config.write_timeout),
            bodies: Bodies::default(),
            turn: Arc::new(Semaphore::new(1)),
        }
    }

    /// Serves on `address` until the process stops.
    pub async fn serve(self, address: SocketAddr, stopping: Stopping) -> anyhow::Result<()> {
        let lifetime = self.timeout.saturating_mul(2);
        connections::serve(address, self.router(), lifetime, stopping).await
    }

    /// The routes.
    fn router(self) -> Router {
        Router::new()
            .route(
                "/healthz",
                any(async || ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], "ok\n")),
            )
            .route("/v1/cert.pem", any(certificate))
            .route("/v1/verify", any(verify))
            .route("/v1/rotate", any(rotate))
            .layer(axum::middleware::from_fn_with_state(self.clone(), measured))
            .with_state(self)
    }
}

/// Bounds, counts and times every request. Paths are the known ones: a label must not come from a caller.
async fn measured(State(server): State<Server>, request: Request, next: Next) -> Response {
    let path = match request.uri().path() {
        path @ ("/healthz" | "/v1/cert.pem" | "/v1/rotate" | "/v1/verify") => path.to_owned(),
        _ => "other".to_owned(),
    };
    let method = match request.method().as_str() {
        method @ ("GET" | "HEAD" | "POST" | "PUT") => method.to_owned(),
        _ => "other".to_owned(),
    };
    let begin = Instant::now();
    let response = match tokio::time::timeout(server.timeout, next.run(request)).await {
        Ok(response) => response,
        Err(_) => StatusCode::REQUEST_TIMEOUT.into_response(),
    };
    server.metrics.http(
        &path,
        &method,
        response.status().as_u16(),
        begin.elapsed().as_secs_f64(),
    );
    response
}

async fn certificate(State(server): State<Server>) -> Response {
    match server.keyring.borrow().sealing() {
        Some(sealing) => {
            let pem = sealing.certificate.pem.clone();
            ([(header::CONTENT_TYPE, "application/x-pem-file")], pem).into_response()
        }
        None => (StatusCode::INTERNAL_SERVER_ERROR, "cannot get certificate\n").into_response(),
    }
}

async fn verify(State(server): State<Server>, request: Request) -> Response {
    let body = match server.receive(&server.verify_limit, request).await {
        Ok(body) => body,
        Err(NotReceived::Busy) => return StatusCode::TOO_MANY_REQUESTS.into_response(),
        Err(NotReceived::Bad) => return StatusCode::BAD_REQUEST.into_response(),
    };
    let (keyring, deprecated) = (Arc::clone(&server.keyring.borrow()), server.deprecated);
    server
        .answer(move || {
            let code = match reseal::verify(&body.bytes, &keyring, deprecated) {
                Some(Ok(())) => StatusCode::OK,
                Some(Err(_)) => StatusCode::CONFLICT,
                None => StatusCode::INTERNAL_SERVER_ERROR,
            };
            code.into_response()
        })
        .await
}

async fn rotate(State(server): State<Server>, request: Request) -> Response {
    let body = match server.receive(&server.rotate_limit, request).await {
        Ok(body) => body,
        Err(NotReceived::Busy) => return StatusCode::TOO_MANY_REQUESTS.into_response(),
        Err(NotReceived::Bad) => return StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    };
    let (keyring, deprecated) = (Arc::clone(&server.keyring.borrow()), server.deprecated);
    server
        .answer(move || match reseal::reseal(&body.bytes, &keyring, deprecated) {
            Some(text) => ([(header::CONTENT_TYPE, "application/json")], text).into_response(),
            None => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        })
        .await
}

impl Server {
    /// The body, if there is room for one more request: nothing is read of the others.
    async fn receive(&self, limit: &Mutex<Limit>, request: Request) -> Result<Received, NotReceived> {
        if !allowed(limit) {
            return Err(NotReceived::Busy);
        }
        self.bodies.receive(request.into_body()).await
    }

    /// RSA is milliseconds of CPU an item: never on the threads that serve, and on one thread for everybody. Whoever gives up
    /// waiting does not make room: the work is done to its end.
    async fn answer(&self, work: impl FnOnce() -> Response + Send + 'static) -> Response {
        let Ok(turn) = Arc::clone(&self.turn).acquire_owned().await else {
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        };
        let done = tokio::task::spawn_blocking(move || {
            let response = work();
            drop(turn);
            response
        });
        done.await
            .unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
    }
}

fn allowed(limit: &Mutex<Limit>) -> bool {
    limit
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .allow(Instant::now())
}
