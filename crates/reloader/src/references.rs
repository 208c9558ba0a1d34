//! What a pod template references, and which container Stakater would mark for it.

use std::collections::{BTreeMap, btree_map::Entry};

use k8s_openapi::api::core::v1::{Container, PodSpec, Volume};

use crate::source::{SourceKey, SourceKind};

/// The CSI driver's attribute that names a SecretProviderClass.
const CLASS_ATTRIBUTE: &str = "secretProviderClass";

/// Every referenced source with the position of the container that gets its variable.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct References {
    found: BTreeMap<SourceKey, usize>,
}

impl References {
    /// The references of a pod template: mounted volumes first, then variables.
    pub fn of(spec: &PodSpec) -> Self {
        let mut references = Self::default();
        let volumes: BTreeMap<&str, Vec<SourceKey>> = spec
            .volumes
            .iter()
            .flatten()
            .map(|volume| (volume.name.as_str(), mounted(volume)))
            .collect();
        let init = spec.init_containers.as_deref().unwrap_or_default();
        let mounts = |container: &Container| -> Vec<SourceKey> {
            let mounts = container.volume_mounts.iter().flatten();
            mounts
                .filter_map(|mount| volumes.get(mount.name.as_str()))
                .flatten()
                .cloned()
                .collect()
        };
        references.add(&spec.containers, mounts, |position| position);
        // A source that only an init container uses marks the first container.
        references.add(init, mounts, |_| 0);
        references.add(&spec.containers, variables, |position| position);
        references.add(init, variables, |_| 0);
        references
    }

    /// Whether a source is referenced.
    pub fn contains(&self, source: &SourceKey) -> bool {
        self.found.contains_key(source)
    }

    /// The position of the container that gets the source's variable: the first one for a source without reference.
    pub fn container(&self, source: &SourceKey) -> usize {
        self.found.get(source).copied().unwrap_or(0)
    }

    /// All referenced sources.
    pub fn iter(&self) -> impl Iterator<Item = &SourceKey> {
        self.found.keys()
    }

    fn add(
        &mut self,
        containers: &[Container],
        uses: impl Fn(&Container) -> Vec<SourceKey>,
        place: impl Fn(usize) -> usize,
    ) {
        for (position, container) in containers.iter().enumerate() {
            for source in uses(container) {
                if let Entry::Vacant(entry) = self.found.entry(source) {
                    entry.insert(place(position));
                }
            }
        }
    }
}

fn mounted(volume: &Volume) -> Vec<SourceKey> {
    let mut sources = Vec::new();
    let mut add = |kind, name: &str| {
        if !name.is_empty() {
            sources.push(SourceKey::new(kind, name));
        }
    };
    if let Some(map) = &volume.config_map {
        add(SourceKind::ConfigMap, &map.name);
    }
    if let Some(name) = volume
        .secret
        .as_ref()
        .and_then(|secret| secret.secret_name.as_ref())
    {
        add(SourceKind::Secret, name);
    }
    for projection in volume
        .projected
        .iter()
        .flat_map(|projected| projected.sources.iter().flatten())
    {
        if let Some(map) = &projection.config_map {
            add(SourceKind::ConfigMap, &map.name);
        }
        if let Some(secret) = &projection.secret {
            add(SourceKind::Secret, &secret.name);
        }
    }
    let attributes = volume.csi.as_ref().and_then(|csi| csi.volume_attributes.as_ref());
    if let Some(name) = attributes.and_then(|attributes| attributes.get(CLASS_ATTRIBUTE)) {
        add(SourceKind::SecretProviderClass, name);
    }
    sources
}

fn variables(container: &Container) -> Vec<SourceKey> {
    let mut sources = Vec::new();
    for from in container
        .env
        .iter()
        .flatten()
        .filter_map(|variable| variable.value_from.as_ref())
    {
        if let Some(key) = &from.config_map_key_ref {
            sources.push(SourceKey::new(SourceKind::ConfigMap, &key.name));
        }
        if let Some(key) = &from.secret_key_ref {
            sources.push(SourceKey::new(SourceKind::Secret, &key.name));
        }
    }
    for from in container.env_from.iter().flatten() {
        if let Some(map) = &from.config_map_ref {
            sources.push(SourceKey::new(SourceKind::ConfigMap, &map.name));
        }
        if let Some(secret) = &from.secret_ref {
            sources.push(SourceKey::new(SourceKind::Secret, &secret.name));
        }
    }
    sources.retain(|source| !source.name.is_empty());
    sources
}

#[cfg(test)]
#[path = "references_tests.rs"]
mod tests;
