//! Pure: the status of a GitRepository.

use k8s_openapi::jiff::Timestamp;
use plumbline_common::conditions::{self, Wanted};

use super::{
    Artifact,
    error::{FetchError, VERIFIED},
};
use crate::api::{self, GitRepositorySpec, GitRepositoryStatus};

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
    artifact: &Artifact,
    included: Vec<api::Artifact>,
    about: About<'_>,
) -> GitRepositoryStatus {
    let mut status = base(old, about);
    let message = format!("stored artifact for revision '{}'", artifact.revision);
    for type_ in ["Ready", "ArtifactInStorage"] {
        let wanted = Wanted {
            type_,
            status: "True",
            reason: "Succeeded",
            message: &message,
        };
        conditions::set(&mut status.conditions, &wanted, about.generation, about.now);
    }
    match &artifact.verified {
        Some(how) => {
            let wanted = Wanted {
                type_: VERIFIED,
                status: "True",
                reason: "Succeeded",
                message: how,
            };
            conditions::set(&mut status.conditions, &wanted, about.generation, about.now);
        }
        None => {
            conditions::remove(&mut status.conditions, VERIFIED);
        }
    }
    let verify = spec.verify.as_ref().filter(|_| artifact.verified.is_some());
    status.source_verification_mode =
        verify.map(|verify| verify.mode.clone().unwrap_or_else(|| "HEAD".to_owned()));
    for type_ in [
        "FetchFailed",
        "Reconciling",
        "Stalled",
        "ArtifactOutdated",
        "IncludeUnavailable",
        "StorageOperationFailed",
    ] {
        conditions::remove(&mut status.conditions, type_);
    }
    status.observed_ignore.clone_from(&spec.ignore);
    status.observed_recurse_submodules = spec.recurse_submodules.filter(|recurse| *recurse);
    status.observed_include.clone_from(&spec.include);
    status.observed_sparse_checkout.clone_from(&spec.sparse_checkout);
    status.included_artifacts = included;
    if status
        .artifact
        .as_ref()
        .is_none_or(|old| old.digest.as_deref() != Some(&artifact.digest))
    {
        status.artifact = Some(artifact.described.clone());
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
    let (failed, value) = error.condition();
    set(failed, value, error.reason());
    set("Ready", "False", error.reason());
    let obsolete = if error.is_stalled() {
        set("Stalled", "True", error.reason());
        "Reconciling"
    } else {
        set("Reconciling", "True", "ProgressingWithRetry");
        "Stalled"
    };
    for other in ["IncludeUnavailable", "FetchFailed"] {
        if other != failed {
            conditions::remove(&mut status.conditions, other);
        }
    }
    conditions::remove(&mut status.conditions, obsolete);
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
