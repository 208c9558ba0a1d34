use std::{
    collections::HashSet,
    process::{Child, Command, Stdio},
    sync::Barrier,
    thread,
};

use plumbline_testkit::git::Fault;

use super::*;

fn generation(world: &World) -> std::path::PathBuf {
    let mirror = world
        .storage()
        .join("git")
        .join(remote(&world.server.url()).fingerprint());
    let mut generations: Vec<_> = std::fs::read_dir(mirror)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(generations.len(), 1, "{generations:?}");
    generations.remove(0)
}

fn packs(world: &World) -> Vec<std::path::PathBuf> {
    let files = std::fs::read_dir(generation(world).join("objects/pack")).unwrap();
    files
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|it| it == "pack"))
        .collect()
}

#[test]
fn only_what_is_new_travels() {
    let world = World::new();
    for number in 0_u64..200 {
        // Nothing that compresses.
        let noise: Vec<u8> = (0..60)
            .flat_map(|n| {
                (number * 61 + n)
                    .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                    .to_le_bytes()
            })
            .collect();
        world
            .repository
            .write(&format!("many/{number}.yaml"), noise)
            .unwrap();
    }
    world.repository.commit("many").unwrap();
    let mirror = world.mirror();
    let (first, _) = sync(&mirror).unwrap();
    world.repository.write("many/7.yaml", "number: seven\n").unwrap();
    world.repository.commit("one").unwrap();
    world.server.requests();
    let (second, snapshot) = sync(&mirror).unwrap();
    assert_eq!(text(&snapshot, "many/7.yaml"), "number: seven\n");
    let fetch = world.server.requests().pop().unwrap();
    assert!(
        fetch.body.contains(&format!("have {}", first.commit)),
        "{}",
        fetch.body
    );
    assert!(
        fetch.body.contains(&format!("shallow {}", first.commit)),
        "{}",
        fetch.body
    );
    assert!(
        fetch.body.contains(&format!("want {}", second.commit)),
        "{}",
        fetch.body
    );
    let mut sizes: Vec<u64> = packs(&world)
        .iter()
        .map(|pack| pack.metadata().unwrap().len())
        .collect();
    sizes.sort_unstable();
    assert_eq!(sizes.len(), 2);
    // The second also holds the tree that its own tree is a delta of, but none of the 199 other files.
    assert!(sizes[0] * 5 < sizes[1], "{sizes:?}");
}

#[test]
fn a_forced_push_is_followed_and_the_old_commit_stays_readable() {
    let world = World::new();
    let mirror = world.mirror();
    let (first, old) = sync(&mirror).unwrap();
    world.repository.write("deploy/a.yaml", "a: forced\n").unwrap();
    let forced = world.repository.amend("rewritten").unwrap();
    world
        .repository
        .git(&["reflog", "expire", "--expire=now", "--all"])
        .unwrap();
    world.repository.git(&["gc", "--quiet", "--prune=now"]).unwrap();
    let (second, new) = sync(&mirror).unwrap();
    assert_ne!(first, second);
    assert_eq!(second.commit.to_string(), forced);
    assert_eq!(text(&new, "deploy/a.yaml"), "a: forced\n");
    assert_eq!(text(&old, "deploy/a.yaml"), "a: 1\n");
}

#[test]
fn several_branches_share_one_mirror() {
    let world = World::new();
    world.repository.branch("next").unwrap();
    world.repository.write("deploy/a.yaml", "a: next\n").unwrap();
    world.repository.commit("next").unwrap();
    let mirror = world.mirror();
    for (name, expected) in [("main", "a: 1\n"), ("next", "a: next\n"), ("main", "a: 1\n")] {
        let resolved = mirror.resolve(&branch(name)).unwrap();
        mirror.fetch(&resolved).unwrap();
        assert_eq!(
            text(&mirror.snapshot(resolved.commit).unwrap(), "deploy/a.yaml"),
            expected
        );
    }
    assert_eq!(packs(&world).len(), 2);
}

#[test]
fn a_mirror_survives_a_restart() {
    let mut world = World::new();
    let (resolved, _) = sync(&world.mirror()).unwrap();
    world.start();
    let mirror = world.mirror();
    world.server.requests();
    mirror.fetch(&resolved).unwrap();
    assert_eq!(
        text(&mirror.snapshot(resolved.commit).unwrap(), "deploy/a.yaml"),
        "a: 1\n"
    );
    assert_eq!(world.server.requests(), []);
}

#[test]
fn what_a_killed_fetch_left_is_removed_and_the_rest_used() {
    let mut world = World::new();
    let (resolved, _) = sync(&world.mirror()).unwrap();
    let directory = generation(&world);
    for name in [
        "objects/pack/.tmpXYZ",
        "objects/pack/pack-1234.pack",
        "objects/pack/pack-5678.keep",
        "shallow.lock",
        ".tmp1",
    ] {
        std::fs::write(directory.join(name), "half").unwrap();
    }
    world.start();
    let mirror = world.mirror();
    assert!(mirror.contains(resolved.commit));
    assert_eq!(
        std::fs::read_dir(directory.join("objects/pack")).unwrap().count(),
        2
    );
    assert!(!directory.join("shallow.lock").exists());
    world.repository.commit("second").unwrap();
    sync(&mirror).unwrap();
}

