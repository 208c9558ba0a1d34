//! What can roll a workload, and what is known of it.

use std::collections::BTreeSet;

use super::{Index, Namespace, Scope, Source, at_home, has_expression, users_of};
use crate::{
    annotations::{Cause, Marks, Relation},
    content::key_id,
    decide::{Content, Dependency, Presence},
    digest::merge,
    source::{SourceKey, SourceKind},
    workload::Workload,
};

impl Index {
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
