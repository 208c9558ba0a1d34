//! `cargo xtask VERB`: everything one does with this repository. One file a verb.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for people at a terminal"
)]

mod bench;
mod cluster;
mod codegen;
mod demo;
mod doctor;
mod e2e;
mod image;
mod test;

use std::process::ExitCode;

use clap::Parser;
use xshell::Shell;

/// Tasks of the Plumbline repository
#[derive(Parser)]
#[command(name = "cargo xtask", version, arg_required_else_help = true)]
enum Verb {
    /// Measure what Plumbline costs, beside the goals
    #[command(subcommand)]
    Bench(bench::Subject),
    /// Start or stop a real Kubernetes control plane
    #[command(subcommand)]
    Cluster(cluster::Command),
    /// Write the generated files, or check that they are up to date
    Codegen(codegen::Args),
    /// Show on a real cluster what Plumbline does, step by step
    Demo(demo::Args),
    /// Say what is missing on this machine, and how to get it
    Doctor,
    /// Install the charts on a real node and tell the story of a change in Git with pods that run
    E2e(e2e::Args),
    /// Write the container images of the controllers as archives, without Docker
    Image(image::Args),
    /// Run every check and every test: what CI runs
    Test(test::Args),
}

fn main() -> ExitCode {
    match run(Verb::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> anyhow::Result<()> {
    let sh = Shell::new()?;
    match verb {
        Verb::Bench(subject) => bench::run(&at_root(&sh), &subject),
        // A cluster's directory is relative to where the command is called.
        Verb::Cluster(command) => cluster::run(&command),
        Verb::Codegen(args) => codegen::run(&at_root(&sh), &args),
        Verb::Demo(args) => demo::run(&at_root(&sh), &args),
        Verb::Doctor => doctor::run(&at_root(&sh)),
        Verb::E2e(args) => e2e::run(&at_root(&sh), &args),
        Verb::Image(args) => image::run(&at_root(&sh), &args),
        Verb::Test(args) => test::run(&at_root(&sh), &args),
    }
}

fn at_root(sh: &Shell) -> Shell {
    let sh = sh.clone();
    sh.change_dir(plumbline_testkit::workspace_dir());
    sh
}
