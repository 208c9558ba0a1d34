//! Pure: the inventory in a Kustomization's status, in Flux's encoding `<namespace>_<name>_<group>_<kind>`.
//! Names of RBAC objects may hold colons, which are written as `__`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    sync::Arc,
};

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

/// Whose inventory it is, and how much of it the status takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Home {
    /// Namespace of the Kustomization.
    pub namespace: String,
    /// UID of the Kustomization.
    pub uid: String,
    /// Entries that stand in the status; more are in shards. 0 means as many as have room.
    pub limit: usize,
}

impl Home {
    /// The ConfigMap of a shard. The status names it as an entry: that is how a new process knows of it.
    pub fn shard(&self, number: u16) -> ObjectId {
        Identity {
            namespace: self.namespace.clone(),
            group: String::new(),
            kind: "ConfigMap".into(),
            name: format!("{SHARD_PREFIX}{}-{number}", self.uid),
        }
        .into()
    }

    fn shard_number(&self, id: &ObjectId) -> Option<u16> {
        if id.kind != "ConfigMap" || !id.group.is_empty() || id.namespace != self.namespace {
            return None;
        }
        let of_this = id
            .name
            .strip_prefix(SHARD_PREFIX)?
            .strip_prefix(self.uid.as_str())?;
        of_this.strip_prefix('-')?.parse().ok()
    }
}

/// Start of the names of shards.
pub const SHARD_PREFIX: &str = "plumbline-inventory-";
/// Entries of a shard.
const SHARD: usize = 5_000;
/// Bytes of entries in a status, whatever their number: etcd takes 1.5 MiB an object, and conditions need room too.
const STATUS_BYTES: usize = 1 << 20;
/// Bytes of entries in a shard: a ConfigMap takes 1 MiB.
const SHARD_BYTES: usize = 900_000;
/// What an entry takes beside its names and version, in either place.
const ENTRY_BYTES: usize = 24;

/// An inventory as it is written, and as it is worked with. An entry never moves between the status and a shard, but for
/// one that the status has no room for any more: so there is no moment at which it stands nowhere.
#[derive(Clone, Debug, Default)]
pub struct Recorded {
    /// As the status has it; `None` when it has none.
    pub written: Option<Arc<ResourceInventory>>,
    /// What can be read of it.
    pub entries: Arc<Inventory>,
    /// What cannot, and stays.
    unreadable: Arc<[ResourceRef]>,
    home: Arc<Home>,
    /// The shards of the entries that are not in the status.
    sharded: Arc<BTreeMap<ObjectId, u16>>,
    /// Shards that the status names and that have not been read.
    pub unread: Vec<u16>,
}

impl Recorded {
    /// Reads a status, unless `known` came from this very one. Shards are to be added by [`Self::add_shard`].
    pub fn read(status: Option<&Arc<ResourceInventory>>, known: Option<Self>, home: &Home) -> Self {
        let same = |known: &Self| match (&known.written, status) {
            (Some(known), Some(status)) => Arc::ptr_eq(known, status),
            (known, status) => known.is_none() && status.is_none(),
        };
        known.filter(same).unwrap_or_else(|| {
            let (mut entries, unreadable) = read(status.map(AsRef::as_ref));
            let mut unread = Vec::new();
            entries.retain(|id, _| match home.shard_number(id) {
                Some(number) => {
                    unread.push(number);
                    false
                }
                None => true,
            });
            Self {
                written: status.cloned(),
                entries: Arc::new(entries),
                unreadable: unreadable.into(),
                home: Arc::new(home.clone()),
                sharded: Arc::default(),
                unread,
            }
        })
    }

    /// What a shard's ConfigMap holds.
    pub fn add_shard(&mut self, number: u16, text: &str) {
        self.unread.retain(|unread| *unread != number);
        let (entries, sharded) = (Arc::make_mut(&mut self.entries), Arc::make_mut(&mut self.sharded));
        for line in text.lines() {
            let (id, version) = line.split_once(' ').unwrap_or((line, ""));
            // Written by us alone, and from entries that could be read.
            if let Some(id) = decode(id)
                && !entries.contains_key(&id)
            {
                entries.insert(id.clone(), Arc::from(version));
                sharded.insert(id, number);
            }
        }
    }