/// The part of the next test that is killed runs in a process of its own: this test binary again, with this set to
/// the storage directory and the URL.
const FETCH_IN_CHILD: &str = "PLUMBLINE_TEST_FETCH";

#[test]
fn a_fetch_that_is_killed_anywhere_leaves_a_mirror_that_works() {
    if let Ok(task) = std::env::var(FETCH_IN_CHILD) {
        let (storage, url) = task.split_once('|').unwrap();
        sync(
            &Mirrors::new(Path::new(storage))
                .unwrap()
                .open(remote(url))
                .unwrap(),
        )
        .unwrap();
        return;
    }
    let mut world = World::new();
    let mut state = 1_u64;
    let mut killed = 0;
    for round in 0_u64..12 {
        for file in 0..20 {
            let noise: Vec<u8> = (0..2000)
                .flat_map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(round);
                    state.to_be_bytes()
                })
                .collect();
            world.repository.write(&format!("noise/{file}"), noise).unwrap();
        }
        world
            .repository
            .write("deploy/a.yaml", format!("round: {round}\n"))
            .unwrap();
        world.repository.commit("next").unwrap();
        world.release();
        let mut child = fetch_in_child(&world);
        thread::sleep(Duration::from_millis(15 + 12 * round));
        child.kill().unwrap();
        killed += usize::from(!child.wait().unwrap().success());
        world.start();
        let mirror = world.mirror();
        let (_, snapshot) = sync(&mirror).unwrap();
        assert_eq!(text(&snapshot, "deploy/a.yaml"), format!("round: {round}\n"));
        for file in list(&snapshot, "noise").files {
            assert_eq!(snapshot.read(file.blob, 1 << 20).unwrap().len(), 16_000);
        }
    }
    assert!(killed > 0, "every fetch was faster than its killer");
}

fn fetch_in_child(world: &World) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "mirrors::a_fetch_that_is_killed_anywhere_leaves_a_mirror_that_works",
        ])
        .env(
            FETCH_IN_CHILD,
            format!("{}|{}", world.storage().display(), world.server.url()),
        )
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn a_fetch_that_is_killed_while_objects_arrive_is_done_again() {
    let mut world = World::new();
    for file in 0_u64..50 {
        let noise: Vec<u8> = (0..1000)
            .flat_map(|n| {
                (file * 1009 + n)
                    .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                    .to_le_bytes()
            })
            .collect();
        world.repository.write(&format!("noise/{file}"), noise).unwrap();
    }
    world.repository.commit("noise").unwrap();
    world.release();
    world.server.set_fault(Fault::Stall(200_000));
    let mut child = fetch_in_child(&world);
    // Objects are written to a temporary file as they come.
    let half = |(_, size): &(String, u64)| *size > 64 << 10;
    let seen = (0..200).any(|_| {
        thread::sleep(Duration::from_millis(50));
        world.storage().exists() && contents(&world.storage()).iter().any(half)
    });
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(seen, "the pack never began to arrive");
    world.server.set_fault(Fault::None);
    world.start();
    let mirror = world.mirror();
    let (_, snapshot) = sync(&mirror).unwrap();
    assert_eq!(text(&snapshot, "deploy/a.yaml"), "a: 1\n");
    let left: Vec<_> = contents(&world.storage())
        .into_iter()
        .filter(|(path, _)| {
            path.rsplit('/')
                .next()
                .is_some_and(|name| name.starts_with(".tmp"))
        })
        .collect();
    assert_eq!(left, []);
}

#[test]
fn a_damaged_mirror_is_made_anew() {
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 5] = [
        ("a pack cut short", |directory| {
            for file in std::fs::read_dir(directory.join("objects/pack")).unwrap() {
                let path = file.unwrap().path();
                if path.extension().unwrap() == "pack" {
                    let pack = std::fs::read(&path).unwrap();
                    std::fs::remove_file(&path).unwrap();
                    std::fs::write(&path, &pack[..pack.len() / 2]).unwrap();
                }
            }
        }),
        ("no packs", |directory| {
            std::fs::remove_dir_all(directory.join("objects/pack")).unwrap();
        }),
        ("no list of complete commits", |directory| {
            std::fs::remove_file(directory.join("tips")).unwrap();
        }),
        ("an empty index", |directory| {
            for file in std::fs::read_dir(directory.join("objects/pack")).unwrap() {
                let path = file.unwrap().path();
                if path.extension().unwrap() == "idx" {
                    std::fs::remove_file(&path).unwrap();
                    std::fs::write(&path, "").unwrap();
                }
            }
        }),
        ("no format", |directory| {
            std::fs::write(directory.join("format"), "md5").unwrap();
        }),
    ];
    for (name, damage) in damages {
        let mut world = World::new();
        sync(&world.mirror()).unwrap();
        damage(&generation(&world));
        world.start();
        let mirror = world.mirror();
        let (resolved, snapshot) = sync(&mirror).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(text(&snapshot, "deploy/a.yaml"), "a: 1\n", "{name}");
        assert!(mirror.contains(resolved.commit), "{name}");
    }
}

