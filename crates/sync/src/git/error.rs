//! What can go wrong between a URL and a file in it, in words a status can carry.

use std::{io, path::PathBuf, time::Duration};

/// An error of the Git module. Its text says what, where and what to do, and never holds a secret:
/// URLs with user information are refused before one of these can be made.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// The URL cannot be used; only a change of the object helps.
    #[error("the URL cannot be used: {0}")]
    InvalidUrl(String),
    /// Credentials, certificates or proxy settings cannot be used; only a change of the Secret helps.
    #[error("the credentials cannot be used: {0}")]
    InvalidCredentials(String),
    /// The reference in the object cannot be used; only a change of the object helps.
    #[error("the reference cannot be used: {0}")]
    InvalidReference(String),
    /// A path cannot be used; only a change of the object helps.
    #[error("the path '{path}' cannot be used: {reason}")]
    InvalidPath {
        /// As it was given.
        path: String,
        /// Why it is refused.
        reason: &'static str,
    },
    /// An ignore rule cannot be read.
    #[error("the ignore rules of '{source_name}' cannot be used: {reason}")]
    InvalidIgnore {
        /// `spec.ignore`, or the path of a `.sourceignore`.
        source_name: String,
        /// Why it is refused.
        reason: String,
    },
    /// A submodule cannot be used; a change of the repository helps.
    #[error("the submodule '{name}' cannot be used: {reason}")]
    InvalidSubmodule {
        /// Its path, or `.gitmodules`.
        name: String,
        /// Why it is refused.
        reason: String,
    },
    /// A submodule cannot be fetched.
    #[error("the submodule '{name}' cannot be fetched: {source}")]
    Submodule {
        /// Its path.
        name: String,
        /// Why not.
        source: Box<GitError>,
    },
    /// Nobody answers, or the server says that it is broken or busy.
    #[error("'{url}' is unreachable: {reason}")]
    Unreachable {
        /// The repository.
        url: String,
        /// The network's or the server's words.
        reason: String,
    },
    /// The time is up.
    #[error("'{url}' did not answer completely within {timeout:?} (spec.timeout)")]
    Timeout {
        /// The repository.
        url: String,
        /// The limit of the whole operation.
        timeout: Duration,
    },
    /// The operation was told to stop.
    #[error("the operation on '{url}' was interrupted")]
    Interrupted {
        /// The repository.
        url: String,
    },
    /// The server wants other credentials.
    #[error("'{url}' refuses the credentials: {reason}")]
    Authentication {
        /// The repository.
        url: String,
        /// What the server said and what was sent (never the secret itself).
        reason: String,
    },
    /// The server is not who `known_hosts` or the certificate authorities say.
    #[error("the identity of '{url}' cannot be verified: {reason}")]
    HostIdentity {
        /// The repository.
        url: String,
        /// What did not match.
        reason: String,
    },
    /// The server is there, the repository is not (or the credentials may not see it).
    #[error("repository '{url}' not found: {reason}")]
    NotFound {
        /// The repository.
        url: String,
        /// The server's words.
        reason: String,
    },
    /// There is no commit at all.
    #[error("repository '{url}' is empty: push a first commit")]
    Empty {
        /// The repository.
        url: String,
    },
    /// The branch, tag, name or version does not exist.
    #[error("{wanted} not found in '{url}'{}", existing_refs(existing))]
    ReferenceNotFound {
        /// `branch 'main'`, `tag 'v1'`, …
        wanted: String,
        /// The repository.
        url: String,
        /// A few of the same kind that do exist.
        existing: Vec<String>,
    },
    /// The server answered something that is not the Git protocol, or broke off.
    #[error("'{url}' gave a broken answer: {reason}")]
    Protocol {
        /// The repository.
        url: String,
        /// What was wrong with it.
        reason: String,
    },
    /// More was sent than we take.
    #[error("'{url}' sent more than {limit} bytes of {what}: the operation was stopped")]
    AnswerTooLarge {
        /// The repository.
        url: String,
        /// `references`, `objects`.
        what: &'static str,
        /// In bytes.
        limit: u64,
    },
    /// A file is larger than the caller takes. Its content was not loaded.
    #[error("the file is too large: {size} bytes, at most {limit} are read")]
    FileTooLarge {
        /// In bytes.
        size: u64,
        /// In bytes.
        limit: u64,
    },
    /// A file is so large that it was left on the server.
    #[error("the file is too large: files over {limit} bytes are not fetched")]
    FileNotFetched {
        /// In bytes.
        limit: u64,
    },
    /// The tree holds what Git itself would refuse to check out.
    #[error("the tree of the repository is refused: {path:?} {reason}")]
    HostileTree {
        /// Path of the entry, escaped by `Debug`.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A directory was expected.
    #[error("'{path}' is {found}, not a directory")]
    NotADirectory {
        /// Path in the repository.
        path: String,
        /// `a file`, `a symbolic link`, `a submodule`.
        found: &'static str,
    },
    /// The object database lacks or garbles an object. The mirror makes itself anew at the next fetch.
    #[error("the local mirror is damaged ({0}): it is made anew at the next fetch")]
    Corrupt(String),
    /// Another process works in the same storage directory.
    #[error("'{}' is used by another process: give each its own storage path", .0.display())]
    StorageInUse(PathBuf),
    /// The local disk failed.
    #[error("cannot {action} '{}': {source}", path.display())]
    Storage {
        /// `create`, `read`, `write`, `remove`.
        action: &'static str,
        /// The local path.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// A program that is needed is not there.
    #[error("cannot start '{program}': {source} (the image must contain it)")]
    Program {
        /// `ssh` or `git`.
        program: &'static str,
        /// The system's words.
        source: io::Error,
    },
}

impl GitError {
    /// Whether trying again can help without a change of the object, its Secret or the repository.
    pub fn is_transient(&self) -> bool {
        if let Self::Submodule { source, .. } = self {
            return source.is_transient();
        }
        matches!(
            self,
            Self::Unreachable { .. }
                | Self::Timeout { .. }
                | Self::Interrupted { .. }
                | Self::Protocol { .. }
                | Self::Corrupt(_)
                | Self::Storage { .. }
        )
    }

    /// The same once more, for others who ask the same server for the same; `None` for what has another cause.
    pub(super) fn again(&self) -> Option<Self> {
        let text = |text: &String| text.clone();
        Some(match self {
            Self::Unreachable { url, reason } => Self::Unreachable {
                url: text(url),
                reason: text(reason),
            },
            Self::Timeout { url, timeout } => Self::Timeout {
                url: text(url),
                timeout: *timeout,
            },
            Self::Authentication { url, reason } => Self::Authentication {
                url: text(url),
                reason: text(reason),
            },
            Self::HostIdentity { url, reason } => Self::HostIdentity {
                url: text(url),
                reason: text(reason),
            },
            Self::NotFound { url, reason } => Self::NotFound {
                url: text(url),
                reason: text(reason),
            },
            Self::Protocol { url, reason } => Self::Protocol {
                url: text(url),
                reason: text(reason),
            },
            _ => return None,
        })
    }

    pub(super) fn storage(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Storage { action, path, source }
    }
}

fn existing_refs(existing: &[String]) -> String {
    if existing.is_empty() {
        String::new()
    } else {
        format!(" (there are: {})", existing.join(", "))
    }
}
