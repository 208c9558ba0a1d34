//! The commands for people. They read with the controller's own code: what `plan` shows is what the controller decides.

mod build;
mod desk;
mod diff;
mod events;
mod output;
mod plan;
mod reconcile;
mod session;
mod status;
mod suspend;
mod target;
mod tree;
mod verdict;
mod worktree;

use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};

use crate::config::ControllerArgs;

/// Exit code of `plan` when an apply would change something.
const CHANGES: u8 = 2;
/// Exit code when something is wrong.
const TROUBLE: u8 = 1;

/// A command for people.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Show what an apply would create, change and delete, with the API server's verdicts
    ///
    /// Nothing is written: every object is applied as a dry run. Exit code 0: nothing would change; 2: something would;
    /// 1: something is refused or cannot be read. Values of Secrets are not shown.
    Plan(plan::PlanArgs),
    /// Print the objects that would be applied, as YAML
    Build(build::BuildArgs),
    /// Show sources, Kustomizations and their objects: health, where they come from, what is wrong
    Status(status::StatusArgs),
    /// Reconcile now, and wait for the outcome
    Reconcile(reconcile::ReconcileArgs),
    /// Stop reconciling a Kustomization or source, and say why
    Suspend(suspend::SuspendArgs),
    /// Go on with a Kustomization or source that was suspended
    Resume(suspend::ResumeArgs),
    /// Show the events of Kustomizations and sources, and follow them
    #[command(visible_alias = "logs")]
    Events(events::EventsArgs),
}

/// Which cluster, as kubectl's flags.
#[derive(Args, Clone, Debug, Default)]
pub struct ClusterArgs {
    /// Kubeconfig file; by default KUBECONFIG, then ~/.kube/config
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<std::path::PathBuf>,
    /// Context of the kubeconfig
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
    /// Namespace of the Kustomization; by default the context's
    #[arg(long, short, value_name = "NAME")]
    pub namespace: Option<String>,
}

/// Form of the output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

/// What a Kustomization is planned or built from.
#[derive(Args, Clone, Debug)]
pub struct TargetArgs {
    /// Name of a Kustomization; with -k or -f, a directory that need not be pushed yet. By default all Kustomizations of
    /// the namespace, or the current directory
    #[arg(value_name = "KUSTOMIZATION|PATH")]
    pub target: Option<String>,
    /// Kustomization of the cluster that PATH is for: its fields, its inventory
    #[arg(long, short, value_name = "NAME", conflicts_with = "file")]
    pub kustomization: Option<String>,
    /// File with the Kustomization that PATH is for
    #[arg(long, short, value_name = "FILE")]
    pub file: Option<std::path::PathBuf>,
    /// Another reference of the source, such as refs/pull/7/head or refs/heads/next
    #[arg(long = "ref", value_name = "NAME", conflicts_with_all = ["kustomization", "file"])]
    pub reference: Option<String>,
}

/// Runs a command. `flags` are the controller's, which mean the same here (`--deletion-budget-percentage`, …).
pub async fn run(command: Command, flags: ControllerArgs) -> anyhow::Result<ExitCode> {
    plumbline_common::client::install_crypto_provider();
    match command {
        Command::Plan(args) => plan::run(&args, flags).await,
        Command::Build(args) => build::run(&args, flags).await,
        Command::Status(args) => status::run(&args, flags).await,
        Command::Reconcile(args) => reconcile::run(&args).await,
        Command::Suspend(args) => suspend::suspend(&args).await,
        Command::Resume(args) => suspend::resume(&args).await,
        Command::Events(args) => events::run(&args).await,
    }
}
