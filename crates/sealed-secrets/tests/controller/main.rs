//! The controller on a real API server: one test per promise of its contract.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test")]
#![allow(unreachable_pub, reason = "modules of one test binary")]

mod drift;
mod failures;
mod harness;
mod hostile;
mod http;
mod interop;
mod keys;
mod lifecycle;
mod ownership;
mod rbac;
mod renewal;
mod replicas;
mod slow_clients;
