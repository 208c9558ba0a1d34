//! Programs that are built once from a Go module of `tests/`, and kept below the target directory.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::{Digest as _, Sha256};

use crate::{
    leash::Leash,
    paths,
    pipe::piped,
    progress::{Ticker, say},
};

/// A Go module that names the versions of programs.
pub(crate) struct Module {
    /// Its directory below `tests/`.
    pub(crate) name: &'static str,
    /// Flags for the linker.
    pub(crate) flags: String,
    /// Makes the directory where it is built, if that is not the module's own. Gets the module's and that of the programs.
    pub(crate) source: Option<fn(&Path, &Path) -> anyhow::Result<PathBuf>>,
}

impl Module {
    /// One that is built where it is, without anything for the debugger.
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            name,
            flags: "-s -w".to_owned(),
            source: None,
        }
    }

    /// Where the module is.
    pub(crate) fn directory(name: &str) -> PathBuf {
        paths::workspace().join("tests").join(name)
    }

    /// Builds the programs (name and Go package) into `bin`, unless they are there and up to date.
    pub(crate) fn build(&self, programs: &[&(&str, &str)], bin: &Path) -> anyhow::Result<()> {
        if programs.is_empty() {
            return Ok(());
        }
        let name = self.name;
        let module = Self::directory(name);
        let read = |file: &str| {
            fs::read(module.join(file)).with_context(|| format!("cannot read tests/{name}/{file}"))
        };
        let mut inputs = vec![read("go.mod")?, read("go.sum")?];
        inputs.extend(sources(&module)?);
        let stamp = stamp(&inputs, &self.flags);
        let stale = || {
            let fresh = |program: &str| {
                bin.join(program).is_file()
                    && fs::read_to_string(stamp_file(bin, program)).is_ok_and(|found| found == stamp)
            };
            let mut stale = programs.to_vec();
            stale.retain(|(program, _)| !fresh(program));
            stale
        };
        if stale().is_empty() {
            return Ok(());
        }
        fs::create_dir_all(bin).with_context(|| format!("cannot create {}", bin.display()))?;
        let lock = File::create(bin.join(".lock")).context("cannot create the build lock")?;
        if lock.try_lock().is_err() {
            say("another process builds programs: waiting for it");
            lock.lock().context("cannot lock the build directory")?;
        }
        let leash = Leash::new()?;
        let todo = stale();
        let go = if todo.is_empty() {
            PathBuf::new()
        } else {
            find_go()?
        };
        for (n, (program, package)) in todo.iter().enumerate() {
            let line = format!(
                "building {program} ({} of {}) from tests/{name}",
                n + 1,
                todo.len()
            );
            say(format_args!("{line}; the first time takes minutes"));
            let begin = Instant::now();
            let ticker = Ticker::start(line, Duration::from_secs(15));
            let made = self.source.map(|make| make(&module, bin)).transpose()?;
            let fresh = bin.join(format!(".{program}.new"));
            let status = leash.run(
                Command::new(&go)
                    .current_dir(made.as_ref().unwrap_or(&module))
                    .env("CGO_ENABLED", "0")
                    .env("GOWORK", "off")
                    .args(["build", "-trimpath", "-ldflags", &self.flags, "-o"])
                    .arg(&fresh)
                    .arg(package),
            )?;
            drop(ticker);
            if let Some(made) = made {
                fs::remove_dir_all(&made).with_context(|| format!("cannot remove {}", made.display()))?;
            }
            if !status.success() {
                bail!("`go build {package}` in tests/{name} failed ({status}): see its output above");
            }
            fs::rename(&fresh, bin.join(program))
                .with_context(|| format!("cannot put {program} in its place"))?;
            fs::write(stamp_file(bin, program), &stamp).with_context(|| format!("cannot stamp {program}"))?;
            say(format_args!("built {program} in {} s", begin.elapsed().as_secs()));
        }
        Ok(())
    }
}

fn stamp_file(bin: &Path, name: &str) -> PathBuf {
    bin.join(format!(".{name}.stamp"))
}

/// What Go code of its own the module has, if any: beside `go.mod` and in the directories there.
fn sources(module: &Path) -> anyhow::Result<Vec<Vec<u8>>> {
    let mut paths = vec![];
    let mut directories = vec![module.to_owned()];
    while let Some(directory) = directories.pop() {
        let entries =
            fs::read_dir(&directory).with_context(|| format!("cannot read {}", directory.display()))?;
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "go") {
                paths.push(path);
            }
        }
    }
    paths.sort();
    let read = |path: &PathBuf| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    paths.iter().map(read).collect()
}

/// The version of a module that a `go.mod` requires, without the `v`.
pub(crate) fn required<'a>(go_mod: &'a str, module: &str) -> Option<&'a str> {
    go_mod.lines().find_map(|line| {
        let line = line.trim();
        let rest = line
            .strip_prefix("require ")
            .unwrap_or(line)
            .strip_prefix(module)?;
        rest.strip_prefix(" v")?.split_whitespace().next()
    })
}

/// Changes whenever the programs would.
fn stamp(inputs: &[Vec<u8>], flags: &str) -> String {
    let mut hash = Sha256::new();
    for input in inputs {
        hash.update(input);
    }
    hash.update(flags);
    STANDARD.encode(hash.finalize())
}

/// What `go run` of the Go module `tests/NAME` answers to `input`: a library in Go that ours is compared with.
///
/// # Errors
/// When there is no Go, or the program fails.
pub fn go_run(name: &str, arguments: &[&str], input: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut command = Command::new(find_go()?);
    command
        .current_dir(Module::directory(name))
        .env("GOWORK", "off")
        .env("CGO_ENABLED", "0")
        .env("TZ", "UTC")
        .args(["run", "."])
        .args(arguments);
    let output = piped(&mut command, input)?;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        bail!("`go run .` in tests/{name} failed: {complaint}");
    }
    Ok(output.stdout)
}

/// `go` from the path, else from where its own installer puts it.
pub fn find_go() -> anyhow::Result<PathBuf> {
    let candidates = [PathBuf::from("go"), PathBuf::from("/usr/local/go/bin/go")];
    candidates
        .into_iter()
        .find(|go| {
            let mut version = Command::new(go);
            version.arg("version").output().is_ok_and(|out| out.status.success())
        })
        .context(
            "a test cluster needs Go or ready-made programs: install Go 1.26 or newer (https://go.dev/doc/install), \
             or set KUBEBUILDER_ASSETS to a directory with etcd, kube-apiserver, kube-controller-manager and kubectl",
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_blocks_and_alone() {
        let block = "require (\n\texample.org/ab v2.0.0\n\texample.org/a v1.2.3 // indirect\n)";
        assert_eq!(required(block, "example.org/a"), Some("1.2.3"));
        assert_eq!(
            required("require example.org/a v1.2.3", "example.org/a"),
            Some("1.2.3")
        );
        assert_eq!(required("module example.org/a", "example.org/a"), None);
    }

    #[test]
    fn stamps_change_with_every_input() {
        let stamp = |first: &str, second: &str, flags| stamp(&[first.into(), second.into()], flags);
        let base = stamp("a", "b", "c");
        assert_eq!(base.len(), 44);
        for other in [stamp("x", "b", "c"), stamp("a", "x", "c"), stamp("a", "b", "x")] {
            assert_ne!(base, other);
        }
    }
}
