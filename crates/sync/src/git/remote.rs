//! Where a repository is and how it is reached: URL, credentials, certificates, proxy, time limit.

use std::{fmt, sync::Arc, time::Duration};

use sha2::{Digest, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::{GitError, UrlPolicy};

/// The default of `spec.timeout`.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_mins(1);

/// Whether `file://` URLs are taken. They read any repository the process can read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileUrls {
    /// As in production.
    Refused,
    /// The development flag is set.
    Allowed,
}

/// How a URL is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Clear text.
    Http,
    /// TLS.
    Https,
    /// The `ssh` program.
    Ssh,
    /// The local `git` program.
    File,
}

impl Scheme {
    /// As URLs write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Ssh => "ssh",
            Self::File => "file",
        }
    }
}

/// A checked repository URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteUrl {
    text: String,
    pub(super) scheme: Scheme,
    pub(super) user: Option<String>,
    pub(super) host: String,
    pub(super) port: Option<u16>,
    pub(super) path: String,
}

impl RemoteUrl {
    /// Checks `text`. User information is refused (secrets belong in a Secret), except the user name of
    /// `ssh://`; so are queries and fragments, because they can hold tokens and would be shown in a status.
    pub fn parse(text: &str, file_urls: FileUrls) -> Result<Self, GitError> {
        let refused = |reason: &str| Err(GitError::InvalidUrl(reason.to_owned()));
        if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return refused("it holds a control character or a space");
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return refused(
                "it must start with http://, https:// or ssh:// (git@host:path is not a URL: write ssh://git@host/path)",
            );
        };
        let scheme = match scheme {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            "ssh" => Scheme::Ssh,
            "file" if file_urls == FileUrls::Allowed => Scheme::File,
            "file" => return refused("file:// is for development and not allowed here"),
            _ => return refused("it must start with http://, https:// or ssh://"),
        };
        if rest.contains(['?', '#', '\\']) {
            return refused("it must not hold '?', '#' or '\\'");
        }
        let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        if path.split('/').any(|part| part == "..") {
            return refused("its path must not hold '..'");
        }
        let (user, host_port) = match authority.rsplit_once('@') {
            Some(_) if scheme != Scheme::Ssh => {
                return refused(
                    "it holds user information: put user name and password into the Secret of spec.secretRef",
                );
            }
            Some((user, _)) if user.contains(':') => {
                return refused("it holds a password: put the key into the Secret of spec.secretRef");
            }
            Some((user, host)) => (Some(user.to_owned()), host),
            None => (None, authority),
        };
        let (host, port) = split_port(host_port)?;
        if scheme == Scheme::File {
            if !host.is_empty() || !path.starts_with('/') {
                return refused("file:// needs an absolute path: file:///srv/repository");
            }
        } else if host.is_empty() {
            return refused("it has no host");
        }
        // `ssh` would take either for an option.
        if host.starts_with('-')
            || user
                .as_deref()
                .is_some_and(|user| user.starts_with('-') || user.is_empty())
        {
            return refused("host and user must not start with '-' or be empty");
        }
        if !host
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-._:[]".contains(c))
        {
            return refused("its host holds a character that no host name has");
        }
        if scheme != Scheme::File && path.trim_matches('/').is_empty() {
            return refused("it has no path: which repository?");
        }
        Ok(Self {
            text: text.trim_end_matches('/').to_owned(),
            scheme,
            user,
            host: host.to_owned(),
            port,
            path: path.to_owned(),
        })
    }

    /// The URL as it may be shown.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// How it is reached.
    pub const fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Whether both lead to the same service of the same host.
    pub fn same_origin(&self, other: &Self) -> bool {
        self.scheme == other.scheme
            && self.host.eq_ignore_ascii_case(&other.host)
            && self.effective_port() == other.effective_port()
    }

    /// The port, written or not.
    pub(super) fn effective_port(&self) -> u16 {
        self.port.unwrap_or(match self.scheme {
            Scheme::Https => 443,
            Scheme::Http => 80,
            Scheme::Ssh => 22,
            Scheme::File => 0,
        })
    }

    /// Host name or address (in brackets for IPv6); empty for `file://`.
    pub fn host(&self) -> &str {
        &self.host
    }
}

fn split_port(host_port: &str) -> Result<(&str, Option<u16>), GitError> {
    let port_at = match host_port.rfind(']') {
        Some(bracket) => host_port[bracket..].find(':').map(|at| bracket + at),
        None => host_port.find(':'),
    };
    let Some(at) = port_at else {
        return Ok((host_port, None));
    };
    let port = host_port[at + 1..]
        .parse()
        .map_err(|_| GitError::InvalidUrl("its port is not a number up to 65535".to_owned()))?;
    Ok((&host_port[..at], Some(port)))
}

