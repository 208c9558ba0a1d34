//! `set` and `edit`: one item of a file, and not one other byte.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::json;

use crate::support::{ORIGINAL, Said, ours, run, run_with, workspace};
use crate::{SECRET, recover, yaml};

/// A file with a comment everywhere, another document, and the SealedSecret `login` for `k2048`.
fn file(at: &Path) -> String {
    let sealed = run(&ours(), at, &["--cert", "k2048.crt", "-o", "yaml"], SECRET).ok();
    let sealed = sealed.replace(
        "  encryptedData:\n",
        "  encryptedData: # items\n    # the password\n",
    );
    let text = format!("# A comment\n{sealed}# Another   \n---\nkind: ConfigMap\ndata:   {{a: b}}\n");
    std::fs::write(at.join("login.yaml"), &text).unwrap();
    text
}

fn read(at: &Path) -> String {
    std::fs::read_to_string(at.join("login.yaml")).unwrap()
}

/// What the original opens in the SealedSecret of the file.
fn opened(at: &Path) -> serde_json::Value {
    let text = read(at);
    let sealed = text.split("# Another").next().unwrap();
    recover(&ORIGINAL, at, sealed, "k2048.key")["data"].clone()
}

#[test]
fn set_replaces_or_adds_one_item() {
    let directory = workspace();
    let at = directory.path();
    let before = file(at);
    let set = |arguments: &[&str], value: &str| run(&ours(), at, &[&["set"], arguments].concat(), value);
    set(&["login.yaml", "password", "--cert", "k2048.crt"], "new\n").ok();
    let after = read(at);
    let differing = before.lines().zip(after.lines()).filter(|(old, new)| old != new);
    assert_eq!(differing.count(), 1);
    assert_eq!(before.lines().count(), after.lines().count());
    assert_eq!(opened(at), json!({"password": "bmV3Cg==", "user": "YWRtaW4="}));

    std::fs::write(at.join("value"), [0xff, 0]).unwrap();
    set(
        &["login.yaml", "n", "--cert", "k2048.crt", "--from-file", "value"],
        "",
    )
    .ok();
    let added = read(at);
    assert_eq!(added.lines().count(), after.lines().count() + 1);
    assert!(added.contains("\n    \"n\": A"), "not to be taken for false");
    assert_eq!(opened(at)["n"], "/wA=");

    // Everything that is refused leaves the file as it was.
    for (arguments, expected) in [
        (
            &["login.yaml", "a/b", "--cert", "k2048.crt"][..],
            "\"a/b\" is not a valid key of a Secret",
        ),
        (
            &["none.yaml", "a", "--cert", "k2048.crt"],
            "open none.yaml: no such file or directory",
        ),
        (
            &["login.yaml", "a", "--cert", "none"],
            "open none: no such file or directory",
        ),
        (
            &["login.yaml", "a", "--cert", "k2048.crt", "--name", "x"],
            "login.yaml: holds no SealedSecret called x",
        ),
        (
            &["login.yaml", "a", "--cert", "k2048.crt", "--from-file", "none"],
            "open none: no such file",
        ),
        (
            &["k2048.crt", "a", "--cert", "k2048.crt"],
            "k2048.crt: holds no SealedSecret",
        ),
    ] {
        let said = set(arguments, "x").failure();
        assert!(said.starts_with(expected), "{said}");
    }
    assert_eq!(read(at), added);
}

