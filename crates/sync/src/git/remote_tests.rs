use super::*;

fn parse(text: &str) -> Result<RemoteUrl, GitError> {
    RemoteUrl::parse(text, FileUrls::Refused)
}

#[test]
fn good_urls_are_taken_apart() {
    let url = parse("ssh://git@example.com:2222/org/repo.git").unwrap();
    assert_eq!(
        (url.scheme(), url.user.as_deref(), url.host(), url.port),
        (Scheme::Ssh, Some("git"), "example.com", Some(2222))
    );
    assert_eq!(url.path, "/org/repo.git");
    let url = parse("https://[::1]:8443/repo").unwrap();
    assert_eq!((url.host(), url.port), ("[::1]", Some(8443)));
    assert_eq!(
        parse("http://git.example.com/a/b/").unwrap().as_str(),
        "http://git.example.com/a/b"
    );
}

#[test]
fn bad_urls_are_refused_with_the_reason() {
    for (url, reason) in [
        ("git@github.com:org/repo", "ssh://git@host/path"),
        ("ext::sh -c evil", "space"),
        ("git://example.com/repo", "must start with"),
        ("https://user:token@example.com/repo", "user information"),
        ("https://user@example.com/repo", "user information"),
        ("ssh://git:secret@example.com/repo", "password"),
        ("https:///repo", "no host"),
        ("https://example.com", "no path"),
        ("https://example.com/", "no path"),
        ("ssh://-oProxyCommand=evil/repo", "'-'"),
        ("ssh://-l@example.com/repo", "'-'"),
        ("https://example.com/repo?token=x", "'?'"),
        ("https://example.com/a/../b", "'..'"),
        ("https://example.com/re\npo", "control"),
        ("https://exa%6dple.com/repo", "host"),
        ("https://example.com:99999/repo", "port"),
        ("file:///srv/repo", "development"),
    ] {
        let error = parse(url).unwrap_err().to_string();
        assert!(error.contains(reason), "{url}: {error}");
        assert!(!error.contains("token") && !error.contains("secret@"), "{error}");
    }
    assert!(RemoteUrl::parse("file:///srv/repo", FileUrls::Allowed).is_ok());
    assert!(RemoteUrl::parse("file://host/repo", FileUrls::Allowed).is_err());
}

#[test]
fn credentials_must_fit_the_url() {
    let https = || Remote::new(parse("https://example.com/repo").unwrap());
    let ssh = || Remote::new(parse("ssh://git@example.com/repo").unwrap());
    let key = || Credentials::Ssh {
        identity: Secret::new("-----BEGIN OPENSSH PRIVATE KEY-----"),
        known_hosts: "example.com ssh-ed25519 AAAA".to_owned(),
        password: None,
    };
    assert!(ssh().with_credentials(key()).is_ok());
    assert!(https().with_credentials(key()).is_err());
    assert!(
        ssh()
            .with_credentials(Credentials::Bearer(Secret::new("t")))
            .is_err()
    );
    let no_hosts = Credentials::Ssh {
        identity: Secret::new("PRIVATE KEY"),
        known_hosts: " ".to_owned(),
        password: None,
    };
    assert!(
        ssh()
            .with_credentials(no_hosts)
            .unwrap_err()
            .to_string()
            .contains("known_hosts")
    );
}

#[test]
fn nothing_that_is_printed_holds_a_secret() {
    let remote = Remote::new(parse("https://example.com/repo").unwrap())
        .with_credentials(Credentials::Basic {
            username: "me".to_owned(),
            password: Secret::new("hunter2"),
        })
        .unwrap();
    assert!(!format!("{remote:?}").contains("hunter2"));
}

#[test]
fn mirrors_are_shared_only_by_equal_url_and_credentials() {
    let remote = |url: &str, password: &str| {
        Remote::new(parse(url).unwrap())
            .with_credentials(Credentials::Basic {
                username: "me".to_owned(),
                password: Secret::new(password),
            })
            .unwrap()
            .fingerprint()
    };
    let one = remote("https://example.com/repo", "a");
    assert_eq!(one, remote("https://example.com/repo/", "a"));
    assert_ne!(one, remote("https://example.com/repo", "b"));
    assert_ne!(one, remote("https://example.com/other", "a"));
}
