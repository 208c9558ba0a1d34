//! Snapshots that are made of parts: kept directories, submodules, included files.

use plumbline_sync::git::{FileKind, Part};

use super::*;

fn part(at: &str, from: &str, snapshot: &Snapshot, ignore: Option<&str>) -> Part {
    Part {
        at: path(at),
        from: path(from),
        snapshot: snapshot.clone(),
        ignore: ignore.map(|text| IgnoreRules::new(Some(text)).unwrap()),
    }
}

#[test]
fn only_kept_directories_are_there() {
    let world = World::new();
    for file in [
        "deploy/a.yaml",
        "deploy2/b.yaml",
        "apps/x/c.yaml",
        "apps/y/d.yaml",
        "root.yaml",
    ] {
        world.repository.write(file, "a: 1\n").unwrap();
    }
    world.repository.write(".sourceignore", "*.yaml\n").unwrap();
    world.repository.commit("files").unwrap();
    let (_, whole) = sync(&world.mirror()).unwrap();
    let sparse = whole
        .clone()
        .keep(vec![path("deploy"), path("./apps/x/")])
        .unwrap();
    // The rules of the root are not kept either.
    assert_eq!(paths(&list(&sparse, "")), ["apps/x/c.yaml", "deploy/a.yaml"]);
    assert_eq!(paths(&list(&sparse, "apps")), ["apps/x/c.yaml"]);
    assert_eq!(sparse.tree_id(&path("deploy2")).unwrap(), None);
    assert_eq!(sparse.tree_id(&path("apps/y")).unwrap(), None);
    assert_eq!(
        sparse.tree_id(&path("deploy")).unwrap(),
        whole.tree_id(&path("deploy")).unwrap()
    );
    // What is left out does not change the id of what holds it.
    let id = sparse.tree_id(&path("apps")).unwrap().unwrap();
    world.repository.write("apps/y/d.yaml", "a: 2\n").unwrap();
    world.repository.commit("elsewhere").unwrap();
    let (_, whole) = sync(&world.mirror()).unwrap();
    let sparse = whole.clone().keep(vec![path("deploy"), path("apps/x")]).unwrap();
    assert_eq!(sparse.tree_id(&path("apps")).unwrap(), Some(id));
    let error = whole.keep(vec![path("absent")]).map(drop).unwrap_err();
    assert!(error.to_string().contains("'absent'"), "{error}");
}

#[test]
fn a_part_shows_its_files_where_it_is_put_and_hides_what_was_there() {
    let (world, other) = (World::new(), World::new());
    world
        .repository
        .write("deploy/lib/hidden.yaml", "a: 1\n")
        .unwrap();
    world.repository.commit("hidden").unwrap();
    other.repository.write("base/x.yaml", "x: 1\n").unwrap();
    other.repository.write("base/notes.txt", "text\n").unwrap();
    other.repository.link("base/link.yaml", "x.yaml").unwrap();
    other.repository.commit("files").unwrap();
    let (_, whole) = sync(&world.mirror()).unwrap();
    let (_, lib) = sync(&other.mirror()).unwrap();
    let composed = whole
        .clone()
        .with(vec![part("deploy/lib", "base", &lib, Some("*.txt"))]);
    let listing = list(&composed, "deploy");
    assert_eq!(
        paths(&listing),
        ["deploy/a.yaml", "deploy/lib/link.yaml", "deploy/lib/x.yaml"]
    );
    let link = listing
        .files
        .iter()
        .find(|file| file.path.ends_with("link.yaml"))
        .unwrap();
    assert_eq!(
        link.kind,
        FileKind::Symlink {
            target: "deploy/lib/x.yaml".to_owned()
        }
    );
    assert_eq!(text(&composed, "deploy/lib/x.yaml"), "x: 1\n");
    assert_eq!(text(&composed, "deploy/a.yaml"), "a: 1\n");
    assert_eq!(
        paths(&list(&composed, "deploy/lib")),
        ["deploy/lib/link.yaml", "deploy/lib/x.yaml"]
    );
    // The id of a directory tells of the parts in it, and of nothing else.
    assert_ne!(
        composed.tree_id(&path("deploy")).unwrap(),
        whole.tree_id(&path("deploy")).unwrap()
    );
    assert!(composed.tree_id(&path("deploy/lib")).unwrap().is_some());
    let before = composed.tree_id(&path("deploy")).unwrap();
    other.repository.write("base/x.yaml", "x: 2\n").unwrap();
    other.repository.commit("changed").unwrap();
    let (_, lib) = sync(&other.mirror()).unwrap();
    let changed = whole
        .clone()
        .with(vec![part("deploy/lib", "base", &lib, Some("*.txt"))]);
    assert_ne!(changed.tree_id(&path("deploy")).unwrap(), before);
    let nowhere = whole.clone().with(vec![part("new/place", "base", &lib, None)]);
    assert_eq!(
        nowhere.tree_id(&path("deploy")).unwrap(),
        whole.tree_id(&path("deploy")).unwrap()
    );
    assert_eq!(
        paths(&list(&nowhere, "new")),
        ["new/place/link.yaml", "new/place/notes.txt", "new/place/x.yaml"]
    );
}

