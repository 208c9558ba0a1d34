//! What a node needs from the machine, and how to get it.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail, ensure};

use crate::progress::say;

/// Programs and the Debian packages that have them.
const PROGRAMS: [(&str, &str); 6] = [
    ("containerd", "containerd"),
    ("ctr", "containerd"),
    ("runc", "runc"),
    ("iptables", "iptables"),
    ("ip", "iproute2"),
    ("unshare", "util-linux"),
];
/// The package of the CNI plugins.
const PLUGINS: &str = "containernetworking-plugins";
/// Where distributions put them.
const PLUGIN_DIRECTORIES: [&str; 3] = ["/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni"];

/// Says why no node can run here, if so. `None`: everything is there.
pub fn obstacle() -> Option<String> {
    if let Some(reason) = impossible() {
        return Some(reason);
    }
    let missing = missing();
    (!missing.is_empty()).then(|| {
        format!(
            "a node needs Debian packages that are missing: apt-get install {}",
            missing.join(" ")
        )
    })
}

/// Says why no node can run here, whatever is installed.
pub fn impossible() -> Option<String> {
    if !cfg!(target_os = "linux") {
        return Some("a node needs Linux: kubelet and containerd run nowhere else".to_owned());
    }
    // Whom the kernel takes this process for.
    let root = fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
    if !root {
        return Some(
            "a node needs root: it makes namespaces, control groups and mounts (try again with sudo)"
                .to_owned(),
        );
    }
    None
}

/// Packages that are missing, each once.
fn missing() -> Vec<&'static str> {
    let absent = PROGRAMS.iter().filter(|(program, _)| find(program).is_none());
    let mut packages: Vec<_> = absent.map(|(_, package)| *package).collect();
    if plugins().is_none() {
        packages.push(PLUGINS);
    }
    packages.dedup();
    packages
}

/// Installs what is missing, where there is `apt-get`.
pub(super) fn install() -> anyhow::Result<()> {
    if let Some(reason) = impossible() {
        bail!(reason);
    }
    let packages = missing();
    if packages.is_empty() {
        return Ok(());
    }
    let list = packages.join(" ");
    ensure!(
        find("apt-get").is_some(),
        "a node needs what Debian has in the packages {list}: install it"
    );
    say(format_args!("installing {list}"));
    let apt = |arguments: &[&str]| -> anyhow::Result<()> {
        let status = Command::new("apt-get")
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive")
            // Wanted as programs, not as services.
            .env("RUNLEVEL", "1")
            .status()
            .context("cannot start apt-get")?;
        ensure!(
            status.success(),
            "apt-get could not install {list}: see its output above"
        );
        Ok(())
    };
    apt(&["update", "-q"])?;
    let mut arguments = vec!["install", "-y", "-q", "--no-install-recommends"];
    arguments.extend(&packages);
    apt(&arguments)?;
    let missing = missing();
    ensure!(
        missing.is_empty(),
        "still missing after apt-get install: {}",
        missing.join(" ")
    );
    Ok(())
}

/// The directory of the CNI plugins.
pub(super) fn plugins() -> Option<PathBuf> {
    let complete = |dir: &&Path| {
        ["ptp", "host-local", "portmap", "loopback"]
            .iter()
            .all(|name| dir.join(name).is_file())
    };
    PLUGIN_DIRECTORIES
        .iter()
        .map(Path::new)
        .find(complete)
        .map(Path::to_owned)
}

/// `sbin` is not in everybody's path.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/bin"].map(PathBuf::from))
        .map(|dir| dir.join(program))
        .find(|path| path.is_file())
}
