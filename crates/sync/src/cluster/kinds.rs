//! Which kinds the API server serves, asked only when it may have changed.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use kube::{
    Client,
    discovery::{ApiResource, Discovery, Scope},
};
use tokio::sync::Mutex;

use crate::object::Gvk;

/// Bound on one question.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A kind that the API server serves.
#[derive(Clone, Debug, PartialEq)]
pub struct Kind {
    /// How to address it.
    pub resource: ApiResource,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
}

/// The API server's kinds, cached.
pub struct Kinds {
    client: Client,
    known: RwLock<Option<Arc<Discovery>>>,
    refresh: Mutex<u64>,
}

impl Kinds {
    /// Nothing is asked yet.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            known: RwLock::new(None),
            refresh: Mutex::new(0),
        }
    }

    /// The kind, if the API server served it when it was last asked.
    pub fn find(&self, gvk: Gvk<'_>) -> Option<Kind> {
        let known = self
            .known
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()?;
        let gvk = kube::core::GroupVersionKind::gvk(gvk.group, gvk.version, gvk.kind);
        let (resource, capabilities) = known.resolve_gvk(&gvk)?;
        Some(Kind {
            resource,
            namespaced: capabilities.scope == Scope::Namespaced,
        })
    }

    /// A served version of a kind, whichever the server prefers.
    pub fn find_any_version(&self, group: &str, kind: &str) -> Option<Kind> {
        let known = self
            .known
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()?;
        let (resource, capabilities) = known.get(group)?.recommended_kind(kind)?;
        Some(Kind {
            resource,
            namespaced: capabilities.scope == Scope::Namespaced,
        })
    }

    /// How often the API server has been asked; pass it to [`Self::refresh_since`].
    pub async fn asked(&self) -> u64 {
        *self.refresh.lock().await
    }

    /// Asks the API server (two requests, aggregated discovery), unless someone else has since `asked`.
    pub async fn refresh_since(&self, asked: u64) -> Result<(), kube::Error> {
        let mut times = self.refresh.lock().await;
        if *times > asked {
            return Ok(());
        }
        let discovery = bounded(Discovery::new(self.client.clone()).run_aggregated()).await?;
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(discovery));
        *times += 1;
        Ok(())
    }

    /// Whether the API server answers that it does not serve the kind: then no object of it can exist. An error or a
    /// group that does not answer is not such an answer.
    pub async fn is_certainly_gone(&self, group: &str, kind: &str) -> Result<bool, kube::Error> {
        let groups = if group.is_empty() {
            return Ok(false);
        } else {
            bounded(self.client.list_api_groups()).await?
        };
        let Some(group) = groups.groups.into_iter().find(|g| g.name == group) else {
            return Ok(true);
        };
        for version in group.versions {
            match bounded(self.client.list_api_group_resources(&version.group_version)).await {
                Ok(list) if list.resources.iter().any(|r| r.kind == kind) => return Ok(false),
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

/// Within the time that asking may take: whoever asks may be a worker.
async fn bounded<T>(asking: impl Future<Output = Result<T, kube::Error>>) -> Result<T, kube::Error> {
    tokio::time::timeout(TIMEOUT, asking).await.unwrap_or_else(|_| {
        Err(kube::Error::Service(
            "the API server does not answer in time".into(),
        ))
    })
}
