//! What a control plane keeps in its directory, and which processes belong to it.

use std::{
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use nix::{
    errno::Errno,
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::{Deserialize, Serialize};

use crate::{
    binaries::Binaries,
    components::{AUDIT_POLICY, Reach},
    control_plane::ControlPlane,
    node, pki,
};

/// Everything a control plane writes. `down` leaves what is worth reading afterwards.
const OURS: [&str; 9] = [
    ControlPlane::WORK,
    "etcd",
    "pki",
    "bin",
    "admin.conf",
    "pids.json",
    "logs",
    "audit.log",
    "node",
];
const KEPT: [&str; 2] = ["logs", "audit.log"];
/// After this a process that was asked to end is killed.
const GRACE: Duration = Duration::from_secs(5);

/// A process of a cluster. The start time tells it from a later process with the same id.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct Process {
    pub(crate) name: String,
    pub(crate) pid: i32,
    pub(crate) started: String,
}

impl Process {
    pub(crate) fn new(name: &str, pid: u32) -> anyhow::Result<Self> {
        let pid = i32::try_from(pid).context("process ids fit 31 bits")?;
        let started = started(pid).with_context(|| format!("{name} ended at once"))?;
        let name = name.to_owned();
        Ok(Self { name, pid, started })
    }

    pub(crate) fn alive(&self) -> bool {
        started(self.pid).as_ref() == Some(&self.started)
    }
}

/// When the process started, in whatever unit the system counts; `None` if it has ended.
fn started(pid: i32) -> Option<String> {
    let stat = match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat,
        Err(_) if Path::new("/proc/self/stat").exists() => return None,
        Err(_) => {
            let output = Command::new("ps")
                .args(["-o", "lstart=", "-p", &pid.to_string()])
                .output();
            let text = String::from_utf8(output.ok()?.stdout).ok()?;
            return Some(text.trim().to_owned()).filter(|text| !text.is_empty());
        }
    };
    // proc(5): the name is in parentheses and may contain anything; the state follows, the start time is
    // the twentieth field from there.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    fields
        .nth(18)
        .filter(|_| state != "Z" && state != "X")
        .map(str::to_owned)
}

/// Fails when `dir` runs a cluster, or has files that are not a cluster's. Removes what an ended one left.
pub(crate) fn claim(dir: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    if let Some(running) = recorded(dir)?.iter().find(|process| process.alive()) {
        bail!(
            "{} already runs a cluster ({} is process {}): stop it with `cargo xtask cluster down --dir {}`, \
             or choose another directory",
            dir.display(),
            running.name,
            running.pid,
            dir.display()
        );
    }
    let entries = fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    for entry in entries {
        let name = entry
            .with_context(|| format!("cannot read {}", dir.display()))?
            .file_name();
        if !OURS.iter().any(|ours| name.to_str() == Some(ours)) {
            bail!(
                "{} is not empty and not a cluster's ({} is in it): choose an empty or a new directory",
                dir.display(),
                name.display()
            );
        }
    }
    for name in OURS {
        remove(&dir.join(name))?;
    }
    Ok(())
}

/// Writes certificates, kubeconfigs, the audit policy and links to the programs.
pub(crate) fn furnish(dir: &Path, binaries: &Binaries, port: u16, reach: Reach) -> anyhow::Result<()> {
    for name in ["etcd", "pki", "bin", "logs"] {
        let path = dir.join(name);
        fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
    }
    let authority = pki::Authority::new()?;
    let server = authority.server(&[reach.address(), reach.services().1])?;
    let admin = authority.client("plumbline-test-admin", Some("system:masters"))?;
    let manager = authority.client("system:kube-controller-manager", None)?;
    let write = |name: &str, contents: &str| pki::write_private(&dir.join(name), contents);
    write("pki/ca.crt", authority.pem())?;
    write("pki/apiserver.crt", &server.certificate)?;
    write("pki/apiserver.key", &server.key)?;
    let (private, public) = pki::token_keys()?;
    write("pki/tokens.key", &private)?;
    write("pki/tokens.pub", &public)?;
    write("pki/audit-policy.yaml", AUDIT_POLICY)?;
    write(
        "pki/controller-manager.conf",
        &authority.kubeconfig(&manager, reach.address(), port),
    )?;
    write("admin.conf", &authority.kubeconfig(&admin, reach.address(), port))?;
    for (name, program) in binaries.named() {
        let link = dir.join("bin").join(name);
        remove(&link)?;
        symlink(program, &link).with_context(|| format!("cannot link {}", link.display()))?;
    }
    match reach {
        Reach::Loopback => Ok(()),
        Reach::Node => node::furnish(dir, &authority, port, binaries),
    }
}

