//! What is fuzzed: one module a crate, one function a target. The functions panic when a property does not hold.

pub mod sealed_secrets;
pub mod sync;
