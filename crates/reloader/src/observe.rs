//! Observe: watches whose objects are hashed or read and dropped at once. No object is ever stored.

use std::{collections::HashSet, fmt, sync::Arc, time::Duration};

use futures::{Stream, StreamExt};
use k8s_openapi::{
    NamespaceResourceScope, apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::ListParams,
    core::PartialObjectMeta,
    runtime::watcher::{self, Event, watcher},
};
use plumbline_common::backoff::Backoff;
use serde::de::DeserializeOwned;

use crate::{
    content::Content,
    controller::Controller,
    index::{News, Scope, SeenSource},
    kinds::{Rollable, WorkloadKind},
    source::{SourceKey, SourceKind},
    workload::{Workload, WorkloadKey},
};

/// Objects of one page of a list: with Secrets and ConfigMaps of up to 1 MiB, what is in memory at once.
const PAGE: u32 = 100;
/// After this many polls, or one that fails, a watch is tried again.
const POLLS: u32 = 40;
const BACKOFF: Backoff = Backoff {
    base: Duration::from_millis(500),
    max: Duration::from_secs(30),
};

/// What can be read from the API server as one stream.
pub(crate) trait Object:
    Resource<Scope = NamespaceResourceScope, DynamicType = ()>
    + Clone
    + fmt::Debug
    + DeserializeOwned
    + Send
    + 'static
{
}

impl<K> Object for K where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + fmt::Debug
        + DeserializeOwned
        + Send
        + 'static
{
}

/// Takes what a stream brings.
pub(crate) trait Sink<K> {
    fn stream(&self) -> String;
    fn list_starts(&mut self);
    fn put(&mut self, object: &K, news: News);
    fn remove(&mut self, object: &K);
    fn list_ends(&mut self);
}

/// Follows sources for ever.
pub(crate) async fn sources<K: Content>(
    controller: Arc<Controller>,
    namespace: Option<String>,
    selection: watcher::Config,
    name: Option<String>,
) {
    let api = api::<K>(&controller.client(), namespace.as_deref());
    let scope = Scope {
        kind: K::SOURCE,
        namespace,
        name,
    };
    follow(
        api,
        selection,
        &controller.clone(),
        SourceSink {
            controller,
            scope,
            seen: HashSet::new(),
        },
    )
    .await;
}

/// Follows workloads for ever.
pub(crate) async fn workloads<K: Rollable>(controller: Arc<Controller>, namespace: Option<String>) {
    let api = api::<K>(&controller.client(), namespace.as_deref());
    let scope = Scope {
        kind: K::WORKLOAD,
        namespace,
        name: None,
    };
    let sink = WorkloadSink {
        controller: controller.clone(),
        scope,
        seen: HashSet::new(),
    };
    follow(api, watcher::Config::default(), &controller, sink).await;
}

/// The name by which a stream is reported.
pub(crate) fn stream_name(kind: &str, namespace: Option<&str>) -> String {
    namespace.map_or_else(|| kind.to_owned(), |namespace| format!("{kind} in {namespace}"))
}

pub(crate) fn api<K: Object>(client: &Client, namespace: Option<&str>) -> Api<K> {
    namespace.map_or_else(
        || Api::all(client.clone()),
        |namespace| Api::namespaced(client.clone(), namespace),
    )
}

pub(crate) async fn follow<K: Object>(
    api: Api<K>,
    selection: watcher::Config,
    controller: &Controller,
    mut sink: impl Sink<K>,
) {
    let name = sink.stream();
    let selection = selection.page_size(PAGE);
    loop {
        let stream = watcher(api.clone(), selection.clone());
        if watch(std::pin::pin!(stream), controller, &name, &mut sink).await == Ended::NotServed {
            // None of them exists, and what there was is gone with its kind.
            sink.list_starts();
            sink.list_ends();
            served::<K>(controller).await;
            continue;
        }
        tracing::warn!(
            stream = name,
            "may be listed but not watched: polling instead; grant the verb watch"
        );
        for _ in 0..POLLS {
            tokio::time::sleep(controller.config().poll_interval).await;
            if let Err(error) = poll(&api, &selection, &mut sink).await {
                controller.stream_failing(&name, &error.to_string());
                // What may not even be listed was taken away as a whole, and comes back as a whole.
                break;
            }
        }
    }
}

// Why a watch is given up.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ended {
    Forbidden,
    NotServed,
}

// Waits until a kind that is not served may be: its CRD has come or has changed. Who may not look at CRDs tries again.
async fn served<K: Object>(controller: &Controller) {
    let name = format!("{}.{}", K::plural(&()), K::group(&()));
    let api: Api<PartialObjectMeta<CustomResourceDefinition>> = Api::all(controller.client());
    let selection = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut stream = std::pin::pin!(watcher(api, selection));
    tracing::debug!(crd = name, "is waited for");
    loop {
        match stream.next().await {
            Some(Ok(Event::Apply(_) | Event::InitApply(_))) => {
                // Between being there and being served there is a moment.
                tokio::time::sleep(BACKOFF.base).await;
                return;
            }
            Some(Ok(_)) => {}
            Some(Err(_)) | None => {
                tokio::time::sleep(controller.config().poll_interval).await;
                return;
            }
        }
    }
}

