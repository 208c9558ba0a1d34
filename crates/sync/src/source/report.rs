//! Pure: the status of a GitRepository.

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use plumbline_common::conditions::{self, Wanted};

use super::fetch::FetchError;
use crate::api::{Artifact, GitRepositorySpec, GitRepositoryStatus};

/// When and what a status is about.
#[derive(Clone, Copy, Debug)]
pub(super) struct About<'a> {
    pub(super) generation: i64,
    pub(super) now: Timestamp,
    /// `reconcile.fluxcd.io/requestedAt`.
    pub(super) requested: Option<&'a str>,
}

/// The status after a successful look.
pub(super) fn succeeded(
    old: &GitRepositoryStatus,
    spec: &GitRepositorySpec,
    name: &str,
    revision: &str,
    about: About<'_>,
) -> GitRepositoryStatus {
    let mut status = base(old, about);
    let message = format!("stored artifact for revision '{revision}'");
    for type_ in ["Ready", "ArtifactInStorage"] {
        let wanted = Wanted {
            type_,
            status: "True",
            reason: "Succeeded",
            message: &message,
        };
        conditions::set(&mut status.conditions, &wanted, about.generation, about.now);
    }
    for type_ in [
        "FetchFailed",
        "Reconciling",
        "Stalled",
        "ArtifactOutdated",
        "StorageOperationFailed",
    ] {
        conditions::remove(&mut status.conditions, type_);
    }
    status.observed_ignore.clone_from(&spec.ignore);
    if status
        .artifact
        .as_ref()
        .is_none_or(|artifact| artifact.revision != revision)
    {
        let commit = revision.rsplit(':').next().unwrap_or(revision);
        status.artifact = Some(Artifact {
            path: format!("gitrepository/{name}/{commit}"),
            url: String::new(),
            revision: revision.to_owned(),
            digest: None,
            last_update_time: Time(about.now),
            size: None,
            metadata: None,
        });
    }
    status
}

/// The status after a failure; the artifact that was there stays.
pub(super) fn failed(old: &GitRepositoryStatus, error: &FetchError, about: About<'_>) -> GitRepositoryStatus {
    let mut status = base(old, about);
    let message = error.to_string();
    let mut set = |type_, value, reason| {
        let wanted = Wanted {
            type_,
            status: value,
            reason,
            message: &message,
        };
        conditions::set(&mut status.conditions, &wanted, about.generation, about.now);
    };
    set("FetchFailed", "True", error.reason());
    set("Ready", "False", error.reason());
    if error.is_stalled() {
        set("Stalled", "True", error.reason());
        conditions::remove(&mut status.conditions, "Reconciling");
    } else {
        set("Reconciling", "True", "ProgressingWithRetry");
        conditions::remove(&mut status.conditions, "Stalled");
    }
    status
}

fn base(old: &GitRepositoryStatus, about: About<'_>) -> GitRepositoryStatus {
    let mut status = old.clone();
    status.observed_generation = Some(about.generation);
    if let Some(requested) = about.requested {
        status.last_handled_reconcile_at = Some(requested.to_owned());
    }
    status
}
