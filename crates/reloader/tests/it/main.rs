//! The real binary against a real API server, one namespace a test.

mod admission;
mod adoption;
mod alerts;
mod annotations;
mod batch;
mod beyond;
mod crds;
mod explain;
mod flags;
mod harness;
mod namespaces;
mod presence;
mod process;
mod restarts;
mod rights;
mod rollouts;
mod rolls;
mod strategies;
mod trouble;
