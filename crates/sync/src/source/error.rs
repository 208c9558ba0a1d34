//! Why there is no new artifact, by Flux's reasons.

use crate::{cluster::requests::ReadError, git::GitError};

/// The condition type that tells whether signatures are as spec.verify demands.
pub(super) const VERIFIED: &str = "SourceVerified";
/// Reason of includes that lead back to where they start.
pub(super) const CIRCLE: &str = "IncludeCircle";

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
    SecretUnreadable(String, ReadError),
    /// A field of the object.
    #[error("{0}")]
    Field(String),
    /// A source that is to be included has nothing.
    #[error("the GitRepository {name:?} of spec.include {problem}")]
    Include {
        /// Its name.
        name: String,
        /// What is wrong with it.
        problem: &'static str,
        /// Flux's reason.
        reason: &'static str,
    },
    /// The branch takes back what was fetched before.
    #[error("{0}")]
    Rewound(Box<super::rewind::Held>),
    /// It is not signed as spec.verify demands.
    #[error("{0}")]
    Verification(String),
    /// The keys of spec.verify cannot be used.
    #[error("the Secret {0:?} of spec.verify.secretRef cannot be used: {1}")]
    Keys(String, crate::signature::KeysError),
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
            Self::Include { reason, .. } => *reason == CIRCLE,
            Self::SecretMissing(..)
            | Self::SecretUnreadable(..)
            | Self::Rewound(_)
            | Self::Verification(_)
            | Self::Keys(..) => false,
        }
    }

    /// Whether it stays so until somebody does something.
    pub(super) fn waits_for_someone(&self) -> bool {
        self.is_stalled() || matches!(self, Self::Rewound(_) | Self::Verification(_))
    }

    /// The condition that says so, beside Ready: its type, and its status.
    pub(super) const fn condition(&self) -> (&'static str, &'static str) {
        match self {
            Self::Include { .. } => ("IncludeUnavailable", "True"),
            Self::Verification(_) | Self::Keys(..) => (VERIFIED, "False"),
            _ => ("FetchFailed", "True"),
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
            Self::Include { reason, .. } => reason,
            Self::Rewound(_) => "RewindHeld",
            Self::Verification(_) | Self::Keys(..) => "VerificationError",
            Self::Field(_) => "InvalidField",
            Self::Unsupported { .. } => "UnsupportedField",
        }
    }
}
