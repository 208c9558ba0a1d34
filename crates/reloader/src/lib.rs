//! Rolls workloads when the ConfigMaps and Secrets they use change. A drop-in for Stakater's Reloader.
//!
//! Data flows one way: `observe` (watches, hashed and dropped) → [`decide`] (pure) → `act` (one server-side apply) →
//! `report` (events, metrics, alerts). The pure modules take the clock as an argument and know no client.

pub mod act;
pub mod alert;
pub mod annotations;
pub mod argo;
pub mod args;
pub mod batch;
mod by_name;
pub mod config;
pub mod content;
pub mod controller;
mod csi;
pub mod decide;
pub mod digest;
pub mod error;
mod evict;
pub mod explain;
pub mod gate;
pub mod go;
mod http;
pub mod index;
pub mod keys;
pub mod keystore;
pub mod kinds;
mod meta_info;
pub mod metrics;
mod namespaces;
pub mod notify;
mod observe;
pub mod options;
pub mod owned;
pub mod patch;
pub mod pause;
pub mod post;
pub mod queue;
pub mod references;
pub mod report;
pub mod rerun;
pub mod revert;
pub mod run;
pub mod selector;
pub mod source;
pub mod stakater;
pub mod state;
mod step;
pub mod window;
pub mod workload;
