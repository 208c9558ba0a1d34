use std::time::Instant;

use plumbline_testkit::git::{Access, Fault};

use super::*;

fn impatient(world: &World) -> Mirror {
    let mut remote = remote(&world.server.url());
    remote.timeout = Duration::from_millis(1500);
    world.mirrors().open(remote).unwrap()
}

/// Runs `operation`, which must fail, and returns its error and how long it took.
fn failing<T>(operation: impl FnOnce() -> Result<T, GitError>) -> (GitError, Duration) {
    let start = Instant::now();
    let Err(error) = operation() else {
        panic!("it must fail")
    };
    (error, start.elapsed())
}

#[test]
fn a_server_that_is_not_there_is_unreachable_and_back_when_it_is() {
    let mut world = World::new();
    world.server.stop();
    let mirror = world.mirror();
    let (error, took) = failing(|| sync(&mirror));
    assert!(
        matches!(error, GitError::Unreachable { .. }) && error.is_transient(),
        "{error}"
    );
    assert!(error.to_string().contains("refused"), "{error}");
    assert!(took < Duration::from_secs(5));
    world.server.resume().unwrap();
    sync(&mirror).unwrap();
}

#[test]
fn a_host_that_does_not_exist_is_unreachable() {
    let world = World::new();
    let mirror = world
        .mirrors()
        .open(remote("http://nowhere.invalid/repository.git"))
        .unwrap();
    let (error, _) = failing(|| sync(&mirror));
    assert!(matches!(error, GitError::Unreachable { .. }), "{error}");
}

#[test]
fn a_silent_server_is_waited_for_no_longer_than_the_timeout() {
    let world = World::new();
    world.server.set_fault(Fault::Silence);
    let mirror = impatient(&world);
    let (error, took) = failing(|| sync(&mirror));
    assert!(matches!(error, GitError::Timeout { .. }), "{error}");
    assert!(took < Duration::from_secs(4), "{took:?}");
}

#[test]
fn a_server_that_trickles_is_stopped_at_the_timeout() {
    let world = World::new();
    let mirror = impatient(&world);
    let resolved = mirror.resolve(&branch("main")).unwrap();
    world.server.set_fault(Fault::Trickle(Duration::from_millis(100)));
    for (error, took) in [
        failing(|| mirror.resolve(&branch("main")).map(drop)),
        failing(|| mirror.fetch(&resolved)),
    ] {
        assert!(matches!(error, GitError::Timeout { .. }), "{error}");
        assert!(took < Duration::from_secs(4), "{took:?}");
    }
    world.server.set_fault(Fault::None);
    sync(&mirror).unwrap();
}

#[test]
fn an_answer_that_breaks_off_anywhere_leaves_the_mirror_as_it_was() {
    let world = World::new();
    world
        .repository
        .write(
            "deploy/b.yaml",
            "some text that makes the pack a little longer\n".repeat(20),
        )
        .unwrap();
    world.repository.commit("second").unwrap();
    let mirror = world.mirror();
    let resolved = mirror.resolve(&branch("main")).unwrap();
    for bytes in [0, 3, 30, 70, 100, 200, 300, 400] {
        world.server.set_fault(Fault::Truncate(bytes));
        let (error, _) = failing(|| mirror.fetch(&resolved));
        assert!(error.is_transient(), "{bytes}: {error}");
        assert!(!mirror.contains(resolved.commit));
    }
    world.server.set_fault(Fault::None);
    mirror.fetch(&resolved).unwrap();
    world
        .repository
        .write("deploy/c.yaml", "c\n".repeat(100))
        .unwrap();
    world.repository.commit("third").unwrap();
    let third = mirror.resolve(&branch("main")).unwrap();
    world.server.set_fault(Fault::Truncate(150));
    assert!(mirror.fetch(&third).is_err());
    assert!(mirror.contains(resolved.commit) && !mirror.contains(third.commit));
    world.server.set_fault(Fault::None);
    mirror.fetch(&third).unwrap();
}

#[test]
fn statuses_of_a_server_become_the_right_errors() {
    let world = World::new();
    let mirror = world.mirror();
    for (status, kind) in [
        ("503 Service Unavailable", "unreachable"),
        ("429 Too Many Requests", "unreachable"),
        ("404 Not Found", "not found"),
        ("401 Unauthorized", "credentials"),
        ("403 Forbidden", "credentials"),
        ("418 Teapot", "broken answer"),
    ] {
        world.server.set_fault(Fault::Status(status));
        let (error, _) = failing(|| sync(&mirror));
        assert!(error.to_string().contains(kind), "{status}: {error}");
    }
    world.server.set_fault(Fault::Page);
    let (error, _) = failing(|| sync(&mirror));
    assert!(matches!(error, GitError::Protocol { .. }), "{error}");
    world.server.set_fault(Fault::None);
    let nothing = world
        .mirrors()
        .open(remote(&world.server.url_of("nothing.git")))
        .unwrap();
    let (error, _) = failing(|| sync(&nothing));
    assert!(matches!(error, GitError::NotFound { .. }), "{error}");
}

#[test]
fn the_right_credentials_are_sent_with_the_first_request() {
    let world = World::new();
    let mirror = |credentials| {
        world
            .mirrors()
            .open(remote(&world.server.url()).with_credentials(credentials).unwrap())
            .unwrap()
    };
    world.server.set_access(Access::Basic("me", "hunter2"));
    sync(&mirror(basic("me", "hunter2"))).unwrap();
    assert_eq!(world.server.requests().len(), 4, "no request was refused");
    for wrong in [basic("me", "wrong-password"), Credentials::None] {
        let (error, _) = failing(|| sync(&mirror(wrong)));
        assert!(
            matches!(error, GitError::Authentication { .. }) && !error.is_transient(),
            "{error}"
        );
        assert!(!error.to_string().contains("wrong-password"), "{error}");
    }
    world.server.set_access(Access::Bearer("token-1"));
    sync(&mirror(Credentials::Bearer(Secret::new("token-1")))).unwrap();
    let (error, _) = failing(|| sync(&mirror(Credentials::Bearer(Secret::new("token-2")))));
    assert!(matches!(error, GitError::Authentication { .. }), "{error}");
}

#[test]
fn credentials_do_not_follow_a_redirect_to_another_host() {
    let world = World::new();
    let other = World::new();
    let credentials = || basic("me", "hunter2");
    let mirror = world
        .mirrors()
        .open(
            remote(&world.server.url())
                .with_credentials(credentials())
                .unwrap(),
        )
        .unwrap();
    world.server.set_fault(Fault::Redirect(other.server.url()));
    let (resolved, _) = sync(&mirror).unwrap();
    assert_eq!(resolved.commit.to_string(), other.repository.head().unwrap());
    let requests = other.server.requests();
    assert_eq!(requests.len(), 4);
    assert!(
        requests.iter().all(|request| request.authorization.is_none()),
        "{requests:?}"
    );
    assert!(
        world
            .server
            .requests()
            .iter()
            .all(|request| request.authorization.is_some())
    );
    world.server.set_fault(Fault::Redirect(world.server.url()));
    let (error, _) = failing(|| sync(&mirror));
    assert!(error.to_string().contains("redirects more than"), "{error}");
}

#[test]
fn an_interrupted_process_ends_its_operations() {
    let world = World::new();
    let mirror = world.mirror();
    world.mirrors().interrupt();
    let (error, _) = failing(|| sync(&mirror));
    assert!(matches!(error, GitError::Interrupted { .. }), "{error}");
}
