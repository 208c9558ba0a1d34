//! Where repositories may be.

use std::sync::Arc;

use plumbline_sync::git::UrlPolicy;
use plumbline_testkit::git::{Access, Fault};

use super::*;

fn only(host: &str) -> Arc<UrlPolicy> {
    Arc::new(UrlPolicy {
        schemes: Vec::new(),
        hosts: vec![host.parse().unwrap()],
    })
}

fn port(url: &str) -> &str {
    url.trim_start_matches("http://").split('/').next().unwrap()
}

#[test]
fn the_list_of_hosts_holds_for_the_url_and_for_redirects() {
    let (world, other) = (World::new(), World::new());
    let mut here = remote(&world.server.url());
    here.policy = only(port(&world.server.url()));
    let mirror = world.mirrors().open(here).unwrap();
    sync(&mirror).unwrap();
    world.server.set_fault(Fault::Redirect(other.server.url()));
    let error = mirror.resolve(&branch("main")).unwrap_err();
    assert!(
        matches!(&error, GitError::InvalidUrl(_)) && error.to_string().contains("--allowed-git-hosts"),
        "{error}"
    );
    assert_eq!(other.server.requests().len(), 0);

    let mut elsewhere = remote(&other.server.url());
    elsewhere.policy = only("git.example.com");
    let error = sync(&world.mirrors().open(elsewhere).unwrap())
        .map(drop)
        .unwrap_err();
    assert!(matches!(error, GitError::InvalidUrl(_)), "{error}");
    assert_eq!(other.server.requests().len(), 0);
}

#[test]
fn no_redirect_and_no_name_leads_to_a_machines_credentials() {
    let world = World::new();
    let mirror = world.mirror();
    world
        .server
        .set_fault(Fault::Redirect("http://169.254.169.254/latest".to_owned()));
    let error = mirror.resolve(&branch("main")).unwrap_err();
    assert!(
        matches!(&error, GitError::InvalidUrl(_)) && error.to_string().contains("169.254.169.254"),
        "{error}"
    );
    // Forms that a resolver understands, and a parser of addresses does not.
    for host in ["2852039166", "0xa9fea9fe", "169.254.43518"] {
        let mirror = world.mirrors().open(remote(&format!("http://{host}/a"))).unwrap();
        let error = mirror.resolve(&branch("main")).unwrap_err();
        assert!(matches!(&error, GitError::InvalidUrl(_)), "{host}: {error}");
    }
}

#[test]
fn a_client_certificate_is_shown_to_who_wants_one() {
    let world = World::new();
    let (server, identity) = GitServer::https_with_client_certificates(&world.repository).unwrap();
    let open = |client: Option<(String, Secret)>| {
        let mut remote = remote(&server.url());
        remote.tls.ca = server.ca().map(str::to_owned);
        remote.tls.client = client;
        world.mirrors().open(remote).unwrap()
    };
    sync(&open(Some((
        identity.certificate.clone(),
        Secret::new(identity.key.clone()),
    ))))
    .unwrap();
    let error = sync(&open(None)).map(drop).unwrap_err();
    assert!(!matches!(error, GitError::Protocol { .. }), "{error}");
    // One that another authority signed.
    let (_other, stranger) = GitServer::https_with_client_certificates(&world.repository).unwrap();
    let stranger = (stranger.certificate, Secret::new(stranger.key));
    assert!(sync(&open(Some(stranger))).is_err());
    let broken = ("nonsense".to_owned(), Secret::new("nonsense"));
    let error = sync(&open(Some(broken))).map(drop).unwrap_err();
    assert!(matches!(error, GitError::InvalidCredentials(_)), "{error}");
}

#[test]
fn a_token_is_sent_over_tls_and_a_wrong_one_is_refused() {
    let world = World::new();
    let server = GitServer::https_for(&world.repository, Access::Bearer("token-1")).unwrap();
    let open = |token: &str| {
        let mut remote = remote(&server.url())
            .with_credentials(Credentials::Bearer(Secret::new(token)))
            .unwrap();
        remote.tls.ca = server.ca().map(str::to_owned);
        world.mirrors().open(remote).unwrap()
    };
    sync(&open("token-1")).unwrap();
    let error = sync(&open("token-2")).map(drop).unwrap_err();
    assert!(
        matches!(&error, GitError::Authentication { .. }) && !error.to_string().contains("token-2"),
        "{error}"
    );
}
