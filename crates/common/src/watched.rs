//! Tells somebody, such as metrics, of every request a client makes.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use axum::http::{Method, Request, Response};
use tower::{Layer, Service};

/// Is told of requests.
pub trait Observer: std::fmt::Debug + Send + Sync {
    /// A request was answered, or (`None`) could not be made. `host` is the API server's host and port; the time is until
    /// the head of the answer.
    fn answered(&self, method: &Method, host: &str, code: Option<u16>, took: Duration);
}

/// Adds an observer to a client.
#[derive(Clone, Debug)]
pub(crate) struct Observe(pub(crate) Option<Arc<dyn Observer>>);

impl<S> Layer<S> for Observe {
    type Service = Observed<S>;

    fn layer(&self, inner: S) -> Observed<S> {
        Observed {
            inner,
            observer: self.0.clone(),
        }
    }
}

/// A client that is observed.
#[derive(Clone, Debug)]
pub(crate) struct Observed<S> {
    inner: S,
    observer: Option<Arc<dyn Observer>>,
}

impl<S, B, A> Service<Request<B>> for Observed<S>
where
    S: Service<Request<B>, Response = Response<A>>,
    S::Future: Send + 'static,
{
    type Response = Response<A>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<A>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let Some(observer) = self.observer.clone() else {
            return Box::pin(self.inner.call(request));
        };
        let method = request.method().clone();
        let authority = request.uri().authority();
        let host = authority.map_or_else(String::new, ToString::to_string);
        let begin = Instant::now();
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            let code = answer.as_ref().ok().map(|answer| answer.status().as_u16());
            observer.answered(&method, &host, code, begin.elapsed());
            answer
        })
    }
}
