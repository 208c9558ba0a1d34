use plumbline_sync::git::FileKind;

use super::*;

const HUGE: usize = 50 << 20;

#[test]
fn files_are_listed_sorted_with_their_paths_from_the_root() {
    let world = World::new();
    for name in [
        "deploy/b/c.yaml",
        "deploy/B.yaml",
        "other/x.yaml",
        "deploy-2/y.yaml",
    ] {
        world.repository.write(name, name).unwrap();
    }
    world.repository.commit("more").unwrap();
    let (_, snapshot) = sync(&world.mirror()).unwrap();
    assert_eq!(
        paths(&list(&snapshot, "./deploy/")),
        ["deploy/B.yaml", "deploy/a.yaml", "deploy/b/c.yaml"]
    );
    assert_eq!(paths(&list(&snapshot, "")).len(), 5);
    assert_eq!(text(&snapshot, "deploy/b/c.yaml"), "deploy/b/c.yaml");
}

#[test]
fn the_id_of_a_tree_changes_only_with_what_is_below_it() {
    let world = World::new();
    let mirror = world.mirror();
    let (_, first) = sync(&mirror).unwrap();
    world.repository.write("other/x.yaml", "x").unwrap();
    world.repository.commit("other").unwrap();
    let (_, second) = sync(&mirror).unwrap();
    let id = |snapshot: &Snapshot, at: &str| snapshot.tree_id(&path(at)).unwrap();
    assert_eq!(id(&first, "deploy"), id(&second, "deploy"));
    assert_ne!(id(&first, ""), id(&second, ""));
    assert_eq!(id(&first, "other"), None);
    assert!(matches!(
        second.tree_id(&path("deploy/a.yaml")),
        Err(GitError::NotADirectory { .. })
    ));
    let missing = second.files(&path("nope"), &IgnoreRules::default()).unwrap_err();
    assert!(missing.to_string().contains("'nope'"), "{missing}");
}

#[test]
fn ignore_rules_come_from_the_tree_and_the_object() {
    let world = World::new();
    world.repository.write(".sourceignore", "*.md\n").unwrap();
    world
        .repository
        .write("deploy/.sourceignore", "/secret.yaml\n")
        .unwrap();
    for name in [
        "deploy/secret.yaml",
        "deploy/x/secret.yaml",
        "deploy/x.md",
        "deploy/.gitignore",
    ] {
        world.repository.write(name, "").unwrap();
    }
    world.repository.commit("rules").unwrap();
    let (_, snapshot) = sync(&world.mirror()).unwrap();
    assert_eq!(
        paths(&list(&snapshot, "deploy")),
        ["deploy/.sourceignore", "deploy/a.yaml", "deploy/x/secret.yaml"]
    );
    let rules = IgnoreRules::new(Some("!secret.yaml\n/deploy/x")).unwrap();
    let listing = snapshot.files(&path("deploy"), &rules).unwrap();
    assert_eq!(
        paths(&listing),
        ["deploy/.sourceignore", "deploy/a.yaml", "deploy/secret.yaml"]
    );
}

