use std::time::Instant;

use super::*;

/// Fetches what is at the branch now, and returns its commit.
fn fetched(mirror: &Mirror) -> plumbline_sync::git::CommitId {
    sync(mirror).unwrap().0.commit
}

fn id(hex: &str) -> plumbline_sync::git::CommitId {
    hex.parse().unwrap()
}

/// With and without a server that can leave files out.
fn worlds() -> [World; 2] {
    let filters = World::new();
    filters
        .repository
        .config("uploadpack.allowFilter", "true")
        .unwrap();
    [World::new(), filters]
}

fn commit(world: &World, name: &str) -> String {
    world
        .repository
        .write(&format!("deploy/{name}.yaml"), format!("{name}: 1\n"))
        .unwrap();
    world.repository.commit(name).unwrap()
}

#[test]
fn what_continues_is_told_by_the_commit_or_by_one_request() {
    for world in worlds() {
        let mirror = world.mirror();
        let first = fetched(&mirror);
        let second = commit(&world, "second");
        assert_eq!(fetched(&mirror), id(&second));
        world.server.requests();
        let history = mirror.since(first, id(&second)).unwrap();
        assert!(history.continues);
        assert_eq!(history.commits, [id(&second)]);
        assert_eq!(world.server.requests().len(), 0, "its parent says it");

        let between: Vec<String> = (0..20).map(|at| commit(&world, &format!("many-{at}"))).collect();
        let last = fetched(&mirror);
        world.server.requests();
        let history = mirror.since(id(&second), last).unwrap();
        assert!(history.continues);
        let newest_first: Vec<_> = between.iter().rev().map(|commit| id(commit)).collect();
        assert_eq!(history.commits, newest_first);
        let signed = history.signed(id(&between[3])).unwrap().unwrap();
        assert!(String::from_utf8_lossy(&signed.content).contains("many-3"));
        let requests = world.server.requests();
        assert_eq!(requests.len(), 2, "{requests:?}");
        assert!(requests[1].body.contains(&format!("have {second}")) && !requests[1].body.contains("deepen"));
        assert!(mirror.since(first, last).unwrap().continues);
    }
}

#[test]
fn what_takes_something_back_is_told_from_what_continues() {
    for world in worlds() {
        let mirror = world.mirror();
        let first = fetched(&mirror);
        commit(&world, "second");
        let second = fetched(&mirror);
        // Back to the first.
        world.repository.force(&first.to_string()).unwrap();
        assert_eq!(fetched(&mirror), first);
        let history = mirror.since(second, first).unwrap();
        assert!(!history.continues && history.commits.is_empty());
        // Another second, and another third after it.
        for name in ["other", "another"] {
            commit(&world, name);
        }
        let other = fetched(&mirror);
        let history = mirror.since(second, other).unwrap();
        assert!(!history.continues);
        assert_eq!(history.commits.len(), 2);
        // The last one made anew, with the same parent.
        world.repository.amend("rewritten").unwrap();
        let amended = fetched(&mirror);
        let history = mirror.since(other, amended).unwrap();
        assert!(!history.continues);
        assert_eq!(history.commits, [amended]);
        // A history that has nothing to do with it, and an old commit that the server forgot.
        world
            .repository
            .git(&["checkout", "--quiet", "--orphan", "fresh"])
            .unwrap();
        let fresh = commit(&world, "fresh");
        world
            .repository
            .git(&["update-ref", "refs/heads/main", &fresh])
            .unwrap();
        for name in ["reflog expire --expire=now --all", "gc --quiet --prune=now"] {
            world
                .repository
                .git(&name.split(' ').collect::<Vec<_>>())
                .unwrap();
        }
        let fresh = fetched(&mirror);
        let history = mirror.since(amended, fresh).unwrap();
        assert!(!history.continues);
        assert_eq!(history.commits, [fresh]);
    }
}

