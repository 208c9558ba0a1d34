//! What ConfigMaps hold, as a watch shows it.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use futures::{StreamExt as _, pin_mut};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client,
    runtime::watcher::{self, Event},
};
use tokio::sync::mpsc;

use super::stage::KEY;

/// How long a change may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A ConfigMap as it has just been seen; `None` when it is gone.
type Seen = (String, Option<String>, Instant);

/// Follows the ConfigMaps of a namespace.
pub(crate) struct Values {
    seen: mpsc::UnboundedReceiver<Seen>,
    latest: HashMap<String, Option<String>>,
}

impl Values {
    /// Begins to follow, and returns when all of them have been listed.
    pub(crate) async fn follow(client: &Client, namespace: &str, count: usize) -> anyhow::Result<Self> {
        let (sender, seen) = mpsc::unbounded_channel();
        let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
        tokio::spawn(async move {
            let events = watcher::watcher(api, watcher::Config::default());
            pin_mut!(events);
            while let Some(event) = events.next().await {
                let seen = match event {
                    Ok(Event::Apply(object) | Event::InitApply(object)) => (
                        object.metadata.name.unwrap_or_default(),
                        Some(
                            object
                                .data
                                .and_then(|mut data| data.remove(KEY))
                                .unwrap_or_default(),
                        ),
                        Instant::now(),
                    ),
                    Ok(Event::Delete(object)) => {
                        (object.metadata.name.unwrap_or_default(), None, Instant::now())
                    }
                    Ok(Event::Init | Event::InitDone) | Err(_) => continue,
                };
                if sender.send(seen).is_err() {
                    return;
                }
            }
        });
        let mut values = Self {
            seen,
            latest: HashMap::new(),
        };
        let deadline = Instant::now() + PATIENCE;
        while values.latest.len() < count {
            values.next(deadline).await?;
        }
        Ok(values)
    }

    /// Waits until the ConfigMap holds `value`, and says when that was seen.
    pub(crate) async fn holds(&mut self, name: &str, value: &str) -> anyhow::Result<Instant> {
        self.becomes(name, |held| held == Some(value)).await
    }

    /// Waits until the ConfigMap holds anything but `value`, or is gone.
    pub(crate) async fn leaves(&mut self, name: &str, value: &str) -> anyhow::Result<Instant> {
        self.becomes(name, |held| held != Some(value)).await
    }

    async fn becomes(
        &mut self,
        name: &str,
        wanted: impl Fn(Option<&str>) -> bool,
    ) -> anyhow::Result<Instant> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (changed, at) = self.next(deadline).await?;
            let held = self.latest.get(&changed).and_then(Option::as_deref);
            if changed == name && wanted(held) {
                return Ok(at);
            }
        }
    }

    async fn next(&mut self, deadline: Instant) -> anyhow::Result<(String, Instant)> {
        let next = tokio::time::timeout_at(deadline.into(), self.seen.recv()).await;
        let Some((name, value, at)) = next.context("an expected change was not seen in time")? else {
            bail!("the watch on ConfigMaps has ended");
        };
        self.latest.insert(name.clone(), value);
        Ok((name, at))
    }
}
