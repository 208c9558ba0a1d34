//! A cluster that objects are applied to: how to reach it, and all that is known of it. There is one of our own, and one for
//! every kubeconfig that Kustomizations name.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError, atomic::AtomicU64},
    time::Duration,
};

use kube::{Client, Config};
use plumbline_common::{client, watched::Observer};
use tokio::sync::Semaphore;

use super::{
    identity::ClusterId,
    kinds::Kinds,
    live::{Live, Owner},
    watch::Watches,
};

/// A cluster, and what is known of it.
pub struct TargetCluster {
    /// Which one it is.
    pub id: ClusterId,
    /// Its API: as ourselves, or as whoever the kubeconfig and the Kustomization say.
    pub client: Client,
    /// How to reach it as somebody else; `None` where the client is that somebody already.
    pub config: Option<Config>,
    /// Who is told of the requests of clients that act as somebody else.
    pub observer: Option<Arc<dyn Observer>>,
    /// Kinds that are served.
    pub kinds: Kinds,
    /// What is known of applied objects.
    pub live: Arc<Live>,
    /// Watches on their kinds.
    pub watches: Watches,
    /// Requests in flight that apply objects.
    pub in_flight: Semaphore,
    /// Kustomizations with objects whose kind is not served.
    pub parked: Mutex<HashSet<Owner>>,
    /// How often it may have got new kinds.
    pub kinds_news: AtomicU64,
    /// Clients that act as ServiceAccounts.
    pub impersonated: Mutex<HashMap<String, Client>>,
}

/// Whether objects wait for their kind to be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waits {
    /// Some do.
    ForKinds,
    /// None does.
    ForNothing,
}

/// After this time what an earlier process left on objects is not waited to be looked at any longer: it takes memory.
const STARTING: Duration = Duration::from_mins(10);

/// Forgets what earlier processes left, when it has had its time.
pub async fn starting(live: Arc<Live>) {
    tokio::time::sleep(STARTING).await;
    live.drop_what_was_left();
}

impl TargetCluster {
    /// The client that acts as a user; as whoever the cluster is reached as where none is named.
    pub fn client_as(&self, user: Option<&str>) -> anyhow::Result<Client> {
        let (Some(user), Some(config)) = (user, &self.config) else {
            return Ok(self.client.clone());
        };
        let mut clients = self.impersonated.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(user) {
            return Ok(client.clone());
        }
        let mut config = config.clone();
        config.auth_info.impersonate = Some(user.to_owned());
        // Only the user: groups of the kubeconfig's own impersonation would be this account's rights.
        config.auth_info.impersonate_groups = None;
        let client = client::of(&config, self.observer.clone())?;
        clients.insert(user.to_owned(), client.clone());
        Ok(client)
    }

    /// Notes whether a Kustomization has objects that wait for their kind.
    pub fn park(&self, owner: &Owner, waits: Waits) {
        let mut parked = self.parked.lock().unwrap_or_else(PoisonError::into_inner);
        match waits {
            Waits::ForKinds => drop(parked.insert(owner.clone())),
            Waits::ForNothing => drop(parked.remove(owner)),
        }
    }

    /// The Kustomizations with objects that wait for their kind.
    pub fn parked(&self) -> Vec<Owner> {
        let parked = self.parked.lock().unwrap_or_else(PoisonError::into_inner);
        parked.iter().cloned().collect()
    }

    /// A Kustomization is gone from here.
    pub fn forget_owner(&self, owner: &Owner) {
        self.park(owner, Waits::ForNothing);
        self.live.forget_owner(owner);
    }
}
