//! The syncer: keeps a Kubernetes cluster true to a Git repository.
//!
//! Data flows one way: [`observe`] → [`decide`] → [`act`] and [`prune`] → [`report`]. [`decide`] and [`report`] are pure.

pub mod act;
pub mod api;
pub mod atomic;
pub mod bodies;
pub mod build;
pub mod cel;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod context;
pub mod controller;
pub mod decide;
pub mod depends;
pub mod drift;
mod finalize;
mod force;
pub mod gather;
pub mod git;
mod hand_over;
pub mod health;
pub mod ignored;
pub mod inventory;
pub mod manifest;
pub mod metrics;
pub mod object;
pub mod observe;
pub mod order;
pub mod outcome;
pub mod planning;
pub mod prune;
pub mod receiver;
pub mod reconcile;
pub mod report;
pub mod run;
mod shards;
pub mod signature;
mod singly;
pub mod source;
pub mod status;
pub mod suspend;
mod tell;
mod variables;
pub mod vital;
pub mod wait;
pub mod wishes;
