//! A program of ours as the process that is measured.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::{Child, Command},
    time::Instant,
};

use anyhow::{Context as _, ensure};
use plumbline_testkit::{ControlPlane, Leash, target_dir};

/// Clock ticks a second in `/proc/PID/stat`, on every platform of Linux.
const TICKS: f64 = 100.0;
/// Lines of a log that an error quotes, and how much of each.
const QUOTED: (usize, usize) = (15, 400);

/// A running program; it ends with this value, or with this process.
pub(crate) struct Process {
    name: &'static str,
    child: Child,
    begin: Instant,
    log: PathBuf,
    _leash: Leash,
}

impl Process {
    /// Starts `name` as `command`, with a log of its own on the control plane.
    pub(crate) fn start(
        plane: &ControlPlane,
        name: &'static str,
        command: &mut Command,
    ) -> anyhow::Result<Self> {
        let leash = Leash::new()?;
        let log = plane.dir().join("logs").join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&log);
        let file = file.with_context(|| format!("cannot write {}", log.display()))?;
        let begin = Instant::now();
        let child = leash.spawn(command.stdout(file.try_clone()?).stderr(file))?;
        Ok(Self {
            name,
            child,
            begin,
            log,
            _leash: leash,
        })
    }

    /// When it was started.
    pub(crate) fn begin(&self) -> Instant {
        self.begin
    }

    /// CPU time so far, in seconds.
    pub(crate) fn cpu(&self) -> anyhow::Result<f64> {
        let stat = self.proc("stat")?;
        // The name of the program, in parentheses, may contain anything.
        let (_, fields) = stat.rsplit_once(')').context("/proc/PID/stat is malformed")?;
        let ticks: Option<f64> = fields
            .split_whitespace()
            .skip(11)
            .take(2)
            .map(|ticks| ticks.parse::<f64>().ok())
            .sum();
        Ok(ticks.context("/proc/PID/stat is malformed")? / TICKS)
    }

    /// The most memory it has used so far, in MiB.
    pub(crate) fn peak(&self) -> anyhow::Result<f64> {
        self.memory("VmHWM:")
    }

    /// The memory it uses now, in MiB.
    pub(crate) fn resident(&self) -> anyhow::Result<f64> {
        self.memory("VmRSS:")
    }

    /// What of it is its own, not the program's text, in MiB.
    pub(crate) fn own(&self) -> anyhow::Result<f64> {
        self.memory("RssAnon:")
    }

    fn memory(&self, line: &str) -> anyhow::Result<f64> {
        let status = self.proc("status")?;
        let kib = status.lines().find_map(|text| text.strip_prefix(line));
        let kib = kib.and_then(|text| text.split_whitespace().next());
        let kib: f64 = kib
            .with_context(|| format!("/proc/PID/status has no {line}"))?
            .parse()?;
        Ok(kib / 1024.0)
    }

    fn proc(&self, file: &str) -> anyhow::Result<String> {
        let path = format!("/proc/{}/{file}", self.child.id());
        fs::read_to_string(&path).with_context(|| format!("{path}: has {} ended?", self.name))
    }

    /// Kills it.
    pub(crate) fn end(&mut self) {
        // An error means that it has ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }

    /// The end of its log, for an error.
    pub(crate) fn last_words(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines
            .get(lines.len().saturating_sub(QUOTED.0)..)
            .unwrap_or_default();
        let tail: Vec<String> = tail
            .iter()
            .map(|line| line.chars().take(QUOTED.1).collect())
            .collect();
        format!(
            "the end of {}'s log:\n{}\n\nthe measurement failed",
            self.name,
            tail.join("\n")
        )
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

/// Where one of our programs is.
pub(crate) fn program(name: &str) -> PathBuf {
    target_dir().join("release").join(name)
}

/// The CRDs that it prints.
pub(crate) fn crds(name: &str, arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new(program(name))
        .arg("crd")
        .args(arguments)
        .output()
        .with_context(|| format!("cannot run {name}"))?;
    ensure!(output.status.success(), "{name} crd failed");
    Ok(String::from_utf8(output.stdout)?)
}
