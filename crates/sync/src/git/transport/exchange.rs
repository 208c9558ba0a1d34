//! The shape gitoxide wants requests in: something to write a body to, something to read headers and a body from.

use std::{
    io::{self, BufRead, BufReader, Cursor, Read, Write},
    sync::{Arc, Mutex, PoisonError},
};

use ureq::{Body, http::Response};

use super::{guard::Guarded, requests::Requests};

/// One request and its answer. A POST is sent when the answer is first read: its body is complete by then.
pub(super) enum Exchange {
    Pending {
        url: String,
        headers: Vec<String>,
        body: Vec<u8>,
    },
    Answered {
        headers: Cursor<Vec<u8>>,
        body: BufReader<Box<dyn Read + Send>>,
    },
    Failed,
}

impl Exchange {
    /// An exchange whose answer has begun.
    pub(super) fn answered(requests: &Requests, response: Response<Body>) -> Self {
        let content_type = response
            .headers()
            .get("content-type")
            .and_then(|value| value.to_str().ok())
            .unwrap_or("");
        let headers = Cursor::new(format!("content-type: {content_type}\n").into_bytes());
        let body = response.into_body().into_with_config().limit(u64::MAX).reader();
        let body: Box<dyn Read + Send> = Box::new(Guarded {
            inner: body,
            guard: Arc::clone(&requests.guard),
        });
        Self::Answered {
            headers,
            body: BufReader::with_capacity(64 * 1024, body),
        }
    }
}

/// The three ends that gitoxide wants of an exchange.
pub(super) struct End {
    exchange: Arc<Mutex<Exchange>>,
    requests: Arc<Requests>,
    part: Part,
    buffer: Vec<u8>,
    at: usize,
}

#[derive(Clone, Copy)]
enum Part {
    Headers,
    Body,
}

impl End {
    /// Both ends to read, and what an [`Upload`] writes to.
    pub(super) fn pair(requests: &Arc<Requests>, exchange: Exchange) -> (Self, Self, Arc<Mutex<Exchange>>) {
        let exchange = Arc::new(Mutex::new(exchange));
        let end = |part| Self {
            exchange: Arc::clone(&exchange),
            requests: Arc::clone(requests),
            part,
            buffer: Vec::new(),
            at: 0,
        };
        (end(Part::Headers), end(Part::Body), Arc::clone(&exchange))
    }

    fn refill(&mut self) -> io::Result<()> {
        let mut exchange = self.exchange.lock().unwrap_or_else(PoisonError::into_inner);
        if let Exchange::Pending { url, headers, body } = &*exchange {
            let answer = self
                .requests
                .send(url, headers, Some(body))
                .and_then(|response| self.requests.accept(response))
                .map(|response| Exchange::answered(&self.requests, response));
            match answer {
                Ok(answer) => *exchange = answer,
                Err(error) => {
                    *exchange = Exchange::Failed;
                    return Err(error);
                }
            }
        }
        self.buffer.clear();
        self.at = 0;
        match &mut *exchange {
            Exchange::Answered { headers, .. } if matches!(self.part, Part::Headers) => {
                headers.read_to_end(&mut self.buffer).map(|_| ())
            }
            Exchange::Answered { body, .. } => {
                let chunk = body.fill_buf().map_err(|error| self.broken(error))?;
                self.buffer.extend_from_slice(chunk);
                let taken = chunk.len();
                body.consume(taken);
                Ok(())
            }
            Exchange::Pending { .. } | Exchange::Failed => Err(io::Error::other("the request failed before")),
        }
    }

    fn broken(&self, error: io::Error) -> io::Error {
        // ureq reports its deadline inside an I/O error.
        let timed_out = error.kind() == io::ErrorKind::TimedOut
            || error
                .get_ref()
                .and_then(|inner| inner.downcast_ref::<ureq::Error>())
                .is_some_and(|inner| matches!(inner, ureq::Error::Timeout(_)));
        if timed_out {
            self.requests.guard.fail(self.requests.guard.timed_out())
        } else {
            error
        }
    }
}

impl BufRead for End {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at >= self.buffer.len() {
            self.refill()?;
        }
        Ok(self.buffer.get(self.at..).unwrap_or_default())
    }

    fn consume(&mut self, amount: usize) {
        self.at += amount;
    }
}

impl Read for End {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let chunk = self.fill_buf()?;
        let count = chunk.len().min(out.len());
        if let (Some(out), Some(chunk)) = (out.get_mut(..count), chunk.get(..count)) {
            out.copy_from_slice(chunk);
        }
        self.consume(count);
        Ok(count)
    }
}

/// Collects the body of a POST: wants and haves, never more than a few kilobytes.
pub(super) struct Upload(pub(super) Arc<Mutex<Exchange>>);

impl Write for Upload {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Exchange::Pending { body, .. } => {
                body.extend_from_slice(bytes);
                Ok(bytes.len())
            }
            _ => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
