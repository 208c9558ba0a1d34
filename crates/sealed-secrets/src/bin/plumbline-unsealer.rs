//! `plumbline-unsealer`: turns SealedSecrets into Secrets.

use std::{ffi::OsString, process::ExitCode};

use plumbline_sealed_secrets::{config::Config, goflags, run};

fn main() -> ExitCode {
    plumbline_common::shutdown::exit(start())
}

fn start() -> anyhow::Result<()> {
    plumbline_common::client::install_crypto_provider();
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let config = goflags::parse::<Config>(&arguments, &|name| std::env::var_os(name))
        .unwrap_or_else(|error| error.exit());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run::run(config))
}
