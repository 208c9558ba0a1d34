//! `cargo xtask cluster up|down`: a control plane that outlives the command.

use std::{path::PathBuf, time::Instant};

use plumbline_testkit::ControlPlane;

/// What to do with a cluster.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Start etcd, kube-apiserver and kube-controller-manager, and return when they are ready
    ///
    /// They run until `cluster down` is called with the same directory. The directory gets `admin.conf` (the
    /// kubeconfig), `audit.log` (one line a request), `bin` (the programs, kubectl among them) and `logs`.
    Up(Dir),
    /// Stop what `cluster up` started; logs and audit log stay
    Down(Dir),
}

/// Where the cluster lives.
#[derive(clap::Args)]
pub(crate) struct Dir {
    /// Directory of the cluster: new, empty, or left by an ended cluster
    #[arg(long)]
    dir: PathBuf,
}

pub(crate) fn run(command: &Command) -> anyhow::Result<()> {
    match command {
        Command::Up(Dir { dir }) => {
            let begin = Instant::now();
            let plane = ControlPlane::start(dir)?;
            let (kubeconfig, home) = (plane.kubeconfig(), plane.dir().to_owned());
            plane.leave_running()?;
            println!("ready after {:.1} s", begin.elapsed().as_secs_f32());
            println!("  export KUBECONFIG={}", kubeconfig.display());
            println!("  {}/bin/kubectl get namespaces", home.display());
            println!("stop it with: cargo xtask cluster down --dir {}", home.display());
        }
        Command::Down(Dir { dir }) => {
            plumbline_testkit::down(dir)?;
            println!("stopped; audit.log and logs are still in {}", dir.display());
        }
    }
    Ok(())
}
