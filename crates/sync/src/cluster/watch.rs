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
    wake::{Look, Wake},
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
    scope: Scope,
    live: Arc<Live>,
    wake: Wake,
    running: Mutex<HashMap<(String, String), Running>>,
}

/// Where objects are watched. Drift of objects of other namespaces is not noticed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// In all namespaces.
    Everywhere,
    /// In all namespaces; in this one where there is no right to more.
    EverywhereOr(String),
    /// In this one.
    Only(String),
}

/// What it means that a list is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The right may come.
    IsTemporary,
    /// There is no point in asking again.
    IsFinal,
}

/// Where a watch has listed the objects of its kind, and shows what becomes of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// In all namespaces.
    Everywhere,
    /// In this one.
    Only(String),
}

impl Reach {
    /// Whether it shows objects of this namespace.
    pub fn shows(&self, namespace: &str) -> bool {
        match self {
            Self::Everywhere => true,
            Self::Only(only) => only == namespace,
        }
    }
}

/// How it stands with the first list of a kind.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Listed {
    /// It is on its way.
    NotYet,
    /// It may not be listed. The right may come.
    Forbidden,
    /// It has come.
    In(Reach),
}

struct Running {
    kind: Kind,
    task: AbortHandle,
    listed: watch::Receiver<Listed>,
}

/// How long to wait for the first list of a kind.
const FIRST_LIST: Duration = Duration::from_secs(10);

impl Watches {
    /// No watch runs yet. `wake` receives the Kustomizations that have to look at their objects.
    pub fn new(client: Client, scope: Scope, live: Arc<Live>, wake: mpsc::UnboundedSender<Owner>) -> Self {
        Self {
            client,
            scope,
            live,
            wake: Wake::new(wake),
            running: Mutex::default(),
        }
    }

    /// Watches a kind from now on, if it is not watched already. The returned future ends when its objects have been
    /// listed once, or when that takes too long; it says where they have been.
    pub fn ensure(&self, kind: &Kind) -> impl Future<Output = Option<Reach>> + Send + use<> {
        let key = (kind.resource.group.clone(), kind.resource.kind.clone());
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let known = running
            .get(&key)
            .filter(|running| !running.task.is_finished())
            .map(|r| r.listed.clone());
        let mut listed = known.unwrap_or_else(|| {
            let begun = self.begin(kind.clone());
            let listed = begun.listed.clone();
            running.insert(key, begun);
            listed
        });
        async move {
            let wait = listed.wait_for(|listed| *listed != Listed::NotYet);
            let listed = tokio::time::timeout(FIRST_LIST, wait).await.ok()?.ok()?;
            match &*listed {
                Listed::In(reach) => Some(reach.clone()),
                Listed::NotYet | Listed::Forbidden => None,
            }
        }
    }

    fn begin(&self, kind: Kind) -> Running {
        let scope = if kind.namespaced {
            self.scope.clone()
        } else {
            Scope::Everywhere
        };
        let (sender, listed) = watch::channel(Listed::NotYet);
        let task = tokio::spawn(follow(
            self.client.clone(),
            scope,
            kind.clone(),
            Arc::clone(&self.live),
            self.wake.clone(),
            sender,
        ));
        Running {
            kind,
            task: task.abort_handle(),
            listed,
        }
    }

    /// Lists and watches anew what is watched: the cluster is back, and the watches may wait for long before they try again.
    pub fn restart(&self) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        for one in running.values_mut() {
            one.task.abort();
            *one = self.begin(one.kind.clone());
        }
    }

    /// Asks the Kustomization to look at its objects again.
    pub fn wake(&self, owner: &Owner) {
        self.wake.now(owner);
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
    scope: Scope,
    kind: Kind,
    live: Arc<Live>,
    wake: Wake,
    first_list: watch::Sender<Listed>,
) {
    let (namespace, otherwise) = match scope {
        Scope::Everywhere => (None, None),
        Scope::EverywhereOr(namespace) => (None, Some(namespace)),
        Scope::Only(namespace) => (Some(namespace), None),
    };
    let refused = if otherwise.is_some() {
        Refused::IsFinal
    } else {
        Refused::IsTemporary
    };
    follow_in(
        client.clone(),
        namespace,
        &kind,
        &live,
        &wake,
        &first_list,
        refused,
    )
    .await;
    // It ended: only the namespace is left.
    if otherwise.is_some() {
        follow_in(
            client,
            otherwise,
            &kind,
            &live,
            &wake,
            &first_list,
            Refused::IsTemporary,
        )
        .await;
    }
}

/// Whether a watch ended because it is refused.
fn is_forbidden(error: &watcher::Error) -> bool {
    let (watcher::Error::InitialListFailed(error)
    | watcher::Error::WatchStartFailed(error)
    | watcher::Error::WatchFailed(error)) = error
    else {
        return false;
    };
    matches!(error, kube::Error::Api(status) if status.code == 403)
}

async fn follow_in(
    client: Client,
    namespace: Option<String>,
    kind: &Kind,
    live: &Live,
    wake: &Wake,
    first_list: &watch::Sender<Listed>,
    refused: Refused,
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
    let tell = |look: Option<Look>| {
        if let Some(look) = look {
            wake.call(look);
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
                        wake.now(&owner);
                    }
                }
                let reach = namespace.clone().map_or(Reach::Everywhere, Reach::Only);
                first_list.send_replace(Listed::In(reach));
            }
            Ok(Event::Apply(object)) => {
                tell(live.seen(&identify(&object), &object.metadata, Presence::Present));
            }
            Ok(Event::Delete(object)) => {
                tell(live.seen(&identify(&object), &object.metadata, Presence::Gone));
            }
            Err(error) if refused == Refused::IsFinal && is_forbidden(&error) => return,
            Err(error) => {
                tracing::debug!(%error, kind = name, "a watch is interrupted and will go on");
                if is_forbidden(&error) {
                    first_list.send_if_modified(|listed| {
                        let is_first = *listed == Listed::NotYet;
                        if is_first {
                            *listed = Listed::Forbidden;
                        }
                        is_first
                    });
                }
            }
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
pub async fn crds(client: Client, changed: mpsc::UnboundedSender<()>, refused: Refused) {
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
            Err(error) if refused == Refused::IsFinal && is_forbidden(&error) => return,
            Err(error) => tracing::debug!(%error, "the watch on CRDs is interrupted and will go on"),
        }
    }
}
