//! The process that is measured.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use plumbline_testkit::{ControlPlane, Leash, target_dir};

use super::{
    Scale,
    figures::{Figures, Goal},
};

/// How its user agent begins, by which its requests are found in the audit log.
pub(crate) const USER_AGENT: &str = "plumbline-sync/";

/// A running syncer; it ends with this value, or with this process.
pub(crate) struct Syncer {
    process: Child,
    log: PathBuf,
    _leash: Leash,
}

impl Syncer {
    pub(crate) fn start(plane: &ControlPlane) -> anyhow::Result<Self> {
        let leash = Leash::new()?;
        let log = plane.dir().join("logs").join("plumbline-sync.log");
        let file = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let process = leash.spawn(
            Command::new(program())
                .env("KUBECONFIG", plane.kubeconfig())
                .arg("--storage-path")
                .arg(plane.dir().join(ControlPlane::WORK).join("mirrors"))
                .args(["--allow-file-urls", "--health-addr=0", "--metrics-addr=0"])
                .stdout(file.try_clone()?)
                .stderr(file),
        )?;
        Ok(Self {
            process,
            log,
            _leash: leash,
        })
    }

    /// Kills it, and starts another one in its place.
    pub(crate) fn restart(&mut self, plane: &ControlPlane) -> anyhow::Result<()> {
        // An error means that it has ended already.
        drop(self.process.kill());
        drop(self.process.wait());
        *self = Self::start(plane)?;
        Ok(())
    }

    /// Measures its memory before it has anything to do but follow a repository.
    pub(crate) async fn idle(&self, figures: &mut Figures) -> anyhow::Result<()> {
        tokio::time::sleep(Duration::from_secs(3)).await;
        let peak = self.peak()?;
        figures.add("peak memory, idle", peak, "MiB", Some(Goal::Below(15.0)), "");
        Ok(())
    }

    /// Measures its memory at the end, against the goal for the large Kustomization.
    pub(crate) fn peak_after_everything(&self, scale: &Scale, figures: &mut Figures) -> anyhow::Result<()> {
        let what = format!("peak memory, {} objects, after all of it", scale.large);
        let now = format!("{:.1} MiB at the end", self.memory("VmRSS:")?);
        figures.add(what, self.peak()?, "MiB", Some(Goal::Below(60.0)), now);
        Ok(())
    }

    /// The most memory it has used so far, in MiB.
    pub(crate) fn peak(&self) -> anyhow::Result<f64> {
        self.memory("VmHWM:")
    }

    fn memory(&self, line: &str) -> anyhow::Result<f64> {
        let path = format!("/proc/{}/status", self.process.id());
        let status =
            fs::read_to_string(&path).with_context(|| format!("{path}: has plumbline-sync ended?"))?;
        let kib = status.lines().find_map(|text| text.strip_prefix(line));
        let kib = kib.and_then(|text| text.split_whitespace().next());
        let kib: f64 = kib.with_context(|| format!("{path} has no {line}"))?.parse()?;
        Ok(kib / 1024.0)
    }

    /// The end of its log, for an error.
    pub(crate) fn last_words(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines.get(lines.len().saturating_sub(15)..).unwrap_or_default();
        let tail: Vec<String> = tail.iter().map(|line| line.chars().take(400).collect()).collect();
        format!(
            "the end of plumbline-sync's log:\n{}\n\nthe measurement failed",
            tail.join("\n")
        )
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        // An error means that it has ended already.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// The CRDs that it prints.
pub(crate) fn crds() -> anyhow::Result<String> {
    let output = Command::new(program())
        .args(["crd", "--allow-file-urls"])
        .output()
        .context("cannot run plumbline-sync")?;
    ensure!(output.status.success(), "plumbline-sync crd failed");
    Ok(String::from_utf8(output.stdout)?)
}

fn program() -> PathBuf {
    target_dir().join(Path::new("release/plumbline-sync"))
}
