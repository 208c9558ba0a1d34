//! The `kustomize` program as a bounded child: it sees its inputs in a directory of its own, an empty environment, and has
//! limits on time, memory and output.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use super::{BuildError, sandbox};
use crate::git::RepoPath;

/// Bytes of its output.
const OUTPUT: u64 = 64 << 20;
/// Bytes of its words that are kept.
const WORDS: u64 = 16 << 10;
/// Characters of its words that are told.
const TOLD: usize = 1500;
/// Its address space; Go reserves much more than it uses.
const MEMORY: u64 = 4 << 30;
/// How often its end is looked for, at first and at most.
const LOOK: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(50));
/// Where no proxy listens: a request that the checks of the inputs let pass still ends here.
const NOWHERE: &str = "http://127.0.0.1:1";

/// How the program is run.
pub(super) struct Limits<'a> {
    /// Its name or path.
    pub(super) program: &'a Path,
    /// Where its inputs may be written.
    pub(super) directory: &'a Path,
    /// How long it may take.
    pub(super) timeout: Duration,
    /// The process stops.
    pub(super) stopping: &'a AtomicBool,
}

/// Builds `root` of these files.
pub(super) fn kustomize(
    inputs: &BTreeMap<String, Vec<u8>>,
    root: &RepoPath,
    limits: &Limits<'_>,
) -> Result<Vec<u8>, BuildError> {
    let failed = |what: &str, error: io::Error| BuildError(format!("{what}: {error}"));
    let not_run = |error: &dyn std::fmt::Display| {
        BuildError(format!(
            "the program {:?} cannot be run ({error}): install kustomize, or name it with --kustomize",
            limits.program.display()
        ))
    };
    let program = find(limits.program).ok_or_else(|| not_run(&"it is not found"))?;
    let directory = tempfile::tempdir_in(limits.directory).map_err(|error| {
        failed(
            "a directory for the build cannot be made in --storage-path",
            error,
        )
    })?;
    write(directory.path(), inputs)
        .map_err(|error| failed("the inputs of the build cannot be written", error))?;
    let mut child = start(&program, directory.path(), root).map_err(|error| not_run(&error))?;
    sandbox::limit(&child, MEMORY, limits.timeout);
    let output = keep(child.stdout.take(), OUTPUT);
    let words = keep(child.stderr.take(), WORDS);
    let ended = wait(&mut child, limits);
    let (output, words) = (
        output.join().unwrap_or_default(),
        words.join().unwrap_or_default(),
    );
    if output.len() as u64 > OUTPUT {
        return BuildError::new(format!("kustomize makes more than {} MiB", OUTPUT >> 20));
    }
    match ended {
        Ended::By(status) if status.success() => Ok(output),
        Ended::By(status) => Err(complaint(&words, status, directory.path(), root)),
        Ended::Late => BuildError::new(format!(
            "kustomize did not end within {} s (spec.timeout, at most {} s)",
            limits.timeout.as_secs(),
            super::LONGEST.as_secs()
        )),
        Ended::Stopping => BuildError::new("the process stops"),
    }
}

/// A name is looked for in the directories of our PATH; the child has none.
fn find(program: &Path) -> Option<PathBuf> {
    if program.components().count() > 1 {
        return program.canonicalize().ok();
    }
    let path = std::env::var_os("PATH")?;
    let mut found = std::env::split_paths(&path).map(|directory| directory.join(program));
    found.find(|file| file.is_file())?.canonicalize().ok()
}

/// On a thread of its own, because it is confined for good.
fn start(program: &Path, directory: &Path, root: &RepoPath) -> io::Result<Child> {
    let start = || {
        sandbox::restrict(program, directory);
        Command::new(program)
            .args(["build", "--load-restrictor", "LoadRestrictionsNone", "--"])
            .arg(directory.join(root.as_str()))
            .env_clear()
            .envs([
                ("HOME", directory.as_os_str()),
                ("PATH", OsStr::new("")),
                ("GOMAXPROCS", OsStr::new("2")),
                ("GOMEMLIMIT", OsStr::new("512MiB")),
                ("HTTP_PROXY", OsStr::new(NOWHERE)),
                ("HTTPS_PROXY", OsStr::new(NOWHERE)),
            ])
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
    };
    thread::scope(|scope| {
        let started = scope.spawn(start).join();
        started.unwrap_or_else(|_| Err(io::Error::other("the thread that starts it panicked")))
    })
}

/// Its words without our directory, and not at any length.
fn complaint(words: &[u8], status: ExitStatus, directory: &Path, root: &RepoPath) -> BuildError {
    let words = String::from_utf8_lossy(words);
    let words = words.replace(&format!("{}/", directory.display()), "");
    let words = words.trim().trim_start_matches("Error: ");
    let mut told: String = words.chars().take(TOLD).collect();
    if told.len() < words.len() {
        told.push('…');
    }
    if told.is_empty() || told.contains("goroutine ") {
        // A panic, or the limit on memory.
        let first = told.lines().next().unwrap_or_default().to_owned();
        told = format!("it ended abnormally ({status}) {first}");
    }
    BuildError(format!("{root}: kustomize: {told}"))
}

fn write(directory: &Path, inputs: &BTreeMap<String, Vec<u8>>) -> io::Result<()> {
    for (path, content) in inputs {
        let path = directory.join(path);
        if let Some(above) = path.parent() {
            fs::create_dir_all(above)?;
        }
        fs::write(path, content)?;
    }
    Ok(())
}

/// Reads to the end, and keeps one byte more than the limit.
fn keep(pipe: Option<impl Read + Send + 'static>, limit: u64) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut kept = Vec::new();
        if let Some(mut pipe) = pipe {
            // `Err`: what was read until then counts.
            drop(pipe.by_ref().take(limit + 1).read_to_end(&mut kept));
            drop(io::copy(&mut pipe, &mut io::sink()));
        }
        kept
    })
}

enum Ended {
    By(ExitStatus),
    Late,
    Stopping,
}

/// Kills it when its time is up.
fn wait(child: &mut Child, limits: &Limits<'_>) -> Ended {
    let begin = Instant::now();
    let mut look = LOOK.0;
    let why = loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ended::By(status),
            Ok(None) if limits.stopping.load(Ordering::Relaxed) => break Ended::Stopping,
            Ok(None) if begin.elapsed() < limits.timeout => thread::sleep(look),
            Ok(None) | Err(_) => break Ended::Late,
        }
        look = (look * 2).min(LOOK.1);
    };
    drop(child.kill());
    drop(child.wait());
    why
}
