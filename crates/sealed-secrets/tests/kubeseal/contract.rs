//! Flags, messages, exit codes, files: what scripts rely on.

use crate::SECRET;
use crate::support::{ours, run, run_with, workspace};

#[test]
fn messages_and_exit_codes() {
    let directory = workspace();
    let at = directory.path();
    let seal = |arguments: &[&str], input: &str| {
        run(
            &ours(),
            at,
            &[&["--cert", "k2048.crt"], arguments].concat(),
            input,
        )
    };
    let secret =
        |text: &str| format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: a, namespace: b}}\n{text}");
    let full = secret("stringData: {a: b}");
    assert_eq!(
        seal(&[], &secret("")).failure(),
        "secret.data is empty in input Secret, assuming this is an error and aborting. To work with empty data, --allow-empty-data can be used"
    );
    assert!(
        seal(&["--allow-empty-data"], &secret(""))
            .ok()
            .contains("SealedSecret")
    );
    assert_eq!(
        seal(&[], "").failure(),
        "no secrets found. Ensure the input is valid and UTF-8 encoded"
    );
    assert_eq!(
        seal(&[], "apiVersion: v1\nkind: Secret\nstringData: {a: b}").failure(),
        "missing metadata.name in input Secret"
    );
    assert_eq!(
        seal(&["-n", "c"], &full).failure(),
        "namespace mismatch: input secret is in namespace \"b\" but \"c\" was specified"
    );
    assert_eq!(
        seal(&["-o", "toml"], &full).failure(),
        "unsupported output format: toml"
    );
    assert_eq!(
        seal(&["-f", "none"], "").failure(),
        "Could not read file specified with --secret-file"
    );
    assert_eq!(
        seal(&["--from-file", "a"], "").failure(),
        "--from-file requires --raw"
    );
    assert_eq!(
        run(&ours(), at, &["--cert", "none"], &full).failure(),
        "open none: no such file or directory"
    );
    assert_eq!(
        run(&ours(), at, &["--cert", "k2048.key"], &full).failure(),
        "failed to read any certificates"
    );
    assert_eq!(seal(&["--nope"], "").code, 2);
    assert_eq!(seal(&["--scope", "Strict"], "").code, 2);
    assert!(
        seal(&["--scope", "Strict"], "")
            .stderr
            .contains("must be one of: strict, namespace-wide, cluster-wide")
    );
    assert_eq!(seal(&["--help"], "").code, 0);
    assert!(
        run(&ours(), at, &["--version"], "")
            .ok()
            .starts_with("kubeseal version: ")
    );
    let warned = seal(&["--recovery-private-key", "x"], &full);
    assert!(
        warned
            .stderr
            .contains("warning: ignoring --recovery-private-key because unseal command not chosen")
    );
    assert_eq!(warned.code, 0);
    // Truncated JSON ends; the original has been seen to read it for ever.
    assert!(
        seal(&[], r#"{"kind":"Secret","#)
            .failure()
            .starts_with("document 1: ")
    );
    // Nothing of a plaintext is repeated in a complaint.
    let said = seal(&[], &secret("data: {a: 'hunter2 not base64'}")).failure();
    assert!(!said.contains("hunter2"), "{said}");
}

#[test]
fn the_kubeconfig_is_not_touched_when_a_certificate_is_given() {
    let directory = workspace();
    let said = run_with(
        &ours(),
        directory.path(),
        &["--kubeconfig", "/nonexistent", "--cert", "k2048.crt"],
        SECRET,
        &[("KUBECONFIG", "/nonexistent")],
    );
    assert!(said.ok().contains("encryptedData"));
}

#[test]
fn flags_come_from_the_environment_too() {
    let directory = workspace();
    let env = [
        ("SEALED_SECRETS_CERT", "k2048.crt"),
        ("SEALED_SECRETS_FORMAT", "yaml"),
    ];
    assert!(
        run_with(&ours(), directory.path(), &[], SECRET, &env)
            .ok()
            .starts_with("---\n")
    );
    assert!(
        run_with(&ours(), directory.path(), &["-o", "json"], SECRET, &env)
            .ok()
            .starts_with('{')
    );
}

#[test]
fn the_output_file_is_written_whole_or_not_at_all() {
    let directory = workspace();
    let at = directory.path();
    let count = || std::fs::read_dir(at).unwrap().count();
    let before = count();
    let said = run(&ours(), at, &["--cert", "k2048.crt", "-w", "out.yaml"], "a: [");
    assert_eq!(said.code, 1);
    assert_eq!(count(), before, "a failure leaves no file behind");
    run(&ours(), at, &["--cert", "k2048.crt", "-w", "out.yaml"], SECRET).ok();
    assert!(
        std::fs::read_to_string(at.join("out.yaml"))
            .unwrap()
            .starts_with("---\n")
    );
    assert_eq!(count(), before + 1);
    let said = run(
        &ours(),
        at,
        &["--cert", "k2048.crt", "-w", "none/out.yaml"],
        SECRET,
    );
    assert_eq!(said.failure(), "open none/out.yaml: no such file or directory");
}
