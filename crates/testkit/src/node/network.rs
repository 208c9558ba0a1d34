//! Addresses, and the link between the machine and the node's network namespace.
//!
//! 198.18.0.0/15 is set aside for tests of networks (RFC 2544): nobody's real network is there.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};

/// This machine as the node sees it. The API server listens here, and nowhere else.
pub(crate) const HOST: &str = "198.18.0.1";
/// The node.
pub(crate) const NODE: &str = "198.18.0.2";
/// Pods.
pub(crate) const PODS: &str = "198.18.128.0/17";
/// Services.
pub(crate) const SERVICES: &str = "198.19.0.0/16";
/// The API server's own Service.
pub(crate) const KUBERNETES: &str = "198.19.0.1";
/// The cluster's DNS.
pub(crate) const DNS: &str = "198.19.0.10";

/// This machine's end of the link. There is one node a machine, because there is one interface of this name.
const LINK: &str = "plumbline0";
/// The node's end.
const PEER: &str = "plumbline1";

/// Takes the link for the cluster in `dir`. Its other end is not moved yet.
pub(super) fn take_link(dir: &Path) -> anyhow::Result<()> {
    // A node that was killed: the kernel takes a moment to remove what its namespaces held.
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let Err(error) = ip(&["link", "add", LINK, "type", "veth", "peer", "name", PEER]) else {
            break;
        };
        let Some(owner) = owner() else {
            return Err(error);
        };
        // With its other end still here it is not in use: whoever took it died on the way.
        if interface(PEER).exists() {
            ip(&["link", "delete", LINK])?;
        } else if Instant::now() > deadline {
            bail!(
                "a node runs on this machine already, and there can be only one: stop it with \
                 `cargo xtask cluster down --dir {}`",
                owner.display()
            );
        } else {
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    let alias = dir
        .to_str()
        .context("the directory has a name that is not text")?;
    ip(&["link", "set", LINK, "alias", alias])
}

/// Moves the other end into the namespace of process `pid`, and says which addresses are behind it.
pub(super) fn connect(pid: u32) -> anyhow::Result<()> {
    ip(&["link", "set", PEER, "netns", &pid.to_string()])?;
    ip(&["address", "add", &format!("{HOST}/30"), "dev", LINK])?;
    ip(&["link", "set", LINK, "up"])?;
    for range in [PODS, SERVICES] {
        ip(&["route", "add", range, "via", NODE])?;
    }
    Ok(())
}

/// Removes the link if it is that of the cluster in `dir`; waits until it is gone.
pub(super) fn remove_link(dir: &Path) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(10);
    while owner().is_some_and(|owner| owner == dir) {
        // It may go by itself at this moment.
        drop(ip(&["link", "delete", LINK]));
        ensure!(
            Instant::now() < deadline,
            "the network interface {LINK} does not go away"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// The directory of the cluster whose node has the link, if there is one.
fn owner() -> Option<PathBuf> {
    let alias = fs::read_to_string(interface(LINK).join("ifalias")).ok()?;
    Some(PathBuf::from(alias.trim_end_matches('\n')))
}

fn interface(name: &str) -> PathBuf {
    Path::new("/sys/class/net").join(name)
}

fn ip(arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new("ip")
        .args(arguments)
        .output()
        .context("cannot start ip: install iproute2")?;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        bail!("ip {} failed: {}", arguments.join(" "), complaint.trim());
    }
    Ok(())
}
