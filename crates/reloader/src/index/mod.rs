//! All that is known of the cluster: digests of sources, what workloads need, and who uses what. Synchronous and pure.

mod dependencies;
mod sources;
mod workloads;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::{
    annotations::{Marks, Pattern},
    decide::Content,
    digest::Digest,
    kinds::WorkloadKind,
    source::{SourceKey, SourceKind},
    stakater::Sha1,
    workload::{Workload, WorkloadKey},
};

pub use workloads::Unwritten;

/// A source as it is observed: its content is gone already.
#[derive(Debug, Clone)]
pub struct SeenSource {
    /// Its namespace.
    pub namespace: String,
    /// Which one.
    pub key: SourceKey,
    /// Our digest of its content.
    pub digest: Digest,
    /// Stakater's.
    pub sha1: Sha1,
    /// Our digest of each of its keys.
    pub keys: Box<[(u64, Digest)]>,
    /// What its annotations say.
    pub marks: Marks,
    /// Its resource version.
    pub version: u64,
}

/// How an object came to be known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// By a list: it may have been so for long.
    Listed,
    /// By a watch: it has become so just now.
    Happened,
}

/// One stream of objects: a kind, in one namespace or (`None`) in all.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Scope<K> {
    /// The kind.
    pub kind: K,
    /// The namespace.
    pub namespace: Option<String>,
    /// The only object, where they are watched one by one.
    pub name: Option<String>,
}

#[derive(Debug, Clone)]
struct Source {
    content: Content,
    keys: Box<[(u64, Digest)]>,
    marks: Marks,
}

type LocalWorkload = (WorkloadKind, String);

#[derive(Debug, Default)]
struct Namespace {
    sources: BTreeMap<SourceKey, Source>,
    workloads: BTreeMap<LocalWorkload, Workload>,
    // Who references a source or names it literally, in order. Most sources have one user: a set would take ten times the room.
    users: HashMap<SourceKey, Vec<LocalWorkload>>,
    // Who names sources by an expression.
    expressions: BTreeSet<LocalWorkload>,
}

/// The index.
#[derive(Debug, Default)]
pub struct Index {
    auto_all: bool,
    namespaces: HashMap<String, Namespace>,
    // Whose namespaces may be touched; `None`: all.
    selected: Option<HashSet<String>>,
    listed: HashSet<Scope<SourceKind>>,
    // Who names sources of other namespaces, by the sources' namespace and local key.
    foreign: HashMap<(String, SourceKey), BTreeSet<WorkloadKey>>,
    // Workloads rolled by us that are not done yet.
    running: BTreeSet<WorkloadKey>,
    // Workloads rolled by us whose rollout has failed.
    failed: BTreeSet<WorkloadKey>,
    // Workloads that are rolled before others.
    canaries: BTreeSet<WorkloadKey>,
    // What could not be written to workloads, with their uids.
    unwritten: HashMap<WorkloadKey, (String, Unwritten)>,
}

impl Index {
    /// An empty index. `auto_all`: `--auto-reload-all`.
    pub fn new(auto_all: bool) -> Self {
        Self {
            auto_all,
            ..Self::default()
        }
    }

    /// The digest of a source's content.
    pub fn digest(&self, namespace: &str, key: &SourceKey) -> Option<Digest> {
        let source = self.namespaces.get(namespace)?.sources.get(key)?;
        Some(source.content.digest)
    }

    /// The sources that somebody uses, with their namespaces.
    pub fn used(&self) -> HashSet<(String, SourceKey)> {
        let local = self.namespaces.iter().flat_map(|(name, namespace)| {
            let own = namespace.users.keys().filter(|source| !source.name.contains('/'));
            own.map(|source| (name.clone(), source.clone()))
        });
        local.chain(self.foreign.keys().cloned()).collect()
    }

    /// Workloads rolled by us whose rollout goes on.
    pub fn running(&self) -> impl Iterator<Item = &Workload> {
        self.running.iter().filter_map(|key| self.workload(key))
    }

    /// Canaries of a namespace that a source can roll.
    pub fn canaries(&self, namespace: &str, source: &SourceKey) -> impl Iterator<Item = &Workload> {
        self.those_of(&self.canaries, namespace, source)
    }