#[test]
fn the_deeper_part_shows_and_rules_of_the_base_hold_for_parts() {
    let (world, other) = (World::new(), World::new());
    world.repository.write(".sourceignore", "secret.yaml\n").unwrap();
    world.repository.commit("rules").unwrap();
    other.repository.write("secret.yaml", "s: 1\n").unwrap();
    other.repository.write("inner/y.yaml", "y: 1\n").unwrap();
    other.repository.commit("files").unwrap();
    let (_, whole) = sync(&world.mirror()).unwrap();
    let (_, lib) = sync(&other.mirror()).unwrap();
    let composed = whole.with(vec![
        part("lib/inner", "deploy", &lib, None),
        part("lib", "", &lib, None),
    ]);
    for directory in ["", "lib"] {
        let found = list(&composed, directory);
        let below: Vec<_> = paths(&found)
            .into_iter()
            .filter(|path| path.starts_with("lib/"))
            .collect();
        assert_eq!(below, ["lib/deploy/a.yaml", "lib/inner/a.yaml"], "{directory:?}");
    }
}

#[test]
fn submodules_are_named_with_their_commit() {
    let world = World::new();
    let commit = world.repository.head().unwrap();
    world
        .repository
        .write(
            ".gitmodules",
            "[submodule \"one\"]\n\tpath = mods/one\n\turl = ../other.git\n\
             [submodule \"gone\"]\n\tpath = mods/gone\n\turl = ../gone.git\n",
        )
        .unwrap();
    world.repository.git(&["add", "--all"]).unwrap();
    world
        .repository
        .git(&[
            "update-index",
            "--add",
            "--cacheinfo",
            &format!("160000,{commit},mods/one"),
        ])
        .unwrap();
    world
        .repository
        .git(&["commit", "--quiet", "-m", "module"])
        .unwrap();
    let (_, snapshot) = sync(&world.mirror()).unwrap();
    let found = snapshot.submodules().unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].path, path("mods/one"));
    assert_eq!(found[0].url, "../other.git");
    assert_eq!(found[0].commit.to_string(), commit);
}

#[test]
fn a_file_of_submodules_that_cannot_be_read_is_named_and_bounded() {
    let world = World::new();
    let commit = world.repository.head().unwrap();
    for (text, part) in [
        ("[submodule \"x\"\n\tpath = ".to_owned(), ".gitmodules"),
        ("#".repeat(300 << 10), "too large"),
        (
            (0..150).fold(String::new(), |text, n| {
                text + &format!("[submodule \"m{n}\"]\n\tpath = mods/m\n\turl = ../x\n")
            }),
            "",
        ),
    ] {
        world.repository.write(".gitmodules", text).unwrap();
        world.repository.git(&["add", "--all"]).unwrap();
        world
            .repository
            .git(&[
                "update-index",
                "--add",
                "--cacheinfo",
                &format!("160000,{commit},mods/m"),
            ])
            .unwrap();
        world
            .repository
            .git(&["commit", "--quiet", "-m", "module"])
            .unwrap();
        let (_, snapshot) = sync(&world.mirror()).unwrap();
        let error = snapshot.submodules().unwrap_err();
        assert!(matches!(error, GitError::InvalidSubmodule { .. }), "{error}");
        assert!(error.to_string().contains(part), "{error}");
    }
}
