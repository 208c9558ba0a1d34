//! What stands before the requests to a remote cluster. As long as the cluster does not answer, they fail at once, and those
//! that are on their way are given up: workers are there for everybody. Whether it answers is not their business to find out;
//! a request that fails or takes long only raises a suspicion.

use std::{
    sync::Arc,
    task::{self, Poll},
    time::Duration,
};

use futures::future::BoxFuture;
use http::{Request, Response};
use http_body_util::Limited;
use kube::{Client, client::Body};
use tokio::sync::{Notify, watch};
use tower::Service;

/// An answer that takes longer raises a suspicion.
const SLOW: Duration = Duration::from_secs(3);

/// The most that is read of an answer: a page of 500 objects' metadata, or all kinds, have a few MiB. A watch has no end.
const ANSWER: usize = 64 << 20;

/// Whether a remote cluster answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Passage {
    /// That is not known yet.
    Unknown,
    /// It does.
    Open,
    /// It does not, for this reason.
    Shut(Arc<str>),
}

/// The gate of one cluster.
#[derive(Debug)]
pub(super) struct Gate {
    passage: watch::Sender<Passage>,
    suspicion: Notify,
}

impl Gate {
    pub(super) fn new() -> Self {
        Self {
            passage: watch::Sender::new(Passage::Unknown),
            suspicion: Notify::new(),
        }
    }

    pub(super) fn passage(&self) -> Passage {
        self.passage.borrow().clone()
    }

    /// Says whether that is news.
    pub(super) fn set(&self, passage: Passage) -> bool {
        self.passage.send_if_modified(|now| {
            let is_news = *now != passage;
            *now = passage;
            is_news
        })
    }

    /// Ends when somebody doubts that the cluster answers.
    pub(super) async fn suspected(&self) {
        self.suspicion.notified().await;
    }

    fn suspect(&self) {
        self.suspicion.notify_one();
    }

    /// Ends when it is known whether it answers.
    pub(super) async fn known(&self) {
        let mut passage = self.passage.subscribe();
        // `Err`: the gate is gone, and so is whoever waits.
        drop(passage.wait_for(|now| *now != Passage::Unknown).await);
    }

    /// Ends with the reason when it is shut.
    async fn shut(&self) -> Arc<str> {
        let mut passage = self.passage.subscribe();
        loop {
            if let Passage::Shut(why) = &*passage.borrow_and_update() {
                return Arc::clone(why);
            }
            if passage.changed().await.is_err() {
                return Arc::from("the connection is closed");
            }
        }
    }
}

/// A client behind a gate.
pub(super) struct Gated {
    pub(super) client: Client,
    pub(super) gate: Arc<Gate>,
}

impl Service<Request<Body>> for Gated {
    type Response = Response<Limited<Body>>;
    type Error = kube::Error;
    type Future = BoxFuture<'static, Result<Self::Response, kube::Error>>;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> Poll<Result<(), kube::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (client, gate) = (self.client.clone(), Arc::clone(&self.gate));
        let is_watch = request
            .uri()
            .query()
            .is_some_and(|query| query.contains("watch="));
        let most = if is_watch { usize::MAX } else { ANSWER };
        Box::pin(async move {
            let answer = async {
                let answer = client.send(request);
                tokio::pin!(answer);
                let in_time = tokio::time::timeout(SLOW, &mut answer).await;
                let answer = if let Ok(answer) = in_time {
                    answer
                } else {
                    gate.suspect();
                    answer.await
                };
                let is_refused = |answer: &Response<Body>| answer.status() == http::StatusCode::UNAUTHORIZED;
                if answer.as_ref().map_or(true, is_refused) {
                    gate.suspect();
                }
                answer
            };
            tokio::select! {
                biased;
                why = gate.shut() => Err(kube::Error::Service(Box::new(Away(why)))),
                answer = answer => answer.map(|answer| answer.map(|body| Limited::new(body, most))),
            }
        })
    }
}

/// The cluster does not answer.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Away(Arc<str>);
