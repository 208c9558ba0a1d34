//! The control groups of a node's pods: below one group of their own, in every hierarchy there is.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::Context as _;

/// The group, as kubelet's `cgroupRoot` has it.
pub(super) const ROOT: &str = "/plumbline-node";

/// Where groups are made: one hierarchy (version 2), or one a controller (version 1).
fn hierarchies() -> anyhow::Result<Vec<PathBuf>> {
    let mount = Path::new("/sys/fs/cgroup");
    if mount.join("cgroup.controllers").exists() {
        return Ok(vec![mount.to_owned()]);
    }
    let mut found = vec![];
    for entry in fs::read_dir(mount).context("no control groups at /sys/fs/cgroup")? {
        let path = entry?.path();
        // Some are links to others, as `cpu` to `cpu,cpuacct`.
        if path.join("cgroup.procs").exists() && !path.is_symlink() {
            found.push(path);
        }
    }
    Ok(found)
}

fn group(hierarchy: &Path) -> PathBuf {
    hierarchy.join(ROOT.trim_start_matches('/'))
}

/// Makes the group, empty.
pub(super) fn create() -> anyhow::Result<()> {
    remove()?;
    for hierarchy in hierarchies()? {
        let path = group(&hierarchy);
        fs::create_dir(&path).with_context(|| format!("cannot make the control group {}", path.display()))?;
    }
    Ok(())
}

/// Removes the group with all groups below, whose processes have ended.
pub(super) fn remove() -> anyhow::Result<()> {
    for path in hierarchies()?.iter().map(|hierarchy| group(hierarchy)) {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            match remove_tree(&path) {
                Ok(()) => break,
                // The last process leaves its group a moment after it ended.
                Err(_) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(50)),
                Err(error) => {
                    return Err(error)
                        .with_context(|| format!("cannot remove the control group {}", path.display()));
                }
            }
        }
    }
    Ok(())
}

/// The files of a group go with its directory.
fn remove_tree(path: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(path)
}
