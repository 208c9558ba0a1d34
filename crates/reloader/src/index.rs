//! All that is known of the cluster: digests of sources, what workloads need, and who uses what. Synchronous and pure.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::{
    annotations::{Marks, Pattern, Relation},
    decide::{Content, Dependency, Presence},
    digest::Digest,
    kinds::WorkloadKind,
    source::{SourceKey, SourceKind},
    stakater::Sha1,
    state::Baseline,
    workload::{Workload, WorkloadKey},
};

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
}

#[derive(Debug, Clone)]
struct Source {
    content: Content,
    marks: Marks,
}

type LocalWorkload = (WorkloadKind, String);

#[derive(Debug, Default)]
struct Namespace {
    sources: BTreeMap<SourceKey, Source>,
    workloads: BTreeMap<LocalWorkload, Workload>,
    // Who references a source or names it literally.
    users: HashMap<SourceKey, BTreeSet<LocalWorkload>>,
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
    // Baselines of workloads whose metadata we may not write, with their uids.
    remembered: HashMap<WorkloadKey, (String, Baseline)>,
}

impl Index {
    /// An empty index. `auto_all`: `--auto-reload-all`.
    pub fn new(auto_all: bool) -> Self {
        Self {
            auto_all,
            ..Self::default()
        }
    }

    /// Takes in a source. Returns the workloads it can roll, if anything about it is new.
    pub fn put_source(&mut self, seen: &SeenSource, news: News) -> Vec<WorkloadKey> {
        let namespace = self.namespaces.entry(seen.namespace.clone()).or_default();
        let known = namespace.sources.get(&seen.key);
        let same = known.filter(|known| known.content.digest == seen.digest);
        if same.is_some_and(|known| known.marks == seen.marks) {
            return Vec::new();
        }
        let content = match same {
            Some(known) => known.content,
            None => Content {
                digest: seen.digest,
                sha1: seen.sha1,
                since: (news == News::Happened).then_some(seen.version),
                born: news == News::Happened && known.is_none(),
            },
        };
        namespace.sources.insert(
            seen.key.clone(),
            Source {
                content,
                marks: seen.marks,
            },
        );
        self.interested(&seen.namespace, &seen.key)
    }

    /// A source is gone. Returns the workloads it can roll.
    pub fn remove_source(&mut self, namespace: &str, key: &SourceKey) -> Vec<WorkloadKey> {
        let interested = self.interested(namespace, key);
        let removed = self
            .namespaces
            .get_mut(namespace)
            .and_then(|namespace| namespace.sources.remove(key));
        if removed.is_some() { interested } else { Vec::new() }
    }

    /// A list of sources is complete: what it did not contain is gone.
    pub fn listed_sources(
        &mut self,
        scope: Scope<SourceKind>,
        seen: &HashSet<(String, String)>,
    ) -> Vec<WorkloadKey> {
        let mut gone = Vec::new();
        for (name, namespace) in &self.namespaces {
            if scope.namespace.as_ref().is_some_and(|only| only != name) {
                continue;
            }
            let keys = namespace.sources.keys().filter(|key| key.kind == scope.kind);
            let missing = keys.filter(|key| !seen.contains(&(name.clone(), key.name.clone())));
            gone.extend(missing.map(|key| (name.clone(), key.clone())));
        }
        self.listed.insert(scope);
        gone.into_iter()
            .flat_map(|(namespace, key)| self.remove_source(&namespace, &key))
            .collect()
    }

    /// Takes in a workload. Returns whether it has to be looked at.
    pub fn put_workload(&mut self, mut workload: Workload, news: News) -> bool {
        if workload.controlled || !workload.policy.opted_in(self.auto_all) {
            self.remove_workload(&workload.key);
            return false;
        }
        let local = (workload.key.kind, workload.key.name.clone());
        let known = self
            .namespaces
            .get(&workload.key.namespace)
            .and_then(|namespace| namespace.workloads.get(&local));
        if let Some(known) = known.filter(|known| known.uid == workload.uid) {
            // An event that was on its way while our own write was answered.
            if news == News::Happened && workload.version != 0 && workload.version < known.version {
                return false;
            }
            workload.template_since = if known.template == workload.template {
                known.template_since
            } else {
                (news == News::Happened).then_some(workload.version)
            };
        } else {
            workload.template_since = (news == News::Happened).then_some(workload.version);
        }
        self.remove_workload(&workload.key);
        if workload.baseline.is_none()
            && let Some((uid, baseline)) = self.remembered.get(&workload.key)
            && *uid == workload.uid
        {
            workload.baseline = Some(baseline.clone());
        }
        let namespace = self.namespaces.entry(workload.key.namespace.clone()).or_default();
        for source in users_of(&workload) {
            namespace.users.entry(source).or_default().insert(local.clone());
        }
        if SourceKind::ALL
            .into_iter()
            .any(|kind| has_expression(&workload, kind))
        {
            namespace.expressions.insert(local.clone());
        }
        namespace.workloads.insert(local, workload);
        true
    }