/// Remembers the processes, so that another process can end them.
pub(crate) fn record(dir: &Path, processes: &[Process]) -> anyhow::Result<()> {
    let json = serde_json::to_string_pretty(processes).context("cannot write pids.json")?;
    let (fresh, path) = (dir.join("pids.json.new"), dir.join("pids.json"));
    fs::write(&fresh, json)
        .and_then(|()| fs::rename(&fresh, &path))
        .with_context(|| format!("cannot write {}", path.display()))
}

fn recorded(dir: &Path) -> anyhow::Result<Vec<Process>> {
    let path = dir.join("pids.json");
    match fs::read_to_string(&path) {
        Ok(json) => serde_json::from_str(&json)
            .with_context(|| format!("{} is not what `cluster up` writes", path.display())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(vec![]),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Ends the cluster that `cluster up` left running in `dir`, and removes all but its logs and its audit log.
/// Ending one that has already ended is fine.
pub fn down(dir: &Path) -> anyhow::Result<()> {
    if !dir.join("pids.json").exists() {
        bail!("no cluster runs in {}: there is no pids.json", dir.display());
    }
    let dir = &fs::canonicalize(dir).with_context(|| format!("cannot find {}", dir.display()))?;
    // The API server's clients first, its store last.
    let processes = recorded(dir)?;
    for process in processes.iter().rev() {
        end(process)?;
    }
    if processes.iter().any(|process| process.name == node::PROCESS) {
        node::clean_up(dir)?;
    }
    for name in OURS.iter().filter(|name| !KEPT.contains(name)) {
        remove(&dir.join(name))?;
    }
    Ok(())
}

fn end(process: &Process) -> anyhow::Result<()> {
    let started = Instant::now();
    let mut signal = Signal::SIGTERM;
    while process.alive() {
        match kill(Pid::from_raw(process.pid), signal) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("cannot end {} (process {})", process.name, process.pid));
            }
        }
        if started.elapsed() > GRACE {
            signal = Signal::SIGKILL;
        }
        if started.elapsed() > 2 * GRACE {
            bail!(
                "{} (process {}) does not end, even when killed",
                process.name,
                process.pid
            );
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn remove(path: &PathBuf) -> anyhow::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(_) => Ok(()),
    };
    removed.with_context(|| format!("cannot remove {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_alive_until_it_is_reaped_or_a_zombie() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let process = Process::new("sleep", child.id()).unwrap();
        assert!(process.alive());
        let other = Process {
            started: "0".into(),
            ..process.clone()
        };
        assert!(!other.alive(), "another process with the same id");
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!process.alive());
    }

    #[test]
    fn a_directory_with_other_files_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("thesis.tex"), "").unwrap();
        let error = claim(dir.path()).unwrap_err().to_string();
        assert!(error.contains("thesis.tex"), "{error}");
        assert!(dir.path().join("thesis.tex").exists());
    }

    #[test]
    fn what_an_ended_cluster_left_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("audit.log"), "old").unwrap();
        claim(dir.path()).unwrap();
        assert!(!dir.path().join("audit.log").exists());
        assert!(down(dir.path()).is_err(), "nothing to stop");
    }
}
