//! Servers and repositories that mean harm: bounded in time, memory and what else they touch.

use std::{fmt::Write as _, time::Instant};

use super::*;

#[test]
fn references_without_end_cost_only_those_who_ask_for_them() {
    let world = World::new();
    let commit = world.repository.head().unwrap();
    let mut packed = "# pack-refs with: peeled fully-peeled sorted \n".to_owned();
    let long = "x".repeat(200);
    for at in 0..150_000 {
        writeln!(packed, "{commit} refs/tags/v1.0.{at:06}-{long}").unwrap();
    }
    std::fs::write(world.repository.path().join("packed-refs"), packed).unwrap();
    let mut remote = remote(&world.server.url());
    remote.timeout = Duration::from_mins(1);
    let mirror = world.mirrors().open(remote).unwrap();
    let begun = Instant::now();
    sync(&mirror).unwrap();
    let took = begun.elapsed();
    let versions = Reference::from_spec(ReferenceSpec {
        semver: Some(">=1.0.0"),
        ..Default::default()
    })
    .unwrap();
    let error = mirror.resolve(&versions).unwrap_err();
    assert!(
        matches!(
            error,
            GitError::AnswerTooLarge {
                what: "references",
                ..
            }
        ),
        "{error}"
    );
    println!(
        "a branch beside 150,000 tags: {took:?}; with all tags, given up: {:?}",
        begun.elapsed()
    );
    // Who shares the mirror with someone who wants all tags does not suffer from it.
    let same = world.mirrors().open(super::remote(&world.server.url())).unwrap();
    sync(&same).unwrap();
}

#[test]
fn a_file_that_swells_is_not_held_in_memory() {
    let world = World::new();
    // 24 MiB that travel as 24 KiB.
    let zeros = std::fs::File::create(world.repository.work_tree().join("deploy/zeros.yaml")).unwrap();
    zeros.set_len(24 << 20).unwrap();
    world.repository.commit("zeros").unwrap();
    let mut remote = remote(&world.server.url());
    remote.timeout = Duration::from_mins(1);
    let mirror = world.mirrors().open(remote).unwrap();
    let begun = Instant::now();
    match sync(&mirror) {
        Ok((_, snapshot)) => {
            let listing = list(&snapshot, "deploy");
            let zeros = listing
                .files
                .iter()
                .find(|file| file.path == "deploy/zeros.yaml")
                .unwrap();
            let error = snapshot.read(zeros.blob, 10 << 20).unwrap_err();
            assert!(
                matches!(
                    error,
                    GitError::FileTooLarge { .. } | GitError::FileNotFetched { .. } | GitError::Corrupt(_)
                ),
                "{error}"
            );
            assert_eq!(text(&snapshot, "deploy/a.yaml"), "a: 1\n");
        }
        Err(error) => assert!(
            matches!(error, GitError::Protocol { .. } | GitError::AnswerTooLarge { .. }),
            "{error}"
        ),
    }
    println!("24 MiB of zeros: {:?}", begun.elapsed());
}

#[test]
fn histories_without_end_are_given_up() {
    let world = World::new();
    world.repository.config("uploadpack.allowFilter", "true").unwrap();
    let mirror = world.mirror();
    let (first, _) = sync(&mirror).unwrap();
    // 1,500 commits on another line, made without a work tree.
    let mut stream = String::new();
    for at in 0..1_500 {
        let message = format!("commit {at}");
        writeln!(
            stream,
            "commit refs/heads/long\ncommitter A <a@example.com> {} +0000\ndata {}\n{message}",
            1_700_000_000 + at,
            message.len()
        )
        .unwrap();
    }
    world
        .repository
        .git_with(&["fast-import", "--quiet"], stream.as_bytes())
        .unwrap();
    world
        .repository
        .git(&["update-ref", "refs/heads/main", "refs/heads/long"])
        .unwrap();
    let long = mirror.resolve(&branch("main")).unwrap();
    mirror.fetch(&long).unwrap();
    let begun = Instant::now();
    let error = mirror
        .since_at_most(first.commit, long.commit, 1000)
        .map(|history| history.commits.len())
        .unwrap_err();
    assert!(
        error.to_string().contains("more than 1000 commits between"),
        "{error}"
    );
    println!("given up after {:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}
