//! The reloader's binary.

use std::process::ExitCode;

use clap::Parser;
use plumbline_common::shutdown;
use plumbline_reloader::{args::Cli, run};

fn main() -> ExitCode {
    shutdown::exit(run::main(Cli::parse()))
}
