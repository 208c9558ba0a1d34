//! `cargo xtask cluster up|down`: a control plane that outlives the command.

use std::{path::PathBuf, time::Instant};

use plumbline_testkit::{ControlPlane, Node};

/// What to do with a cluster.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Start etcd, kube-apiserver and kube-controller-manager (and a node), and return when they are ready
    ///
    /// They run until `cluster down` is called with the same directory. The directory gets `admin.conf` (the
    /// kubeconfig), `audit.log` (one line a request), `bin` (the programs, kubectl among them) and `logs`.
    Up(Up),
    /// Stop what `cluster up` started; logs and audit log stay
    Down(Dir),
}

/// What to start.
#[derive(clap::Args)]
pub(crate) struct Up {
    #[command(flatten)]
    place: Dir,
    /// With a node on which pods run: containerd, kubelet, kube-proxy and a cluster DNS in namespaces of their own
    ///
    /// Needs root on Linux, and installs Debian packages that are missing (containerd, runc, CNI plugins, iptables).
    /// Pods and Services can be reached from this machine. There can be one node at a time.
    #[arg(long)]
    node: bool,
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
        Command::Up(Up { place, node }) => {
            let begin = Instant::now();
            let home = if *node {
                let node = Node::start(&place.dir)?;
                let home = node.plane().dir().to_owned();
                node.leave_running()?;
                home
            } else {
                let plane = ControlPlane::start(&place.dir)?;
                let home = plane.dir().to_owned();
                plane.leave_running()?;
                home
            };
            let kubeconfig = home.join("admin.conf");
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