#[test]
fn set_knows_the_scope_of_the_file_and_which_object_is_meant() {
    let directory = workspace();
    let at = directory.path();
    for scope in ["namespace-wide", "cluster-wide"] {
        let arguments = ["--cert", "k2048.crt", "--scope", scope, "-w", "login.yaml"];
        run(&ours(), at, &arguments, SECRET).ok();
        run(
            &ours(),
            at,
            &["--cert", "k2048.crt", "set", "login.yaml", "user"],
            "new",
        )
        .ok();
        assert_eq!(opened(at)["user"], "bmV3", "{scope}");
    }
    // Without a namespace, what the scope needs is missing.
    let sealed = read(at).replace("cluster-wide", "namespace-wide");
    let unnamed = sealed.replacen("  namespace: shop\n", "", 1);
    std::fs::write(at.join("login.yaml"), unnamed).unwrap();
    let said = run(
        &ours(),
        at,
        &["set", "login.yaml", "user", "--cert", "k2048.crt"],
        "x",
    )
    .failure();
    assert!(said.contains("metadata.namespace is missing"), "{said}");

    let two = format!("{sealed}{}", sealed.replace("name: login", "name: second"));
    std::fs::write(at.join("login.yaml"), &two).unwrap();
    let set = |more: &[&str]| {
        run(
            &ours(),
            at,
            &[&["set", "login.yaml", "a", "--cert", "k2048.crt"], more].concat(),
            "x",
        )
    };
    assert_eq!(
        set(&[]).failure(),
        "login.yaml: holds 2 SealedSecrets: say which with --name"
    );
    set(&["--name", "second"]).ok();
    assert!(read(at).starts_with(&sealed), "the other object is as it was");
}

