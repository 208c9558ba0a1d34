//! Git: one bare mirror a repository, shallow and incremental, read without a checkout.
//!
//! The only part of the crate that knows gitoxide. All calls block (and are bounded by the remote's timeout): call
//! them through `tokio::task::spawn_blocking`.
//!
//! ```text
//! RemoteUrl ─┐
//! Credentials┴ Remote ── Mirrors::open ── Mirror ── resolve(Reference) ── Resolved ── fetch ── snapshot ── Snapshot
//! ```

mod commit;
mod constraint;
mod error;
mod fetch;
mod generation;
mod history;
mod ignore;
mod listed;
mod listing;
mod mirror;
mod path;
mod policy;
mod reference;
mod remote;
mod revision;
mod signed;
mod snapshot;
mod submodules;
mod transport;

pub use self::{
    commit::CommitInfo,
    constraint::Constraint,
    error::GitError,
    history::History,
    ignore::IgnoreRules,
    listed::Polled,
    listing::{FileEntry, FileKind, Listing, Problem, Skipped},
    mirror::{Mirror, Mirrors},
    path::RepoPath,
    policy::{HostPattern, UrlPolicy, admit_address},
    reference::{Reference, ReferenceSpec, Resolved},
    remote::{Credentials, DEFAULT_TIMEOUT, FileUrls, Proxy, Remote, RemoteUrl, Scheme, Secret, Tls},
    revision::{BlobId, CommitId, Revision, TagId, TreeId},
    signed::{Signed, Tag},
    snapshot::{Part, Snapshot},
    submodules::Submodule,
};

/// Removes what processes that were killed left in the directory of temporary files: the private keys of ssh. What a process
/// that lives still needs stays.
pub fn sweep() {
    transport::sweep();
}