    /// Workloads of a namespace that a source can roll, and whose rollout by us has failed.
    pub fn failed(&self, namespace: &str, source: &SourceKey) -> impl Iterator<Item = &Workload> {
        self.those_of(&self.failed, namespace, source)
    }

    // Such sets are small where the users of a source may be many.
    fn those_of<'a>(
        &'a self,
        set: &'a BTreeSet<WorkloadKey>,
        namespace: &str,
        source: &SourceKey,
    ) -> impl Iterator<Item = &'a Workload> {
        let known = self.namespaces.get(namespace);
        set.iter()
            .filter(move |key| {
                known.is_some_and(|known| key.namespace == namespace && known.uses(key, source))
            })
            .filter_map(|key| self.workload(key))
    }

    /// The workloads that a source can roll.
    pub fn users(&self, namespace: &str, source: &SourceKey) -> impl Iterator<Item = &Workload> {
        let keys = self.interested(namespace, source);
        keys.into_iter().filter_map(|key| self.workload(&key))
    }

    /// Which namespaces may be touched from now on. Returns the workloads of those that were not before.
    pub fn select(&mut self, namespaces: HashSet<String>) -> Vec<WorkloadKey> {
        let before = self.selected.replace(namespaces);
        let is_new = |key: &WorkloadKey| {
            !before
                .as_ref()
                .is_some_and(|before| before.contains(&key.namespace))
        };
        let keys = self.workloads().map(|workload| &workload.key);
        keys.filter(|key| self.allows(&key.namespace) && is_new(key))
            .cloned()
            .collect()
    }

    /// Whether a namespace may be touched.
    pub fn allows(&self, namespace: &str) -> bool {
        self.selected
            .as_ref()
            .is_none_or(|selected| selected.contains(namespace))
    }

    /// Every workload that could be rolled.
    pub fn workloads(&self) -> impl Iterator<Item = &Workload> {
        self.namespaces
            .values()
            .flat_map(|namespace| namespace.workloads.values())
    }

    /// A workload, if it could be rolled.
    pub fn workload(&self, key: &WorkloadKey) -> Option<&Workload> {
        self.namespaces
            .get(&key.namespace)?
            .workloads
            .get(&(key.kind, key.name.clone()))
    }

    /// How many sources are known.
    pub fn source_count(&self) -> usize {
        self.namespaces
            .values()
            .map(|namespace| namespace.sources.len())
            .sum()
    }
}

impl Namespace {
    fn uses(&self, key: &WorkloadKey, source: &SourceKey) -> bool {
        let local = (key.kind, key.name.clone());
        self.users
            .get(source)
            .is_some_and(|users| users.binary_search(&local).is_ok())
            || (self.expressions.contains(&local) && self.names_by_expression(&local, source))
    }

    fn names_by_expression(&self, local: &LocalWorkload, source: &SourceKey) -> bool {
        let workload = self.workloads.get(local);
        let mut names = workload
            .iter()
            .flat_map(|workload| &workload.policy.rules(source.kind).named);
        names.any(|name| name.matches(&source.name))
    }
}

// A source of another namespace, as that one knows it.
fn at_home(source: &SourceKey) -> (String, SourceKey) {
    let (namespace, name) = source.home("");
    (namespace.to_owned(), SourceKey::new(source.kind, name))
}

// All that a workload references or names literally.
fn users_of(workload: &Workload) -> BTreeSet<SourceKey> {
    let mut sources: BTreeSet<SourceKey> = workload.references.iter().cloned().collect();
    sources.extend(
        workload
            .options
            .iter()
            .flat_map(|options| &options.foreign)
            .cloned(),
    );
    for kind in SourceKind::ALL {
        for pattern in &workload.policy.rules(kind).named {
            if let Pattern::Literal(name) = pattern {
                sources.insert(SourceKey::new(kind, name.clone()));
            }
        }
    }
    sources
}

fn has_expression(workload: &Workload, kind: SourceKind) -> bool {
    let named = &workload.policy.rules(kind).named;
    named
        .iter()
        .any(|pattern| matches!(pattern, Pattern::Expression(_)))
}

#[cfg(test)]
mod tests;