#[test]
fn a_merge_continues_both_of_its_sides() {
    let [_, world] = worlds();
    let mirror = world.mirror();
    let base = fetched(&mirror);
    world.repository.branch("side").unwrap();
    commit(&world, "side");
    world.repository.checkout("main").unwrap();
    commit(&world, "main-1");
    let old = fetched(&mirror);
    commit(&world, "main-2");
    world
        .repository
        .git(&["merge", "--quiet", "--no-ff", "-m", "merge", "side"])
        .unwrap();
    let merged = fetched(&mirror);
    let history = mirror.since(old, merged).unwrap();
    assert!(history.continues);
    assert_eq!(history.commits.len(), 3, "the merge, main-2 and side");
    assert!(mirror.since(base, merged).unwrap().continues);
}

#[test]
fn nothing_is_left_behind_and_a_silent_server_is_not_waited_for() {
    let [_, world] = worlds();
    let mut remote = remote(&world.server.url());
    remote.timeout = Duration::from_millis(1500);
    let mirror = world.mirrors().open(remote).unwrap();
    let first = fetched(&mirror);
    for name in ["a", "b"] {
        commit(&world, name);
    }
    let last = fetched(&mirror);
    let before = contents(&world.storage());
    let history = mirror.since(first, last).unwrap();
    assert_ne!(contents(&world.storage()), before);
    drop(history);
    assert_eq!(contents(&world.storage()), before);

    world.server.set_fault(plumbline_testkit::git::Fault::Silence);
    let begun = Instant::now();
    let error = mirror
        .since(first, last)
        .map(|history| history.commits)
        .unwrap_err();
    assert!(matches!(error, GitError::Timeout { .. }), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    assert_eq!(contents(&world.storage()), before);
}

#[test]
fn histories_of_sha256_repositories_are_told_too() {
    let directory = TempDir::new().unwrap();
    let repository = Repository::init_with(directory.path(), "sha256").unwrap();
    repository.commit("first").unwrap();
    let server = GitServer::http(&repository).unwrap();
    let mirrors = Mirrors::new(&directory.path().join("storage")).unwrap();
    let mirror = mirrors.open(remote(&server.url())).unwrap();
    let first = fetched(&mirror);
    for name in ["second", "third"] {
        repository.commit(name).unwrap();
    }
    let third = fetched(&mirror);
    assert!(mirror.since(first, third).unwrap().continues);
    repository.force(&first.to_string()).unwrap();
    assert!(!mirror.since(third, fetched(&mirror)).unwrap().continues);
}

#[test]
fn those_who_follow_the_same_repository_share_what_the_server_says() {
    let world = World::new();
    world.repository.branch("next").unwrap();
    world.repository.tag("v1.0.0").unwrap();
    let (one, two) = (world.mirror(), world.mirror());
    let before = Instant::now();
    one.resolve(&branch("main")).unwrap();
    two.resolve(&branch("next")).unwrap();
    world.server.requests();
    // Whoever asks now asks for both.
    assert!(!one.resolve_since(&branch("main"), Instant::now()).unwrap().shared);
    let polled = two.resolve_since(&branch("next"), before).unwrap();
    assert!(polled.shared);
    assert_eq!(
        polled.resolved.commit.to_string(),
        world.repository.head().unwrap()
    );
    let requests = world.server.requests();
    assert_eq!(requests.len(), 2, "{requests:?}");
    assert!(
        requests[1].body.contains("ref-prefix refs/heads/main")
            && requests[1].body.contains("ref-prefix refs/heads/next")
    );
    // What is not in it is asked for, and so is what has to be newer.
    world.repository.git(&["branch", "next-2"]).unwrap();
    assert!(!two.resolve_since(&branch("next-2"), before).unwrap().shared);
    assert!(!two.resolve_since(&branch("next"), Instant::now()).unwrap().shared);
    // With other credentials it is another mirror.
    let other = remote(&world.server.url())
        .with_credentials(basic("me", "x"))
        .unwrap();
    let other = world.mirrors().open(other).unwrap();
    assert!(!other.resolve_since(&branch("main"), before).unwrap().shared);
}
