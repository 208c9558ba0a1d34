//! `cargo xtask demo`: what Plumbline does, live, on a real control plane. Fails if any of it does not happen.

mod directory;
mod rollouts;
mod shop;
mod stage;
pub(crate) mod timeline;

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use plumbline_testkit::Leash;
use xshell::{Shell, cmd};

use self::{stage::Stage, timeline::Timeline};

/// What to show.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Leave everything running at the end, and say how to look around
    #[arg(long)]
    keep: bool,
    /// Sync the manifests in this directory instead of the built-in story
    #[arg(long, value_name = "DIR")]
    repo: Option<PathBuf>,
}

pub(crate) fn run(sh: &Shell, args: &Args) -> anyhow::Result<()> {
    // The shell is at the workspace's root; the argument is relative to where the command was called.
    let manifests = args.repo.as_deref().map(std::fs::canonicalize).transpose();
    let manifests = manifests.with_context(|| format!("cannot find {:?}", args.repo))?;
    if let Some(dir) = manifests.as_deref().filter(|dir| !dir.is_dir()) {
        bail!("{} is not a directory", dir.display());
    }
    let mut timeline = Timeline::start();
    timeline.note("building the controllers and kubeseal");
    let packages = plumbline_together::PACKAGES.map(|package| format!("--package={package}"));
    let build = cmd!(sh, "cargo build {packages...} --bins");
    let status = Leash::new()?.run(&mut build.quiet().into())?;
    if !status.success() {
        bail!("the controllers do not build: see above");
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let stage = Stage::set_up(&mut timeline).await?;
        let told = match &manifests {
            Some(dir) => directory::tell(&stage, &mut timeline, dir).await,
            None => shop::tell(&stage, &mut timeline).await,
        };
        let told = told.map_err(|error| stage.explain(error));
        if args.keep {
            stage.leave_running()?;
        }
        told
    })?;
    timeline.note("everything happened as it should");
    Ok(())
}
