use std::time::Instant;

use plumbline_sync::git::{Proxy, Tls};
use plumbline_testkit::git::{Access, HttpProxy, SshServer};

use super::*;

struct Ssh {
    world: World,
    server: SshServer,
}

impl Ssh {
    fn new() -> Self {
        let world = World::new();
        let server = SshServer::start(&world.repository, world.directory.path()).unwrap();
        Self { world, server }
    }

    fn sync(
        &self,
        url: &str,
        identity: String,
        known_hosts: String,
        password: Option<&str>,
    ) -> Result<String, GitError> {
        let credentials = Credentials::Ssh {
            identity: Secret::new(identity),
            known_hosts,
            password: password.map(Secret::new),
        };
        let mirror = self
            .world
            .mirrors()
            .open(remote(url).with_credentials(credentials)?)?;
        let (_, snapshot) = sync(&mirror)?;
        Ok(text(&snapshot, "deploy/a.yaml"))
    }

    fn error(&self, url: &str, identity: String, known_hosts: String, password: Option<&str>) -> GitError {
        self.sync(url, identity, known_hosts, password).unwrap_err()
    }
}

#[test]
fn ssh_works_with_the_right_key_and_host() {
    let ssh = Ssh::new();
    let (url, hosts) = (ssh.server.url(), ssh.server.known_hosts().unwrap());
    let identity = ssh.server.identity().unwrap();
    assert_eq!(
        ssh.sync(&url, identity.clone(), hosts.clone(), None).unwrap(),
        "a: 1\n"
    );
    // Incremental too, and without the line end that a Secret may lack.
    ssh.world.repository.write("deploy/a.yaml", "a: 2\n").unwrap();
    ssh.world.repository.commit("second").unwrap();
    assert_eq!(
        ssh.sync(&url, identity.trim().to_owned(), hosts.clone(), None)
            .unwrap(),
        "a: 2\n"
    );
    assert_eq!(
        ssh.sync(
            &url,
            ssh.server.locked_identity().unwrap(),
            hosts,
            Some("open sesame")
        )
        .unwrap(),
        "a: 2\n"
    );
}

#[test]
fn ssh_refusals_say_what_is_wrong() {
    let ssh = Ssh::new();
    let (url, hosts) = (ssh.server.url(), ssh.server.known_hosts().unwrap());
    let identity = || ssh.server.identity().unwrap();
    let error = ssh.error(&url, identity(), ssh.server.wrong_known_hosts().unwrap(), None);
    assert!(matches!(error, GitError::HostIdentity { .. }), "{error}");
    let error = ssh.error(&url, identity(), hosts.replace("127.0.0.1", "127.0.0.2"), None);
    assert!(matches!(error, GitError::HostIdentity { .. }), "{error}");
    let error = ssh.error(
        &url,
        identity(),
        format!("@revoked {}", hosts.replacen("@revoked ", "", 1)),
        None,
    );
    assert!(matches!(error, GitError::HostIdentity { .. }), "{error}");
    let error = ssh.error(&url, ssh.server.unknown_identity().unwrap(), hosts.clone(), None);
    assert!(matches!(error, GitError::Authentication { .. }), "{error}");
    let error = ssh.error(
        &url,
        "-----BEGIN OPENSSH PRIVATE KEY-----\nnonsense\n".to_owned(),
        hosts.clone(),
        None,
    );
    assert!(matches!(error, GitError::InvalidCredentials(_)), "{error}");
    for passphrase in [None, Some("wrong")] {
        let error = ssh.error(
            &url,
            ssh.server.locked_identity().unwrap(),
            hosts.clone(),
            passphrase,
        );
        assert!(
            matches!(
                error,
                GitError::InvalidCredentials(_) | GitError::Authentication { .. }
            ),
            "{error}"
        );
    }
    let error = ssh.error(&ssh.server.url_of_nothing(), identity(), hosts.clone(), None);
    assert!(matches!(error, GitError::NotFound { .. }), "{error}");
    let error = ssh.error("ssh://git@127.0.0.1:1/repository.git", identity(), hosts, None);
    assert!(matches!(error, GitError::Unreachable { .. }), "{error}");
}

#[test]
fn known_hosts_may_be_hashed() {
    let ssh = Ssh::new();
    let file = ssh.world.directory.path().join("known_hosts");
    std::fs::write(&file, ssh.server.known_hosts().unwrap()).unwrap();
    let hashed = std::process::Command::new("ssh-keygen")
        .args(["-q", "-H", "-f"])
        .arg(&file)
        .output()
        .unwrap();
    assert!(hashed.status.success(), "{hashed:?}");
    let hosts = std::fs::read_to_string(&file).unwrap();
    assert!(
        hosts.starts_with("|1|") && !hosts.contains("127.0.0.1"),
        "{hosts}"
    );
    let (url, identity) = (ssh.server.url(), || ssh.server.identity().unwrap());
    assert_eq!(ssh.sync(&url, identity(), hosts.clone(), None).unwrap(), "a: 1\n");
    // The same host name with another key.
    let salt_and_name = hosts.split_once(' ').unwrap().0.to_owned();
    let wrong = ssh.server.wrong_known_hosts().unwrap();
    let wrong = format!("{salt_and_name} {}", wrong.split_once(' ').unwrap().1);
    let error = ssh.error(&url, identity(), wrong, None);
    assert!(matches!(error, GitError::HostIdentity { .. }), "{error}");
    let error = ssh.error(&url, identity(), String::new(), None);
    assert!(error.to_string().contains("'known_hosts' is missing"), "{error}");
}

