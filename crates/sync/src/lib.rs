//! The syncer: keeps a Kubernetes cluster true to a Git repository.

pub mod api;
pub mod git;
