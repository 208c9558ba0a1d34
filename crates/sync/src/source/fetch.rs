//! One look at a repository: from a GitRepository to a fetched revision.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use plumbline_common::duration;

use super::{Artifact, credentials};
use crate::{
    api::GitRepositorySpec,
    git::{FileUrls, GitError, IgnoreRules, Mirrors, Reference, ReferenceSpec, Remote, RemoteUrl, Resolved},
};

/// Why there is no new artifact.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    /// Git, its server or its settings.
    #[error(transparent)]
    Git(#[from] GitError),
    /// A Secret that is named does not exist.
    #[error("the Secret {0:?} of {1} does not exist: create it in the namespace of the GitRepository")]
    SecretMissing(String, &'static str),
    /// The API server did not give the Secret.
    #[error("the Secret {0:?} cannot be read: {1}")]
    SecretUnreadable(String, kube::Error),
    /// A field of the object.
    #[error("{0}")]
    Field(String),
    /// A feature that is not there yet.
    #[error("{field} is not supported yet: remove it{hint}")]
    Unsupported {
        /// The field.
        field: &'static str,
        /// What else can be done.
        hint: &'static str,
    },
}

impl FetchError {
    /// Whether only a change of the object helps.
    pub(super) fn is_stalled(&self) -> bool {
        match self {
            Self::Git(error) => matches!(
                error,
                GitError::InvalidUrl(_)
                    | GitError::InvalidReference(_)
                    | GitError::InvalidPath { .. }
                    | GitError::InvalidIgnore { .. }
            ),
            Self::Field(_) | Self::Unsupported { .. } => true,
            Self::SecretMissing(..) | Self::SecretUnreadable(..) => false,
        }
    }

    /// Flux's condition reason.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Git(GitError::InvalidUrl(_)) => "URLInvalid",
            Self::Git(
                GitError::Authentication { .. }
                | GitError::HostIdentity { .. }
                | GitError::InvalidCredentials(_),
            )
            | Self::SecretMissing(..)
            | Self::SecretUnreadable(..) => "AuthenticationFailed",
            Self::Git(GitError::Empty { .. }) => "EmptyGitRepository",
            Self::Git(GitError::InvalidIgnore { .. }) => "SourceIgnoreError",
            Self::Git(GitError::Storage { .. }) => "StatOperationFailed",
            Self::Git(_) => "GitOperationFailed",
            Self::Field(_) => "InvalidField",
            Self::Unsupported { .. } => "UnsupportedField",
        }
    }
}

/// Refuses fields that are not built yet, and durations that the CRD lets pass.
pub(super) fn refuse(spec: &GitRepositorySpec) -> Result<(), FetchError> {
    let set = [
        (
            "spec.provider",
            spec.provider.as_deref().is_some_and(|p| p != "generic"),
            " and use a Secret",
        ),
        ("spec.serviceAccountName", spec.service_account_name.is_some(), ""),
        ("spec.verify", spec.verify.is_some(), ""),
        ("spec.include", !spec.include.is_empty(), ""),
        (
            "spec.recurseSubmodules",
            spec.recurse_submodules == Some(true),
            "",
        ),
        (
            "spec.sparseCheckout",
            !spec.sparse_checkout.is_empty(),
            "; files are read on demand anyway",
        ),
    ];
    if let Some((field, _, hint)) = set.into_iter().find(|(_, is_set, _)| *is_set) {
        return Err(FetchError::Unsupported { field, hint });
    }
    match duration::parse(&spec.interval) {
        Ok(_) => Ok(()),
        Err(error) => Err(FetchError::Field(format!("spec.interval: {error}"))),
    }
}

/// The repository of a spec, with the credentials of its Secrets.
pub(super) async fn remote(
    client: &Client,
    namespace: &str,
    spec: &GitRepositorySpec,
    file_urls: FileUrls,
) -> Result<Remote, FetchError> {
    let mut remote = Remote::new(RemoteUrl::parse(&spec.url, file_urls)?);
    if let Some(timeout) = &spec.timeout {
        remote.timeout =
            duration::parse(timeout).map_err(|error| FetchError::Field(format!("spec.timeout: {error}")))?;
    }
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let read = async |name: &str, field| match secrets.get_opt(name).await {
        Ok(Some(secret)) => Ok(secret),
        Ok(None) => Err(FetchError::SecretMissing(name.to_owned(), field)),
        Err(error) => Err(FetchError::SecretUnreadable(name.to_owned(), error)),
    };
    if let Some(reference) = &spec.secret_ref {
        remote = credentials::authenticate(remote, &read(&reference.name, "spec.secretRef").await?)?;
    }
    if let Some(reference) = &spec.proxy_secret_ref {
        remote.proxy = Some(credentials::proxy(
            &read(&reference.name, "spec.proxySecretRef").await?,
        )?);
    }
    Ok(remote)
}

/// Blocking: asks for the revision and fetches it unless it is `known` already.
pub(super) fn fetch(
    mirrors: &Mirrors,
    remote: Remote,
    spec: &GitRepositorySpec,
    known: Option<Arc<Artifact>>,
) -> Result<Arc<Artifact>, FetchError> {
    let reference = reference(spec)?;
    let ignore = IgnoreRules::new(spec.ignore.as_deref())?;
    let mirror = mirrors.open(remote)?;
    let resolved = mirror.resolve(&reference)?;
    let revision = resolved.revision.to_string();
    if let Some(known) = known
        && known.revision == revision
        && known.ignore_text == spec.ignore
        && mirror.contains(resolved.commit)
    {
        return Ok(known);
    }
    mirror.fetch(&resolved)?;
    let snapshot = mirror.snapshot(resolved.commit)?;
    Ok(Arc::new(Artifact {
        revision,
        snapshot,
        ignore,
        ignore_text: spec.ignore.clone(),
    }))
}

/// Blocking: the revision that the status names, if the mirror still has it: what was applied before a restart goes on
/// being applied while the repository is out of reach.
pub(super) fn recall(
    mirrors: &Mirrors,
    remote: Remote,
    spec: &GitRepositorySpec,
    revision: &str,
) -> Result<Option<Arc<Artifact>>, FetchError> {
    let ignore = IgnoreRules::new(spec.ignore.as_deref())?;
    let revision: crate::git::Revision = revision.parse()?;
    let mirror = mirrors.open(remote)?;
    let resolved = Resolved {
        commit: revision.commit(),
        revision,
    };
    if !mirror.contains(resolved.commit) {
        return Ok(None);
    }
    let snapshot = mirror.snapshot(resolved.commit)?;
    let revision = resolved.revision.to_string();
    Ok(Some(Arc::new(Artifact {
        revision,
        snapshot,
        ignore,
        ignore_text: spec.ignore.clone(),
    })))
}

fn reference(spec: &GitRepositorySpec) -> Result<Reference, FetchError> {
    let Some(reference) = &spec.reference else {
        return Ok(Reference::from_spec(ReferenceSpec::default())?);
    };
    Ok(Reference::from_spec(ReferenceSpec {
        branch: reference.branch.as_deref(),
        tag: reference.tag.as_deref(),
        semver: reference.semver.as_deref(),
        name: reference.name.as_deref(),
        commit: reference.commit.as_deref(),
    })?)
}
