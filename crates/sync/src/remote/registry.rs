//! The connections to remote clusters that are in use.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use kube::Client;
use plumbline_common::watched::Observer;
use sha2::{Digest as _, Sha256};
use tokio::sync::{Mutex, mpsc};

use super::{
    connect,
    connection::{Connection, HomeUid, Parts},
    credentials::Tokens,
    gate::Gate,
    kubeconfig::{self, KubeconfigPolicy, Refusal},
};
use crate::cluster::{live::Owner, watch::Scope};

/// The connections, by what they are made of: the kubeconfig, and the account that everything is done as.
pub struct RemoteClusters {
    policy: KubeconfigPolicy,
    concurrency: usize,
    home: Client,
    home_uid: HomeUid,
    observer: Option<Arc<dyn Observer>>,
    wake: mpsc::UnboundedSender<Owner>,
    open: Mutex<HashMap<[u8; 32], Weak<Connection>>>,
    /// Of accounts that other clusters trust.
    pub(super) tokens: Tokens,
}

impl RemoteClusters {
    /// None is open yet. `concurrency` bounds the requests in flight of each.
    pub fn new(
        policy: KubeconfigPolicy,
        concurrency: usize,
        home: Client,
        observer: Option<Arc<dyn Observer>>,
        wake: mpsc::UnboundedSender<Owner>,
    ) -> Self {
        Self {
            policy,
            concurrency,
            home,
            home_uid: HomeUid::default(),
            observer,
            wake,
            open: Mutex::default(),
            tokens: Tokens::default(),
        }
    }

    /// The connection of a kubeconfig, as a user of the cluster that it leads to. No request is made.
    pub(super) async fn get(
        &self,
        kubeconfig: &[u8],
        user: Option<&str>,
    ) -> Result<Arc<Connection>, Refusal> {
        let mut digest = Sha256::new();
        digest.update(user.unwrap_or_default());
        digest.update([0]);
        digest.update(kubeconfig);
        let key: [u8; 32] = digest.finalize().into();
        let mut open = self.open.lock().await;
        open.retain(|_, connection| connection.strong_count() > 0);
        if let Some(connection) = open.get(&key).and_then(Weak::upgrade)
            && !connection.is_replaced()
        {
            return Ok(connection);
        }
        let connection = Arc::new(self.connect(kubeconfig, user).await?);
        open.insert(key, Arc::downgrade(&connection));
        Ok(connection)
    }

    async fn connect(&self, kubeconfig: &[u8], user: Option<&str>) -> Result<Connection, Refusal> {
        let access = kubeconfig::read(kubeconfig, &self.policy)?;
        let unusable = |error: anyhow::Error| {
            Refusal::Invalid(format!("its certificates, keys or names cannot be used: {error}"))
        };
        let own = connect::config(&access).await.map_err(unusable)?;
        let acting = user.map_or_else(|| own.clone(), |user| connect::acting_as(own.clone(), user));
        let client = |config: &kube::Config, observer| {
            connect::client(config, access.proxy.as_ref(), observer).map_err(unusable)
        };
        let once = |mut config: kube::Config| {
            config.default_retry = false;
            config
        };
        let gate = Arc::new(Gate::new());
        let server = access.server.to_string();
        tracing::debug!(server, "connecting to a cluster");
        Ok(Connection::open(Parts {
            server: server.trim_end_matches('/').to_owned(),
            client: connect::gated(client(&acting, self.observer.clone())?, Arc::clone(&gate)),
            acting: client(&once(acting), self.observer.clone())?,
            own: client(&once(own), self.observer.clone())?,
            gate,
            scope: scope(user, access.namespace),
            concurrency: self.concurrency,
            home: self.home.clone(),
            home_uid: HomeUid::clone(&self.home_uid),
            wake: self.wake.clone(),
        }))
    }
}

/// Objects are watched everywhere, or, where the account may not, in its namespace.
fn scope(user: Option<&str>, namespace: Option<String>) -> Scope {
    let of_account = user
        .and_then(|user| user.strip_prefix("system:serviceaccount:"))
        .and_then(|rest| rest.split_once(':'))
        .map(|(namespace, _)| namespace.to_owned());
    of_account
        .or(namespace)
        .map_or(Scope::Everywhere, Scope::EverywhereOr)
}
