use super::*;

fn spec(spec: ReferenceSpec<'_>) -> Reference {
    Reference::from_spec(spec).unwrap()
}

#[test]
fn a_branch_is_resolved_with_one_query_for_just_that_branch() {
    let world = World::new();
    world.repository.branch("other").unwrap();
    let mirror = world.mirror();
    let resolved = mirror.resolve(&branch("main")).unwrap();
    assert_eq!(
        resolved.revision.to_string(),
        format!("main@sha1:{}", world.repository.head().unwrap())
    );
    let requests = world.server.requests();
    assert_eq!(requests.len(), 2, "{requests:?}");
    assert_eq!(
        (requests[0].method.as_str(), requests[0].command.as_deref()),
        ("GET", None)
    );
    assert_eq!(requests[1].command.as_deref(), Some("ls-refs"));
    assert!(
        requests[1].body.contains("ref-prefix refs/heads/main\n")
            || requests[1].body.contains("ref-prefix refs/heads/main")
    );
    assert_eq!(requests[1].body.matches("ref-prefix").count(), 1);
}

#[test]
fn polling_an_unchanged_repository_writes_nothing() {
    let world = World::new();
    let mirror = world.mirror();
    let (first, _) = sync(&mirror).unwrap();
    let before = contents(&world.storage());
    world.server.requests();
    for _ in 0..3 {
        let resolved = mirror.resolve(&branch("main")).unwrap();
        mirror.fetch(&resolved).unwrap();
        assert_eq!(resolved, first);
    }
    assert_eq!(
        world.server.requests().len(),
        6,
        "two requests a poll and none to fetch"
    );
    assert_eq!(contents(&world.storage()), before);
}

#[test]
fn tags_annotated_or_not_lead_to_their_commit() {
    let world = World::new();
    let commit = world.repository.head().unwrap();
    world.repository.tag("plain").unwrap();
    world.repository.annotated_tag("v1.0.0").unwrap();
    let mirror = world.mirror();
    for tag in ["plain", "v1.0.0"] {
        let resolved = mirror
            .resolve(&spec(ReferenceSpec {
                tag: Some(tag),
                ..Default::default()
            }))
            .unwrap();
        assert_eq!(resolved.revision.to_string(), format!("{tag}@sha1:{commit}"));
        mirror.fetch(&resolved).unwrap();
    }
    assert!(mirror.contains(commit.parse().unwrap()));
}

#[test]
fn the_highest_version_of_a_range_is_followed() {
    let world = World::new();
    for tag in ["1.0.0", "1.2.0", "1.10.0", "2.0.0-rc.1"] {
        world.repository.commit(tag).unwrap();
        world.repository.annotated_tag(tag).unwrap();
    }
    let mirror = world.mirror();
    let resolve = |range| {
        mirror.resolve(&spec(ReferenceSpec {
            semver: Some(range),
            ..Default::default()
        }))
    };
    assert_eq!(resolve(">=1.0.0").unwrap().revision.reference(), Some("1.10.0"));
    assert_eq!(resolve("~1.2").unwrap().revision.reference(), Some("1.2.0"));
    assert_eq!(
        resolve(">=2.0.0-0").unwrap().revision.reference(),
        Some("2.0.0-rc.1")
    );
    let error = resolve(">=3").unwrap_err().to_string();
    assert!(
        error.contains("version range '>=3'") && error.contains("1.10.0"),
        "{error}"
    );
}

#[test]
fn any_reference_can_be_followed_by_its_full_name() {
    let world = World::new();
    let commit = world.repository.head().unwrap();
    world
        .repository
        .git(&["update-ref", "refs/pull/1/head", &commit])
        .unwrap();
    let resolved = world
        .mirror()
        .resolve(&spec(ReferenceSpec {
            name: Some("refs/pull/1/head"),
            ..Default::default()
        }))
        .unwrap();
    assert_eq!(
        resolved.revision.to_string(),
        format!("refs/pull/1/head@sha1:{commit}")
    );
}

