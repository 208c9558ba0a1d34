//! The HTTP API that kubeseal talks to. Whoever is in the cluster may call it, so it never renders a template, never
//! tells one failure from another, and never seals for more than what it was given was sealed for.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use axum::routing::any;
use rand::rngs::SysRng;
use serde_json::Value;
use tokio::sync::watch;

use crate::api::SealedSecret;
use crate::crypto::{Keyring, seal};
use crate::documents;
use crate::limit::Limit;
use crate::metrics::Metrics;
use crate::scope::Scope;
use crate::unseal::{DeprecatedData, unseal};

/// An object cannot be larger in etcd.
const MAX_BODY: usize = 2 << 20;

/// What the endpoints answer from.
#[derive(Clone)]
pub struct Server {
    /// The keys.
    pub keyring: watch::Receiver<Arc<Keyring>>,
    /// What is counted.
    pub metrics: Metrics,
    /// Of /v1/verify.
    pub verify_limit: Arc<Mutex<Limit>>,
    /// Of /v1/rotate.
    pub rotate_limit: Arc<Mutex<Limit>>,
    /// How long a request may take, body and answer.
    pub timeout: std::time::Duration,
}

impl Server {
    /// The routes.
    pub fn router(self) -> Router {
        Router::new()
            .route(
                "/healthz",
                any(async || ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], "ok\n")),
            )
            .route("/v1/cert.pem", any(certificate))
            .route("/v1/verify", any(verify))
            .route("/v1/rotate", any(rotate))
            .layer(DefaultBodyLimit::max(MAX_BODY))
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
    match server.keyring.borrow().newest() {
        Some(newest) => {
            let pem = newest.certificate.pem.clone();
            ([(header::CONTENT_TYPE, "application/x-pem-file")], pem).into_response()
        }
        None => (StatusCode::INTERNAL_SERVER_ERROR, "cannot get certificate\n").into_response(),
    }
}

async fn verify(
    State(server): State<Server>,
    body: Result<Bytes, axum::extract::rejection::BytesRejection>,
) -> Response {
    if !allowed(&server.verify_limit) {
        return StatusCode::TOO_MANY_REQUESTS.into_response();
    }
    let Ok(body) = body else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let keyring = Arc::clone(&server.keyring.borrow());
    answer(move || {
        let Some((_, sealed)) = read(&body) else {
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        };
        match unseal(&sealed, &keyring, DeprecatedData::Accept, &BTreeMap::new()) {
            Ok(_) => StatusCode::OK.into_response(),
            Err(_) => StatusCode::CONFLICT.into_response(),
        }
    })
    .await
}

async fn rotate(
    State(server): State<Server>,
    body: Result<Bytes, axum::extract::rejection::BytesRejection>,
) -> Response {
    if !allowed(&server.rotate_limit) {
        return StatusCode::TOO_MANY_REQUESTS.into_response();
    }
    let Ok(body) = body else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let keyring = Arc::clone(&server.keyring.borrow());
    answer(move || match reseal(&body, &keyring) {
        Some(text) => ([(header::CONTENT_TYPE, "application/json")], text).into_response(),
        None => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    })
    .await
}

/// RSA is milliseconds of CPU an item: never on the threads that serve.
async fn answer(work: impl FnOnce() -> Response + Send + 'static) -> Response {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
}

fn allowed(limit: &Mutex<Limit>) -> bool {
    limit
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .allow(Instant::now())
}

/// The one SealedSecret of `body`.
fn read(body: &[u8]) -> Option<(Value, SealedSecret)> {
    let [value]: [Value; 1] = documents::parse(body).ok()?.try_into().ok()?;
    if value.get("kind")?.as_str()? != "SealedSecret"
        || value.get("apiVersion")?.as_str()? != "bitnami.com/v1alpha1"
    {
        return None;
    }
    let sealed: SealedSecret = serde_json::from_value(value.clone()).ok()?;
    // A label joins namespace and name with a slash: names that contain one would move the border.
    let valid = |name: Option<&String>| {
        name.is_none_or(|name| {
            name.len() <= 253
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte))
        })
    };
    (valid(sealed.metadata.name.as_ref()) && valid(sealed.metadata.namespace.as_ref()))
        .then_some((value, sealed))
}

/// The same object with every ciphertext under the newest key, for the scope it had; everything else as it came.
fn reseal(body: &[u8], keyring: &Keyring) -> Option<String> {
    let (mut value, sealed) = read(body)?;
    let newest = &keyring.newest()?.certificate.public_key;
    let metadata = &sealed.metadata;
    let label = Scope::of(metadata.annotations.as_ref()).label(
        metadata.namespace.as_deref().unwrap_or_default(),
        metadata.name.as_deref().unwrap_or_default(),
    );
    // Both forms at once do not open, and so are not sealed either.
    if sealed.spec.data.is_some() && !sealed.spec.encrypted_data.is_empty() {
        return None;
    }
    let mut items = sealed.spec.encrypted_data.clone();
    items.extend(sealed.spec.data.iter().map(|blob| (String::new(), blob.clone())));
    // Everything is opened, and only then something is sealed: where it fails makes no difference in time.
    let opened: Vec<_> = items
        .into_iter()
        .map(|(key, item)| (key, keyring.open(&label, &item, None)))
        .collect();
    let opened = opened
        .into_iter()
        .map(|(key, opened)| Some((key, opened.ok()?.plaintext)))
        .collect::<Option<Vec<_>>>()?;
    let mut resealed = opened.iter().map(|(key, plaintext)| {
        let item = seal(&mut SysRng, newest, &label, plaintext).ok()?;
        Some((key.clone(), Value::String(item)))
    });
    let spec = value.get_mut("spec")?.as_object_mut()?;
    if sealed.spec.data.is_some() {
        let (_, blob) = resealed.next()??;
        spec.insert("data".to_owned(), blob);
    } else {
        let items = resealed.collect::<Option<_>>()?;
        spec.insert("encryptedData".to_owned(), Value::Object(items));
    }
    serde_json::to_string(&value).ok()
}
