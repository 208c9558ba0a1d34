//! Starting and stopping a process: signals, and tasks whose first end ends the process.

use std::{future::Future, time::Duration};

use tokio::{signal::unix::SignalKind, sync::watch, task::JoinSet};

/// How long tasks may take to finish after a signal.
const GRACE: Duration = Duration::from_secs(10);

/// Tells tasks that the process is stopping. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Stopping(watch::Receiver<bool>);

impl Stopping {
    /// Returns when the process has been asked to stop.
    pub async fn wait(mut self) {
        // `Err`: the supervisor itself is gone, which is a stop too.
        drop(self.0.wait_for(|&stop| stop).await);
    }
}

/// Runs the parts of a process together. A part that returns while nobody asked the process to stop is a
/// failure: the process ends and Kubernetes starts a fresh one, rather than limping on without it.
#[derive(Debug)]
pub struct Supervisor {
    stop: watch::Sender<bool>,
    tasks: JoinSet<(&'static str, anyhow::Result<()>)>,
}

impl Default for Supervisor {
    fn default() -> Self {
        Self {
            stop: watch::Sender::new(false),
            tasks: JoinSet::new(),
        }
    }
}

impl Supervisor {
    /// The signal that tasks listen to.
    pub fn stopping(&self) -> Stopping {
        Stopping(self.stop.subscribe())
    }

    /// Starts a part of the process; `name` is what an error calls it.
    pub fn spawn(
        &mut self,
        name: &'static str,
        task: impl Future<Output = anyhow::Result<()>> + Send + 'static,
    ) {
        self.tasks.spawn(async move { (name, task.await) });
    }

    /// Starts a part that has nothing to finish: it is dropped as soon as the process is asked to stop.
    pub fn spawn_until_stopped(
        &mut self,
        name: &'static str,
        task: impl Future<Output = anyhow::Result<()>> + Send + 'static,
    ) {
        let stopping = self.stopping();
        self.spawn(name, async move {
            tokio::select! {
                () = stopping.wait() => Ok(()),
                ended = task => ended,
            }
        });
    }

    /// Waits for SIGTERM or SIGINT, or for the first part to end. Then stops the others.
    pub async fn run(mut self) -> anyhow::Result<()> {
        let mut terminate = tokio::signal::unix::signal(SignalKind::terminate())?;
        let mut interrupt = tokio::signal::unix::signal(SignalKind::interrupt())?;
        let outcome = tokio::select! {
            _ = terminate.recv() => Ok(()),
            _ = interrupt.recv() => Ok(()),
            Some(ended) = self.tasks.join_next() => match ended {
                Ok((name, Ok(()))) => Err(anyhow::anyhow!("{name} ended unexpectedly")),
                Ok((name, Err(error))) => Err(error.context(format!("{name} failed"))),
                Err(error) => Err(anyhow::anyhow!(error).context("a task panicked")),
            },
        };
        self.stop.send_replace(true);
        let drain = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(GRACE, drain).await.is_err() {
            tracing::warn!("some tasks did not stop within {} s", GRACE.as_secs());
        }
        outcome
    }
}

/// Ends `main`: prints an error on standard error as `error: what: why`, without a backtrace, and chooses the exit code.
pub fn exit(outcome: anyhow::Result<()>) -> std::process::ExitCode {
    use std::io::Write as _;
    match outcome {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            // `Err`: there is nobody to tell.
            drop(writeln!(std::io::stderr(), "error: {}", chain(&error)));
            std::process::ExitCode::FAILURE
        }
    }
}

/// The error and its causes; kube's errors print their causes themselves, which are then not repeated.
fn chain(error: &anyhow::Error) -> String {
    error.chain().skip(1).fold(error.to_string(), |text, cause| {
        let cause = cause.to_string();
        if text.contains(&cause) {
            text
        } else {
            format!("{text}: {cause}")
        }
    })
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn causes_are_told_once() {
        let error = anyhow!("no such file")
            .context("cannot read x: no such file")
            .context("cannot start");
        assert_eq!(chain(&error), "cannot start: cannot read x: no such file");
    }
}
