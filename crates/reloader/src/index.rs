//! All that is known of the cluster: digests of sources, what workloads need, and who uses what. Synchronous and pure.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::{
    annotations::{Cause, Marks, Pattern, Relation},
    content::key_id,
    decide::{Content, Dependency, Presence},
    digest::{Digest, merge},
    kinds::{Progress, WorkloadKind},
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
    // Who names sources of other namespaces, by the sources' namespace and local key.
    foreign: HashMap<(String, SourceKey), BTreeSet<WorkloadKey>>,
    // Workloads rolled by us that are not done yet.
    running: BTreeSet<WorkloadKey>,
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
    pub fn put_source(&mut self, seen: SeenSource, news: News) -> Vec<WorkloadKey> {
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
                keys: seen.keys,
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
            let keys = keys.filter(|key| scope.name.as_ref().is_none_or(|only| *only == key.name));
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
            // As it was observed it has none: what was read stays until it is read again.
            let unread = workload.template_of.is_some() && workload.containers.is_empty();
            if unread && workload.template_of == known.template_of {
                workload.use_template_of(known);
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
        for source in workload.options.iter().flat_map(|options| &options.foreign) {
            let users = self.foreign.entry(at_home(source)).or_default();
            users.insert(workload.key.clone());
        }
        if workload.progress == Progress::Running && workload.last_trigger.is_some() {
            self.running.insert(workload.key.clone());
        }
        namespace.workloads.insert(local, workload);
        true
    }

    /// A workload's template is that of another one, which has been read.
    pub fn use_template_of(&mut self, key: &WorkloadKey, other: &Workload) -> bool {
        let Some(workload) = self.workload(key) else {
            return false;
        };
        if workload.template == other.template && workload.references == other.references {
            return false;
        }
        let mut workload = workload.clone();
        workload.use_template_of(other);
        self.put_workload(workload, News::Listed)
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

    /// A source is not watched any more: whether it exists is not known from now on.
    pub fn unwatch(&mut self, namespace: &str, key: &SourceKey) {
        self.listed.remove(&Scope {
            kind: key.kind,
            namespace: Some(namespace.to_owned()),
            name: Some(key.name.clone()),
        });
        if let Some(known) = self.namespaces.get_mut(namespace) {
            known.sources.remove(key);
        }
    }

    /// Workloads rolled by us whose rollout goes on.
    pub fn running(&self) -> impl Iterator<Item = &Workload> {
        self.running.iter().filter_map(|key| self.workload(key))
    }

    /// The workloads of a namespace that a source can roll.
    pub fn users(&self, namespace: &str, source: &SourceKey) -> impl Iterator<Item = &Workload> {
        let keys = self.interested(namespace, source);
        keys.into_iter().filter_map(|key| self.workload(&key))
    }

    /// The sources of other namespaces that a workload names and that are not shared with it.
    pub fn unshared<'a>(&'a self, workload: &'a Workload) -> impl Iterator<Item = &'a SourceKey> {
        let foreign = workload.options.iter().flat_map(|options| &options.foreign);
        foreign.filter(|source| {
            let (namespace, key) = at_home(source);
            let known = self
                .namespaces
                .get(&namespace)
                .and_then(|known| known.sources.get(&key));
            known.is_some_and(|known| !known.marks.shared(&workload.key.namespace))
        })
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
        self.running.remove(key);
        for source in workload.options.iter().flat_map(|options| &options.foreign) {
            let home = at_home(source);
            if let Some(users) = self.foreign.get_mut(&home) {
                users.remove(key);
                if users.is_empty() {
                    self.foreign.remove(&home);
                }
            }
        }
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
        let dependencies = candidates
            .into_iter()
            .filter_map(|source| self.dependency(workload, source));
        dependencies.collect()
    }

    fn dependency(&self, workload: &Workload, source: SourceKey) -> Option<Dependency> {
        let (home, name) = source.home(&workload.key.namespace);
        let local = SourceKey::new(source.kind, name);
        let known = self
            .namespaces
            .get(home)
            .and_then(|known| known.sources.get(&local));
        let none = Marks::default();
        let marks = known.map_or(&none, |known| &known.marks);
        let rules = workload.policy.rules(source.kind);
        let relation = Relation {
            name: &source.name,
            marks,
            referenced: workload.references.contains(&source),
            auto_all: self.auto_all,
        };
        let foreign = workload.opts(|options| options.foreign.contains(&source));
        let cause = if foreign {
            let excluded = marks.ignore || rules.exclude.contains(&source.name);
            let shared = known.is_none() || marks.shared(&workload.key.namespace);
            (shared && !excluded).then_some(Cause::Shared)?
        } else {
            rules.cause(relation)?
        };
        let keys = workload.references.keys(&source);
        let presence = match known {
            Some(known) => Presence::Present(known.of(keys)),
            // A class is known by the pods that have mounted it: without any it has not changed.
            None if source.kind == SourceKind::SecretProviderClass => Presence::Unknown,
            None if self.has_listed(&local, home) => Presence::Missing,
            None => Presence::Unknown,
        };
        let entry = keys.map_or_else(|| source.clone(), |keys| part(&source, keys));
        Some(Dependency {
            source,
            entry,
            presence,
            cause,
        })
    }

    fn has_listed(&self, source: &SourceKey, namespace: &str) -> bool {
        let scope = |namespace: Option<&str>, name: Option<&str>| Scope {
            kind: source.kind,
            namespace: namespace.map(Into::into),
            name: name.map(Into::into),
        };
        self.listed.contains(&scope(None, None))
            || self.listed.contains(&scope(Some(namespace), None))
            || self.listed.contains(&scope(Some(namespace), Some(&source.name)))
    }

    fn interested(&self, namespace: &str, source: &SourceKey) -> Vec<WorkloadKey> {
        let foreign = self.foreign.get(&(namespace.to_owned(), source.clone()));
        let foreign = foreign.into_iter().flatten();
        let Some(known) = self.namespaces.get(namespace) else {
            return foreign.cloned().collect();
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
        let mut keys: Vec<_> = all.into_iter().map(key).collect();
        keys.extend(foreign.cloned());
        keys
    }
}

impl Source {
    // Its content, or that of some of its keys.
    fn of(&self, keys: Option<&BTreeSet<String>>) -> Content {
        let Some(keys) = keys else { return self.content };
        let digest = |key: &str| {
            let id = key_id(key);
            self.keys
                .iter()
                .find(|(known, _)| *known == id)
                .map(|(_, digest)| digest)
        };
        Content {
            digest: merge(keys.iter().map(|key| (key.as_str(), digest(key)))),
            ..self.content
        }
    }
}

// What some keys of a source are called in the state. Others that come or go are another entry, adopted silently.
fn part(source: &SourceKey, keys: &BTreeSet<String>) -> SourceKey {
    let which = merge(keys.iter().map(|key| (key.as_str(), None))).to_string();
    let which = which.get(..8).unwrap_or_default();
    SourceKey::new(source.kind, format!("{}#{which}", source.name))
}

// A source of another namespace, as that one knows it.
fn at_home(source: &SourceKey) -> (String, SourceKey) {
    let (namespace, name) = source.home("");
    (namespace.to_owned(), SourceKey::new(source.kind, name))
}

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
#[path = "index_tests.rs"]
mod tests;
