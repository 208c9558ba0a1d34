//! The real binary against a real API server and real Git servers, one namespace a test.

mod basics;
mod bench;
mod drift;
mod one_bad;
