//! Sources come and go.

use std::collections::{BTreeSet, HashSet};

use super::{Index, LocalWorkload, News, Scope, SeenSource, Source};
use crate::{
    decide::Content,
    source::{SourceKey, SourceKind},
    workload::WorkloadKey,
};

impl Index {
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

    // Whom a source can roll.
    pub(super) fn interested(&self, namespace: &str, source: &SourceKey) -> Vec<WorkloadKey> {
        let foreign = self.foreign.get(&(namespace.to_owned(), source.clone()));
        let foreign = foreign.into_iter().flatten();
        let Some(known) = self.namespaces.get(namespace) else {
            return foreign.cloned().collect();
        };
        let users = known.users.get(source).into_iter().flatten();
        let by_expression = known
            .expressions
            .iter()
            .filter(|local| known.names_by_expression(local, source));
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
