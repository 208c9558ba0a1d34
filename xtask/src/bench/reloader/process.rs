//! The process that is measured.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::{Child, Command},
};

use anyhow::Context as _;
use plumbline_testkit::{ControlPlane, Leash, target_dir};

/// How its user agent begins, by which its requests are found in the audit log.
pub(super) const USER_AGENT: &str = "plumbline-reloader/";

/// A running reloader; it ends with this value, or with this process.
pub(super) struct Reloader {
    process: Child,
    log: PathBuf,
    _leash: Leash,
}

impl Reloader {
    pub(super) fn start(plane: &ControlPlane, arguments: &[&str]) -> anyhow::Result<Self> {
        let leash = Leash::new()?;
        let log = plane.dir().join("logs").join("plumbline-reloader.log");
        let file = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let process = leash.spawn(
            Command::new(target_dir().join("release").join("plumbline-reloader"))
                .env("KUBECONFIG", plane.kubeconfig())
                .env("POD_NAMESPACE", "default")
                .args(["--listen-address=0", "--log-level=warning", "--flap-limit=0"])
                .args(arguments)
                .stdout(file.try_clone()?)
                .stderr(file),
        )?;
        Ok(Self {
            process,
            log,
            _leash: leash,
        })
    }

    /// The most memory it has used so far, in MiB.
    pub(super) fn peak(&self) -> anyhow::Result<f64> {
        self.memory("VmHWM:")
    }

    /// The memory it uses now, in MiB.
    pub(super) fn resident(&self) -> anyhow::Result<f64> {
        self.memory("VmRSS:")
    }

    /// What of it is its own, not the program's text, in MiB.
    pub(super) fn own(&self) -> anyhow::Result<f64> {
        self.memory("RssAnon:")
    }

    fn memory(&self, line: &str) -> anyhow::Result<f64> {
        let path = format!("/proc/{}/status", self.process.id());
        let status =
            fs::read_to_string(&path).with_context(|| format!("{path}: has plumbline-reloader ended?"))?;
        let kib = status.lines().find_map(|text| text.strip_prefix(line));
        let kib = kib.and_then(|text| text.split_whitespace().next());
        let kib: f64 = kib.with_context(|| format!("{path} has no {line}"))?.parse()?;
        Ok(kib / 1024.0)
    }

    /// The end of its log, for an error.
    pub(super) fn last_words(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines.get(lines.len().saturating_sub(15)..).unwrap_or_default();
        format!(
            "the end of plumbline-reloader's log:\n{}\n\nthe measurement failed",
            tail.join("\n")
        )
    }
}

impl Drop for Reloader {
    fn drop(&mut self) {
        // An error means that it has ended already.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}
