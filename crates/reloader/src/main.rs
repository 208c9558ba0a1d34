//! The reloader's binary.

use clap::Parser;
use plumbline_reloader::{args::Cli, run};

fn main() -> anyhow::Result<()> {
    run::main(Cli::parse())
}
