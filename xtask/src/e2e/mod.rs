//! `cargo xtask e2e`: the three charts on a real node. Pods run, values in Git change, and what should happen does.

mod accounts;
mod charts;
mod estate;
mod figures;
mod flux;
mod leftovers;
mod rights;
mod stage;
mod story;
mod teardown;
mod tenant;

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Context as _, bail};
use plumbline_testkit::{Node, Tool, node_impossible, target_dir};
use xshell::Shell;

use self::stage::Stage;
use crate::{
    demo::timeline::Timeline,
    image::{self, Profile},
};

/// How long anything may take on a machine that is busy compiling.
const PATIENCE: Duration = Duration::from_mins(3);

/// How to run it.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Directory of the cluster; target/e2e if not given. Logs and the audit log stay there
    #[arg(long)]
    dir: Option<PathBuf>,
    /// How the programs in the images are compiled: sizes and memory say something with `release` only
    #[arg(long, value_enum, default_value_t)]
    profile: Profile,
    /// Leave the cluster running at the end, also when something failed
    #[arg(long)]
    keep: bool,
}

pub(crate) fn run(sh: &Shell, args: &Args) -> anyhow::Result<()> {
    if let Some(reason) = node_impossible() {
        bail!(reason);
    }
    let mut timeline = Timeline::start();
    let dir = args.dir.clone().unwrap_or_else(|| target_dir().join("e2e"));
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    timeline.note("compiling the controllers");
    image::compile(sh, args.profile)?;
    timeline.note("writing images");
    let built = image::build(sh, args.profile, &target_dir().join("images"))?;
    for one in &built {
        Timeline::quote(&one.line());
    }
    image::goals(args.profile, &built)?;

    // What takes minutes the first time has to be there before anything is timed.
    Node::prepare()?;
    Tool::Helm.path()?;
    Tool::Flux.path()?;
    leftovers::after_a_crash(&mut timeline, &dir)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut stage = Stage::set_up(&mut timeline, &dir, args.profile, &built).await?;
        let told = async {
            story::tell(&mut stage, &mut timeline).await?;
            figures::memory(&stage, &mut timeline, args.profile).await?;
            rights::judge(&stage, &mut timeline).await?;
            teardown::tell(&stage, &mut timeline).await?;
            tenant::tell(&stage, &mut timeline).await
        };
        let told = told.await.map_err(|error| stage.explain(error));
        if args.keep {
            stage.leave_running()?;
        } else {
            stage.stop();
        }
        told
    })?;
    if !args.keep {
        leftovers::nothing(&dir)?;
    }
    timeline.note("everything happened as it should, and nothing is left running");
    Ok(())
}
