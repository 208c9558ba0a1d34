//! HTTP requests: who gets the credentials, and what a failure means.

use std::{io, sync::Arc};

use ureq::{Agent, Body, http::Response};
use zeroize::Zeroizing;

use super::super::{FileUrls, GitError, RemoteUrl, UrlPolicy};
use super::Guard;

/// Makes requests within one operation.
pub(super) struct Requests {
    pub(super) agent: Agent,
    /// The repository: only its host gets the credentials.
    pub(super) origin: RemoteUrl,
    /// Where a redirect may lead.
    pub(super) policy: Arc<UrlPolicy>,
    pub(super) authorization: Option<Zeroizing<String>>,
    pub(super) guard: Arc<Guard>,
}

impl Requests {
    /// Sends a GET, or a POST if there is a body.
    pub(super) fn send(
        &self,
        url: &str,
        headers: &[String],
        body: Option<&[u8]>,
    ) -> io::Result<Response<Body>> {
        self.guard.check()?;
        let target = RemoteUrl::parse(
            url.split_once("?service").map_or(url, |(path, _)| path),
            FileUrls::Refused,
        )
        .and_then(|target| self.policy.admit(&target).map(|()| target))
        .map_err(|error| self.guard.fail(error))?;
        let mut all: Vec<(&str, &str)> = headers
            .iter()
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name, value.trim()))
            .collect();
        if let Some(authorization) = self
            .authorization
            .as_deref()
            .filter(|_| target.same_origin(&self.origin))
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
    pub(super) fn accept(&self, response: Response<Body>) -> io::Result<Response<Body>> {
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
}
