//! Pure: the inventory in a Kustomization's status, in Flux's encoding `<namespace>_<name>_<group>_<kind>`.
//! Names of RBAC objects may hold colons, which are written as `__`.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    api::{ResourceInventory, ResourceRef},
    object::{Identity, ObjectId},
};

/// What we own: identity and the version it was last applied in.
pub type Inventory = BTreeMap<ObjectId, Arc<str>>;

/// Encodes an identity.
pub fn encode(id: &ObjectId) -> String {
    format!(
        "{}_{}_{}_{}",
        id.namespace,
        id.name.replace(':', "__"),
        id.group,
        id.kind
    )
}

/// Decodes an entry; `None` for what no version of Flux or Plumbline writes.
pub fn decode(id: &str) -> Option<ObjectId> {
    let (namespace, rest) = id.split_once('_')?;
    let (rest, kind) = rest.rsplit_once('_')?;
    let (name, group) = rest.rsplit_once('_')?;
    if name.is_empty() || kind.is_empty() {
        return None;
    }
    let identity = Identity {
        namespace: namespace.to_owned(),
        group: group.to_owned(),
        kind: kind.to_owned(),
        name: name.replace("__", ":"),
    };
    Some(identity.into())
}

/// An inventory as it is written, and as it is worked with.
#[derive(Clone, Debug, Default)]
pub struct Recorded {
    /// As the status has it; `None` when it has none.
    pub written: Option<Arc<ResourceInventory>>,
    /// What can be read of it.
    pub entries: Arc<Inventory>,
    /// What cannot, and stays.
    unreadable: Arc<[ResourceRef]>,
}

impl Recorded {
    /// Reads a status, unless `known` came from this very one.
    pub fn read(status: Option<&Arc<ResourceInventory>>, known: Option<Self>) -> Self {
        let same = |known: &Self| match (&known.written, status) {
            (Some(known), Some(status)) => Arc::ptr_eq(known, status),
            (known, status) => known.is_none() && status.is_none(),
        };
        known.filter(same).unwrap_or_else(|| {
            let (entries, unreadable) = read(status.map(AsRef::as_ref));
            Self {
                written: status.cloned(),
                entries: Arc::new(entries),
                unreadable: unreadable.into(),
            }
        })
    }

    /// The same with other entries.
    #[must_use]
    pub fn with(&self, entries: Inventory) -> Self {
        Self {
            written: Some(Arc::new(write(&entries, &self.unreadable))),
            entries: Arc::new(entries),
            unreadable: Arc::clone(&self.unreadable),
        }
    }
}

/// Reads a status. Entries that cannot be read are returned beside it: they must survive, never be dropped.
fn read(status: Option<&ResourceInventory>) -> (Inventory, Vec<ResourceRef>) {
    let mut inventory = Inventory::new();
    let mut unreadable = Vec::new();
    for entry in status
        .map(|inventory| inventory.entries.as_slice())
        .unwrap_or_default()
    {
        match decode(&entry.id) {
            Some(id) => drop(inventory.insert(id, Arc::from(entry.v.as_str()))),
            None => unreadable.push(entry.clone()),
        }
    }
    (inventory, unreadable)
}

fn write(inventory: &Inventory, unreadable: &[ResourceRef]) -> ResourceInventory {
    let mut entries: Vec<ResourceRef> = inventory
        .iter()
        .map(|(id, version)| ResourceRef {
            id: encode(id),
            v: version.to_string(),
        })
        .collect();
    entries.extend_from_slice(unreadable);
    ResourceInventory { entries }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(namespace: &str, name: &str, group: &str, kind: &str) -> ObjectId {
        Identity {
            namespace: namespace.into(),
            group: group.into(),
            kind: kind.into(),
            name: name.into(),
        }
        .into()
    }

    #[test]
    fn encodes_as_flux_does() {
        for (id, text) in [
            (
                id("default", "podinfo", "", "Service"),
                "default_podinfo__Service",
            ),
            (
                id("default", "podinfo", "apps", "Deployment"),
                "default_podinfo_apps_Deployment",
            ),
            (id("", "demo", "", "Namespace"), "_demo__Namespace"),
            (
                id("", "system:metrics", "rbac.authorization.k8s.io", "ClusterRole"),
                "_system__metrics_rbac.authorization.k8s.io_ClusterRole",
            ),
        ] {
            assert_eq!(encode(&id), text);
            assert_eq!(decode(text), Some(id));
        }
    }

    #[test]
    fn what_cannot_be_read_is_kept() {
        let status = ResourceInventory {
            entries: vec![ResourceRef {
                id: "junk".into(),
                v: "v1".into(),
            }],
        };
        let (inventory, unreadable) = read(Some(&status));
        assert!(inventory.is_empty());
        assert_eq!(write(&inventory, &unreadable), status);
    }
}
