//! `plumbline-sync`: without a subcommand it is the controller.

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};
use plumbline_common::shutdown;
use plumbline_sync::{
    api::{UrlSchemes, crds_yaml},
    cli,
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
    #[command(flatten)]
    People(cli::Command),
    /// Print a completion script for a shell
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the help of all commands
    #[command(hide = true)]
    Reference,
    /// Print the CustomResourceDefinitions, for kubectl apply --server-side -f -
    Crd {
        /// Admit file:// URLs, for development
        #[arg(long)]
        allow_file_urls: bool,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    match start(Arguments::parse()).await {
        Ok(code) => code,
        Err(error) => shutdown::exit(Err(error)),
    }
}

async fn start(arguments: Arguments) -> anyhow::Result<ExitCode> {
    use std::io::Write as _;
    match arguments.command {
        None => run(arguments.controller).await?,
        Some(Command::People(command)) => return Box::pin(cli::run(command, arguments.controller)).await,
        Some(Command::Completion { shell }) => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "plumbline-sync", &mut script);
            std::io::stdout().write_all(&script)?;
        }
        Some(Command::Reference) => {
            let mut out = std::io::stdout();
            for command in Arguments::command()
                .get_subcommands_mut()
                .filter(|command| !command.is_hide_set())
            {
                let name = format!("plumbline-sync {}", command.get_name());
                writeln!(
                    out,
                    "# {name}\n\n{}",
                    command.clone().bin_name(name.clone()).render_long_help()
                )?;
            }
        }
        Some(Command::Crd { allow_file_urls }) => {
            let schemes = if allow_file_urls {
                UrlSchemes::WithFile
            } else {
                UrlSchemes::Remote
            };
            std::io::stdout().write_all(crds_yaml(schemes)?.as_bytes())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
