//! Flux's command line: the program, built from the source of its release, and how it is run.
//!
//! The source embeds manifests that only the release process makes, and that only `flux install` and `flux bootstrap` read: without
//! a file in their place it cannot be compiled. So it is built in a copy with a placeholder, and with the `go.mod` and `go.sum` it came with.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::{
    binaries::Tool,
    go::{self, Module, find_go},
    node::network::HOST,
};

/// Directory of the Go module that says which version.
const MODULE: &str = "flux";
/// The Go module of the program.
const SOURCE: &str = "github.com/fluxcd/flux2/v2";

/// The real `flux`, as somebody with this kubeconfig.
#[derive(Debug)]
pub struct Flux {
    program: PathBuf,
    kubeconfig: PathBuf,
    home: PathBuf,
}

impl Flux {
    /// One that keeps its files in `home`. Builds the program if it is nowhere.
    pub fn new(home: &Path, kubeconfig: PathBuf) -> anyhow::Result<Self> {
        Ok(Self {
            program: Tool::Flux.path()?,
            kubeconfig,
            home: home.to_owned(),
        })
    }

    /// `flux ARGUMENTS` in a namespace. It has no way out of this machine and its nodes: `check` would look
    /// for a newer release.
    pub fn command(&self, namespace: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(arguments)
            .args(["--namespace", namespace])
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .arg("--cache-dir")
            .arg(self.home.join("flux-cache"))
            .env("HOME", &self.home)
            .env("HTTPS_PROXY", "http://127.0.0.1:9")
            .env("NO_PROXY", format!("127.0.0.1,localhost,{HOST}"))
            .stdin(Stdio::null());
        command
    }
}

/// How it is built.
pub(crate) fn module() -> anyhow::Result<Module> {
    let go_mod = fs::read_to_string(Module::directory(MODULE).join("go.mod"))
        .context("cannot read tests/flux/go.mod")?;
    let version = go::required(&go_mod, SOURCE)
        .with_context(|| format!("tests/flux/go.mod does not require {SOURCE}"))?;
    Ok(Module {
        flags: format!("-s -w -X main.VERSION={version}"),
        source: Some(copy),
        ..Module::new(MODULE)
    })
}

/// Copies the source, whose checksum `go` compares with `tests/flux/go.sum`, and puts the placeholder in.
fn copy(module: &Path, bin: &Path) -> anyhow::Result<PathBuf> {
    let mut download = Command::new(find_go()?);
    download
        .current_dir(module)
        .env("GOWORK", "off")
        .args(["mod", "download", "-json", SOURCE]);
    let output = download.output().context("cannot start go")?;
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let Some(downloaded) = answer["Dir"].as_str().filter(|_| output.status.success()) else {
        bail!(
            "`go mod download {SOURCE}` in tests/flux failed: {}{}",
            answer["Error"].as_str().unwrap_or_default(),
            String::from_utf8_lossy(&output.stderr)
        );
    };
    let copy = bin.join(".flux-source");
    if copy.exists() {
        fs::remove_dir_all(&copy).with_context(|| format!("cannot remove {}", copy.display()))?;
    }
    copy_directory(Path::new(downloaded), &copy)
        .with_context(|| format!("cannot copy {downloaded} to {}", copy.display()))?;
    let manifests = copy.join("cmd/flux/manifests");
    fs::create_dir_all(&manifests)
        .and_then(|()| fs::write(manifests.join("placeholder.yaml"), "# not made by a release\n"))
        .context("cannot write the placeholder")?;
    Ok(copy)
}

/// Contents only: what Go keeps is not writable.
fn copy_directory(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_directory(&entry.path(), &target)?;
        } else {
            fs::write(target, fs::read(entry.path())?)?;
        }
    }
    Ok(())
}
