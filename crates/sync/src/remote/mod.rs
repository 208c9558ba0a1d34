//! Clusters other than our own: `spec.kubeConfig`.
//!
//! A kubeconfig is read by name of field ([`kubeconfig`]), and leads to a [`Connection`]: the cluster and all that is known of
//! it, shared by the Kustomizations of the same kubeconfig and account, and gone with the last of them. A connection is made
//! and watched over by a task of its own, never by a worker; where the cluster does not answer, its [`gate`] makes requests
//! fail at once, so that one cluster does not hold up the others. [`reach`] is what a look at a Kustomization does with it.

mod connect;
mod connection;
mod credentials;
mod gate;
pub mod kubeconfig;
mod reach;
mod registry;
mod workload;

pub use self::{
    connection::{Connection, State},
    kubeconfig::{KubeconfigPolicy, Unverified},
    reach::{Purpose, Reached},
    registry::RemoteClusters,
};