// Returns when watching is forbidden, or there is no such kind.
async fn watch<K: Object>(
    mut stream: impl Stream<Item = watcher::Result<Event<K>>> + Unpin,
    controller: &Controller,
    name: &str,
    sink: &mut impl Sink<K>,
) -> Ended {
    let mut failures = 0;
    while let Some(event) = stream.next().await {
        match event {
            Ok(event) => {
                failures = 0;
                match event {
                    Event::Init => sink.list_starts(),
                    Event::InitApply(object) => sink.put(&object, News::Listed),
                    Event::InitDone => sink.list_ends(),
                    Event::Apply(object) => sink.put(&object, News::Happened),
                    Event::Delete(object) => sink.remove(&object),
                }
            }
            Err(error) => {
                if let watcher::Error::WatchStartFailed(kube::Error::Api(status)) = &error
                    && status.is_forbidden()
                {
                    return Ended::Forbidden;
                }
                if let watcher::Error::InitialListFailed(kube::Error::Api(status))
                | watcher::Error::WatchStartFailed(kube::Error::Api(status)) = &error
                    && status.code == 404
                {
                    return Ended::NotServed;
                }
                failures += 1;
                controller.stream_failing(name, &error.to_string());
                tokio::time::sleep(BACKOFF.delay(failures)).await;
            }
        }
    }
    Ended::NotServed
}

async fn poll<K: Object>(
    api: &Api<K>,
    selection: &watcher::Config,
    sink: &mut impl Sink<K>,
) -> kube::Result<()> {
    let mut parameters = ListParams {
        label_selector: selection.label_selector.clone(),
        field_selector: selection.field_selector.clone(),
        limit: selection.page_size,
        ..ListParams::default()
    };
    sink.list_starts();
    loop {
        let list = api.list(&parameters).await?;
        for object in &list.items {
            sink.put(object, News::Listed);
        }
        parameters.continue_token = list.metadata.continue_.filter(|token| !token.is_empty());
        if parameters.continue_token.is_none() {
            sink.list_ends();
            return Ok(());
        }
    }
}

struct SourceSink {
    controller: Arc<Controller>,
    scope: Scope<SourceKind>,
    seen: HashSet<(String, String)>,
}

impl<K: Content> Sink<K> for SourceSink {
    fn stream(&self) -> String {
        stream_name(K::SOURCE.kind(), self.scope.namespace.as_deref())
    }

    fn list_starts(&mut self) {
        self.seen.clear();
    }

    fn put(&mut self, object: &K, news: News) {
        let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
        if !self.controller.wanted(&namespace) {
            return;
        }
        if news == News::Listed {
            self.seen.insert((namespace, name));
        }
        let (keyer, keys) = (self.controller.keyer(), &self.controller.config().keys);
        self.controller
            .source_seen(SeenSource::of(object, keyer, keys), news);
    }

    fn remove(&mut self, object: &K) {
        let key = SourceKey::new(K::SOURCE, object.name_any());
        self.controller
            .source_gone(&object.namespace().unwrap_or_default(), &key);
    }

    fn list_ends(&mut self) {
        let seen = std::mem::take(&mut self.seen);
        self.controller.sources_listed(self.scope.clone(), &seen);
        self.controller.stream_listed(&Sink::<K>::stream(self));
    }
}

struct WorkloadSink {
    controller: Arc<Controller>,
    scope: Scope<WorkloadKind>,
    seen: HashSet<(String, String)>,
}

impl<K: Rollable> Sink<K> for WorkloadSink {
    fn stream(&self) -> String {
        stream_name(K::WORKLOAD.kind(), self.scope.namespace.as_deref())
    }

    fn list_starts(&mut self) {
        self.seen.clear();
    }

    fn put(&mut self, object: &K, news: News) {
        if !self.controller.wanted(&object.namespace().unwrap_or_default()) {
            return;
        }
        if let Some(workload) = Workload::read(object, self.controller.reading()) {
            if news == News::Listed {
                self.seen
                    .insert((workload.key.namespace.clone(), workload.key.name.clone()));
            }
            self.controller.workload_seen(workload, news);
        } else {
            Sink::<K>::remove(self, object);
        }
    }

    fn remove(&mut self, object: &K) {
        self.controller.workload_gone(&WorkloadKey {
            namespace: object.namespace().unwrap_or_default(),
            kind: K::WORKLOAD,
            name: object.name_any(),
        });
    }

    fn list_ends(&mut self) {
        let seen = std::mem::take(&mut self.seen);
        self.controller.workloads_listed(&self.scope, &seen);
        self.controller.stream_listed(&Sink::<K>::stream(self));
    }
}
