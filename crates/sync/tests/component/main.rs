//! The real binary against a real API server and real Git servers, one namespace a test.

mod adoption;
mod basics;
mod bench;
mod command_line;
mod crashes;
mod drift;
mod force;
mod hostile;
mod kustomize;
mod migration;
mod moves;
mod one_bad;
mod policies;
mod prune;
mod restart;
mod shards;
mod signed;
mod source_files;
mod sources;
mod substitute;
mod suspend;
mod tenancy;
mod waiting;
mod webhook;
