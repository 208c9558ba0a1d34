//! Metadata watches: one a kind that is applied, on the owner's label, and one on CRDs. They feed [`Live`] and wake the
//! Kustomizations that have to look.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures::{StreamExt as _, pin_mut};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, Client, ResourceExt as _,
    api::{DynamicObject, PartialObjectMeta},
    runtime::{
        WatchStreamExt as _,
        controller::Controller,
        reflector,
        watcher::{self, Event},
    },
};
use serde::de::DeserializeOwned;
use tokio::{
    sync::{mpsc, watch},
    task::AbortHandle,
};

use super::{
    kinds::Kind,
    live::{Live, Owner, Presence},
};
use crate::{
    api::OWNER_NAME,
    object::{Identity, ObjectId},
};

/// Objects in one page of a list.
const PAGE: u32 = 500;

/// The running watches.
pub struct Watches {
    client: Client,
    /// The one namespace in which objects are watched, if not all: there may be no right to more.
    namespace: Option<String>,
    live: Arc<Live>,
    wake: mpsc::UnboundedSender<Owner>,
    running: Mutex<HashMap<(String, String), Running>>,
}

struct Running {
    task: AbortHandle,
    listed: watch::Receiver<bool>,
}

/// How long to wait for the first list of a kind: where listing is forbidden it never comes.
const FIRST_LIST: Duration = Duration::from_secs(10);

impl Watches {
    /// No watch runs yet. `wake` receives the Kustomizations that have to look at their objects. With a `namespace`, drift of
    /// objects of other namespaces is not noticed.
    pub fn new(
        client: Client,
        namespace: Option<String>,
        live: Arc<Live>,
        wake: mpsc::UnboundedSender<Owner>,
    ) -> Self {
        Self {
            client,
            namespace,
            live,
            wake,
            running: Mutex::default(),
        }
    }

    /// Watches a kind from now on, if it is not watched already. The returned future ends when its objects have been
    /// listed once, or when that takes too long; it says whether they have been.
    pub fn ensure(&self, kind: &Kind) -> impl Future<Output = bool> + Send + use<> {
        let key = (kind.resource.group.clone(), kind.resource.kind.clone());
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let known = running
            .get(&key)
            .filter(|running| !running.task.is_finished())
            .map(|r| r.listed.clone());
        let mut listed = known.unwrap_or_else(|| {
            let namespace = self.namespace.clone().filter(|_| kind.namespaced);
            let (sender, listed) = watch::channel(false);
            let task = tokio::spawn(follow(
                self.client.clone(),
                namespace,
                kind.clone(),
                Arc::clone(&self.live),
                self.wake.clone(),
                sender,
            ));
            running.insert(
                key,
                Running {
                    task: task.abort_handle(),
                    listed: listed.clone(),
                },
            );
            listed
        });
        async move {
            let wait = listed.wait_for(|&listed| listed);
            let is_listed = tokio::time::timeout(FIRST_LIST, wait).await.is_ok();
            if !is_listed {
                tracing::warn!("a kind could not be listed: drift of its objects is not noticed");
            }
            is_listed
        }
    }

    /// Whether the watch on its kind shows an object, once it is listed.
    pub fn reach(&self, kind: &Kind, id: &ObjectId) -> bool {
        !kind.namespaced || self.namespace.as_ref().is_none_or(|only| id.namespace == *only)
    }

    /// Asks the Kustomization to look at its objects again.
    pub fn wake(&self, owner: &Owner) {
        // `Err`: the process is stopping.
        drop(self.wake.send(owner.clone()));
    }
}

impl Drop for Watches {
    fn drop(&mut self) {
        for running in self
            .running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
        {
            running.task.abort();
        }
    }
}