#[test]
fn packs_do_not_pile_up_and_readers_of_the_old_ones_go_on() {
    let world = World::new();
    let mirror = world.mirror();
    let (_, first) = sync(&mirror).unwrap();
    let mut most = 0;
    for number in 0..30 {
        world
            .repository
            .write("deploy/a.yaml", format!("a: {number}\n"))
            .unwrap();
        world.repository.commit("next").unwrap();
        let (_, snapshot) = sync(&mirror).unwrap();
        assert_eq!(text(&snapshot, "deploy/a.yaml"), format!("a: {number}\n"));
        if number != 25 {
            let mirror = world
                .storage()
                .join("git")
                .join(remote(&world.server.url()).fingerprint());
            let newest = std::fs::read_dir(mirror)
                .unwrap()
                .map(|it| it.unwrap().path())
                .max()
                .unwrap();
            most = most.max(std::fs::read_dir(newest.join("objects/pack")).unwrap().count() / 2);
        }
    }
    assert!(most <= 24, "{most}");
    assert_eq!(text(&first, "deploy/a.yaml"), "a: 1\n");
    drop(first);
    assert!(packs(&world).len() < 10);
}

#[test]
fn many_users_of_one_mirror_fetch_once() {
    let world = World::new();
    let barrier = Barrier::new(8);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mirror = world.mirror();
                let resolved = mirror.resolve(&branch("main")).unwrap();
                barrier.wait();
                mirror.fetch(&resolved).unwrap();
                assert_eq!(
                    text(&mirror.snapshot(resolved.commit).unwrap(), "deploy/a.yaml"),
                    "a: 1\n"
                );
            });
        }
    });
    let fetches = world
        .server
        .requests()
        .iter()
        .filter(|it| it.command.as_deref() == Some("fetch"))
        .count();
    assert_eq!(fetches, 1);
}

#[test]
fn mirrors_that_nobody_wants_are_removed() {
    let world = World::new();
    let mirror = world.mirror();
    let (resolved, snapshot) = sync(&mirror).unwrap();
    assert_eq!(world.mirrors().prune(&HashSet::new()).unwrap(), 0, "it is open");
    let key = mirror.remote().fingerprint();
    drop(mirror);
    assert_eq!(
        world.mirrors().prune(&HashSet::from([key])).unwrap(),
        0,
        "it is wanted"
    );
    drop(snapshot);
    assert_eq!(world.mirrors().prune(&HashSet::new()).unwrap(), 1);
    assert!(!world.mirror().contains(resolved.commit));
}

#[test]
fn a_repository_of_this_machine_is_read_through_git() {
    let world = World::new();
    let url = format!("file://{}", world.repository.path().display());
    let mirror = world.mirrors().open(remote(&url)).unwrap();
    let (_, snapshot) = sync(&mirror).unwrap();
    world.repository.write("deploy/a.yaml", "a: 2\n").unwrap();
    world.repository.commit("second").unwrap();
    let (_, second) = sync(&mirror).unwrap();
    assert_eq!(
        (text(&snapshot, "deploy/a.yaml"), text(&second, "deploy/a.yaml")),
        ("a: 1\n".to_owned(), "a: 2\n".to_owned())
    );
    let nothing = world.mirrors().open(remote(&format!("{url}/nothing"))).unwrap();
    let error = sync(&nothing).map(drop).unwrap_err();
    assert!(matches!(error, GitError::NotFound { .. }), "{error}");
}

#[test]
fn a_commit_tells_who_when_and_what() {
    let world = World::new();
    world.repository.commit("Subject line\n\nBody").unwrap();
    let (_, snapshot) = sync(&world.mirror()).unwrap();
    let info = snapshot.info().unwrap();
    assert_eq!(
        (info.author.as_str(), info.subject.as_str()),
        ("Ada Tester", "Subject line")
    );
    assert!(info.time > 1_600_000_000);
}

#[test]
fn a_snapshot_keeps_its_mirror_from_being_opened_a_second_time() {
    let world = World::new();
    let (_, snapshot) = sync(&world.mirror()).unwrap();
    // Nobody holds the mirror but the snapshot now. Many fetches later the directory it reads is retired.
    for number in 0..30 {
        world
            .repository
            .write("deploy/a.yaml", format!("a: {number}\n"))
            .unwrap();
        world.repository.commit("next").unwrap();
        sync(&world.mirror()).unwrap();
    }
    assert_eq!(text(&snapshot, "deploy/a.yaml"), "a: 1\n");
}

#[test]
fn two_processes_do_not_share_a_storage_directory() {
    let world = World::new();
    let error = Mirrors::new(&world.storage()).map(drop).unwrap_err();
    assert!(matches!(error, GitError::StorageInUse(_)), "{error}");
}
