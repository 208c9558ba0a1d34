//! `cargo xtask test`: every check and every test, in the order in which they fail fastest; the end-to-end test on a node last.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use plumbline_testkit::{BUILT_VARIABLE, CLUSTER_VARIABLE, ControlPlane, Leash, Tool};
use xshell::{Shell, cmd};

/// Which tests to run.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Test only this package (can be repeated); the checks always cover the whole workspace
    #[arg(long, short)]
    package: Vec<String>,
}

/// Runs the steps one after the other on a leash, so that nothing of them outlives this process.
struct Steps {
    leash: Leash,
    times: Vec<(&'static str, Duration)>,
}

pub(crate) fn run(sh: &Shell, args: &Args) -> anyhow::Result<()> {
    let mut steps = Steps {
        leash: Leash::new()?,
        times: vec![],
    };
    steps.run("format", cmd!(sh, "cargo fmt --all --check"))?;
    let lints = cmd!(sh, "cargo clippy --workspace --all-targets -- -D warnings");
    steps.run("lints", lints)?;
    steps.run("codegen", cmd!(sh, "cargo xtask codegen --check"))?;
    if cmd!(sh, "cargo deny --version")
        .quiet()
        .ignore_stderr()
        .read()
        .is_ok()
    {
        steps.run(
            "licences",
            cmd!(sh, "cargo deny --workspace check bans licenses sources"),
        )?;
    } else {
        println!(
            "\n== licences: not checked, cargo-deny is not installed (cargo install --locked cargo-deny)"
        );
    }

    // Compiled before the cluster starts: three idle programs would take memory from the compiler.
    let packages: Vec<_> = args.package.iter().flat_map(|name| ["--package", name]).collect();
    let which = &if packages.is_empty() {
        vec!["--workspace"]
    } else {
        packages
    };
    steps.run("build", cmd!(sh, "cargo test {which...} --no-run"))?;
    let begin = Instant::now();
    // Not within a test's time limit.
    for tool in Tool::ALL {
        tool.path()?;
    }
    let dir = tempfile::tempdir().context("cannot create a temporary directory")?;
    let cluster = ControlPlane::start(dir.path())?;
    steps.times.push(("cluster", begin.elapsed()));
    let mut tests = cmd!(sh, "cargo test {which...} --no-fail-fast").env(CLUSTER_VARIABLE, cluster.dir());
    if args.package.is_empty() {
        tests = tests.env(BUILT_VARIABLE, "true");
    }
    let tested = steps.run("tests", tests);
    cluster.stop();
    let walked = match plumbline_testkit::node_obstacle() {
        _ if !args.package.is_empty() => Ok(()),
        // What has failed already says more than an end-to-end test that would fail too.
        _ if tested.is_err() => Ok(()),
        Some(reason) => {
            println!("\n== e2e: not run: {reason}");
            Ok(())
        }
        None => steps.run(
            "e2e",
            cmd!(sh, "cargo xtask e2e --profile dev").env(BUILT_VARIABLE, "true"),
        ),
    };
    steps.report();
    tested.and(walked)
}

impl Steps {
    fn run(&mut self, name: &'static str, command: xshell::Cmd) -> anyhow::Result<()> {
        println!("\n== {name}: {command}");
        let begin = Instant::now();
        let status = self.leash.run(&mut Command::from(command))?;
        self.times.push((name, begin.elapsed()));
        if !status.success() {
            bail!("step `{name}` failed ({status}): see above");
        }
        Ok(())
    }

    fn report(&self) {
        println!("\n== times");
        for (name, time) in &self.times {
            println!("{name:<9} {:>7.1} s", time.as_secs_f32());
        }
        let total: Duration = self.times.iter().map(|(_, time)| *time).sum();
        println!("{:<9} {:>7.1} s", "total", total.as_secs_f32());
    }
}
