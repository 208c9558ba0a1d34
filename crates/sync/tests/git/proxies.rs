//! SOCKS5 proxies of a GitRepository.

use plumbline_testkit::git::{Access, SocksProxy};

use super::*;

#[test]
fn a_socks_proxy_is_used_with_its_password_and_is_not_a_way_around_the_rules() {
    let world = World::new();
    let https = GitServer::https_for(&world.repository, Access::Open).unwrap();
    let proxy = SocksProxy::start("me", "hunter2").unwrap();
    let open = |url: &str, address: String, password: &str| {
        let mut remote = remote(url);
        remote.tls.ca = https.ca().map(str::to_owned);
        remote.proxy = Some(plumbline_sync::git::Proxy {
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
            .unwrap_err();
        assert!(matches!(error, GitError::Unreachable { .. }), "{error}");
        assert!(!error.to_string().contains("wrong-password"), "{error}");
        assert_eq!(proxy.targets(), Vec::<String>::new());
        let nobody = sync(&open(&url, "socks5://127.0.0.1:1".to_owned(), "x"))
            .map(drop)
            .unwrap_err();
        assert!(matches!(nobody, GitError::Unreachable { .. }), "{nobody}");
    }
    // Where a machine's credentials are is nobody's repository, whoever connects.
    let error = sync(&open("http://169.254.169.254/latest", proxy.url(), "hunter2"))
        .map(drop)
        .unwrap_err();
    println!("{error}");
    assert_eq!(proxy.targets(), Vec::<String>::new(), "{error}");
}
