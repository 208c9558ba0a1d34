//! The HTTP side: what a caller may do, and how little it may cost.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, Method, StatusCode},
    response::{IntoResponse as _, Response},
};
use futures::StreamExt as _;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use kube::Client;
use plumbline_common::{
    admin,
    events::{self, Recorder},
    shutdown::Stopping,
};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use super::{
    hooks::{Hook, Hooks, Turn},
    signature::{Check, Proof},
    trigger,
};
use crate::metrics::Metrics;

/// The most that GitHub sends. Nothing of it is kept.
const MAX_BODY: usize = 25 << 20;
/// Connections at a time; more wait.
const CONNECTIONS: usize = 128;
/// How long a client may take over the head of a request.
const HEAD: Duration = Duration::from_secs(5);
/// How long a connection may last, whatever is said over it.
const CONNECTION: Duration = Duration::from_secs(30);
/// How long the API server may take. Git servers give up after ten seconds or so.
const TRIGGER: Duration = Duration::from_secs(8);

/// What requests are answered from. Cloning is cheap.
#[derive(Clone)]
pub(super) struct Server {
    /// The hooks.
    pub(super) hooks: Arc<Hooks>,
    /// The Kubernetes API.
    pub(super) client: Client,
    /// Where events go.
    pub(super) recorder: Recorder,
    /// What is counted.
    pub(super) metrics: Metrics,
    nobody: Arc<Zeroizing<Vec<u8>>>,
}

impl Server {
    /// Answers from these.
    pub(super) fn new(hooks: Arc<Hooks>, client: Client, recorder: Recorder, metrics: Metrics) -> Self {
        let nobody: [u8; 32] = rand::random();
        Self {
            hooks,
            client,
            recorder,
            metrics,
            nobody: Arc::new(Zeroizing::new(nobody.to_vec())),
        }
    }

    async fn answer(&self, request: Request) -> (&'static str, Response) {
        let (head, body) = request.into_parts();
        if head.method != Method::POST {
            return (
                "refused",
                (StatusCode::METHOD_NOT_ALLOWED, "only POST is served\n").into_response(),
            );
        }
        let found = self.hooks.find(head.uri.path());
        // Who guesses a path learns nothing: it costs the same, and the answer is the same.
        let mut check = match &found {
            Some(hook) => Check::begin(hook.proof, &hook.token.0, &head.headers),
            None => Check::begin(Proof::GitHub, &self.nobody, &head.headers),
        };
        if let Err(refused) = read(body, &mut check).await {
            return ("refused", refused);
        }
        let proven = check.finish();
        let Some(hook) = found else {
            return ("unknown", refused());
        };
        if !proven {
            self.complain(&hook);
            return ("refused", refused());
        }
        self.accept(hook, &head.headers).await
    }

    async fn accept(&self, hook: Arc<Hook>, headers: &HeaderMap) -> (&'static str, Response) {
        if hook.suspended {
            let text = "the Receiver is suspended: nothing is done\n";
            return (
                "suspended",
                (StatusCode::SERVICE_UNAVAILABLE, text).into_response(),
            );
        }
        if let Some(event) = hook.proof.event(headers)
            && !hook.events.is_empty()
            && !hook.events.iter().any(|wanted| wanted == event)
        {
            let text = "the event is not among spec.events of the Receiver: nothing is done\n";
            return ("ignored", text.into_response());
        }
        match hook.pace.turn(Instant::now()) {
            Turn::Taken => ("merged", "will be looked at in a moment\n".into_response()),
            Turn::Later(delay) => {
                let server = self.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(delay).await;
                    server.trigger(&hook).await
                });
                ("merged", "will be looked at in a moment\n".into_response())
            }
            Turn::Now => {
                if self.trigger(&hook).await.is_ok() {
                    return ("triggered", "is looked at\n".into_response());
                }
                let text = "not everything could be told to look: see the events of the Receiver\n";
                (
                    "failed",
                    (StatusCode::INTERNAL_SERVER_ERROR, text).into_response(),
                )
            }
        }
    }

    async fn trigger(&self, hook: &Hook) -> Result<(), ()> {
        let (namespace, name) = &hook.key;
        let problem = match tokio::time::timeout(TRIGGER, trigger::trigger(&self.client, hook)).await {
            Ok(Ok(objects)) => {
                tracing::info!(name, namespace, objects, "a webhook asks to look");
                return Ok(());
            }
            Ok(Err(failed)) => failed.to_string(),
            Err(_) => format!("the API server did not answer within {} s", TRIGGER.as_secs()),
        };
        tracing::warn!(name, namespace, problem, "a webhook cannot be passed on");
        self.tell(
            hook,
            "TriggerFailed",
            format!("a webhook cannot be passed on: {problem}"),
        );
        Err(())
    }

    /// Says on the Receiver, and only there, that somebody knows its path and not its token.
    fn complain(&self, hook: &Hook) {
        if hook.complaints.turn(Instant::now()) != Turn::Now {
            return;
        }
        let (namespace, name) = &hook.key;
        tracing::warn!(
            name,
            namespace,
            "a webhook is not signed with the token of its Receiver"
        );
        let message = "a request came to the path of this Receiver without a valid signature: compare the token of the \
                       Git server with the Secret of spec.secretRef, and spec.type with the server";
        self.tell(hook, "RequestRefused", message.to_owned());
    }

    fn tell(&self, hook: &Hook, reason: &str, message: String) {
        self.recorder.record(events::Note {
            regarding: hook.regarding.clone(),
            kind: events::Kind::Warning,
            reason: reason.to_owned(),
            message,
            annotations: std::collections::BTreeMap::new(),
        });
    }
}

fn refused() -> Response {
    let text = "no Receiver has this path and accepts this signature\n";
    (StatusCode::NOT_FOUND, text).into_response()
}

/// Hashes the body as it comes.
async fn read(body: Body, check: &mut Check) -> Result<(), Response> {
    let mut pieces = body.into_data_stream();
    let mut size = 0;
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|_| (StatusCode::BAD_REQUEST, "the body broke off\n").into_response())?;
        size += piece.len();
        if size > MAX_BODY {
            return Err((StatusCode::PAYLOAD_TOO_LARGE, "the body is too large\n").into_response());
        }
        check.update(&piece);
    }
    Ok(())
}

async fn handle(State(server): State<Server>, request: Request) -> Response {
    let (outcome, response) = server.answer(request).await;
    server.metrics.webhook(outcome);
    response
}

/// Serves until the process stops.
pub(super) async fn serve(address: SocketAddr, server: Server, stopping: Stopping) -> anyhow::Result<()> {
    let listener = admin::listen(address).await?;
    let router = Router::new().fallback(handle).with_state(server);
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let stopped = stopping.wait();
    tokio::pin!(stopped);
    loop {
        let accepted = async {
            // `Err`: the semaphore is never closed.
            let slot = Arc::clone(&slots).acquire_owned().await.ok();
            (slot, listener.accept().await)
        };
        let (slot, accepted) = tokio::select! {
            () = &mut stopped => return Ok(()),
            accepted = accepted => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors, most likely: it passes.
                tracing::debug!(%error, "a connection cannot be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD)
            .max_buf_size(64 << 10)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router.clone()));
        tokio::spawn(async move {
            // What becomes of a connection is the caller's business.
            drop(tokio::time::timeout(CONNECTION, connection).await);
            drop(slot);
        });
    }
}
