//! Which proxy to take: the one of the object, else that of the environment by the rules of Go's HTTP client.

use super::super::{GitError, Remote, remote::Scheme};

/// The proxy for `remote`, if any; `variable` reads the environment.
pub(super) fn choose(
    remote: &Remote,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Option<ureq::Proxy>, GitError> {
    let invalid = |text: &str| GitError::InvalidCredentials(format!("the proxy address {text}"));
    if let Some(proxy) = &remote.proxy {
        // An address with user information would show a secret here, so it is not repeated.
        let parsed =
            ureq::Proxy::new(&proxy.address).map_err(|_| invalid("is not a URL like http://host:port"))?;
        let (Some(username), password) = (&proxy.username, &proxy.password) else {
            return Ok(Some(parsed));
        };
        let builder = ureq::Proxy::builder(parsed.protocol())
            .host(parsed.host())
            .port(parsed.port())
            .username(username);
        let builder = match password {
            Some(password) => builder.password(password.expose()),
            None => builder,
        };
        return builder
            .build()
            .map(Some)
            .map_err(|_| invalid("cannot be used with the user name given"));
    }
    let either = |upper: &str| {
        variable(upper)
            .or_else(|| variable(&upper.to_lowercase()))
            .filter(|text| !text.is_empty())
    };
    let host = remote.url.host().trim_matches(['[', ']']);
    let loopback = host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback());
    let address = match remote.url.scheme {
        Scheme::Https => either("HTTPS_PROXY"),
        Scheme::Http => either("HTTP_PROXY"),
        Scheme::Ssh | Scheme::File => None,
    };
    let bypassed = either("NO_PROXY").is_some_and(|list| bypasses(&list, host, remote.url.port));
    match address {
        Some(address) if !loopback && !bypassed => {
            let address = if address.contains("://") {
                address
            } else {
                format!("http://{address}")
            };
            ureq::Proxy::new(&address)
                .map(Some)
                .map_err(|_| invalid("in the environment is not a URL like http://host:port"))
        }
        _ => Ok(None),
    }
}

/// `NO_PROXY`: host names (with their subdomains), addresses and networks, `host:port`, `*`.
fn bypasses(list: &str, host: &str, port: Option<u16>) -> bool {
    list.split(',')
        .map(str::trim)
        .filter(|entry| !entry.is_empty())
        .any(|entry| {
            if entry == "*" {
                return true;
            }
            if let Some((network, bits)) = entry.split_once('/') {
                return in_network(host, network, bits);
            }
            let (name, wanted_port) = match entry.rsplit_once(':') {
                Some((name, text)) if !name.contains(':') => (name, text.parse::<u16>().ok()),
                _ => (entry, None),
            };
            if wanted_port.is_some() && wanted_port != port {
                return false;
            }
            let name = name.trim_start_matches("*.").trim_start_matches('.');
            host.eq_ignore_ascii_case(name)
                || host.len().checked_sub(name.len() + 1).is_some_and(|at| {
                    host.is_char_boundary(at)
                        && host[at..].starts_with('.')
                        && host[at + 1..].eq_ignore_ascii_case(name)
                })
        })
}

fn in_network(host: &str, network: &str, bits: &str) -> bool {
    use std::net::IpAddr::{V4, V6};
    let (Ok(host), Ok(network), Ok(bits)) = (host.parse(), network.parse(), bits.parse::<u32>()) else {
        return false;
    };
    match (host, network) {
        (V4(host), V4(network)) if bits <= 32 => {
            let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
            u32::from(host) & mask == u32::from(network) & mask
        }
        (V6(host), V6(network)) if bits <= 128 => {
            let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
            u128::from(host) & mask == u128::from(network) & mask
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::{FileUrls, RemoteUrl};
    use super::*;

    fn chosen(url: &str, environment: &[(&str, &str)]) -> Option<String> {
        let remote = Remote::new(RemoteUrl::parse(url, FileUrls::Refused).unwrap());
        let variable = |name: &str| {
            environment
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| (*value).to_owned())
        };
        choose(&remote, variable)
            .unwrap()
            .map(|proxy| proxy.host().to_owned())
    }

    #[test]
    fn the_proxy_of_the_environment_is_chosen_as_go_does() {
        let env = [
            ("HTTPS_PROXY", "http://secure:3128"),
            ("http_proxy", "plain:3128"),
        ];
        assert_eq!(chosen("https://example.com/r", &env).as_deref(), Some("secure"));
        assert_eq!(chosen("http://example.com/r", &env).as_deref(), Some("plain"));
        assert_eq!(chosen("https://example.com/r", &[]), None);
        for local in ["http://localhost/r", "http://127.0.0.1:8080/r", "http://[::1]/r"] {
            assert_eq!(chosen(local, &env), None, "{local}");
        }
    }

    #[test]
    fn no_proxy_excepts_hosts_domains_ports_and_networks() {
        for (list, host, port, excepted) in [
            ("example.com", "example.com", None, true),
            ("example.com", "git.example.com", None, true),
            (".example.com", "git.example.com", None, true),
            ("example.com", "badexample.com", None, false),
            ("example.com:8080", "example.com", Some(8080), true),
            ("example.com:8080", "example.com", None, false),
            ("10.0.0.0/8", "10.1.2.3", None, true),
            ("10.0.0.0/8", "11.1.2.3", None, false),
            ("0.0.0.0/0", "11.1.2.3", None, true),
            ("other, *", "example.com", None, true),
            ("fd00::/8", "fd12::1", None, true),
            ("", "example.com", None, false),
        ] {
            assert_eq!(bypasses(list, host, port), excepted, "{list} {host} {port:?}");
        }
    }
}
