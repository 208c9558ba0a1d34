//! What a pod template references, which keys of it, and which container Stakater would mark for it.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use k8s_openapi::api::core::v1::{Container, KeyToPath, PodSpec, Volume, VolumeMount};

use crate::source::{SourceKey, SourceKind};

/// The CSI driver's attribute that names a SecretProviderClass.
const CLASS_ATTRIBUTE: &str = "secretProviderClass";

/// Which keys of a source are used. `None`: all.
pub type Keys = Option<BTreeSet<String>>;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Use {
    // The position of the container that gets its variable.
    container: usize,
    keys: Keys,
}

/// Every referenced source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct References {
    // In order. Most have one or two, and thousands of workloads are kept: a map would take several times the room.
    found: Box<[(SourceKey, Use)]>,
}

#[derive(Default)]
struct Found(BTreeMap<SourceKey, Use>);

impl References {
    /// The references of a pod template: mounted volumes first, then variables.
    pub fn of(spec: &PodSpec) -> Self {
        let mut found = Found::default();
        let volumes: BTreeMap<&str, Vec<(SourceKey, Keys)>> = spec
            .volumes
            .iter()
            .flatten()
            .map(|volume| (volume.name.as_str(), mounted(volume)))
            .collect();
        let init = spec.init_containers.as_deref().unwrap_or_default();
        let mounts = |container: &Container| -> Vec<(SourceKey, Keys)> {
            let mounts = container.volume_mounts.iter().flatten();
            mounts
                .filter_map(|mount| Some((mount, volumes.get(mount.name.as_str())?)))
                .flat_map(|(mount, sources)| narrowed(mount, sources))
                .collect()
        };
        found.add(&spec.containers, mounts, |position| position);
        // A source that only an init container uses marks the first container.
        found.add(init, mounts, |_| 0);
        found.add(&spec.containers, variables, |position| position);
        found.add(init, variables, |_| 0);
        Self {
            found: found.0.into_iter().collect(),
        }
    }

    /// Forgets which keys are used, for those to whom it makes no difference.
    pub fn forget_keys(&mut self) {
        for (_, found) in &mut self.found {
            found.keys = None;
        }
    }

    /// Whether a source is referenced.
    pub fn contains(&self, source: &SourceKey) -> bool {
        self.of_source(source).is_some()
    }

    /// The position of the container that gets the source's variable: the first one for a source without reference.
    pub fn container(&self, source: &SourceKey) -> usize {
        self.of_source(source).map_or(0, |found| found.container)
    }

    /// The keys of a source that are used, if it is not used as a whole.
    pub fn keys(&self, source: &SourceKey) -> Option<&BTreeSet<String>> {
        self.of_source(source)?.keys.as_ref()
    }

    /// All referenced sources.
    pub fn iter(&self) -> impl Iterator<Item = &SourceKey> {
        self.found.iter().map(|(source, _)| source)
    }

    fn of_source(&self, source: &SourceKey) -> Option<&Use> {
        let at = self.found.binary_search_by(|(known, _)| known.cmp(source)).ok()?;
        self.found.get(at).map(|(_, found)| found)
    }
}

impl Found {
    fn add(
        &mut self,
        containers: &[Container],
        uses: impl Fn(&Container) -> Vec<(SourceKey, Keys)>,
        place: impl Fn(usize) -> usize,
    ) {
        for (position, container) in containers.iter().enumerate() {
            for (source, keys) in uses(container) {
                match self.0.entry(source) {
                    Entry::Vacant(entry) => drop(entry.insert(Use {
                        container: place(position),
                        keys,
                    })),
                    Entry::Occupied(mut entry) => {
                        let known = &mut entry.get_mut().keys;
                        match (known.as_mut(), keys) {
                            (Some(known), Some(keys)) => known.extend(keys),
                            _ => *known = None,
                        }
                    }
                }
            }
        }
    }
}

fn mounted(volume: &Volume) -> Vec<(SourceKey, Keys)> {
    let mut sources = Vec::new();
    let mut add = |kind, name: &str, items: Option<&Vec<KeyToPath>>| {
        if !name.is_empty() {
            let keys = items.map(|items| items.iter().map(|item| item.key.clone()).collect());
            sources.push((SourceKey::new(kind, name), keys));
        }
    };
    if let Some(map) = &volume.config_map {
        add(SourceKind::ConfigMap, &map.name, map.items.as_ref());
    }
    if let Some(secret) = &volume.secret
        && let Some(name) = &secret.secret_name
    {
        add(SourceKind::Secret, name, secret.items.as_ref());
    }
    for projection in volume
        .projected
        .iter()
        .flat_map(|projected| projected.sources.iter().flatten())
    {
        if let Some(map) = &projection.config_map {
            add(SourceKind::ConfigMap, &map.name, map.items.as_ref());
        }
        if let Some(secret) = &projection.secret {
            add(SourceKind::Secret, &secret.name, secret.items.as_ref());
        }
    }
    let attributes = volume.csi.as_ref().and_then(|csi| csi.volume_attributes.as_ref());
    if let Some(name) = attributes.and_then(|attributes| attributes.get(CLASS_ATTRIBUTE)) {
        add(SourceKind::SecretProviderClass, name, None);
    }
    sources
}

// A mount of one file of a whole volume uses one key.
fn narrowed(mount: &VolumeMount, sources: &[(SourceKey, Keys)]) -> Vec<(SourceKey, Keys)> {
    let file = mount.sub_path.as_deref().filter(|path| !path.is_empty());
    let file = file.and_then(|path| path.split('/').next());
    match (sources, file) {
        ([(source, None)], Some(key)) => vec![(source.clone(), Some(BTreeSet::from([key.to_owned()])))],
        _ => sources.to_vec(),
    }
}

fn variables(container: &Container) -> Vec<(SourceKey, Keys)> {
    let mut sources = Vec::new();
    let one = |key: &String| Some(BTreeSet::from([key.clone()]));
    for from in container
        .env
        .iter()
        .flatten()
        .filter_map(|variable| variable.value_from.as_ref())
    {
        if let Some(key) = &from.config_map_key_ref {
            sources.push((SourceKey::new(SourceKind::ConfigMap, &key.name), one(&key.key)));
        }
        if let Some(key) = &from.secret_key_ref {
            sources.push((SourceKey::new(SourceKind::Secret, &key.name), one(&key.key)));
        }
    }
    for from in container.env_from.iter().flatten() {
        if let Some(map) = &from.config_map_ref {
            sources.push((SourceKey::new(SourceKind::ConfigMap, &map.name), None));
        }
        if let Some(secret) = &from.secret_ref {
            sources.push((SourceKey::new(SourceKind::Secret, &secret.name), None));
        }
    }
    sources.retain(|(source, _)| !source.name.is_empty());
    sources
}

#[cfg(test)]
#[path = "references_tests.rs"]
mod tests;
