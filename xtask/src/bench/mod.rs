//! `cargo xtask bench`: what Plumbline costs, measured on a real control plane. Not a timed test: the goals hold
//! on a quiet machine, and wall times mean most as ratios within one run.

mod bare;
mod cold;
mod estate;
mod figures;
mod process;
mod reloader;
mod requests;
mod sealed_secrets;
mod stage;
mod steady;
mod syncer;
mod unsealer;
mod values;

use std::{os::unix::process::CommandExt as _, process::Command};

use anyhow::{Context as _, bail};
use plumbline_testkit::target_dir;
use xshell::Shell;

use self::{figures::Figures, stage::Stage};
use crate::image;

/// What to measure.
#[derive(clap::Subcommand)]
pub(crate) enum Subject {
    /// Objects applied, nothing changed, one file changed, drift, memory
    Sync(Args),
    /// Many Kustomizations: a commit that touches one of them, some that never get healthy, 1000 apps
    SyncEstate(EstateArgs),
    /// SealedSecrets opened after a start, nothing changed, one created, memory beside foreign Secrets
    SealedSecrets(Args),
    /// A change to its patch, one source to many workloads, a large estate, a restart, many changes at once
    Reloader(Args),
}

impl Subject {
    /// Its name on the command line and of its file.
    fn name(&self) -> &'static str {
        match self {
            Self::Sync(_) => "sync",
            Self::SyncEstate(_) => "sync-estate",
            Self::Reloader(_) => "reloader",
            Self::SealedSecrets(_) => "sealed-secrets",
        }
    }

    /// The part that is asked for, where there are parts.
    fn part(&self) -> Option<estate::Part> {
        match self {
            Self::SyncEstate(estate) => estate.part,
            _ => None,
        }
    }

    fn args(&self) -> &Args {
        match self {
            Self::Sync(args) | Self::SealedSecrets(args) | Self::Reloader(args) => args,
            Self::SyncEstate(estate) => &estate.args,
        }
    }
}

/// How to measure.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Exit with an error when a goal is missed
    #[arg(long)]
    check: bool,
    /// Fewer rounds, fewer objects, less time: for a first look
    #[arg(long)]
    quick: bool,
}

/// How to measure many Kustomizations.
#[derive(clap::Args)]
pub(crate) struct EstateArgs {
    #[command(flatten)]
    args: Args,
    /// Only this part
    #[arg(long, value_enum)]
    part: Option<estate::Part>,
}

/// How much is measured.
#[derive(Clone, Copy)]
pub(crate) struct Scale {
    /// Objects of the small Kustomizations.
    small: usize,
    /// How many small Kustomizations are applied, one after the other.
    rounds: usize,
    /// Objects of the large Kustomization.
    large: usize,
    /// How long nothing changes, in seconds.
    quiet: u64,
    /// How often one file changes.
    pushes: usize,
    /// How many objects are edited, and as many are deleted.
    drifts: usize,
}

const FULL: Scale = Scale {
    small: 1_000,
    rounds: 5,
    large: 10_000,
    quiet: 60,
    pushes: 9,
    drifts: 100,
};
const QUICK: Scale = Scale {
    small: 1_000,
    rounds: 1,
    large: 2_000,
    quiet: 10,
    pushes: 3,
    drifts: 20,
};

pub(crate) fn run(sh: &Shell, subject: &Subject) -> anyhow::Result<()> {
    let (name, args) = (subject.name(), subject.args());
    if cfg!(debug_assertions) {
        return again_in_release(sh, name, args, subject.part());
    }
    image::compile(sh, image::Profile::Release)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let figures = runtime.block_on(async {
        match subject {
            Subject::Sync(args) => sync(if args.quick { QUICK } else { FULL }).await,
            Subject::SyncEstate(estate) => estate::measure(estate.part, estate.args.quick).await,
            Subject::SealedSecrets(args) => sealed_secrets::measure(args.quick).await,
            Subject::Reloader(args) => reloader::measure(args.quick).await,
        }
    })?;
    println!("\n{figures}");
    let path = target_dir().join("bench").join(format!("{name}.json"));
    figures.save(&path)?;
    println!("written to {}", path.display());
    match figures.missed() {
        0 => println!("every goal is met"),
        missed if args.check => bail!("{missed} goal(s) missed: see the table"),
        missed => println!("{missed} goal(s) missed"),
    }
    Ok(())
}

/// The bare client beside which the syncer is measured must be as fast as it can be: the debug build of this
/// program becomes the release build of itself. Returns only when that fails.
fn again_in_release(sh: &Shell, name: &str, args: &Args, part: Option<estate::Part>) -> anyhow::Result<()> {
    let program = image::compile_with_self(sh)?;
    let error = Command::new(program)
        .args(["bench", name])
        .args(args.check.then_some("--check"))
        .args(args.quick.then_some("--quick"))
        .args(part.map(|part| format!("--part={}", part.name())))
        .exec();
    Err(anyhow::Error::new(error).context("cannot start the release build"))
}

async fn sync(scale: Scale) -> anyhow::Result<Figures> {
    let mut figures = Figures::default();
    println!("starting a control plane, and committing the manifests");
    let stage = Stage::set_up(&scale)?;
    let client = plumbline_testkit::client(&stage.plane.kubeconfig(), "plumbline-bench").await?;
    stage.follow_repository(&client).await?;

    let syncer = syncer::start(&stage.plane)?;
    let measured = async {
        syncer::idle(&syncer, &mut figures).await?;
        cold::small(&stage, &client, &syncer, &scale, &mut figures).await
    };
    measured.await.with_context(|| syncer.last_words())?;
    drop(syncer);

    // A new process, so that its peak of memory is its own.
    let syncer = syncer::start(&stage.plane)?;
    let measured = async {
        cold::large(&stage, &client, &syncer, &scale, &mut figures).await?;
        steady::quiet(&stage, &scale, &mut figures).await?;
        steady::pushes(&stage, &client, &scale, &mut figures).await?;
        steady::drift(&client, &scale, &mut figures).await?;
        syncer::peak_after_everything(&syncer, &scale, &mut figures)
    };
    measured.await.with_context(|| syncer.last_words())?;
    Ok(figures)
}
