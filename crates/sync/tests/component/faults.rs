//! A reverse proxy in front of the real API server, which answers in its place where a test says so.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Context as _;
use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    response::{IntoResponse as _, Response},
};
use futures::StreamExt as _;
use http::{StatusCode, header, request::Parts};
use kube::{Client, Config, config::Kubeconfig};
use serde_json::json;
use tokio::{sync::watch, task::JoinHandle};

/// What is answered instead.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// This status, in the API server's form.
    Status(u16),
    /// This status, with a web page.
    Page(u16),
    /// No answer, ever.
    Silence,
    /// A watch that says that its resource version is too old.
    Expired,
}

type Which = Arc<dyn Fn(&Parts) -> bool + Send + Sync>;

struct Rule {
    which: Which,
    fault: Fault,
    /// How often it still holds.
    left: usize,
}

struct Shared {
    client: Client,
    rules: Mutex<Vec<Rule>>,
    hits: Mutex<usize>,
    cut: watch::Sender<u64>,
}

/// Forwards everything until it is dropped.
pub(crate) struct FaultyServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl FaultyServer {
    /// In front of the API server of an administrator's kubeconfig, with all rights of that.
    pub(crate) async fn start(admin: &Path) -> anyhow::Result<Self> {
        let read = Kubeconfig::read_from(admin)?;
        let mut config =
            Config::from_custom_kubeconfig(read, &kube::config::KubeConfigOptions::default()).await?;
        config.default_retry = false;
        let shared = Arc::new(Shared {
            client: Client::try_from(config)?,
            rules: Mutex::default(),
            hits: Mutex::default(),
            cut: watch::channel(0).0,
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let router = Router::new().fallback(forward).with_state(Arc::clone(&shared));
        let task = tokio::spawn(async move {
            // `Err`: the test is over.
            drop(axum::serve(listener, router).await);
        });
        Ok(Self {
            address,
            shared,
            task,
        })
    }

    /// A kubeconfig that leads here, as a user with all rights.
    pub(crate) fn kubeconfig(&self, dir: &Path, user: &str) -> anyhow::Result<PathBuf> {
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{ "name": "test", "cluster": { "server": format!("http://{}", self.address) } }],
            "users": [{ "name": "test", "user": { "as": user, "as-groups": ["system:masters"] } }],
            "contexts": [{ "name": "test", "context": { "cluster": "test", "user": "test" } }],
        });
        let path = dir.join("faulty.conf");
        std::fs::write(&path, config.to_string()).context("cannot write the kubeconfig")?;
        Ok(path)
    }

    /// From now on this holds for such requests, at most so often; what held before does not.
    pub(crate) fn answer(
        &self,
        fault: Fault,
        times: usize,
        which: impl Fn(&Parts) -> bool + Send + Sync + 'static,
    ) {
        self.rules().clear();
        *self.hits() = 0;
        self.answer_too(fault, times, which);
    }

    /// From now on this holds, too.
    pub(crate) fn answer_too(
        &self,
        fault: Fault,
        times: usize,
        which: impl Fn(&Parts) -> bool + Send + Sync + 'static,
    ) {
        self.rules().push(Rule {
            which: Arc::new(which),
            fault,
            left: times,
        });
    }

    /// From now on nothing is wrong.
    pub(crate) fn forward_all(&self) {
        self.rules().clear();
    }

    /// How often the present fault has been answered.
    pub(crate) fn answered(&self) -> usize {
        *self.hits()
    }

    /// Ends all watches, as an API server does that stops.
    pub(crate) fn cut_watches(&self) {
        self.shared.cut.send_modify(|times| *times += 1);
    }

    fn rules(&self) -> std::sync::MutexGuard<'_, Vec<Rule>> {
        self.shared.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hits(&self) -> std::sync::MutexGuard<'_, usize> {
        self.shared.hits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for FaultyServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Requests about one object.
pub(crate) fn about(
    method: &'static str,
    resource: &'static str,
    name: &'static str,
) -> impl Fn(&Parts) -> bool {
    move |parts| parts.method.as_str() == method && parts.uri.path().ends_with(&format!("/{resource}/{name}"))
}

/// Lists of a kind.
pub(crate) fn lists(resource: &'static str) -> impl Fn(&Parts) -> bool {
    move |parts| {
        parts.method == http::Method::GET
            && parts.uri.path().ends_with(&format!("/{resource}"))
            && !is_watch(parts)
    }
}

/// Watches on a kind.
pub(crate) fn watches(resource: &'static str) -> impl Fn(&Parts) -> bool {
    move |parts| parts.uri.path().ends_with(&format!("/{resource}")) && is_watch(parts)
}

fn is_watch(parts: &Parts) -> bool {
    parts.uri.query().unwrap_or_default().contains("watch=true")
}

fn fault(shared: &Shared, parts: &Parts) -> Option<Fault> {
    let mut rules = shared.rules.lock().unwrap_or_else(PoisonError::into_inner);
    let rule = rules
        .iter_mut()
        .find(|rule| rule.left > 0 && (rule.which)(parts))?;
    rule.left -= 1;
    *shared.hits.lock().unwrap_or_else(PoisonError::into_inner) += 1;
    Some(rule.fault.clone())
}

async fn forward(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (mut parts, body) = request.into_parts();
    if let Some(fault) = fault(&shared, &parts) {
        if matches!(fault, Fault::Silence) {
            return std::future::pending().await;
        }
        return instead(&fault);
    }
    let mut cut = shared.cut.subscribe();
    let is_watch = is_watch(&parts);
    for hop in [
        header::HOST,
        header::CONNECTION,
        header::TRANSFER_ENCODING,
        header::CONTENT_LENGTH,
    ] {
        parts.headers.remove(hop);
    }
    let Ok(body) = axum::body::to_bytes(body, 64 << 20).await else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let request = http::Request::from_parts(parts, kube::client::Body::from(body.to_vec()));
    match shared.client.send(request).await {
        Ok(response) => {
            let (mut parts, body) = response.into_parts();
            for hop in [header::CONNECTION, header::TRANSFER_ENCODING] {
                parts.headers.remove(hop);
            }
            let body = Body::new(body);
            let body = if is_watch {
                let ends = async move { drop(cut.changed().await) };
                Body::from_stream(body.into_data_stream().take_until(Box::pin(ends)))
            } else {
                body
            };
            Response::from_parts(parts, body)
        }
        Err(error) => (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
    }
}

fn instead(fault: &Fault) -> Response {
    let status = |code: u16| {
        json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code,
            "message": format!("the API server answers {code} because a test wants it"), "reason": "InternalError",
        })
    };
    let json = [(header::CONTENT_TYPE, "application/json")];
    let of = |code: u16| StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    match fault {
        Fault::Status(code) => (of(*code), json, status(*code).to_string()).into_response(),
        Fault::Page(code) => {
            let html = [(header::CONTENT_TYPE, "text/html")];
            (of(*code), html, "<html>somebody else answers</html>").into_response()
        }
        // Silence does not get here.
        Fault::Silence | Fault::Expired => {
            let event = json!({ "type": "ERROR", "object": status(410) });
            (StatusCode::OK, json, format!("{event}\n")).into_response()
        }
    }
}