#[test]
fn symbolic_links_are_followed_inside_the_repository_and_nowhere_else() {
    let world = World::new();
    let link = |path: &str, target: &str| world.repository.link(path, target).unwrap();
    world.repository.write("shared/base.yaml", "shared\n").unwrap();
    link("deploy/good.yaml", "../shared/base.yaml");
    link("deploy/twice.yaml", "good.yaml");
    link("deploy/through.yaml", "dir/base.yaml");
    link("deploy/dir", "../shared");
    link("deploy/out.yaml", "../../../etc/passwd");
    link("deploy/absolute.yaml", "/etc/passwd");
    link("deploy/nothing.yaml", "gone.yaml");
    link("deploy/self.yaml", "self.yaml");
    link("deploy/ping.yaml", "pong.yaml");
    link("deploy/pong.yaml", "ping.yaml");
    link("deploy/ignored.png", "/etc/passwd");
    world.repository.commit("links").unwrap();
    let (_, snapshot) = sync(&world.mirror()).unwrap();
    let listing = list(&snapshot, "deploy");
    assert_eq!(
        paths(&listing),
        [
            "deploy/a.yaml",
            "deploy/good.yaml",
            "deploy/through.yaml",
            "deploy/twice.yaml"
        ]
    );
    for file in &listing.files[1..] {
        assert_eq!(
            file.kind,
            FileKind::Symlink {
                target: "shared/base.yaml".to_owned()
            }
        );
        assert_eq!(snapshot.read(file.blob, 100).unwrap(), b"shared\n");
    }
    let problems: Vec<String> = listing
        .problems
        .iter()
        .map(|problem| format!("{}: {}", problem.path, problem.reason))
        .collect();
    let expect = [
        "deploy/absolute.yaml: the symbolic link leads out of the repository",
        "deploy/nothing.yaml: the symbolic link leads to nothing",
        "deploy/out.yaml: the symbolic link leads out of the repository",
        "deploy/ping.yaml: the symbolic links lead in a circle",
        "deploy/pong.yaml: the symbolic links lead in a circle",
        "deploy/self.yaml: the symbolic links lead in a circle",
    ];
    assert_eq!(problems, expect);
    assert_eq!(listing.skipped.len(), 1);
    assert_eq!(listing.skipped[0].path, "deploy/dir");
    assert!(matches!(
        snapshot.tree_id(&path("deploy/dir")),
        Err(GitError::NotADirectory { .. })
    ));
}

#[test]
fn submodules_are_noted() {
    let world = World::new();
    let commit = world.repository.head().unwrap();
    world
        .repository
        .git(&[
            "update-index",
            "--add",
            "--cacheinfo",
            &format!("160000,{commit},deploy/module"),
        ])
        .unwrap();
    world
        .repository
        .git(&["commit", "--quiet", "-m", "module"])
        .unwrap();
    let (_, snapshot) = sync(&world.mirror()).unwrap();
    let listing = list(&snapshot, "deploy");
    assert_eq!(listing.skipped.len(), 1, "{listing:?}");
    assert!(snapshot.tree_id(&path("deploy/module/x")).is_err());
}

#[test]
fn hostile_names_are_refused_and_do_no_harm() {
    let world = World::new();
    let blob = world.repository.blob(b"x: 1\n").unwrap();
    let names: [&[u8]; 12] = [
        b"..",
        b".",
        b"",
        b".git",
        b".GIT",
        b"git~1",
        b"GIT~1",
        b"a/b",
        b"/etc/passwd",
        b"a\\b",
        b".g\xe2\x80\x8cit",
        b".git::$INDEX_ALLOCATION",
    ];
    for name in names {
        let shown = String::from_utf8_lossy(name).into_owned();
        world
            .repository
            .commit_raw_tree(&[("100644", name, &blob)])
            .unwrap();
        match sync(&world.mirror()) {
            Ok((_, snapshot)) => {
                let error = snapshot
                    .files(&path(""), &IgnoreRules::default())
                    .expect_err(&shown);
                assert!(
                    matches!(error, GitError::HostileTree { .. } | GitError::Corrupt(_)),
                    "{shown}: {error}"
                );
                assert!(snapshot.tree_id(&path("deploy")).is_err(), "{shown}");
            }
            // Git itself cannot pack a tree with an empty name.
            Err(error) => assert!(
                name.is_empty() && matches!(error, GitError::Protocol { .. }),
                "{shown}: {error}"
            ),
        }
    }
}

