//! The binary as a process of its own.

use std::{
    fs::File,
    process::{Child, Command, Stdio},
};

use plumbline_testkit::wait_for;

use crate::harness::{Bench, LIMIT};

/// How to start the binary.
pub(crate) struct Start<'a> {
    /// Instead of an administrator's.
    pub(crate) kubeconfig: Option<&'a std::path::Path>,
    pub(crate) variables: Vec<(&'a str, &'a str)>,
    /// In all namespaces: to be narrowed by arguments, because other tests run beside this one.
    pub(crate) everywhere: bool,
    pub(crate) listen: &'a str,
    pub(crate) level: &'a str,
}

impl Default for Start<'_> {
    fn default() -> Self {
        Self {
            kubeconfig: None,
            variables: vec![],
            everywhere: false,
            listen: "0",
            level: "debug",
        }
    }
}

/// A running reloader; dropping it kills it.
pub(crate) struct Reloader {
    child: Child,
    pub(crate) log: std::path::PathBuf,
}

impl Drop for Reloader {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Reloader {
    /// kill -9.
    pub(crate) fn kill(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }

    /// Asks it to end, and waits until it has.
    pub(crate) fn stop(&mut self) -> anyhow::Result<std::process::ExitStatus> {
        let kill = format!("kill -TERM {}", self.child.id());
        anyhow::ensure!(
            Command::new("sh").args(["-c", &kill]).status()?.success(),
            "{kill}"
        );
        Ok(self.child.wait()?)
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Bench {
    /// Starts the binary for this namespace, and waits until it is ready.
    pub(crate) async fn start(&self, arguments: &[&str]) -> anyhow::Result<Reloader> {
        self.ready(self.spawn(&Start::default(), arguments)?).await
    }

    /// As [`Bench::start`], with somebody else's rights.
    pub(crate) async fn start_as(
        &self,
        kubeconfig: &std::path::Path,
        arguments: &[&str],
    ) -> anyhow::Result<Reloader> {
        let start = Start {
            kubeconfig: Some(kubeconfig),
            ..Start::default()
        };
        self.ready(self.spawn(&start, arguments)?).await
    }

    /// Waits until it is ready.
    pub(crate) async fn ready(&self, reloader: Reloader) -> anyhow::Result<Reloader> {
        wait_for("the reloader to be ready", LIMIT, async || {
            let log = reloader.log();
            if log.contains("ready") { Ok(()) } else { Err(log) }
        })
        .await?;
        Ok(reloader)
    }

    /// Starts the binary, and does not wait for it.
    pub(crate) fn spawn(&self, start: &Start<'_>, arguments: &[&str]) -> anyhow::Result<Reloader> {
        let number = std::fs::read_dir(self.world.dir())?.count();
        let log = self.world.dir().join(format!("reloader-{number}.log"));
        let kubeconfig = self.world.kubeconfig();
        let mut command = Command::new(env!("CARGO_BIN_EXE_plumbline-reloader"));
        command
            .args(["--log-format=text", "--log-level", start.level])
            .args(["--listen-address", start.listen])
            .arg("--kubeconfig")
            .arg(start.kubeconfig.unwrap_or(&kubeconfig))
            .args(arguments)
            .env("POD_NAMESPACE", self.world.namespace())
            .env("POD_NAME", "reloader-0")
            .envs(start.variables.iter().copied())
            .env_remove("KUBECONFIG")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?);
        if !start.everywhere {
            command.arg(format!("--namespaces={}", self.world.namespace()));
        }
        Ok(Reloader {
            child: self.leash.spawn(&mut command)?,
            log,
        })
    }

    /// What `explain` prints.
    pub(crate) fn explain(&self, workload: &str) -> anyhow::Result<String> {
        self.explain_with(&[], workload)
    }

    /// What `explain` prints when the controller has these flags.
    pub(crate) fn explain_with(&self, flags: &[&str], workload: &str) -> anyhow::Result<String> {
        let output = Command::new(env!("CARGO_BIN_EXE_plumbline-reloader"))
            .args(flags)
            .args(["explain", workload, "--namespace", self.world.namespace()])
            .arg(format!("--kubeconfig={}", self.world.kubeconfig().display()))
            .env("POD_NAMESPACE", self.world.namespace())
            .output()?;
        anyhow::ensure!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8(output.stdout)?)
    }
}
