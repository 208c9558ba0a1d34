//! Development only: a real Kubernetes control plane (and Git servers) for tests.
//!
//! | module | what |
//! |---|---|
//! | `binaries` | finds etcd, kube-apiserver, kube-controller-manager and kubectl, or builds them from `tests/cluster` |
//! | `go` | builds programs from the Go modules of `tests/`, once |
//! | `node` | a real node: containerd and kubelet in namespaces of their own |
//! | `image` | container images without a container engine |
//! | `kwok` | a node that is not there, on which pods run all the same |
//! | `control_plane` | starts them in a directory, stops and restarts the API server |
//! | `directory` | what is in that directory; ends a cluster that was left running |
//! | `world` | a namespace per test on a shared control plane |
//! | `admission` | an admission webhook, over TLS, that says what a test wants |
//! | `audit` | counts requests in the API server's audit log |
//! | `leash` | child processes that cannot outlive their owner |
//! | `git` | Git repositories, `git http-backend` behind HTTP(S), `sshd` |
//! | `wait` | bounded waiting with a useful error |
//!
//! Nothing here skips: without a control plane a test fails and says what to install.

mod admission;
mod audit;
mod binaries;
mod components;
mod control_plane;
mod directory;
mod flux;
pub mod git;
mod go;
mod image;
mod kwok;
mod leash;
mod node;
mod paths;
mod pipe;
mod pki;
mod progress;
mod wait;
mod world;

pub use crate::{
    admission::{AdmissionServer, Verdict},
    audit::{AuditLog, Request, Requests},
    binaries::{Binaries, Tool, module as cluster_module, node_program},
    control_plane::ControlPlane,
    directory::down,
    flux::Flux,
    go::{find_go, go_run},
    image::{Image, Sizes},
    kwok::FakeNode,
    leash::Leash,
    node::{Node, impossible as node_impossible, obstacle as node_obstacle},
    paths::{target as target_dir, workspace as workspace_dir},
    pipe::{answer, piped},
    wait::wait_for,
    world::{BUILT_VARIABLE, CLUSTER_VARIABLE, World, client, kubectl},
};
