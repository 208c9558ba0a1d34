//! Shared by the tests of kubeseal: the keys of the vectors as files, and the original kubeseal.
#![allow(dead_code, reason = "every test binary uses its own part")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test's helpers fail the test"
)]
#![allow(unreachable_pub, reason = "a module of several test binaries")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;

use plumbline_testkit::piped;
use serde_json::Value;

/// The original kubeseal, built from its Go module; Go's cache makes every time but the first quick.
pub static ORIGINAL: LazyLock<PathBuf> = LazyLock::new(|| {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    let binary =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("original-kubeseal-{}", std::process::id()));
    let status = Command::new("go")
        .current_dir(workspace.join("tests/kubeseal"))
        .env("CGO_ENABLED", "0")
        .env("GOWORK", "off")
        .args(["build", "-trimpath", "-ldflags", "-X main.VERSION=0.27.1", "-o"])
        .arg(&binary)
        .arg("github.com/bitnami-labs/sealed-secrets/cmd/kubeseal")
        .status()
        .expect("`go` builds the original kubeseal that ours is compared with: install Go 1.26");
    assert!(status.success(), "`go build` in tests/kubeseal failed");
    binary
});

/// Ours.
pub fn ours() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_kubeseal"))
}

/// A directory with the keys and certificates of the vectors: `k2048.crt`, `k2048.key`, …
pub fn workspace() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let data: Value = serde_json::from_str(include_str!("../data/vectors.json")).unwrap();
    for key in data["keys"].as_array().unwrap() {
        let name = key["Name"].as_str().unwrap();
        let write = |extension: &str, text: &str| {
            std::fs::write(directory.path().join(format!("{name}.{extension}")), text).unwrap();
        };
        write("crt", key["CertPEM"].as_str().unwrap());
        let der = key["PrivPKCS1DerBase64"].as_str().unwrap();
        let lines: Vec<&str> = der
            .as_bytes()
            .chunks(64)
            .map(|line| std::str::from_utf8(line).unwrap())
            .collect();
        let label = "RSA PRIVATE KEY";
        write(
            "key",
            &format!(
                "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
                lines.join("\n")
            ),
        );
    }
    directory
}

/// What a program said.
pub struct Said {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Said {
    /// The output of a success.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "{}", self.stderr);
        self.stdout
    }

    /// The message of a failure.
    #[track_caller]
    pub fn failure(self) -> String {
        assert_eq!(
            self.code, 1,
            "expected exit code 1: {} {}",
            self.stdout, self.stderr
        );
        assert_eq!(self.stdout, "", "a failure prints nothing on standard output");
        self.stderr
            .trim_end()
            .strip_prefix("error: ")
            .expect("starts with error:")
            .to_owned()
    }
}

/// Runs `program` in `directory` with `input` on its standard input and no kubeconfig to be found.
pub fn run(program: &Path, directory: &Path, arguments: &[&str], input: &str) -> Said {
    run_with(program, directory, arguments, input, &[])
}

/// [`run`] with environment variables.
pub fn run_with(
    program: &Path,
    directory: &Path,
    arguments: &[&str],
    input: &str,
    env: &[(&str, &str)],
) -> Said {
    let mut command = Command::new(program);
    command
        .current_dir(directory)
        .env_clear()
        .env("HOME", directory)
        .envs(env.iter().copied())
        .args(arguments);
    let Output {
        status,
        stdout,
        stderr,
    } = piped(&mut command, input.as_bytes()).unwrap();
    Said {
        code: status.code().unwrap(),
        stdout: String::from_utf8(stdout).unwrap(),
        stderr: String::from_utf8(stderr).unwrap(),
    }
}
