//! Git over HTTP. gitoxide speaks the protocol; requests are made here, so that one deadline bounds all of an
//! operation, credentials stay with the host they are for, and failures keep their type.

use std::{
    any::Any,
    io::{self, BufRead, BufReader, Cursor, Read, Write},
    sync::{Arc, Mutex, PoisonError},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use gix_transport::{
    Protocol,
    client::blocking_io::http::{GetResponse, Http, PostBodyDataKind, PostResponse, Transport},
};
use ureq::{Agent, Body, http::Response};
use zeroize::Zeroizing;

use super::super::{Credentials, FileUrls, GitError, Remote, RemoteUrl, remote::Scheme};
use super::{Guard, chain, guard::Guarded, proxy, tls};

const REDIRECTS: usize = 5;
const HANDSHAKE: &str = "/info/refs?service=git-upload-pack";

pub(super) fn connect(remote: &Remote, guard: Arc<Guard>) -> Result<Transport<Client>, GitError> {
    let tls = match remote.url.scheme {
        Scheme::Https => tls::config(&remote.tls)?,
        // A redirect may lead from http to https.
        _ => tls::config(&super::super::Tls::default())?,
    };
    let agent = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .tls_config(tls)
        .proxy(proxy::choose(remote, |name| std::env::var(name).ok())?)
        .user_agent(concat!("git/plumbline-", env!("CARGO_PKG_VERSION")))
        .build()
        .new_agent();
    let authorization = match &remote.credentials {
        Credentials::Basic { username, password } => {
            let pair = Zeroizing::new(format!("{username}:{}", password.expose()));
            Some(Zeroizing::new(format!(
                "Basic {}",
                STANDARD.encode(pair.as_bytes())
            )))
        }
        Credentials::Bearer(token) => Some(Zeroizing::new(format!("Bearer {}", token.expose()))),
        Credentials::None | Credentials::Ssh { .. } => None,
    };
    let url =
        gix_url::Url::try_from(remote.url.as_str()).map_err(|error| GitError::InvalidUrl(chain(&error)))?;
    let requests = Requests {
        agent,
        origin: remote.url.clone(),
        authorization,
        guard,
    };
    let client = Client {
        requests: Arc::new(requests),
        base: None,
    };
    Ok(Transport::new_http(client, url, Protocol::V2, false))
}

/// What gitoxide calls to make requests.
pub(super) struct Client {
    requests: Arc<Requests>,
    /// Where a redirect led.
    base: Option<String>,
}

struct Requests {
    agent: Agent,
    origin: RemoteUrl,
    authorization: Option<Zeroizing<String>>,
    guard: Arc<Guard>,
}

impl Requests {
    fn send(&self, url: &str, headers: &[String], body: Option<&[u8]>) -> io::Result<Response<Body>> {
        self.guard.check()?;
        let target = RemoteUrl::parse(
            url.split_once("?service").map_or(url, |(path, _)| path),
            FileUrls::Refused,
        )
        .map_err(|error| self.guard.fail(error))?;
        let mut all: Vec<(&str, &str)> = headers
            .iter()
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name, value.trim()))
            .collect();
        if let Some(authorization) = self
            .authorization
            .as_deref()
            .filter(|_| same_origin(&target, &self.origin))
        {
            all.push(("Authorization", authorization));
        }
        let deadline = Some(self.guard.remaining());
        let result = match body {
            None => {
                let request = self.agent.get(url).config().timeout_global(deadline).build();
                all.iter()
                    .fold(request, |request, (name, value)| request.header(*name, *value))
                    .call()
            }
            Some(body) => {
                let request = self.agent.post(url).config().timeout_global(deadline).build();
                all.iter()
                    .fold(request, |request, (name, value)| request.header(*name, *value))
                    .send(body)
            }
        };
        result.map_err(|error| self.failed(error))
    }

    fn failed(&self, error: ureq::Error) -> io::Error {
        let url = self.origin.to_string();
        let unreachable = |reason: String| GitError::Unreachable {
            url: url.clone(),
            reason,
        };
        let unverified = |reason: String| GitError::HostIdentity {
            url: url.clone(),
            reason: format!("{reason} (a private authority goes into 'ca.crt' of the Secret)"),
        };
        let cause = match error {
            ureq::Error::Timeout(_) => self.guard.timed_out(),
            ureq::Error::HostNotFound => unreachable("no such host".to_owned()),
            ureq::Error::Io(error) if error.kind() == io::ErrorKind::TimedOut => self.guard.timed_out(),
            ureq::Error::Io(error) => match error
                .get_ref()
                .and_then(|inner| inner.downcast_ref::<rustls::Error>())
            {
                Some(rustls::Error::InvalidCertificate(_)) => unverified(error.to_string()),
                _ => unreachable(error.to_string()),
            },
            ureq::Error::Rustls(error) => unverified(error.to_string()),
            ureq::Error::Tls(reason) => unverified(reason.to_owned()),
            ureq::Error::Protocol(error) => GitError::Protocol {
                url: url.clone(),
                reason: error.to_string(),
            },
            error => unreachable(error.to_string()),
        };
        self.guard.fail(cause)
    }

    /// Turns a status that is not a success into its cause.
    fn accept(&self, response: Response<Body>) -> io::Result<Response<Body>> {
        let status = response.status();
        let url = self.origin.to_string();
        let sent = if self.authorization.is_some() {
            "with the credentials of the Secret"
        } else {
            "without credentials"
        };
        let cause = match status.as_u16() {
            200..=299 => return Ok(response),
            401 | 403 => GitError::Authentication {
                url,
                reason: format!("the server answered {status} to a request {sent}"),
            },
            404 | 410 => GitError::NotFound {
                url,
                reason: format!("the server answered {status} to a request {sent}"),
            },
            407 => GitError::Unreachable {
                url,
                reason: "the proxy wants other credentials (407)".to_owned(),
            },
            429 | 500..=599 => GitError::Unreachable {
                url,
                reason: format!("the server answered {status}"),
            },
            _ => GitError::Protocol {
                url,
                reason: format!("the server answered {status}"),
            },
        };
        Err(self.guard.fail(cause))
    }

    fn exchanged(&self, response: Response<Body>) -> Exchange {
        let content_type = response
            .headers()
            .get("content-type")
            .and_then(|value| value.to_str().ok())
            .unwrap_or("");
        let headers = Cursor::new(format!("content-type: {content_type}\n").into_bytes());
        let body = response.into_body().into_with_config().limit(u64::MAX).reader();
        let body: Box<dyn Read + Send> = Box::new(Guarded {
            inner: body,
            guard: Arc::clone(&self.guard),
        });
        Exchange::Answered {
            headers,
            body: BufReader::with_capacity(64 * 1024, body),
        }
    }
}

