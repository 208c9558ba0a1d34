//! Rolls workloads when the ConfigMaps and Secrets they use change. A drop-in for Stakater's Reloader.
//!
//! Data flows one way: `observe` (watches, hashed and dropped) → [`decide`] (pure) → `act` (one server-side apply) →
//! `report` (events, metrics, alerts). The pure modules take the clock as an argument and know no client.

pub mod annotations;
pub mod decide;
pub mod digest;
pub mod go;
pub mod keys;
pub mod kinds;
pub mod owned;
pub mod patch;
pub mod queue;
pub mod references;
pub mod source;
pub mod stakater;
pub mod state;
pub mod workload;
