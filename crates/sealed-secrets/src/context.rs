//! What every reconciliation works with.

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kube::Client;
use plumbline_common::events::Recorder;
use tokio::sync::watch;

use crate::api::{Condition, SealedSecret, SealedSecretStatus};
use crate::config::Config;
use crate::crypto::Keyring;
use crate::metrics::Metrics;
use crate::observe::{Index, Key};

/// Shared by the loop and its workers.
pub struct Context {
    /// The API server.
    pub client: Client,
    /// The flags.
    pub config: Arc<Config>,
    /// The namespace of the keys.
    pub key_namespace: String,
    /// The keys.
    pub keyring: watch::Receiver<Arc<Keyring>>,
    /// What is counted.
    pub metrics: Metrics,
    /// Events.
    pub recorder: Recorder,
    /// What is known of the cluster.
    pub index: Mutex<Index>,
    /// What was found and is not in the status: not yet, not wanted there (`--update-status=false`), or not kept by the
    /// CRD of the original, which has no place for a record.
    pub memory: Mutex<HashMap<Key, SealedSecretStatus>>,
    /// Whether the CRD drops records from the status.
    pub drops_records: AtomicBool,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Context {
    /// The object with what memory has and its status lacks.
    pub(crate) fn with_memory(&self, key: &Key, sealed: Arc<SealedSecret>) -> Arc<SealedSecret> {
        let memory = lock(&self.memory);
        let Some(known) = memory.get(key) else {
            return sealed;
        };
        let recorded = sealed
            .status
            .as_ref()
            .is_some_and(|status| status.unsealed.is_some());
        if !self.config.update_status {
            let mut with = (*sealed).clone();
            with.status = Some(known.clone());
            Arc::new(with)
        } else if !recorded && known.unsealed.is_some() {
            let mut with = (*sealed).clone();
            with.status
                .get_or_insert_default()
                .unsealed
                .clone_from(&known.unsealed);
            Arc::new(with)
        } else {
            sealed
        }
    }

    /// The condition that was told last: an Event tells of changes.
    pub(crate) fn told(&self, key: &Key, sealed: &SealedSecret) -> Option<Condition> {
        let memory = lock(&self.memory);
        let known = memory.get(key).or(sealed.status.as_ref())?;
        known.conditions.first().cloned()
    }
}
