//! Watches on single objects of other kinds that are waited for: metadata only, and only while somebody waits.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::{StreamExt as _, pin_mut};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DynamicObject, PartialObjectMeta},
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event},
    },
};
use tokio::{sync::mpsc, task::AbortHandle};

use crate::{
    cluster::{kinds::Kind, live::Owner, resource_version},
    object::ObjectId,
};

/// The object that is watched, and as whom: what one account may see is nothing that another one hears of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// The user; `None` is the controller itself.
    pub account: Option<String>,
    /// The object.
    pub id: ObjectId,
}

/// What a watch has shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sight {
    /// Nothing yet.
    #[default]
    None,
    /// There is no such object.
    Absent,
    /// There is, at this resource version.
    Present(u64),
    /// It cannot be watched: nobody is called, so it has to be asked for.
    Blind,
}

impl Sight {
    /// Whether somebody who read the object at `version` (0: it was not there) knows less than this.
    pub const fn is_news(self, version: u64) -> bool {
        match self {
            Self::None => false,
            Self::Absent => version != 0,
            Self::Present(seen) => seen > version,
            Self::Blind => true,
        }
    }
}

/// The running watches.
pub struct Gates {
    wake: mpsc::UnboundedSender<Owner>,
    watched: Arc<Mutex<HashMap<Key, Watched>>>,
}

struct Watched {
    sight: Sight,
    /// Those who wait, and the resource version at which each read the object last.
    waiters: HashMap<Owner, u64>,
    task: Option<AbortHandle>,
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Gates {
    /// Nothing is watched yet. `wake` receives the Kustomizations that have to look again.
    pub fn new(wake: mpsc::UnboundedSender<Owner>) -> Self {
        Self {
            wake,
            watched: Arc::default(),
        }
    }

    /// `owner` waits for this object and no other one. It read it at `version`; it is called when there is another one.
    /// Returns what the watch has shown so far.
    pub fn wait(&self, owner: &Owner, version: u64, key: &Key, (client, kind): (&Client, &Kind)) -> Sight {
        let mut watched = lock(&self.watched);
        leave(&mut watched, owner, Some(key));
        let entry = watched.entry(key.clone()).or_insert_with(|| Watched {
            sight: Sight::None,
            waiters: HashMap::new(),
            task: None,
        });
        entry.waiters.insert(owner.clone(), version);
        if entry.task.is_none() {
            let follow = follow(
                api(client, kind, &key.id),
                key.clone(),
                Arc::clone(&self.watched),
                self.wake.clone(),
            );
            entry.task = Some(tokio::spawn(follow).abort_handle());
        }
        entry.sight
    }

    /// `owner` waits no longer.
    pub fn leave(&self, owner: &Owner) {
        leave(&mut lock(&self.watched), owner, None);
    }
}

impl Drop for Gates {
    fn drop(&mut self) {
        lock(&self.watched).clear();
    }
}

fn lock(watched: &Mutex<HashMap<Key, Watched>>) -> MutexGuard<'_, HashMap<Key, Watched>> {
    watched.lock().unwrap_or_else(PoisonError::into_inner)
}

fn leave(watched: &mut HashMap<Key, Watched>, owner: &Owner, but: Option<&Key>) {
    watched.retain(|key, entry| {
        if but != Some(key) {
            entry.waiters.remove(owner);
        }
        but == Some(key) || !entry.waiters.is_empty()
    });
}

fn api(client: &Client, kind: &Kind, id: &ObjectId) -> Api<PartialObjectMeta<DynamicObject>> {
    if kind.namespaced {
        Api::namespaced_with(client.clone(), &id.namespace, &kind.resource)
    } else {
        Api::all_with(client.clone(), &kind.resource)
    }
}

async fn follow(
    api: Api<PartialObjectMeta<DynamicObject>>,
    key: Key,
    watched: Arc<Mutex<HashMap<Key, Watched>>>,
    wake: mpsc::UnboundedSender<Owner>,
) {
    let config = watcher::Config::default().fields(&format!("metadata.name={}", key.id.name));
    let events = watcher::watcher(api, config).default_backoff();
    pin_mut!(events);
    // What a list shows counts when it is whole.
    let mut listed = Sight::Absent;
    while let Some(event) = events.next().await {
        let sight = match event {
            Ok(Event::Init) => {
                listed = Sight::Absent;
                continue;
            }
            Ok(Event::InitApply(object)) => {
                listed = Sight::Present(resource_version(object.resource_version().as_deref()));
                continue;
            }
            Ok(Event::InitDone) => listed,
            Ok(Event::Apply(object)) => {
                Sight::Present(resource_version(object.resource_version().as_deref()))
            }
            Ok(Event::Delete(_)) => Sight::Absent,
            Err(error) => {
                tracing::debug!(%error, object = %key.id, "a dependency cannot be watched, and will be asked for");
                Sight::Blind
            }
        };
        let mut all = lock(&watched);
        let Some(entry) = all.get_mut(&key) else { return };
        let was_blind = entry.sight == Sight::Blind;
        entry.sight = sight;
        if sight == Sight::Blind && was_blind {
            continue;
        }
        for (owner, version) in &entry.waiters {
            if sight.is_news(*version) {
                // `Err`: the process is stopping.
                drop(wake.send(owner.clone()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_newer_than_what_was_read_is_news() {
        for (sight, version, expected) in [
            (Sight::None, 0, false),
            (Sight::Absent, 0, false),
            (Sight::Absent, 7, true),
            (Sight::Present(7), 0, true),
            (Sight::Present(7), 7, false),
            (Sight::Present(8), 7, true),
            // The watch is behind.
            (Sight::Present(6), 7, false),
            (Sight::Blind, 7, true),
        ] {
            assert_eq!(sight.is_news(version), expected, "{sight:?} {version}");
        }
    }
}