impl fmt::Display for RemoteUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Text that is wiped from memory when dropped and that no log shows.
#[derive(Clone, Default, Zeroize, ZeroizeOnDrop, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes the text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// Who we are for the server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Credentials {
    /// Nobody.
    #[default]
    None,
    /// `username` and `password` (HTTP).
    Basic {
        /// As in the Secret.
        username: String,
        /// As in the Secret.
        password: Secret,
    },
    /// `bearerToken` (HTTP).
    Bearer(Secret),
    /// Key pair (ssh).
    Ssh {
        /// The private key in PEM or OpenSSH form.
        identity: Secret,
        /// Lines of a `known_hosts` file; required.
        known_hosts: String,
        /// The passphrase of the key.
        password: Option<Secret>,
    },
}

/// Certificates for `https://`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// PEM; added to the system's authorities.
    pub ca: Option<String>,
    /// PEM certificate chain and PEM key that we show to the server.
    pub client: Option<(String, Secret)>,
}

/// A proxy for `http://` and `https://` (always by `CONNECT`).
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    /// `http://host:port`, `https://host:port` or `socks5://host:port`.
    pub address: String,
    /// User name, if it wants one.
    pub username: Option<String>,
    /// Password, if it wants one.
    pub password: Option<Secret>,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The address may hold a password too.
        f.write_str("[proxy]")
    }
}

/// A repository and all that is needed to reach it.
#[derive(Debug, Clone)]
pub struct Remote {
    /// Where.
    pub url: RemoteUrl,
    /// As whom.
    pub credentials: Credentials,
    /// Whom to trust.
    pub tls: Tls,
    /// Through what; `None` takes the proxy of the environment, as Flux does.
    pub proxy: Option<Proxy>,
    /// Limit of one whole operation ([`super::Mirror::resolve`], [`super::Mirror::fetch`]).
    pub timeout: Duration,
    /// Where repositories may be.
    pub policy: Arc<UrlPolicy>,
}

impl Remote {
    /// Anonymous, with the default timeout.
    pub fn new(url: RemoteUrl) -> Self {
        Self {
            url,
            credentials: Credentials::None,
            tls: Tls::default(),
            proxy: None,
            timeout: DEFAULT_TIMEOUT,
            policy: Arc::default(),
        }
    }

    /// Checks that the credentials fit the URL, before anything is connected.
    pub fn with_credentials(mut self, credentials: Credentials) -> Result<Self, GitError> {
        let refused = |reason: &str| Err(GitError::InvalidCredentials(reason.to_owned()));
        match (&credentials, self.url.scheme) {
            (Credentials::Ssh { known_hosts, .. }, Scheme::Ssh) if known_hosts.trim().is_empty() => {
                return refused(
                    "'known_hosts' is missing or empty: without it the server cannot be verified",
                );
            }
            (Credentials::Ssh { identity, .. }, Scheme::Ssh)
                if !identity.expose().contains("PRIVATE KEY") =>
            {
                return refused("'identity' is missing or not a private key");
            }
            (Credentials::Ssh { .. }, Scheme::Ssh) | (Credentials::None, _) => {}
            (_, Scheme::Ssh) => return refused("an ssh:// URL needs 'identity' and 'known_hosts'"),
            (Credentials::Ssh { .. }, _) => {
                return refused(
                    "'identity' is for ssh:// URLs; this one needs 'username' and 'password' or 'bearerToken'",
                );
            }
            (Credentials::Basic { username, .. }, _) if username.contains(':') => {
                return refused("'username' must not hold ':'");
            }
            (Credentials::Basic { .. } | Credentials::Bearer(_), _) => {}
        }
        self.credentials = credentials;
        Ok(self)
    }

    /// A name for the mirror: the same for the same repository reached in the same way, different for other
    /// credentials, so that nobody reads through a mirror what their own credentials do not open.
    pub fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        let mut part = |text: &str| {
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text);
        };
        part(self.url.as_str());
        match &self.credentials {
            Credentials::None => part("none"),
            Credentials::Basic { username, password } => [username.as_str(), password.expose(), "basic"]
                .into_iter()
                .for_each(&mut part),
            Credentials::Bearer(token) => ["bearer", token.expose()].into_iter().for_each(&mut part),
            Credentials::Ssh {
                identity,
                known_hosts,
                ..
            } => ["ssh", identity.expose(), known_hosts]
                .into_iter()
                .for_each(&mut part),
        }
        if let Some((certificate, key)) = &self.tls.client {
            ["client", certificate, key.expose()]
                .into_iter()
                .for_each(&mut part);
        }
        if let Some(ca) = &self.tls.ca {
            ["ca", ca].into_iter().for_each(&mut part);
        }
        let hash = hash.finalize();
        let half: [u8; 16] = std::array::from_fn(|at| hash.get(at).copied().unwrap_or_default());
        format!("{:032x}", u128::from_be_bytes(half))
    }
}

#[cfg(test)]
#[path = "remote_tests.rs"]
mod tests;
