//! The real binary against a real API server, one namespace a test.

mod adoption;
mod alerts;
mod annotations;
mod batch;
mod beyond;
mod harness;
mod restarts;
mod rights;
mod rollouts;
mod rolls;
mod trouble;
