//! Keys that are added, relabelled, acknowledged or removed take effect at once.

use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt as _;
use kube::runtime::{WatchStreamExt as _, watcher};
use plumbline_common::backoff::Backoff;
use tokio::sync::watch;

use super::{ACTIVE, KEY_LABEL, Keystore};
use crate::crypto::Keyring;

/// Between attempts to read the keys after a change.
const BACKOFF: Backoff = Backoff {
    base: Duration::from_millis(500),
    max: Duration::from_mins(1),
};

impl Keystore {
    /// Follows the key Secrets.
    pub async fn watch(self, keyring: watch::Sender<Arc<Keyring>>) -> anyhow::Result<()> {
        let labelled = watcher::Config::default().labels(&format!("{KEY_LABEL}={ACTIVE}"));
        let mut events = std::pin::pin!(watcher(self.secrets.clone(), labelled).default_backoff());
        loop {
            match events.try_next().await {
                // The list at the start has just been read.
                Ok(Some(watcher::Event::Init | watcher::Event::InitApply(_))) => {}
                Ok(Some(_)) => self.reload(&keyring).await,
                Ok(None) => anyhow::bail!("the watch of key Secrets ended"),
                Err(error) => tracing::warn!(%error, "watching key Secrets: next attempt follows"),
            }
        }
    }

    /// Reads every key until that works: no other event may come.
    async fn reload(&self, keyring: &watch::Sender<Arc<Keyring>>) {
        for attempt in 1.. {
            match self.load().await {
                Ok(loaded) => return self.publish(keyring, loaded),
                Err(error) => {
                    let error = format!("{error:#}");
                    tracing::warn!(error, "reading key Secrets: next attempt follows");
                    tokio::time::sleep(BACKOFF.delay(attempt)).await;
                }
            }
        }
    }
}
