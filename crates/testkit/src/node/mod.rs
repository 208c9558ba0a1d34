//! A real node beside a control plane: containerd, kubelet, kube-proxy and a cluster DNS, on which pods run.
//!
//! It lives in namespaces of its own (network, mounts, processes), so that nothing of it can outlive its first process:
//! the kernel ends the containers and takes mounts, interfaces and packet filters away. What remains for
//! [`Node::stop`] and [`crate::down`] are control groups and the directory. See docs/adr/0032.

mod cgroups;
mod config;
mod needs;
pub(crate) mod network;

use std::{
    fs,
    net::IpAddr,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow, ensure};
use k8s_openapi::api::core::v1::Node as NodeObject;
use kube::Api;

pub use self::needs::{impossible, obstacle};
use crate::{
    binaries::{self, Binaries},
    control_plane::ControlPlane,
    image::Image,
    pki::{Authority, write_private},
    world::kubectl,
};

/// Name of the node.
pub(crate) const NAME: &str = "node1";
/// Under this name the process that holds its namespaces is recorded.
pub(crate) const PROCESS: &str = "node";
/// Its child, the first process in them.
pub(crate) const INIT: &str = "node-init";
/// Image that holds the namespaces of a pod.
const PAUSE: &str = "plumbline.dev/test/pause:1";
/// Image of the cluster DNS.
const COREDNS: &str = "plumbline.dev/test/coredns:1";
/// On a machine that is busy compiling.
const READY: Duration = Duration::from_mins(2);

/// A control plane with a node, that end with this value, or with the process that holds it.
#[derive(Debug)]
pub struct Node {
    plane: ControlPlane,
}

impl Node {
    /// Installs and builds whatever a node needs and is not there yet: the first time takes minutes.
    pub fn prepare() -> anyhow::Result<()> {
        needs::install()?;
        Binaries::find_with_node()?;
        binaries::node_program("pause")?;
        binaries::coredns().map(drop)
    }

    /// Starts both in `dir`, which must be new, empty or left by an ended cluster, and waits until pods can run and find
    /// Services by name. Needs root; installs Debian packages that are missing.
    pub fn start(dir: &Path) -> anyhow::Result<Self> {
        Self::prepare()?;
        let [pause, coredns] = [binaries::node_program("pause")?, binaries::coredns()?];
        let node = Self {
            plane: ControlPlane::start_with_node(dir)?,
        };
        node.await_ready()?;
        for (name, reference, program) in [("pause", PAUSE, pause), ("coredns", COREDNS, coredns)] {
            let archive = node.plane.dir().join("node").join(format!("{name}.tar"));
            let path = format!("/{name}");
            Image::new(reference)
                .program(&path, &program)?
                .entrypoint(&[&path])
                .write(&archive)?;
            node.import(&archive)?;
        }
        node.start_dns()?;
        Ok(node)
    }

    /// The control plane; programs that it starts run on this machine, not on the node.
    pub fn plane(&self) -> &ControlPlane {
        &self.plane
    }

    /// This machine, as the node and its pods see it.
    pub fn machine(&self) -> anyhow::Result<IpAddr> {
        Ok(network::HOST.parse()?)
    }

    /// Gives the node an image, from an archive.
    pub fn import(&self, archive: &Path) -> anyhow::Result<()> {
        let output = Command::new("ctr")
            .env("PATH", path())
            .arg("--address")
            .arg(self.plane.dir().join("node/containerd.sock"))
            .args(["--namespace", "k8s.io", "images", "import"])
            .arg(archive)
            .output()
            .context("cannot start ctr: install containerd")?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "cannot import {}: {}",
            archive.display(),
            complaint.trim()
        );
        Ok(())
    }

    /// Runs kubectl as an administrator.
    pub fn kubectl(&self, arguments: &[&str], input: &str) -> anyhow::Result<String> {
        kubectl(self.plane.dir(), "", arguments, input)
    }

    /// Ends everything; logs and audit log stay in the directory. Dropping it does the same.
    pub fn stop(self) {
        self.plane.stop();
    }

    /// Leaves both running on their own, until [`crate::down`] is called with their directory.
    pub fn leave_running(self) -> anyhow::Result<()> {
        self.plane.leave_running()
    }

    fn await_ready(&self) -> anyhow::Result<()> {
        self.plane.await_client("the node to be ready", async |client| {
            let nodes: Api<NodeObject> = Api::all(client);
            let status = nodes.get(NAME).await?.status.unwrap_or_default();
            let conditions = status.conditions.unwrap_or_default();
            let Some(ready) = conditions.iter().find(|one| one.type_ == "Ready") else {
                return Err(kube::Error::Service("the node has no condition Ready yet".into()));
            };
            if ready.status == "True" {
                return Ok(());
            }
            let message = ready.message.clone().unwrap_or_default();
            Err(kube::Error::Service(message.into()))
        })
    }

    fn start_dns(&self) -> anyhow::Result<()> {
        let manifest = include_str!("coredns.yaml")
            .replace("{{image}}", COREDNS)
            .replace("{{address}}", network::DNS);
        self.kubectl(&["apply", "--server-side", "-f", "-"], &manifest)?;
        let timeout = format!("--timeout={}s", READY.as_secs());
        let rollout = [
            "rollout",
            "status",
            "deployment/coredns",
            "-n",
            "kube-system",
            &timeout,
        ];
        self.kubectl(&rollout, "")
            .map(drop)
            .map_err(|error| anyhow!("{error:#}\n{}", self.pods()))
    }

    /// What pods do, for an error.
    pub fn pods(&self) -> String {
        let ask = |arguments: &[&str]| {
            self.kubectl(arguments, "")
                .unwrap_or_else(|error| format!("{error:#}\n"))
        };
        let pods = ask(&["get", "pods", "-A", "-o", "wide"]);
        let events = ask(&["get", "events", "-A", "--sort-by=.lastTimestamp"]);
        let lines: Vec<_> = events.lines().collect();
        let last = lines.get(lines.len().saturating_sub(25)..).unwrap_or_default();
        format!("{pods}\n{}\n", last.join("\n"))
    }
}