async fn follow(
    client: Client,
    namespace: Option<String>,
    kind: Kind,
    live: Arc<Live>,
    wake: mpsc::UnboundedSender<Owner>,
    first_list: watch::Sender<bool>,
) {
    let (group, name) = (&kind.resource.group, &kind.resource.kind);
    let api: Api<PartialObjectMeta<DynamicObject>> = match &namespace {
        Some(namespace) => Api::namespaced_with(client, namespace, &kind.resource),
        None => Api::all_with(client, &kind.resource),
    };
    // Of what is not listed nothing is known.
    let is_elsewhere = |id: &ObjectId| {
        namespace
            .as_ref()
            .is_some_and(|namespace| id.namespace != *namespace)
    };
    let config = watcher::Config::default().labels(OWNER_NAME).page_size(PAGE);
    let events = watcher::watcher(api, config).default_backoff();
    pin_mut!(events);
    let mut listing: Option<(Instant, HashSet<ObjectId>)> = None;
    let identify = |object: &PartialObjectMeta<DynamicObject>| {
        ObjectId::from(Identity {
            namespace: object.namespace().unwrap_or_default(),
            group: group.clone(),
            kind: name.clone(),
            name: object.name_any(),
        })
    };
    let tell = |owner: Option<Arc<Owner>>| {
        if let Some(owner) = owner {
            // `Err`: the process is stopping.
            drop(wake.send(Owner::clone(&owner)));
        }
    };
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => listing = Some((Instant::now(), HashSet::new())),
            Ok(Event::InitApply(object)) => {
                let id = identify(&object);
                tell(live.seen(&id, &object.metadata, Presence::Present));
                if let Some((_, listed)) = &mut listing {
                    listed.insert(id);
                }
            }
            Ok(Event::InitDone) => {
                if let Some((since, listed)) = listing.take() {
                    for owner in
                        live.listed(group, name, since, &|id| listed.contains(id) || is_elsewhere(id))
                    {
                        tell(Some(owner));
                    }
                }
                first_list.send_replace(true);
            }
            Ok(Event::Apply(object)) => {
                tell(live.seen(&identify(&object), &object.metadata, Presence::Present));
            }
            Ok(Event::Delete(object)) => {
                tell(live.seen(&identify(&object), &object.metadata, Presence::Gone));
            }
            Err(error) => tracing::debug!(%error, kind = name, "a watch is interrupted and will go on"),
        }
    }
}

/// A controller of the objects with these labels. Unlike the usual one it also hears of those that go without a finalizer: as
/// `ObjectNotFound`, at once.
pub fn controller<K>(api: Api<K>, selector: &str) -> Controller<K>
where
    K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned + Send + Sync + 'static,
{
    let mut config = watcher::Config::default();
    if !selector.is_empty() {
        config = config.labels(selector);
    }
    let (store, writer) = reflector::store();
    let touched = watcher::watcher(api, config).reflect(writer).touched_objects();
    Controller::for_stream(touched, store)
}

/// Calls `changed` with namespace and name whenever an object with these labels comes, changes or goes after the first list.
pub async fn labelled<K>(api: Api<PartialObjectMeta<K>>, selector: &str, changed: impl Fn(&str, &str))
where
    K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned + Send + 'static,
{
    let config = watcher::Config::default().labels(selector).page_size(PAGE);
    let events = watcher::watcher(api, config).default_backoff();
    pin_mut!(events);
    let mut known: HashMap<(String, String), Option<String>> = HashMap::new();
    let mut is_listed = false;
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => {}
            Ok(Event::InitDone) => is_listed = true,
            Ok(Event::InitApply(object) | Event::Apply(object)) => {
                let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
                let version = object.resource_version();
                let before = known.insert((namespace.clone(), name.clone()), version.clone());
                if is_listed && before != Some(version) {
                    changed(&namespace, &name);
                }
            }
            Ok(Event::Delete(object)) => {
                let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
                known.remove(&(namespace.clone(), name.clone()));
                changed(&namespace, &name);
            }
            Err(error) => tracing::debug!(%error, "the watch on variables is interrupted and will go on"),
        }
    }
}

/// Sends a signal whenever a CRD is added or changes: kinds that were unknown may be served now.
pub async fn crds(client: Client, changed: mpsc::UnboundedSender<()>) {
    let api: Api<PartialObjectMeta<CustomResourceDefinition>> = Api::all(client);
    let events = watcher::watcher(api, watcher::Config::default().page_size(PAGE)).default_backoff();
    pin_mut!(events);
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Apply(_) | Event::InitDone) => {
                if changed.send(()).is_err() {
                    return;
                }
            }
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "the watch on CRDs is interrupted and will go on"),
        }
    }
}
