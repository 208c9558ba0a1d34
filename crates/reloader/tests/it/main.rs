//! The real binary against a real API server, one namespace a test.

mod harness;
mod rolls;
