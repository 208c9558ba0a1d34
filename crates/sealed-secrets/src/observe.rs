//! What is known of the cluster: SealedSecrets whole, Secrets by their metadata alone.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::watcher::Event;

use crate::api::SealedSecret;

/// Namespace and name, which a SealedSecret shares with its Secret.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl Key {
    /// The key of an object.
    pub fn of(metadata: &ObjectMeta) -> Self {
        Self {
            namespace: metadata.namespace.clone().unwrap_or_default(),
            name: metadata.name.clone().unwrap_or_default(),
        }
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Which Secret is there, in which version: all that a watch of metadata has to keep.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// UID.
    pub uid: String,
    /// Resource version.
    pub version: String,
}

impl Mark {
    /// The mark of a Secret with this metadata.
    pub fn of(metadata: &ObjectMeta) -> Self {
        Self {
            uid: metadata.uid.clone().unwrap_or_default(),
            version: metadata.resource_version.clone().unwrap_or_default(),
        }
    }
}

/// A SealedSecret as it was read, or why it cannot be.
pub type Read = Result<Arc<SealedSecret>, (Arc<ObjectMeta>, String)>;

/// What a change in the cluster means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The SealedSecret is new or differs.
    Sealed(Key),
    /// The SealedSecret is gone.
    SealedGone(Key),
    /// The Secret of this name is new or differs.
    Secret(Key),
    /// The Secret of this name is gone.
    SecretGone(Key),
}

/// A namespace (or all of them, when empty) whose listing is under way, and what it has brought so far.
type Listings = HashMap<String, HashSet<Key>>;

/// Everything observed.
#[derive(Debug, Default)]
pub struct Index {
    sealed: HashMap<Key, Read>,
    secrets: HashMap<Key, Mark>,
    sealed_listings: Listings,
    secret_listings: Listings,
}

impl Index {
    /// The SealedSecret at `key`.
    pub fn sealed(&self, key: &Key) -> Option<&Read> {
        self.sealed.get(key)
    }

    /// The Secret at `key`.
    pub fn secret(&self, key: &Key) -> Option<&Mark> {
        self.secrets.get(key)
    }

    /// Every SealedSecret.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.sealed.keys()
    }

    /// Takes an event of the watch of SealedSecrets in `scope`, a namespace or `""`.
    pub fn on_sealed(&mut self, scope: &str, event: Event<DeserializeGuard<SealedSecret>>) -> Vec<Change> {
        match event {
            Event::Init => {
                self.sealed_listings.insert(scope.to_owned(), HashSet::new());
                Vec::new()
            }
            Event::InitApply(object) => {
                let (key, read) = read(object);
                if let Some(listed) = self.sealed_listings.get_mut(scope) {
                    listed.insert(key.clone());
                }
                self.put_sealed(key, read)
            }
            Event::InitDone => {
                let listed = self.sealed_listings.remove(scope).unwrap_or_default();
                let gone = missing(self.sealed.keys(), scope, &listed);
                gone.into_iter().flat_map(|key| self.drop_sealed(key)).collect()
            }
            Event::Apply(object) => {
                let (key, read) = read(object);
                self.put_sealed(key, read)
            }
            Event::Delete(object) => {
                let (key, _) = read(object);
                self.drop_sealed(key)
            }
        }
    }

    /// Takes an event of the watch of Secrets in `scope`, a namespace or `""`.
    pub fn on_secret(&mut self, scope: &str, event: Event<PartialObjectMeta<Secret>>) -> Vec<Change> {
        match event {
            Event::Init => {
                self.secret_listings.insert(scope.to_owned(), HashSet::new());
                Vec::new()
            }
            Event::InitApply(secret) => {
                let key = Key::of(&secret.metadata);
                if let Some(listed) = self.secret_listings.get_mut(scope) {
                    listed.insert(key.clone());
                }
                self.put_secret(key, Mark::of(&secret.metadata))
            }
            Event::InitDone => {
                let listed = self.secret_listings.remove(scope).unwrap_or_default();
                let gone = missing(self.secrets.keys(), scope, &listed);
                gone.into_iter().flat_map(|key| self.drop_secret(key)).collect()
            }
            Event::Apply(secret) => self.put_secret(Key::of(&secret.metadata), Mark::of(&secret.metadata)),
            Event::Delete(secret) => self.drop_secret(Key::of(&secret.metadata)),
        }
    }

    /// Notes what an own write left behind, before the watch tells.
    pub fn wrote_secret(&mut self, key: &Key, mark: Mark) {
        self.secrets.insert(key.clone(), mark);
    }

    /// Notes an own status write, before the watch tells.
    pub fn wrote_sealed(&mut self, key: &Key, sealed: Arc<SealedSecret>) {
        // Deleted meanwhile: the watch knows better.
        if let Some(known) = self.sealed.get_mut(key) {
            *known = Ok(sealed);
        }
    }

    fn put_sealed(&mut self, key: Key, read: Read) -> Vec<Change> {
        let same = self
            .sealed
            .get(&key)
            .is_some_and(|old| version(old) == version(&read));
        self.sealed.insert(key.clone(), read);
        if same {
            Vec::new()
        } else {
            vec![Change::Sealed(key)]
        }
    }

    fn drop_sealed(&mut self, key: Key) -> Vec<Change> {
        self.sealed.remove(&key);
        vec![Change::SealedGone(key)]
    }

    fn put_secret(&mut self, key: Key, mark: Mark) -> Vec<Change> {
        if self.secrets.get(&key) == Some(&mark) {
            return Vec::new();
        }
        self.secrets.insert(key.clone(), mark);
        vec![Change::Secret(key)]
    }

    fn drop_secret(&mut self, key: Key) -> Vec<Change> {
        self.secrets.remove(&key);
        vec![Change::SecretGone(key)]
    }
}

/// The known keys of `scope` that a complete listing did not bring.
fn missing<'a>(known: impl Iterator<Item = &'a Key>, scope: &str, listed: &HashSet<Key>) -> Vec<Key> {
    known
        .filter(|key| (scope.is_empty() || key.namespace == scope) && !listed.contains(*key))
        .cloned()
        .collect()
}

fn version(read: &Read) -> Option<&String> {
    match read {
        Ok(sealed) => sealed.metadata.resource_version.as_ref(),
        Err((metadata, _)) => metadata.resource_version.as_ref(),
    }
}

fn read(object: DeserializeGuard<SealedSecret>) -> (Key, Read) {
    match object.0 {
        Ok(mut sealed) => {
            sealed.metadata.managed_fields = None;
            (Key::of(&sealed.metadata), Ok(Arc::new(sealed)))
        }
        Err(invalid) => (
            Key::of(&invalid.metadata),
            Err((Arc::new(invalid.metadata), invalid.error)),
        ),
    }
}