/// Starts the process that holds the namespaces. It waits there until the API server is there ([`begin`]).
pub(crate) fn enclose(plane: &ControlPlane) -> anyhow::Result<()> {
    let dir = plane.dir();
    let hidden = ["/run", "/var/run", "/var/lib", "/var/log"];
    if let Some(path) = hidden.iter().find(|path| dir.starts_with(path)) {
        anyhow::bail!(
            "a node cannot have its directory below {path}, which it has an own one of: choose another"
        );
    }
    let text = |path: &Path| {
        path.to_str()
            .map(str::to_owned)
            .context("the directory has a name that is not text")
    };
    let home = text(dir)?;
    cgroups::create()?;
    network::take_link(dir)?;
    let mut command = Command::new("unshare");
    command
        .args([
            "--net",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
        ])
        .args(["sh", "-c", include_str!("init.sh"), "plumbline-node", &home, NAME])
        .args([network::NODE, network::HOST, network::PODS])
        .env("PATH", path());
    let pid = plane.launch(PROCESS, &mut command)?;
    await_that("the node's namespaces", || {
        plane.check_alive()?;
        let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/net")).ok();
        Ok(namespace(&pid.to_string()) != namespace("self") && first_child(pid).is_some())
    })?;
    let init = first_child(pid).context("the node ended")?;
    plane.record_also(INIT, init)?;
    network::connect(pid)?;
    await_that("the node's network", || {
        plane.check_alive()?;
        Ok(dir.join("node/linked").exists())
    })
}

/// Writes what the node's programs read, before they start.
pub(crate) fn furnish(
    dir: &Path,
    authority: &Authority,
    port: u16,
    binaries: &Binaries,
) -> anyhow::Result<()> {
    let node = dir.join("node");
    for path in [node.join("cni"), dir.join("logs/pods")] {
        fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
    }
    let write = |name: &str, contents: &str| write_private(&dir.join(name), contents);
    let users = [
        ("kubelet", format!("system:node:{NAME}"), Some("system:nodes")),
        ("kube-proxy", "system:kube-proxy".to_owned(), None),
        ("scheduler", "system:kube-scheduler".to_owned(), None),
    ];
    for (file, user, group) in users {
        let identity = authority.client(&user, group)?;
        let kubeconfig = authority.kubeconfig(&identity, network::HOST, port);
        write(&format!("pki/{file}.conf"), &kubeconfig)?;
    }
    let identity = authority.client("kube-apiserver-kubelet-client", Some("system:masters"))?;
    write("pki/kubelet-client.crt", &identity.certificate)?;
    write("pki/kubelet-client.key", &identity.key)?;
    let plugins = needs::plugins().context("the CNI plugins are gone")?;
    write("node/containerd.toml", &config::containerd(&node, &plugins))?;
    write("node/cni/10-plumbline.conflist", &config::cni(&node).to_string())?;
    write("node/kubelet.yaml", &config::kubelet(dir).to_string())?;
    // Pods that take the machine's DNS (the cluster's own does) have none.
    write("node/resolv.conf", "")?;
    binaries.link_node_programs(&dir.join("bin"))
}

/// Starts the node's programs and the scheduler, now that the API server is there.
pub(crate) fn begin(plane: &ControlPlane, binaries: &Binaries) -> anyhow::Result<()> {
    let dir = plane.dir();
    let mut scheduler = Command::new(binaries.node_program("kube-scheduler")?);
    scheduler
        .arg(format!(
            "--kubeconfig={}",
            dir.join("pki/scheduler.conf").display()
        ))
        .args(["--leader-elect=false", "--secure-port=0", "--profiling=false"]);
    plane.launch("kube-scheduler", &mut scheduler)?;
    fs::write(dir.join("node/begin"), "").context("cannot begin")
}

/// Removes what the kernel does not, once the node's processes have ended.
pub(crate) fn clean_up(dir: &Path) -> anyhow::Result<()> {
    network::remove_link(dir)?;
    cgroups::remove()
}

fn first_child(pid: u32) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok()
}

fn await_that(what: &str, mut holds: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds()? {
        ensure!(Instant::now() < deadline, "waited 20 s for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Programs of the system's administrator are used.
fn path() -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    format!("{path}:/usr/sbin:/sbin:/usr/bin:/bin")
}
