//! Webhooks of Git servers: a push is looked at when it happens, not at the interval (ADR 8).
//!
//! ```text
//! Receiver, its Secret ── controller ──► hooks (path → what proves a request, what it is about)
//!                                          ▲
//! Git server ── POST /hook/… ── serve ── signature ──► trigger: reconcile.fluxcd.io/requestedAt on the sources
//! ```
//!
//! Whoever reaches the port may call, so nothing here tells a caller who does not know the token whether a path
//! exists: the answer and the work are the same. Bodies are hashed as they come and kept by nobody.

mod controller;
mod hooks;
mod serve;
mod signature;
mod status;
mod trigger;

use std::{net::SocketAddr, sync::Arc};

use kube::{Api, Client};
use plumbline_common::{events::Recorder, shutdown::Stopping};
use tokio::sync::watch;

use self::{hooks::Hooks, serve::Server};
use crate::{api::Receiver, context::CrossNamespace, metrics::Metrics};

/// What serving Receivers needs.
pub struct Receivers {
    /// Where to listen.
    pub address: SocketAddr,
    /// The Kubernetes API.
    pub client: Client,
    /// The Receivers to serve.
    pub api: Api<Receiver>,
    /// Those with these labels.
    pub selector: String,
    /// Whether they may name resources of other namespaces.
    pub cross_namespace: CrossNamespace,
    /// Spread of the intervals in percent.
    pub jitter: u8,
    /// Whether this replica leads: the others answer calls, and write no status.
    pub leading: watch::Receiver<bool>,
    /// What is counted.
    pub metrics: Metrics,
}

impl Receivers {
    /// Serves until the process stops.
    pub async fn run(self, stopping: Stopping) -> anyhow::Result<()> {
        let hooks = Arc::new(Hooks::default());
        let (recorder, events) = Recorder::new(self.client.clone(), "plumbline-sync");
        let answers = Server::new(Arc::clone(&hooks), self.client.clone(), recorder, self.metrics);
        let context = controller::Context {
            client: self.client,
            hooks,
            cross_namespace: self.cross_namespace,
            leading: self.leading,
            jitter: self.jitter,
        };
        let controller = controller::run(self.api, &self.selector, Arc::new(context), stopping.clone());
        let (served, (), ()) =
            tokio::join!(serve::serve(self.address, answers, stopping), controller, events);
        served
    }
}