#[test]
fn a_fixed_commit_needs_no_query_and_one_shallow_fetch() {
    let world = World::new();
    let pinned = world.repository.head().unwrap();
    world.repository.write("deploy/a.yaml", "a: 2\n").unwrap();
    world.repository.commit("second").unwrap();
    let mirror = world.mirror();
    let reference = spec(ReferenceSpec {
        commit: Some(&pinned),
        branch: Some("main"),
        ..Default::default()
    });
    let resolved = mirror.resolve(&reference).unwrap();
    assert_eq!(resolved.revision.to_string(), format!("main@sha1:{pinned}"));
    assert_eq!(world.server.requests().len(), 0);
    mirror.fetch(&resolved).unwrap();
    let requests = world.server.requests();
    assert_eq!(requests.len(), 2);
    assert!(requests[1].body.contains("deepen 1"));
    assert_eq!(
        text(&mirror.snapshot(resolved.commit).unwrap(), "deploy/a.yaml"),
        "a: 1\n"
    );
    let only = spec(ReferenceSpec {
        commit: Some(&pinned),
        ..Default::default()
    });
    assert_eq!(
        mirror.resolve(&only).unwrap().revision.to_string(),
        format!("sha1:{pinned}")
    );
}

#[test]
fn a_commit_that_does_not_exist_is_named() {
    let world = World::new();
    let mirror = world.mirror();
    let nowhere = "0123456789012345678901234567890123456789";
    let resolved = mirror
        .resolve(&spec(ReferenceSpec {
            commit: Some(nowhere),
            ..Default::default()
        }))
        .unwrap();
    let error = mirror.fetch(&resolved).unwrap_err();
    assert!(
        matches!(&error, GitError::ReferenceNotFound { wanted, .. } if wanted.contains(nowhere)),
        "{error}"
    );
    assert!(!mirror.contains(resolved.commit));
}

#[test]
fn a_missing_branch_is_told_from_an_empty_repository() {
    let world = World::empty();
    assert!(matches!(
        world.mirror().resolve(&branch("main")),
        Err(GitError::Empty { .. })
    ));
    world.repository.commit("first").unwrap();
    world.repository.branch("release").unwrap();
    let error = world.mirror().resolve(&branch("nope")).unwrap_err();
    assert!(matches!(error, GitError::ReferenceNotFound { .. }));
    let text = error.to_string();
    assert!(
        text.contains("branch 'nope'") && text.contains("main, release"),
        "{text}"
    );
}

#[test]
fn a_tag_of_a_file_is_refused() {
    let world = World::new();
    let blob = world.repository.blob(b"not a commit").unwrap();
    world.repository.git(&["tag", "blob", &blob]).unwrap();
    let mirror = world.mirror();
    let resolved = mirror
        .resolve(&spec(ReferenceSpec {
            tag: Some("blob"),
            ..Default::default()
        }))
        .unwrap();
    assert!(mirror.fetch(&resolved).is_err());
    assert!(mirror.snapshot(resolved.commit).is_err());
}

#[test]
fn sha256_repositories_work() {
    let directory = TempDir::new().unwrap();
    let repository = Repository::init_with(directory.path(), "sha256").unwrap();
    repository.write("a.yaml", "a: 1\n").unwrap();
    repository.commit("first").unwrap();
    let server = GitServer::http(&repository).unwrap();
    let mirrors = Mirrors::new(&directory.path().join("storage")).unwrap();
    for url in [server.url(), format!("file://{}", repository.path().display())] {
        let mirror = mirrors.open(remote(&url)).unwrap();
        repository.write("a.yaml", "a: 1\n").unwrap();
        repository.commit("again").unwrap();
        sync(&mirror).unwrap();
        repository.write("a.yaml", "a: 2\n").unwrap();
        let commit = repository.commit("second").unwrap();
        let (resolved, snapshot) = sync(&mirror).unwrap();
        assert_eq!(resolved.revision.to_string(), format!("main@sha256:{commit}"));
        assert_eq!(text(&snapshot, "a.yaml"), "a: 2\n");
    }
}
