//! GitRepository: asks the repository for its revision, fetches what is new, and tells who uses it.

pub mod controller;
mod credentials;
mod error;
mod fetch;
mod report;
mod settings;
mod store;
mod verify;

pub use store::{Artifact, SourceKey, SourceState, Sources};
