//! What can go wrong when a workload is written.

use std::time::Duration;

use crate::workload::WorkloadKey;

/// A failed write. It is tried again until it succeeds.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refused or could not be reached.
    #[error("cannot {verb} {workload}: {source}")]
    Api {
        /// What was tried.
        verb: &'static str,
        /// On what.
        workload: WorkloadKey,
        /// Why not.
        source: Box<kube::Error>,
    },
    /// No answer in time.
    #[error("cannot write {0}: no answer from the API server within {seconds} s", seconds = .1.as_secs())]
    Timeout(WorkloadKey, Duration),
    /// The object that came back has no pod template or is being deleted.
    #[error("{0} is being deleted")]
    Gone(WorkloadKey),
}

impl Error {
    /// A word for metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Api { source, .. } => match source.as_ref() {
                kube::Error::Api(status) if status.is_forbidden() => "forbidden",
                kube::Error::Api(status) if status.is_not_found() => "not_found",
                kube::Error::Api(status) if status.is_conflict() => "conflict",
                kube::Error::Api(status) if status.is_invalid() => "invalid",
                kube::Error::Api(_) => "api",
                _ => "connection",
            },
            Self::Timeout(..) => "timeout",
            Self::Gone(_) => "gone",
        }
    }

    /// Whether the last thing to do, writing the state, is not allowed (Stakater's chart grants no patch of CronJobs and Jobs).
    pub fn is_forbidden_patch(&self) -> bool {
        matches!(self, Self::Api { verb: "patch", .. }) && self.reason() == "forbidden"
    }

    /// Whether the workload is no longer the one that was meant: its next event decides anew.
    pub fn is_moot(&self) -> bool {
        matches!(self, Self::Gone(_)) || matches!(self.reason(), "not_found" | "conflict")
    }
}