fn same_origin(a: &RemoteUrl, b: &RemoteUrl) -> bool {
    let port = |url: &RemoteUrl| {
        url.port
            .unwrap_or(if url.scheme == Scheme::Https { 443 } else { 80 })
    };
    a.scheme == b.scheme && a.host.eq_ignore_ascii_case(&b.host) && port(a) == port(b)
}

/// One request and its answer. A POST is sent when the answer is first read: its body is complete by then.
enum Exchange {
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
    fn pair(requests: &Arc<Requests>, exchange: Exchange) -> (Self, Self, Arc<Mutex<Exchange>>) {
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
                .map(|response| self.requests.exchanged(response));
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
pub(super) struct Upload(Arc<Mutex<Exchange>>);

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

impl Http for Client {
    type Headers = End;
    type ResponseBody = End;
    type PostBody = Upload;

    fn get(
        &mut self,
        url: &str,
        _base_url: &str,
        headers: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> gix_error::Result<GetResponse<End, End>> {
        let headers: Vec<String> = own_headers(headers);
        let requests = Arc::clone(&self.requests);
        let mut url = url.to_owned();
        let mut response = requests
            .send(&url, &headers, None)
            .map_err(gix_error::Error::from_error)?;
        let mut hops = 0;
        while matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
            hops += 1;
            let location = response
                .headers()
                .get("location")
                .and_then(|value| value.to_str().ok())
                .unwrap_or("");
            url = redirected(&url, location, hops)
                .map_err(|reason| GitError::Protocol {
                    url: requests.origin.to_string(),
                    reason,
                })
                .map_err(|cause| gix_error::Error::from_error(requests.guard.fail(cause)))?;
            self.base = url.strip_suffix(HANDSHAKE).map(str::to_owned);
            response = requests
                .send(&url, &headers, None)
                .map_err(gix_error::Error::from_error)?;
        }
        let response = requests.accept(response).map_err(gix_error::Error::from_error)?;
        let (headers, body, _) = End::pair(&requests, requests.exchanged(response));
        Ok(GetResponse { headers, body })
    }

    fn post(
        &mut self,
        url: &str,
        _base_url: &str,
        headers: impl IntoIterator<Item = impl AsRef<str>>,
        _kind: PostBodyDataKind,
    ) -> gix_error::Result<PostResponse<End, End, Upload>> {
        let pending = Exchange::Pending {
            url: url.to_owned(),
            headers: own_headers(headers),
            body: Vec::new(),
        };
        let (headers, body, exchange) = End::pair(&self.requests, pending);
        Ok(PostResponse {
            post_body: Upload(exchange),
            headers,
            body,
        })
    }

    fn configure(&mut self, _config: &dyn Any) -> gix_error::Result<()> {
        Ok(())
    }

    fn redirected_base_url(&self) -> Option<String> {
        self.base.clone()
    }
}

/// The headers of gitoxide without its user agent: ours is set on the agent.
fn own_headers(headers: impl IntoIterator<Item = impl AsRef<str>>) -> Vec<String> {
    headers
        .into_iter()
        .map(|line| line.as_ref().to_owned())
        .filter(|line| !line.to_ascii_lowercase().starts_with("user-agent:"))
        .collect()
}

/// Where a redirect of the first request leads. It must stay a request for the same thing over at least as safe a
/// scheme. (That it may lead to another host is Git's rule; credentials do not go with it.)
fn redirected(from: &str, location: &str, hops: usize) -> Result<String, String> {
    if hops > REDIRECTS {
        return Err(format!("the server redirects more than {REDIRECTS} times"));
    }
    let to = if location.starts_with('/') && !location.starts_with("//") {
        let authority_at = from.find("://").map_or(0, |at| at + 3);
        let path_at = from[authority_at..]
            .find('/')
            .map_or(from.len(), |at| authority_at + at);
        format!("{}{location}", &from[..path_at])
    } else {
        location.to_owned()
    };
    let shown = to
        .split('?')
        .next()
        .unwrap_or_default()
        .escape_debug()
        .to_string();
    let Some(base) = to.strip_suffix(HANDSHAKE) else {
        return Err(format!(
            "the server redirects to '{shown}', which is not a Git repository"
        ));
    };
    RemoteUrl::parse(base, FileUrls::Refused)
        .map_err(|error| format!("the server redirects to a place where {error}"))?;
    if from.starts_with("https:") && !to.starts_with("https:") {
        return Err(format!("the server redirects from https to '{shown}': refused"));
    }
    Ok(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_are_followed_only_to_the_same_request_and_never_to_less_safety() {
        let from = format!("https://example.com/a{HANDSHAKE}");
        assert_eq!(
            redirected(&from, &format!("/b.git{HANDSHAKE}"), 1).unwrap(),
            format!("https://example.com/b.git{HANDSHAKE}")
        );
        assert!(redirected(&from, &format!("https://other.example/b{HANDSHAKE}"), 1).is_ok());
        for bad in [
            format!("http://example.com/b{HANDSHAKE}"),
            "https://example.com/login".to_owned(),
            format!("https://user:pw@example.com/b{HANDSHAKE}"),
            format!("file:///etc{HANDSHAKE}"),
            String::new(),
        ] {
            assert!(redirected(&from, &bad, 1).is_err(), "{bad}");
        }
        assert!(redirected(&from, &format!("/b{HANDSHAKE}"), 6).is_err());
    }
}
