//! The charts with the real helm and a real API server.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test")]

mod flux;
mod install;
mod renders;
mod rights;
mod stage;
mod takeover;
mod values;