    /// Keeps a baseline that could not be written to the workload: as long as this process lives.
    pub fn remember(&mut self, key: &WorkloadKey, uid: &str, baseline: Baseline) {
        let namespace = self.namespaces.get_mut(&key.namespace);
        let local = (key.kind, key.name.clone());
        if let Some(workload) = namespace.and_then(|namespace| namespace.workloads.get_mut(&local)) {
            workload.baseline = Some(baseline.clone());
        }
        self.remembered.insert(key.clone(), (uid.to_owned(), baseline));
    }

    /// A workload is gone for good.
    pub fn forget(&mut self, key: &WorkloadKey) {
        self.remove_workload(key);
        self.remembered.remove(key);
    }

    /// A workload is gone.
    pub fn remove_workload(&mut self, key: &WorkloadKey) {
        let Some(namespace) = self.namespaces.get_mut(&key.namespace) else {
            return;
        };
        let local = (key.kind, key.name.clone());
        let Some(workload) = namespace.workloads.remove(&local) else {
            return;
        };
        for source in users_of(&workload) {
            if let Some(users) = namespace.users.get_mut(&source) {
                users.remove(&local);
                if users.is_empty() {
                    namespace.users.remove(&source);
                }
            }
        }
        namespace.expressions.remove(&local);
    }

    /// A list of workloads is complete: what it did not contain is gone.
    pub fn listed_workloads(&mut self, scope: &Scope<WorkloadKind>, seen: &HashSet<(String, String)>) {
        let gone: Vec<_> = self
            .workloads()
            .map(|workload| &workload.key)
            .filter(|key| key.kind == scope.kind)
            .filter(|key| scope.namespace.as_ref().is_none_or(|only| *only == key.namespace))
            .filter(|key| !seen.contains(&(key.namespace.clone(), key.name.clone())))
            .cloned()
            .collect();
        for key in gone {
            self.remove_workload(&key);
        }
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

    /// What can roll a workload: every source its policy and references select.
    pub fn dependencies(&self, workload: &Workload) -> Vec<Dependency> {
        let mut candidates = users_of(workload);
        let empty = Namespace::default();
        let namespace = self.namespaces.get(&workload.key.namespace).unwrap_or(&empty);
        for kind in SourceKind::ALL
            .into_iter()
            .filter(|kind| has_expression(workload, *kind))
        {
            candidates.extend(namespace.sources.keys().filter(|key| key.kind == kind).cloned());
        }
        let mut dependencies = Vec::new();
        for source in candidates {
            let known = namespace.sources.get(&source);
            let relation = Relation {
                name: &source.name,
                marks: known.map(|known| known.marks).unwrap_or_default(),
                referenced: workload.references.contains(&source),
                auto_all: self.auto_all,
            };
            let Some(cause) = workload.policy.rules(source.kind).cause(relation) else {
                continue;
            };
            let presence = match known {
                Some(known) => Presence::Present(known.content),
                None if self.has_listed(source.kind, &workload.key.namespace) => Presence::Missing,
                None => Presence::Unknown,
            };
            dependencies.push(Dependency {
                source,
                presence,
                cause,
            });
        }
        dependencies
    }

    fn has_listed(&self, kind: SourceKind, namespace: &str) -> bool {
        self.listed.contains(&Scope {
            kind,
            namespace: None,
        }) || self.listed.contains(&Scope {
            kind,
            namespace: Some(namespace.to_owned()),
        })
    }

    fn interested(&self, namespace: &str, source: &SourceKey) -> Vec<WorkloadKey> {
        let Some(known) = self.namespaces.get(namespace) else {
            return Vec::new();
        };
        let users = known.users.get(source).into_iter().flatten();
        let by_expression = known.expressions.iter().filter(|local| {
            let workload = known.workloads.get(*local);
            workload.is_some_and(|w| {
                w.policy
                    .rules(source.kind)
                    .named
                    .iter()
                    .any(|name| name.matches(&source.name))
            })
        });
        let all: BTreeSet<_> = users.chain(by_expression).collect();
        let key = |(kind, name): &LocalWorkload| WorkloadKey {
            namespace: namespace.to_owned(),
            kind: *kind,
            name: name.clone(),
        };
        all.into_iter().map(key).collect()
    }
}

fn users_of(workload: &Workload) -> BTreeSet<SourceKey> {
    let mut sources: BTreeSet<SourceKey> = workload.references.iter().cloned().collect();
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
#[path = "index_tests.rs"]
mod tests;
