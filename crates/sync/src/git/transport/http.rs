//! Git over HTTP. gitoxide speaks the protocol; requests are made here, so that one deadline bounds all of an
//! operation, credentials stay with the host they are for, and failures keep their type.

use std::{any::Any, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
use gix_transport::{
    Protocol,
    client::blocking_io::http::{GetResponse, Http, PostBodyDataKind, PostResponse, Transport},
};
use ureq::{
    Agent,
    unversioned::{resolver::DefaultResolver, transport::DefaultConnector},
};
use zeroize::Zeroizing;

use super::super::{Credentials, FileUrls, GitError, Remote, RemoteUrl, Tls, remote::Scheme};
use super::{
    Guard, chain,
    exchange::{End, Exchange, Upload},
    proxy,
    requests::Requests,
    resolver::Careful,
    tls,
};

const REDIRECTS: usize = 5;
const HANDSHAKE: &str = "/info/refs?service=git-upload-pack";

pub(super) fn connect(remote: &Remote, guard: Arc<Guard>) -> Result<Transport<Client>, GitError> {
    let tls = match remote.url.scheme {
        Scheme::Https => tls::config(&remote.tls)?,
        // A redirect may lead from http to https.
        _ => tls::config(&Tls {
            ca: remote.tls.ca.clone(),
            client: None,
        })?,
    };
    let agent = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .tls_config(tls)
        .proxy(proxy::choose(remote, |name| std::env::var(name).ok())?)
        .user_agent(concat!("git/plumbline-", env!("CARGO_PKG_VERSION")))
        .build();
    let resolver = Careful {
        policy: Arc::clone(&remote.policy),
        guard: Arc::clone(&guard),
        names: DefaultResolver::default(),
    };
    let agent = Agent::with_parts(agent, DefaultConnector::default(), resolver);
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
        policy: Arc::clone(&remote.policy),
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
        let (headers, body, _) = End::pair(&requests, Exchange::answered(&requests, response));
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
