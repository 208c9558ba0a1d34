//! The controller on a real API server: one test per promise of its contract.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test")]
#![allow(unreachable_pub, reason = "modules of one test binary")]

mod harness;
mod http;
mod interop;
mod keys;
mod lifecycle;
mod ownership;
mod rbac;
