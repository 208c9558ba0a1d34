//! Pure: where repositories may be. It holds for the URL of the object, for submodules, for redirects, and for the
//! addresses that names lead to.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use super::{GitError, RemoteUrl, Scheme};

/// Where clouds tell a machine its credentials, beyond the link-local addresses.
const METADATA: [IpAddr; 4] = [
    // Alibaba Cloud, Azure, Oracle Cloud, AWS over IPv6.
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
];

/// Which URLs may be asked. The default lets all in, but for the addresses by which a machine learns its credentials.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UrlPolicy {
    /// Schemes; all if empty.
    pub schemes: Vec<Scheme>,
    /// Hosts; all if empty.
    pub hosts: Vec<HostPattern>,
}

/// `example.com`, `*.example.com` (what is below it), each with `:port` or for every port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPattern {
    host: String,
    below: bool,
    port: Option<u16>,
}

impl FromStr for HostPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (rest, below) = match text.strip_prefix("*.") {
            Some(rest) => (rest, true),
            None => (text, false),
        };
        let (host, port) = match rest.rsplit_once(':') {
            // An IPv6 address without a port ends in its bracket.
            Some((host, port)) if !port.ends_with(']') => {
                let port = port
                    .parse()
                    .map_err(|_| format!("{port:?} is no port up to 65535"))?;
                (host, Some(port))
            }
            _ => (rest, None),
        };
        let bracketed = host.starts_with('[') && host.ends_with(']');
        if host.is_empty()
            || (!bracketed
                && !host
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "-._".contains(c)))
        {
            return Err(format!(
                "{text:?} is no host like example.com, *.example.com or example.com:8443"
            ));
        }
        Ok(Self {
            host: host.to_ascii_lowercase(),
            below,
            port,
        })
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.below { "*." } else { "" })?;
        f.write_str(&self.host)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl HostPattern {
    /// Whether a host and its port are among those that are meant.
    pub fn matches(&self, host: &str, port: u16) -> bool {
        let host = host.to_ascii_lowercase();
        // A name may end with the dot of the root.
        let host = host.strip_suffix('.').unwrap_or(&host);
        let named = if self.below {
            host.strip_suffix(self.host.as_str())
                .is_some_and(|rest| rest.ends_with('.'))
        } else {
            host == self.host
        };
        named && self.port.is_none_or(|wanted| wanted == port)
    }
}

impl UrlPolicy {
    /// Whether a repository may be there.
    pub fn admit(&self, url: &RemoteUrl) -> Result<(), GitError> {
        let refused = |reason: String| Err(GitError::InvalidUrl(reason));
        // Files have a flag of their own.
        if url.scheme() == Scheme::File {
            return Ok(());
        }
        if !self.schemes.is_empty() && !self.schemes.contains(&url.scheme()) {
            return refused(format!(
                "{}:// is not among the schemes that are allowed here (--allowed-git-schemes)",
                url.scheme().name()
            ));
        }
        if !self.hosts.is_empty() && !self.hosts_match(url) {
            return refused(format!(
                "the host '{}' is not among those that are allowed here (--allowed-git-hosts)",
                url.host()
            ));
        }
        match url.host().trim_matches(['[', ']']).parse() {
            Ok(address) => self.admit_address(address),
            Err(_) => Ok(()),
        }
    }

    fn hosts_match(&self, url: &RemoteUrl) -> bool {
        let (host, port) = (url.host(), url.effective_port());
        self.hosts.iter().any(|pattern| pattern.matches(host, port))
    }

    /// Whether an address may be connected to that a name leads to.
    pub fn admit_address(&self, address: IpAddr) -> Result<(), GitError> {
        admit_address(address).map_err(GitError::InvalidUrl)
    }
}

/// Whether an address may be connected to: nowhere is one that gives away a machine's credentials.
pub fn admit_address(address: IpAddr) -> Result<(), String> {
    let address = match address {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    };
    let link_local = match address {
        IpAddr::V4(address) => address.is_link_local() || address.is_multicast() || address.is_broadcast(),
        IpAddr::V6(address) => address.is_unicast_link_local() || address.is_multicast(),
    };
    if link_local || METADATA.contains(&address) {
        return Err(format!(
            "its host leads to {address}: a link-local address, or one where clouds keep a machine's credentials"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::FileUrls;
    use super::*;

    fn admitted(hosts: &[&str], schemes: &[Scheme], url: &str) -> bool {
        let policy = UrlPolicy {
            schemes: schemes.to_vec(),
            hosts: hosts.iter().map(|host| host.parse().unwrap()).collect(),
        };
        policy
            .admit(&RemoteUrl::parse(url, FileUrls::Refused).unwrap())
            .is_ok()
    }

    #[test]
    fn hosts_match_by_whole_names_and_ports() {
        for (pattern, url, expected) in [
            ("example.com", "https://example.com/a", true),
            ("example.com", "https://EXAMPLE.com./a", true),
            ("example.com", "https://example.com:8443/a", true),
            ("example.com", "ssh://git@example.com/a", true),
            ("example.com", "https://git.example.com/a", false),
            ("example.com", "https://example.com.evil.org/a", false),
            ("example.com", "https://badexample.com/a", false),
            ("*.example.com", "https://git.example.com/a", true),
            ("*.example.com", "https://a.b.example.com/a", true),
            ("*.example.com", "https://example.com/a", false),
            ("*.example.com", "https://badexample.com/a", false),
            ("example.com:443", "https://example.com/a", true),
            ("example.com:443", "http://example.com/a", false),
            ("example.com:2222", "ssh://git@example.com:2222/a", true),
            ("[fd12::1]", "https://[fd12::1]/a", true),
            ("[fd12::1]:443", "https://[fd12::1]:444/a", false),
        ] {
            assert_eq!(admitted(&[pattern], &[], url), expected, "{pattern} {url}");
        }
        for bad in ["", "*.", "a b", "example.com:x", "https://example.com", "*"] {
            assert!(bad.parse::<HostPattern>().is_err(), "{bad}");
        }
    }

    #[test]
    fn schemes_are_those_of_the_list() {
        let only = [Scheme::Https, Scheme::Ssh];
        assert!(admitted(&[], &only, "https://example.com/a"));
        assert!(admitted(&[], &only, "ssh://git@example.com/a"));
        assert!(!admitted(&[], &only, "http://example.com/a"));
        assert!(admitted(&[], &[], "http://example.com/a"));
    }

    #[test]
    fn machines_do_not_give_away_their_credentials() {
        for url in [
            "http://169.254.169.254/latest/meta-data",
            "http://[fe80::1]/a",
            "http://[::ffff:169.254.169.254]/a",
            "http://[fd00:ec2::254]/a",
            "http://100.100.100.200/a",
            "http://168.63.129.16/a",
        ] {
            assert!(!admitted(&[], &[], url), "{url}");
        }
        for url in [
            "http://10.96.12.7/a",
            "http://127.0.0.1:3000/a",
            "http://[fd12::1]/a",
            "https://140.82.112.3/a",
        ] {
            assert!(admitted(&[], &[], url), "{url}");
        }
    }
}
