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

/// Bound on asking, with the client's own retries of an API server that has no time.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Why nothing is known about kinds.
#[derive(Debug, thiserror::Error)]
pub enum KindsError {
    /// The API server answers with an error.
    #[error("{0}")]
    Refused(#[from] kube::Error),
    /// It does not answer, or says again and again that it will later.
    #[error("the API server did not answer within {} s", TIMEOUT.as_secs())]
    Timeout,
}

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

    /// The kind that a group serves under a plural name.
    pub fn find_plural(&self, group: &str, plural: &str) -> Option<String> {
        let known = self
            .known
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()?;
        let kinds = known.get(group)?.resources_by_stability();
        let found = kinds.into_iter().find(|(resource, _)| resource.plural == plural);
        Some(found?.0.kind)
    }

    /// How often the API server has been asked; pass it to [`Self::refresh_since`].
    pub async fn asked(&self) -> u64 {
        *self.refresh.lock().await
    }

    /// Asks the API server (two requests, aggregated discovery), unless someone else has since `asked`.
    pub async fn refresh_since(&self, asked: u64) -> Result<(), KindsError> {
        let mut times = self.refresh.lock().await;
        if *times > asked {
            return Ok(());
        }
        let discovery = Discovery::new(self.client.clone()).run_aggregated();
        let discovery = bounded(discovery).await?;
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(discovery));
        *times += 1;
        Ok(())
    }

    /// Whether the API server answers that it does not serve the kind: then no object of it can exist. An error or a
    /// group that does not answer is not such an answer.
    pub async fn is_certainly_gone(&self, group: &str, kind: &str) -> Result<bool, KindsError> {
        if group.is_empty() {
            return Ok(false);
        }
        bounded(self.look_for(group, kind)).await
    }

    async fn look_for(&self, group: &str, kind: &str) -> Result<bool, kube::Error> {
        let groups = self.client.list_api_groups().await?;
        let Some(group) = groups.groups.into_iter().find(|g| g.name == group) else {
            return Ok(true);
        };
        for version in group.versions {
            match self.client.list_api_group_resources(&version.group_version).await {
                Ok(list) if list.resources.iter().any(|r| r.kind == kind) => return Ok(false),
                Ok(_) => {}
                // It is in the list and is not there: whatever that is, it is not certain.
                Err(kube::Error::Api(status)) if status.code == 404 => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

async fn bounded<T>(asking: impl Future<Output = Result<T, kube::Error>>) -> Result<T, KindsError> {
    tokio::time::timeout(TIMEOUT, asking)
        .await
        .map_err(|_| KindsError::Timeout)?
        .map_err(KindsError::from)
}
