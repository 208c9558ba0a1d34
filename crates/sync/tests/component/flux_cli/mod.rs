//! The real `flux` command line as our client: what it writes is acted on, and what it waits for and prints is there.

mod changes;
mod reading;
mod waiting;

use std::{
    path::Path,
    process::{Command, Output},
};

use anyhow::Context as _;

use crate::bench::{Bench, Syncer};

/// How long a command may wait for us, unless the test says otherwise.
const TIMEOUT: &str = "--timeout=60s";

/// What a command said, and how it ended.
#[derive(Debug)]
struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Said {
    /// Everything, for the error of a test that fails.
    fn all(&self) -> String {
        format!("exit code {}\n{}\n{}", self.code, self.out, self.err)
    }

    /// Fails unless it ended well and said these things.
    #[track_caller]
    fn ok(&self, parts: &[&str]) {
        self.ended(0, parts);
    }

    /// Fails unless it ended so and said these things.
    #[track_caller]
    fn ended(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, code, "{}", self.all());
        for part in parts {
            assert!(
                self.out.contains(part) || self.err.contains(part),
                "no {part:?} in:\n{}",
                self.all()
            );
        }
    }

    /// The lines of a table without its head, each as its words.
    fn rows(&self) -> Vec<Vec<&str>> {
        let lines = self.out.lines().filter(|line| !line.trim().is_empty());
        let words = lines.map(|line| line.split_whitespace().collect::<Vec<_>>());
        words.filter(|words| words.first() != Some(&"NAME")).collect()
    }
}

/// The program, on a bench.
struct Flux<'a> {
    bench: &'a Bench,
    program: plumbline_testkit::Flux,
}

impl<'a> Flux<'a> {
    /// As the administrator of the cluster.
    async fn on(bench: &'a Bench) -> anyhow::Result<Self> {
        let (home, kubeconfig) = (bench.world.dir().to_owned(), bench.world.kubeconfig());
        // Building it takes minutes where it is not there yet.
        let program =
            tokio::task::spawn_blocking(move || plumbline_testkit::Flux::new(&home, kubeconfig)).await??;
        Ok(Self { bench, program })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.program.command(self.bench.namespace(), arguments);
        command.current_dir(self.bench.repository.work_tree());
        command
    }

    fn run_within(&self, timeout: &str, arguments: &[&str]) -> anyhow::Result<Said> {
        let mut command = self.command(arguments);
        command.arg(timeout);
        let Output {
            status,
            stdout,
            stderr,
        } = tokio::task::block_in_place(|| command.output())?;
        Ok(Said {
            code: status.code().context("no exit code")?,
            out: String::from_utf8(stdout)?,
            err: String::from_utf8(stderr)?,
        })
    }

    fn run(&self, arguments: &[&str]) -> anyhow::Result<Said> {
        self.run_within(TIMEOUT, arguments)
    }
}

/// A bench with ConfigMap `a` of value 1 applied, its syncer, and the revision.
async fn applied() -> anyhow::Result<(Bench, Syncer, String)> {
    let bench = Bench::new().await?;
    bench.write_config_map("a", "1")?;
    let revision = bench.commit()?;
    bench.app().await?;
    let syncer = bench.start(&[])?;
    bench.applied(&revision).await?;
    Ok((bench, syncer, revision))
}

/// A revision as tables show it: `main@sha1:` and eight digits.
fn short(revision: &str) -> String {
    revision.chars().take("main@sha1:".len() + 8).collect()
}

/// A file for a command to read.
fn file(at: &Path, name: &str, content: &str) -> anyhow::Result<String> {
    let path = at.join(name);
    std::fs::write(&path, content)?;
    Ok(path.display().to_string())
}
