//! The test cluster itself, tested on real processes.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod control_plane;
mod leash;
mod world;
