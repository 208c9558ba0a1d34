//! The syncer: keeps a Kubernetes cluster true to a Git repository.

pub mod api;
pub mod cluster;
pub mod git;
pub mod inventory;
pub mod manifest;
pub mod object;
pub mod order;