#[test]
fn nothing_of_the_key_stays_on_disk() {
    let ssh = Ssh::new();
    let leftovers = || {
        std::fs::read_dir(std::env::temp_dir())
            .unwrap()
            .flatten()
            .filter(|entry| entry.file_name().to_string_lossy().starts_with("plumbline-ssh-"))
            .filter(|entry| {
                std::fs::read_to_string(entry.path().join("known_hosts"))
                    .is_ok_and(|hosts| hosts == ssh.server.known_hosts().unwrap())
            })
            .count()
    };
    ssh.sync(
        &ssh.server.url(),
        ssh.server.identity().unwrap(),
        ssh.server.known_hosts().unwrap(),
        None,
    )
    .unwrap();
    assert_eq!(leftovers(), 0);
}

#[test]
fn a_silent_ssh_server_is_waited_for_no_longer_than_the_timeout() {
    let world = World::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!(
        "ssh://git@127.0.0.1:{}/repository.git",
        listener.local_addr().unwrap().port()
    );
    let mut remote = remote(&url);
    remote.timeout = Duration::from_millis(1500);
    let credentials = Credentials::Ssh {
        identity: Secret::new("PRIVATE KEY"),
        known_hosts: "x ssh-ed25519 AAAA".to_owned(),
        password: None,
    };
    let mirror = world
        .mirrors()
        .open(remote.with_credentials(credentials).unwrap())
        .unwrap();
    let start = Instant::now();
    let error = mirror.resolve(&branch("main")).unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    assert!(matches!(error, GitError::Timeout { .. }), "{error}");
}

#[test]
fn https_trusts_the_authority_of_the_secret_and_no_other() {
    let world = World::new();
    let server = GitServer::https_for(&world.repository, Access::Basic("me", "hunter2")).unwrap();
    let other = GitServer::https_for(&world.repository, Access::Open).unwrap();
    let open = |ca: Option<&str>| {
        let mut remote = remote(&server.url())
            .with_credentials(basic("me", "hunter2"))
            .unwrap();
        remote.tls = Tls {
            ca: ca.map(str::to_owned),
            client: None,
        };
        world.mirrors().open(remote).unwrap()
    };
    sync(&open(server.ca())).unwrap();
    for untrusted in [None, other.ca()] {
        let error = sync(&open(untrusted)).map(drop).unwrap_err();
        assert!(matches!(error, GitError::HostIdentity { .. }), "{error}");
    }
    let error = sync(&open(Some("not a certificate"))).map(drop).unwrap_err();
    assert!(matches!(error, GitError::InvalidCredentials(_)), "{error}");
    let requests = server.requests();
    assert_eq!(
        requests.len(),
        4,
        "nothing was sent to a server that was not verified"
    );
}

#[test]
fn a_proxy_of_the_object_is_used_with_its_password() {
    let world = World::new();
    let https = GitServer::https_for(&world.repository, Access::Open).unwrap();
    let proxy = HttpProxy::start("me", "hunter2").unwrap();
    let open = |url: &str, address: String, password: &str| {
        let mut remote = remote(url);
        remote.tls.ca = https.ca().map(str::to_owned);
        remote.proxy = Some(Proxy {
            address,
            username: Some("me".to_owned()),
            password: Some(Secret::new(password)),
        });
        world.mirrors().open(remote).unwrap()
    };
    for url in [world.server.url(), https.url()] {
        sync(&open(&url, proxy.url(), "hunter2")).unwrap();
        let targets = proxy.targets();
        assert!(
            !targets.is_empty() && targets.iter().all(|target| url.contains(target)),
            "{targets:?}"
        );
        let error = sync(&open(&url, proxy.url(), "wrong-password"))
            .map(drop)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("unreachable") && error.to_lowercase().contains("proxy"),
            "{error}"
        );
        assert!(!error.contains("wrong-password"), "{error}");
        let error = sync(&open(&url, "http://127.0.0.1:1".to_owned(), "x"))
            .map(drop)
            .unwrap_err();
        assert!(matches!(error, GitError::Unreachable { .. }), "{error}");
    }
    let error = sync(&open(&world.server.url(), "http://a b".to_owned(), "x"))
        .map(drop)
        .unwrap_err();
    assert!(matches!(error, GitError::InvalidCredentials(_)), "{error}");
}