#[test]
fn duplicates_are_refused_and_names_that_differ_in_case_are_not() {
    let world = World::new();
    let (a, b) = (
        world.repository.blob(b"a").unwrap(),
        world.repository.blob(b"b").unwrap(),
    );
    let mirror = world.mirror();
    world
        .repository
        .commit_raw_tree(&[("100644", b"X.yaml", &a), ("100644", b"x.yaml", &b)])
        .unwrap();
    let (_, snapshot) = sync(&mirror).unwrap();
    assert_eq!(paths(&list(&snapshot, "")), ["X.yaml", "x.yaml"]);
    world
        .repository
        .commit_raw_tree(&[("100644", b"x.yaml", &a), ("100644", b"x.yaml", &b)])
        .unwrap();
    let (_, snapshot) = sync(&mirror).unwrap();
    let error = snapshot.files(&path(""), &IgnoreRules::default()).unwrap_err();
    assert!(error.to_string().contains("twice"), "{error}");
    world
        .repository
        .commit_raw_tree(&[("100644", b"caf\xe9.yaml", &a), ("100644", b"x.yaml", &b)])
        .unwrap();
    let (_, snapshot) = sync(&mirror).unwrap();
    let listing = list(&snapshot, "");
    assert_eq!((paths(&listing), listing.problems.len()), (vec!["x.yaml"], 1));
}

#[test]
fn a_tree_that_grows_without_end_is_stopped() {
    let world = World::new();
    let mut tree = world
        .repository
        .raw_tree(&[("100644", b"x", &world.repository.blob(b"").unwrap())])
        .unwrap();
    for _ in 0..30 {
        tree = world
            .repository
            .raw_tree(&[("40000", b"a", &tree), ("40000", b"b", &tree)])
            .unwrap();
    }
    world
        .repository
        .commit_raw_tree(&[("40000", b"deploy", &tree)])
        .unwrap();
    let (_, snapshot) = sync(&world.mirror()).unwrap();
    let error = snapshot.files(&path(""), &IgnoreRules::default()).unwrap_err();
    assert!(error.to_string().contains("too large or too deep"), "{error}");
}

#[test]
fn a_file_over_the_limit_is_not_loaded_and_its_size_is_told() {
    let world = World::new();
    world
        .repository
        .write("deploy/huge.yaml", vec![b'#'; HUGE])
        .unwrap();
    world.repository.commit("huge").unwrap();
    let (_, snapshot) = sync(&world.mirror()).unwrap();
    let listing = list(&snapshot, "deploy");
    let huge = listing
        .files
        .iter()
        .find(|file| file.path.ends_with("huge.yaml"))
        .unwrap();
    assert_eq!(snapshot.size(huge.blob).unwrap(), HUGE as u64);
    let error = snapshot.read(huge.blob, 1 << 20).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("the file is too large: {HUGE} bytes, at most 1048576 are read")
    );
}

#[test]
fn a_server_that_can_filter_keeps_large_files() {
    let world = World::new();
    world.repository.config("uploadpack.allowFilter", "true").unwrap();
    let noise: Vec<u8> = (0..(17_u32 << 20) / 4)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect();
    world.repository.write("deploy/huge.bin", &noise).unwrap();
    world.repository.commit("huge").unwrap();
    let mirror = world.mirror();
    let (_, snapshot) = sync(&mirror).unwrap();
    let listing = list(&snapshot, "deploy");
    let huge = listing
        .files
        .iter()
        .find(|file| file.path.ends_with("huge.bin"))
        .unwrap();
    assert!(matches!(
        snapshot.read(huge.blob, 1 << 20),
        Err(GitError::FileNotFetched { .. })
    ));
    let stored: u64 = contents(&world.storage()).iter().map(|(_, size)| size).sum();
    assert!(stored < 1 << 20, "{stored}");
    // A small file that is a delta of the large one still arrives whole.
    world
        .repository
        .write("deploy/huge.bin", &noise[..12 << 20])
        .unwrap();
    world.repository.commit("smaller").unwrap();
    let (_, snapshot) = sync(&mirror).unwrap();
    let listing = list(&snapshot, "deploy");
    let smaller = listing
        .files
        .iter()
        .find(|file| file.path.ends_with("huge.bin"))
        .unwrap();
    assert_eq!(snapshot.read(smaller.blob, 16 << 20).unwrap().len(), 12 << 20);
}
