//! `keys restore` without a cluster, and the format of backups against the original `age`.

use plumbline_testkit::go_run;
use serde_json::json;

use crate::support::{ours, run, workspace};
use crate::{SECRET, recover};

/// Of `age-keygen`, for tests alone.
pub const IDENTITY: &str = "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX";
pub const RECIPIENT: &str = "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj";

/// Runs the original age.
pub fn age(arguments: &[&str], input: &[u8]) -> Vec<u8> {
    go_run("age", arguments, input).unwrap()
}

#[test]
fn a_backup_of_the_original_age_is_restored_for_recovery() {
    let directory = workspace();
    let at = directory.path();
    let pem = std::fs::read(at.join("k4096.key")).unwrap();
    let backup = json!({"apiVersion": "v1", "kind": "List", "items": [{
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"},
        "data": {"tls.key": plumbline_sealed_secrets::crypto::encode(&pem)},
    }]});
    let backup = backup.to_string().into_bytes();
    std::fs::write(
        at.join("by-key.age"),
        age(&["encrypt", "key", RECIPIENT], &backup),
    )
    .unwrap();
    std::fs::write(
        at.join("by-passphrase.age"),
        age(&["encrypt", "passphrase", "correct horse"], &backup),
    )
    .unwrap();
    std::fs::write(at.join("identity"), format!("# mine\n{IDENTITY}\n")).unwrap();
    std::fs::write(at.join("passphrase"), "correct horse\nsecond line\n").unwrap();
    std::fs::write(at.join("wrong"), "incorrect horse").unwrap();
    let restore = |arguments: &[&str]| run(&ours(), at, &[&["keys", "restore"], arguments].concat(), "");
    let sealed = run(&ours(), at, &["--cert", "k4096.crt"], SECRET).ok();
    for arguments in [
        ["by-key.age", "--identity", "identity"],
        ["by-passphrase.age", "--passphrase-file", "passphrase"],
    ] {
        let manifest = restore(&arguments).ok();
        std::fs::write(at.join("keys.yaml"), manifest).unwrap();
        assert_eq!(
            recover(&ours(), at, &sealed, "keys.yaml")["data"]["user"],
            "YWRtaW4="
        );
    }
    for (arguments, expected) in [
        (
            &["by-key.age"][..],
            "give --identity or --passphrase-file to open the backup",
        ),
        (
            &["by-key.age", "--passphrase-file", "passphrase"],
            "by-key.age: it is encrypted for recipients: give --identity",
        ),
        (
            &["by-passphrase.age", "-i", "identity"],
            "by-passphrase.age: it is encrypted with a passphrase: give --passphrase-file",
        ),
        (
            &["by-passphrase.age", "--passphrase-file", "wrong"],
            "by-passphrase.age: the passphrase does not open it",
        ),
        (
            &["by-key.age", "-i", "wrong"],
            "wrong: holds no age identity: expected a line AGE-SECRET-KEY-1…",
        ),
        (&["k4096.key", "-i", "identity"], "k4096.key: not an age file"),
    ] {
        assert_eq!(restore(arguments).failure(), expected);
    }
    let said = run(&ours(), at, &["keys", "backup"], "").failure();
    assert_eq!(
        said,
        "a backup is always encrypted: give --recipient age1… or --passphrase-file"
    );
    let said = run(&ours(), at, &["keys", "backup", "--recipient", IDENTITY], "").failure();
    assert!(
        said.ends_with("not an age recipient: expected age1… (age-keygen makes one)"),
        "{said}"
    );
    // A pipe cannot tell whether what went through it was kept.
    assert_eq!(
        run(
            &ours(),
            at,
            &["keys", "backup", "-r", RECIPIENT, "--acknowledge"],
            ""
        )
        .code,
        2
    );
}
