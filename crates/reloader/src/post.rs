//! Bodies that are posted in the background and tried again: telling never holds a rollout.

use std::time::Duration;

use plumbline_common::backoff::Backoff;
use tokio::sync::mpsc;

const QUEUE: usize = 256;
const TIMEOUT: Duration = Duration::from_secs(10);
const ATTEMPTS: u32 = 5;
const BACKOFF: Backoff = Backoff {
    base: Duration::from_secs(1),
    max: Duration::from_secs(30),
};

/// Where to post.
#[derive(Clone)]
pub struct Target {
    /// What is posted, for the log: `an alert`.
    pub what: &'static str,
    /// The address. Whoever knows it may post to it: it is not told.
    pub url: String,
    /// A proxy on the way.
    pub proxy: Option<String>,
}

/// Posts in the background. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Poster {
    what: &'static str,
    queue: mpsc::Sender<(&'static str, String)>,
}

impl Poster {
    /// A poster and the task that sends; the task ends when every poster is dropped.
    pub fn new(target: Target) -> (Self, impl Future<Output = ()> + Send) {
        let (queue, bodies) = mpsc::channel(QUEUE);
        let poster = Self {
            what: target.what,
            queue,
        };
        (poster, send_all(target, bodies))
    }

    /// Posts a body of this type.
    pub fn post(&self, content_type: &'static str, body: String) {
        if self.queue.try_send((content_type, body)).is_err() {
            tracing::warn!("{} was dropped: too many wait to be sent", self.what);
        }
    }
}

async fn send_all(target: Target, mut bodies: mpsc::Receiver<(&'static str, String)>) {
    let what = target.what;
    while let Some(body) = bodies.recv().await {
        for attempt in 1..=ATTEMPTS {
            match crate::http::post(&target.url, target.proxy.as_deref(), body.clone(), TIMEOUT).await {
                Ok(()) => break,
                Err(error) if attempt == ATTEMPTS => tracing::error!(error, "{what} could not be sent"),
                Err(error) => {
                    tracing::debug!(error, attempt, "{what} is sent again");
                    tokio::time::sleep(BACKOFF.delay(attempt)).await;
                }
            }
        }
    }
}