    /// The same with other entries.
    #[must_use]
    pub fn with(&self, entries: Inventory) -> Self {
        let mut sharded: BTreeMap<ObjectId, u16> = self
            .sharded
            .iter()
            .filter(|(id, _)| entries.contains_key(*id))
            .map(|(id, number)| (id.clone(), *number))
            .collect();
        let limit = match self.home.limit {
            0 => usize::MAX,
            limit => limit,
        };
        let mut too_many = (entries.len() - sharded.len()).saturating_sub(limit);
        let in_status = entries.iter().filter(|(id, _)| !sharded.contains_key(*id));
        let mut too_large = in_status
            .map(|(id, version)| size(id, version))
            .sum::<usize>()
            .saturating_sub(STATUS_BYTES);
        if too_many > 0 || too_large > 0 {
            let in_status = |id: &&ObjectId| !self.sharded.contains_key(*id);
            let (old, new): (Vec<&ObjectId>, Vec<&ObjectId>) = entries
                .keys()
                .filter(in_status)
                .partition(|id| self.entries.contains_key(*id));
            let mut sizes: BTreeMap<u16, (usize, usize)> = BTreeMap::new();
            let size_of = |id: &ObjectId| size(id, entries.get(id).map(AsRef::as_ref).unwrap_or_default());
            for (id, number) in &sharded {
                let of = sizes.entry(*number).or_default();
                *of = (of.0 + 1, of.1 + size_of(id));
            }
            // What is new goes first: it stands nowhere yet.
            for id in new.into_iter().rev().chain(old.into_iter().rev()) {
                if too_many == 0 && too_large == 0 {
                    break;
                }
                let bytes = size_of(id);
                let has_room = |number: &u16| {
                    sizes
                        .get(number)
                        .is_none_or(|of| of.0 < SHARD && of.1 + bytes <= SHARD_BYTES)
                };
                let Some(number) = (0..u16::MAX).find(has_room) else {
                    break;
                };
                let of = sizes.entry(number).or_default();
                *of = (of.0 + 1, of.1 + bytes);
                sharded.insert(id.clone(), number);
                too_many = too_many.saturating_sub(1);
                too_large = too_large.saturating_sub(bytes);
            }
        }
        let shards: BTreeSet<u16> = sharded
            .values()
            .copied()
            .chain(self.unread.iter().copied())
            .collect();
        let mut written = write(
            entries.iter().filter(|(id, _)| !sharded.contains_key(*id)),
            &self.unreadable,
        );
        written
            .entries
            .extend(shards.into_iter().map(|number| ResourceRef {
                id: encode(&self.home.shard(number)),
                v: "v1".into(),
            }));
        Self {
            written: Some(Arc::new(written)),
            entries: Arc::new(entries),
            unreadable: Arc::clone(&self.unreadable),
            home: Arc::clone(&self.home),
            sharded: Arc::new(sharded),
            unread: self.unread.clone(),
        }
    }

    /// The shards that differ from those of `before`: what their ConfigMaps have to hold, nothing where one is to go.
    pub fn changed_shards(&self, before: &Self) -> BTreeMap<u16, Option<String>> {
        if Arc::ptr_eq(&self.sharded, &before.sharded) && Arc::ptr_eq(&self.entries, &before.entries) {
            return BTreeMap::new();
        }
        let (old, mut new) = (before.texts(), self.texts());
        let mut changed: BTreeMap<u16, Option<String>> = BTreeMap::new();
        for (number, text) in old {
            match new.remove(&number) {
                Some(same) if same == text => {}
                other => drop(changed.insert(number, other)),
            }
        }
        changed.extend(new.into_iter().map(|(number, text)| (number, Some(text))));
        changed
    }

    fn texts(&self) -> BTreeMap<u16, String> {
        let mut texts: BTreeMap<u16, String> = BTreeMap::new();
        for (id, number) in &*self.sharded {
            let version = self.entries.get(id).map(AsRef::as_ref).unwrap_or_default();
            // Writing to a String cannot fail.
            let _ = writeln!(texts.entry(*number).or_default(), "{} {version}", encode(id));
        }
        texts
    }
}

/// What an entry takes in a status or a shard, as JSON and at most.
fn size(id: &ObjectId, version: &str) -> usize {
    // Colons are written as two characters.
    let name = id.name.len() + id.name.matches(':').count();
    id.namespace.len() + name + id.group.len() + id.kind.len() + version.len() + ENTRY_BYTES
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

fn write<'a>(
    inventory: impl Iterator<Item = (&'a ObjectId, &'a Arc<str>)>,
    unreadable: &[ResourceRef],
) -> ResourceInventory {
    let mut entries: Vec<ResourceRef> = inventory
        .map(|(id, version)| ResourceRef {
            id: encode(id),
            v: version.to_string(),
        })
        .collect();
    entries.extend_from_slice(unreadable);
    ResourceInventory { entries }
}

#[cfg(test)]
#[path = "inventory_tests.rs"]
mod tests;