#[test]
fn the_annotation_that_names_the_key_is_kept_true() {
    let directory = workspace();
    let at = directory.path();
    let annotation = || yaml(&read(at))["metadata"]["annotations"]["plumbline.dev/sealed-with"].clone();
    let fingerprint = |key: &str| {
        let sealed = run(
            &ours(),
            at,
            &["--cert", &format!("{key}.crt"), "--sealed-with"],
            SECRET,
        )
        .ok();
        let sealed: serde_json::Value = serde_json::from_str(&sealed).unwrap();
        sealed["metadata"]["annotations"]["plumbline.dev/sealed-with"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let (small, large) = (fingerprint("k2048"), fingerprint("k4096"));
    assert!(small.starts_with("SHA256:") && small != large);
    run(&ours(), at, &["--cert", "k2048.crt", "-w", "login.yaml"], SECRET).ok();
    run(
        &ours(),
        at,
        &["set", "login.yaml", "user", "--cert", "k2048.crt"],
        "x",
    )
    .ok();
    assert!(annotation().is_null(), "off unless asked for");
    run(
        &ours(),
        at,
        &["--cert", "k2048.crt", "-w", "login.yaml", "--sealed-with"],
        SECRET,
    )
    .ok();
    run(
        &ours(),
        at,
        &["set", "login.yaml", "user", "--cert", "k4096.crt"],
        "x",
    )
    .ok();
    assert_eq!(annotation(), format!("password={small},user={large}"));
    run(
        &ours(),
        at,
        &[
            "reseal",
            "--cert",
            "k2048.crt",
            "--recovery-private-key",
            "k4096.key,k2048.key",
            ".",
        ],
        "",
    )
    .ok();
    assert_eq!(annotation(), small);
    assert_eq!(opened(at)["user"], "eA==");
}

/// Runs `kubeseal edit` with a shell script as editor; `$1` is the file.
fn edit(at: &Path, script: &str, flags: &[&str]) -> Said {
    let editor = at.join("editor.sh");
    std::fs::write(&editor, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&editor, std::fs::Permissions::from_mode(0o755)).unwrap();
    let editor = format!("{} --flag", editor.display());
    // The script is called with a flag before the file, as editors are.
    let env = [
        ("EDITOR", editor.as_str()),
        ("PATH", "/usr/bin:/bin"),
        ("XDG_RUNTIME_DIR", at.to_str().unwrap()),
    ];
    let arguments = [
        "edit",
        "login.yaml",
        "--cert",
        "k2048.crt",
        "--recovery-private-key",
        "k2048.key",
    ];
    run_with(&ours(), at, &[&arguments[..], flags].concat(), "", &env)
}

fn left_behind(at: &Path) -> Vec<String> {
    let names = std::fs::read_dir(at)
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    names
        .map(|name| name.to_string_lossy().into_owned())
        .filter(|name| name.starts_with("kubeseal-") || name.starts_with(".kubeseal-"))
        .collect()
}

#[test]
fn edit_seals_what_has_changed_and_nothing_else() {
    let directory = workspace();
    let at = directory.path();
    let before = file(at);
    let said = edit(
        at,
        "cp \"$2\" shown; stat -c %a \"$2\" \"$(dirname \"$2\")\" > modes",
        &[],
    );
    assert_eq!(said.code, 0, "{}", said.stderr);
    assert!(said.stderr.contains("nothing changed"));
    assert_eq!(read(at), before);
    assert_eq!(std::fs::read_to_string(at.join("modes")).unwrap(), "600\n700\n");
    let shown = std::fs::read_to_string(at.join("shown")).unwrap();
    assert!(shown.contains("SealedSecret shop/login in login.yaml"), "{shown}");
    assert!(shown.contains("\nstringData:\n  user: admin\n"), "{shown}");
    assert!(
        shown.contains("\ndata:\n  password: cGHDn3fDtnJkIAE=\n"),
        "{shown}"
    );

    edit(at, "sed -i 's/user: admin/user: root/' \"$2\"", &[]).ok();
    let after = read(at);
    assert_eq!(
        before
            .lines()
            .zip(after.lines())
            .filter(|(old, new)| old != new)
            .count(),
        1
    );
    assert_eq!(
        opened(at),
        json!({"password": "cGHDn3fDtnJkIAE=", "user": "cm9vdA=="})
    );

    edit(at, "sed -i 's/^  user: root/  added: \"1\"/' \"$2\"", &[]).ok();
    assert_eq!(
        opened(at),
        json!({"password": "cGHDn3fDtnJkIAE=", "added": "MQ=="})
    );
    assert_eq!(
        read(at).replace(" # items", "").lines().count(),
        before.lines().count()
    );
    assert!(left_behind(at).is_empty());
}

#[test]
fn edit_asks_again_after_a_mistake_and_gives_up_without_a_trace() {
    let directory = workspace();
    let at = directory.path();
    let before = file(at);
    // The first time a mistake; the second time what was complained of is read and put right.
    let script = "if grep -q '^#! stringData.user is not a string: quote it' \"$2\"; then sed -i 's/user: 5/user: five/' \"$2\"\n\
                  else sed -i 's/user: admin/user: 5/' \"$2\"; fi";
    edit(at, script, &[]).ok();
    assert_eq!(opened(at)["user"], "Zml2ZQ==");
    std::fs::write(at.join("login.yaml"), &before).unwrap();
    for (script, code, message) in [
        (": > \"$2\"", 0, "nothing changed"),
        ("sed -i 's/user: admin/user: 5/' \"$2\"; exit 3", 1, "the editor"),
        // Left as it was after a complaint.
        (
            "grep -q '^#!' \"$2\" || sed -i 's/user: admin/user: 5/' \"$2\"",
            0,
            "nothing changed",
        ),
        ("rm \"$2\"", 1, "no such file or directory"),
    ] {
        let said = edit(at, script, &[]);
        assert_eq!(said.code, code, "{script}: {}", said.stderr);
        assert!(said.stderr.contains(message), "{script}: {}", said.stderr);
        assert_eq!(read(at), before);
        assert!(left_behind(at).is_empty());
    }
    // A key that opens nothing.
    let said = run_with(
        &ours(),
        at,
        &[
            "edit",
            "login.yaml",
            "--cert",
            "k2048.crt",
            "--recovery-private-key",
            "k4096.key",
        ],
        "",
        &[("EDITOR", "false"), ("PATH", "/usr/bin:/bin")],
    );
    assert_eq!(said.failure(), "shop/login: no key could decrypt secret");
}

#[test]
fn a_signal_leaves_no_plaintext_behind() {
    let directory = workspace();
    let at = directory.path();
    let before = file(at);
    // The editor ends the program that runs it, as a shutdown would.
    let find = "p=$PPID; grep -q kubeseal /proc/$p/comm || p=$(ps -o ppid= -p $p)";
    for signal in ["TERM", "HUP"] {
        let script = format!("{find}; kill -{signal} $p; exec sleep 20 > /dev/null 2>&1");
        let said = edit(at, &script, &[]);
        assert_eq!(said.code, 1, "{}", said.stderr);
        assert_eq!(read(at), before);
        assert!(left_behind(at).is_empty(), "{signal}");
    }
    // What a terminal sends is the editor's to handle.
    let said = edit(
        at,
        &format!("{find}; kill -INT $p; sed -i 's/user: admin/user: root/' \"$2\""),
        &[],
    );
    assert_eq!(said.code, 0, "{}", said.stderr);
    assert_eq!(opened(at)["user"], "cm9vdA==");
}
