//! GitRepository: asks the repository for its revision, fetches what is new, and tells who uses it.

pub mod controller;
mod credentials;
mod error;
mod fetch;
mod prepare;
mod report;
mod rewind;
mod settings;
mod store;
mod tell;
mod verify;

pub use prepare::revisit;
pub use rewind::Rewinds;
pub use store::{Artifact, SourceKey, SourceState, Sources};
