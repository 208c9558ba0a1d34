//! The certificate in a ConfigMap, for those who cannot reach the controller: anybody who may read it can seal.

use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client};
use plumbline_common::backoff::Backoff;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::crypto::Keyring;

/// The item that holds the certificate.
const ITEM: &str = "cert.pem";
/// Who applies it.
const MANAGER: &str = "plumbline-unsealer";
/// Between two writes, when somebody else writes the same item again and again.
const PAUSE: Duration = Duration::from_secs(1);
/// Between attempts that fail.
const BACKOFF: Backoff = Backoff {
    base: Duration::from_secs(1),
    max: Duration::from_mins(5),
};

/// Keeps `cert.pem` of the ConfigMap `name` what the key that seals says. A certificate that somebody puts in its place is one
/// that he could open things with, so the ConfigMap is watched; what else it holds is left alone.
pub async fn publish(
    client: Client,
    namespace: &str,
    name: &str,
    mut keyring: watch::Receiver<Arc<Keyring>>,
) -> anyhow::Result<()> {
    let maps: Api<ConfigMap> = Api::namespaced(client, namespace);
    let this_one = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut events = std::pin::pin!(watcher(maps.clone(), this_one).default_backoff());
    let (mut listed, mut there, mut attempt) = (false, None, 0);
    let mut wait: Option<Instant> = None;
    loop {
        let wanted = certificate(&keyring.borrow_and_update());
        if listed && wait.is_none() && wanted.is_some() && wanted != there {
            let delay = match apply(&maps, name, wanted.as_deref()).await {
                Ok(()) => {
                    tracing::info!(namespace, name, "the certificate is published");
                    (there, attempt) = (wanted, 0);
                    PAUSE
                }
                Err(error) => {
                    tracing::warn!(namespace, name, %error, "the certificate cannot be published: next attempt follows");
                    attempt += 1;
                    BACKOFF.delay(attempt)
                }
            };
            wait = Some(Instant::now() + delay);
        }
        tokio::select! {
            event = events.try_next() => match event {
                Ok(Some(watcher::Event::Init | watcher::Event::Delete(_))) => there = None,
                Ok(Some(watcher::Event::InitApply(map) | watcher::Event::Apply(map))) => {
                    there = map.data.and_then(|mut data| data.remove(ITEM));
                }
                Ok(Some(watcher::Event::InitDone)) => listed = true,
                Ok(None) => anyhow::bail!("the watch of the ConfigMap {namespace}/{name} ended"),
                Err(error) => tracing::warn!(namespace, name, %error, "watching the ConfigMap with the certificate: next attempt follows"),
            },
            changed = keyring.changed() => changed?,
            () = until(wait) => wait = None,
        }
    }
}

fn certificate(keyring: &Keyring) -> Option<String> {
    Some(keyring.sealing()?.certificate.pem.clone())
}

async fn apply(maps: &Api<ConfigMap>, name: &str, certificate: Option<&str>) -> Result<(), kube::Error> {
    let object = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {ITEM: certificate},
    });
    let parameters = PatchParams::apply(MANAGER).force();
    maps.patch(name, &parameters, &Patch::Apply(object))
        .await
        .map(drop)
}

async fn until(wait: Option<Instant>) {
    match wait {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}
