//! `plumbline-sync`: without a subcommand it is the controller.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use plumbline_common::shutdown;
use plumbline_sync::{
    api::{UrlSchemes, crds_yaml},
    config::ControllerArgs,
    run::run,
};

/// Keeps a Kubernetes cluster true to Git, by Flux's GitRepository and Kustomization
#[derive(Parser)]
#[command(name = "plumbline-sync", version, max_term_width = 110)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    controller: ControllerArgs,
}

#[derive(Subcommand)]
enum Command {
    /// Print the CustomResourceDefinitions, for kubectl apply --server-side -f -
    Crd {
        /// Admit file:// URLs, for development
        #[arg(long)]
        allow_file_urls: bool,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    shutdown::exit(start(Arguments::parse()).await)
}

async fn start(arguments: Arguments) -> anyhow::Result<()> {
    match arguments.command {
        None => run(arguments.controller).await,
        Some(Command::Crd { allow_file_urls }) => {
            use std::io::Write as _;
            let schemes = if allow_file_urls {
                UrlSchemes::WithFile
            } else {
                UrlSchemes::Remote
            };
            std::io::stdout().write_all(crds_yaml(schemes)?.as_bytes())?;
            Ok(())
        }
    }
}
