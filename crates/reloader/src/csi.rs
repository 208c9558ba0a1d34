//! SecretProviderClasses of the secrets-store CSI driver. What a class holds is known from what its pods have mounted: the
//! driver writes a SecretProviderClassPodStatus for each pod.

use std::{
    borrow::Cow,
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use k8s_openapi::{NamespaceResourceScope, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{Resource, ResourceExt, runtime::watcher};
use serde::Deserialize;

use crate::{
    annotations::Marks,
    controller::Controller,
    digest::{Digest, Keyer},
    index::{News, SeenSource},
    observe::{self, Sink},
    source::{SourceKey, SourceKind},
    stakater::Sha1,
    workload::version,
};

/// `secrets-store.csi.x-k8s.io/v1` SecretProviderClassPodStatus.
#[derive(Debug, Clone, Deserialize)]
struct PodStatus {
    metadata: ObjectMeta,
    #[serde(default)]
    status: Status,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    secret_provider_class_name: String,
    objects: Vec<Mounted>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Mounted {
    id: String,
    version: String,
}

/// `secrets-store.csi.x-k8s.io/v1` SecretProviderClass: only its annotations matter.
#[derive(Debug, Clone, Deserialize)]
struct Class {
    metadata: ObjectMeta,
}

macro_rules! resource {
    ($type:ty, $kind:literal, $plural:literal) => {
        impl Resource for $type {
            type DynamicType = ();
            type Scope = NamespaceResourceScope;

            fn kind((): &()) -> Cow<'_, str> {
                $kind.into()
            }

            fn group((): &()) -> Cow<'_, str> {
                "secrets-store.csi.x-k8s.io".into()
            }

            fn version((): &()) -> Cow<'_, str> {
                "v1".into()
            }

            fn plural((): &()) -> Cow<'_, str> {
                $plural.into()
            }

            fn meta(&self) -> &ObjectMeta {
                &self.metadata
            }

            fn meta_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        }
    };
}

resource!(
    PodStatus,
    "SecretProviderClassPodStatus",
    "secretproviderclasspodstatuses"
);
resource!(Class, "SecretProviderClass", "secretproviderclasses");

// What a pod has mounted, and since which version of its status.
#[derive(Debug, Clone)]
struct Seen {
    class: String,
    digest: Digest,
    sha1: Sha1,
    since: u64,
}

// By namespace and name.
#[derive(Debug, Default)]
struct Known {
    pods: HashMap<(String, String), Seen>,
    marks: HashMap<(String, String), Marks>,
}

#[derive(Clone)]
struct Classes {
    controller: Arc<Controller>,
    namespace: Option<String>,
    known: Arc<Mutex<Known>>,
}

/// Follows classes and what pods have mounted of them, for ever.
pub(crate) async fn follow(controller: Arc<Controller>, namespace: Option<String>) {
    let classes = Classes {
        controller: controller.clone(),
        namespace: namespace.clone(),
        known: Arc::default(),
    };
    let client = controller.client();
    let selection = watcher::Config::default();
    tokio::join!(
        observe::follow(
            observe::api::<PodStatus>(&client, namespace.as_deref()),
            selection.clone(),
            &controller,
            classes.clone(),
        ),
        observe::follow(
            observe::api::<Class>(&client, namespace.as_deref()),
            selection,
            &controller,
            classes,
        ),
    );
}

impl Classes {
    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // While a secret is rotated the pods differ for a moment: what was written last is what new pods get.
    fn tell(&self, namespace: &str, class: &str, news: News) {
        let known = self.known();
        let pods = known
            .pods
            .iter()
            .filter(|((of, _), seen)| of == namespace && seen.class == class);
        let Some(latest) = pods.map(|(_, seen)| seen).max_by_key(|seen| seen.since).cloned() else {
            return;
        };
        let marks = known.marks.get(&(namespace.to_owned(), class.to_owned()));
        let seen = SeenSource {
            namespace: namespace.to_owned(),
            key: SourceKey::new(SourceKind::SecretProviderClass, class),
            digest: latest.digest,
            sha1: latest.sha1,
            keys: Box::default(),
            marks: marks.cloned().unwrap_or_default(),
            version: latest.since,
        };
        drop(known);
        self.controller.source_seen(seen, news);
    }
}

impl Sink<PodStatus> for Classes {
    fn stream(&self) -> String {
        observe::stream_name("SecretProviderClassPodStatus", self.namespace.as_deref())
    }

    fn list_starts(&mut self) {
        self.known().pods.clear();
    }

    fn put(&mut self, object: &PodStatus, news: News) {
        let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
        let class = object.status.secret_provider_class_name.clone();
        if class.is_empty() || !self.controller.wanted(&namespace) {
            return;
        }
        let (digest, sha1) = hashes(self.controller.keyer(), &object.status);
        let mut known = self.known();
        let pod = known
            .pods
            .entry((namespace.clone(), name))
            .or_insert_with(|| Seen {
                class: class.clone(),
                digest,
                sha1,
                since: version(&object.metadata),
            });
        if pod.digest != digest {
            (pod.digest, pod.sha1, pod.since) = (digest, sha1, version(&object.metadata));
        }
        drop(known);
        // While they are listed it is not known yet which is the latest.
        if news == News::Happened {
            self.tell(&namespace, &class, news);
        }
    }

    fn remove(&mut self, object: &PodStatus) {
        let key = (object.namespace().unwrap_or_default(), object.name_any());
        // What its pod had mounted tells nothing of the class: it stays as it is known.
        self.known().pods.remove(&key);
    }

    fn list_ends(&mut self) {
        let known = self.known();
        let classes: Vec<_> = known
            .pods
            .iter()
            .map(|((namespace, _), seen)| (namespace.clone(), seen.class.clone()))
            .collect();
        drop(known);
        for (namespace, class) in classes {
            self.tell(&namespace, &class, News::Listed);
        }
    }
}

impl Sink<Class> for Classes {
    fn stream(&self) -> String {
        observe::stream_name("SecretProviderClass", self.namespace.as_deref())
    }

    fn list_starts(&mut self) {
        self.known().marks.clear();
    }

    fn put(&mut self, object: &Class, news: News) {
        let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
        let marks = Marks::parse(
            object.metadata.annotations.as_ref(),
            &self.controller.config().keys,
        );
        self.known()
            .marks
            .insert((namespace.clone(), name.clone()), marks);
        self.tell(&namespace, &name, news);
    }

    fn remove(&mut self, object: &Class) {
        let key = (object.namespace().unwrap_or_default(), object.name_any());
        self.known().marks.remove(&key);
    }

    fn list_ends(&mut self) {}
}

fn hashes(keyer: &Keyer, status: &Status) -> (Digest, Sha1) {
    let mut objects: Vec<_> = status
        .objects
        .iter()
        .map(|object| (object.id.as_str(), object.version.as_str()))
        .collect();
    objects.sort_unstable();
    let mut content = keyer.content(SourceKind::SecretProviderClass);
    for (id, version) in &objects {
        content.entry("objects", id, version.as_bytes());
    }
    let sha1 = Sha1::of_class(&status.secret_provider_class_name, objects);
    (content.finish(), sha1)
}
