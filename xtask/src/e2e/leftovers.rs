//! What a node leaves on the machine: nothing, however it ended.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};

use crate::demo::timeline::Timeline;

/// Kills a node that is just coming up, as `kill -9` or the machine's memory would, and cleans up as the next user does.
pub(super) fn after_a_crash(timeline: &mut Timeline, dir: &Path) -> anyhow::Result<()> {
    let since = timeline
        .action("kill -9 of `cargo xtask cluster up --node` while containers come up; `cluster down`");
    let begun = dir.join("node/containerd.sock");
    // An earlier run may have left one.
    match fs::remove_file(&begun) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    // Not by its path: the file may have been replaced by the build just before.
    let mut up = Command::new("/proc/self/exe")
        .args(["cluster", "up", "--node", "--dir"])
        .arg(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot start `cluster up --node`")?;
    let deadline = Instant::now() + super::PATIENCE;
    while !begun.exists() {
        if let Some(status) = up.try_wait()? {
            bail!("`cluster up --node` ended ({status}) before it could be killed");
        }
        ensure!(
            Instant::now() < deadline,
            "waited {:?} for containerd",
            super::PATIENCE
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    up.kill()?;
    up.wait()?;
    // The leash needs a moment.
    let deadline = Instant::now() + Duration::from_secs(10);
    while !processes(dir)?.is_empty() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(50));
    }
    plumbline_testkit::down(dir)?;
    nothing(dir)?;
    timeline.effect(
        "no process, mount, interface, packet filter or control group is left",
        since,
    );
    Ok(())
}

/// Fails with a list of what is left of the node of `dir`.
pub(super) fn nothing(dir: &Path) -> anyhow::Result<()> {
    let dir = fs::canonicalize(dir)?;
    let mut left = processes(&dir)?;
    let mounts = fs::read_to_string("/proc/self/mounts").context("cannot read the mounts")?;
    let home = dir.display().to_string();
    left.extend(
        mounts
            .lines()
            .filter(|line| line.contains(&home) || line.contains("/run/netns/cni-"))
            .map(|line| format!("mount {line}")),
    );
    for (place, what) in [
        ("/sys/class/net", "interface"),
        ("/sys/fs/cgroup", "control group"),
    ] {
        left.extend(
            named(Path::new(place))?
                .into_iter()
                .map(|name| format!("{what} {name}")),
        );
    }
    for controller in fs::read_dir("/sys/fs/cgroup")? {
        let controller = controller?.path();
        if controller.is_dir() {
            left.extend(
                named(&controller)?
                    .into_iter()
                    .map(|name| format!("control group {name}")),
            );
        }
    }
    let rules = Command::new("iptables-save").output();
    let rules = rules.map_or_else(
        |_| String::new(),
        |output| String::from_utf8_lossy(&output.stdout).into_owned(),
    );
    left.extend(
        rules
            .lines()
            .filter(|line| line.contains("198.19."))
            .map(|line| format!("rule {line}")),
    );
    let networks = Command::new("ip").args(["route", "show"]).output();
    let networks = networks.context("cannot run `ip route show`")?;
    let networks = String::from_utf8_lossy(&networks.stdout).into_owned();
    left.extend(
        networks
            .lines()
            .filter(|line| line.contains("198.1"))
            .map(|line| format!("route {line}")),
    );
    if left.is_empty() {
        return Ok(());
    }
    bail!("a node left behind:\n  {}", left.join("\n  "))
}

/// Entries with the project's name.
fn named(place: &Path) -> anyhow::Result<Vec<String>> {
    let mut found = vec![];
    for entry in fs::read_dir(place).with_context(|| format!("cannot read {}", place.display()))? {
        let path = entry?.path();
        if path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("plumbline"))
        {
            found.push(path.display().to_string());
        }
    }
    Ok(found)
}

/// Processes, other than this one, whose command line has the directory.
fn processes(dir: &Path) -> anyhow::Result<Vec<String>> {
    let home = dir.display().to_string();
    let mut found = vec![];
    for entry in fs::read_dir("/proc").context("cannot list the processes")? {
        let path = entry?.path();
        // It may end at this moment.
        let words = fs::read(path.join("cmdline")).unwrap_or_default();
        let words = String::from_utf8_lossy(&words).replace('\0', " ");
        let own = path
            .file_name()
            .is_some_and(|name| name.to_string_lossy() == std::process::id().to_string());
        let asks = words.contains("xtask");
        if words.contains(&home) && !own && !asks {
            found.push(format!("process {} {}", path.display(), words.trim()));
        }
    }
    Ok(found)
}
