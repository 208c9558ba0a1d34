//! Pure: what else goes when an object is deleted. With a Kustomization go the objects that it applied, because its
//! finalizer deletes them; with a Namespace all that is in it; with a CustomResourceDefinition all objects of its kind.

mod observe;

pub(crate) use observe::deletes;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use crate::{
    cluster::live::Owner,
    object::{Identity, ObjectId},
};

const KUSTOMIZE: &str = "kustomize.toolkit.fluxcd.io";
const CRDS: &str = "apiextensions.k8s.io";

/// What is known of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cascade {
    /// The Kustomization that deletes.
    pub own: Option<ObjectId>,
    /// The Kustomizations whose end deletes objects, as far as deletions can reach them.
    pub kustomizations: BTreeMap<ObjectId, Holding>,
    /// What is in the objects that Git dropped and that hold others.
    pub scopes: BTreeMap<ObjectId, Scope>,
    /// Those that hold objects of other Kustomizations.
    pub occupied: BTreeMap<ObjectId, Occupied>,
}

/// What goes with a Kustomization.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holding {
    /// So many objects, by the Kustomization that inherits them: then they go only if that one goes, too.
    pub objects: BTreeMap<Option<ObjectId>, usize>,
    /// Kustomizations whose end deletes objects, and who inherits them.
    pub children: Vec<(ObjectId, Option<ObjectId>)>,
    /// Why more may go with it than is known.
    pub unknown: Option<String>,
}

/// What an object holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All that is in a namespace.
    Namespace(String),
    /// All objects of a kind.
    Kind {
        /// API group.
        group: String,
        /// Kind; `None` where only the group is known.
        kind: Option<String>,
    },
}

/// Who has objects in an object that Git dropped. They would go with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Occupied {
    /// The Kustomization itself, which keeps them.
    Own {
        /// One of them.
        one: ObjectId,
        /// How many there are.
        objects: usize,
    },
    /// Another one.
    Other {
        /// Which.
        owner: Owner,
        /// How many it has.
        objects: usize,
        /// Whether it is about to delete them.
        leaves: bool,
    },
    /// That cannot be known now.
    Unknown {
        /// Whose objects are not known.
        owner: Owner,
        /// Why.
        why: String,
    },
}

/// How much goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fall {
    /// Objects, each counted once.
    pub objects: usize,
    /// A Kustomization of which it is not known what goes with it, and why.
    pub unknown: Option<(ObjectId, String)>,
}

/// The identity of a Kustomization as an object.
pub fn kustomization(owner: &Owner) -> ObjectId {
    let identity = Identity {
        namespace: owner.namespace.clone(),
        group: KUSTOMIZE.into(),
        kind: "Kustomization".into(),
        name: owner.name.clone(),
    };
    identity.into()
}

/// The other way round; `None` for what is none.
pub fn as_kustomization(id: &ObjectId) -> Option<Owner> {
    let is_one = id.group == KUSTOMIZE && id.kind == "Kustomization";
    is_one.then(|| Owner {
        namespace: id.namespace.clone(),
        name: id.name.clone(),
    })
}

impl Cascade {
    /// What goes when `roots` do, they themselves included. `all` is the inventory of the Kustomization that deletes: it goes
    /// as a whole when one of those that go has this Kustomization itself.
    pub fn fall<'i>(&'i self, roots: &BTreeSet<&'i ObjectId>, all: &BTreeSet<&'i ObjectId>) -> Fall {
        let mut reached = self.reached(roots);
        let mut gone = roots;
        if let Some(own) = &self.own
            && reached.contains(own)
        {
            gone = all;
            reached.extend(self.reached(gone));
        }
        let mut fall = Fall {
            objects: gone.len() + reached.iter().filter(|id| !gone.contains(*id)).count(),
            unknown: None,
        };
        for id in &reached {
            let Some(holding) = self.kustomizations.get(*id) else {
                continue;
            };
            let goes = |heir: &Option<ObjectId>| heir.as_ref().is_none_or(|heir| reached.contains(heir));
            let counts = holding.objects.iter().filter(|(heir, _)| goes(heir));
            fall.objects += counts.map(|(_, count)| count).sum::<usize>();
            if let (None, Some(why)) = (&fall.unknown, &holding.unknown) {
                fall.unknown = Some(((*id).clone(), why.clone()));
            }
        }
        fall
    }

    /// The Kustomizations that go when `roots` do, each once, however they hold one another.
    fn reached<'i>(&'i self, roots: &BTreeSet<&'i ObjectId>) -> BTreeSet<&'i ObjectId> {
        // What deletes does not delete itself.
        let is_other = |id: &&ObjectId| self.own.as_ref() != Some(*id);
        let known = |id: &&ObjectId| self.kustomizations.contains_key(*id);
        let mut reached: BTreeSet<&ObjectId> = roots.iter().copied().filter(is_other).filter(known).collect();
        loop {
            let holdings = reached.iter().filter_map(|id| self.kustomizations.get(*id));
            let children = holdings.flat_map(|holding| &holding.children);
            let goes = |heir: &Option<ObjectId>| heir.as_ref().is_none_or(|heir| reached.contains(heir));
            let more: Vec<&ObjectId> = children
                .filter(|(child, heir)| goes(heir) && !reached.contains(child))
                .map(|(child, _)| child)
                .collect();
            if more.is_empty() {
                return reached;
            }
            reached.extend(more);
        }
    }
}

impl Scope {
    /// What `id` holds; `kind_of` says which kind a CustomResourceDefinition defines.
    pub fn of(id: &ObjectId, kind_of: impl FnOnce(&str, &str) -> Option<String>) -> Option<Self> {
        match (id.group.as_str(), id.kind.as_str()) {
            ("", "Namespace") => Some(Self::Namespace(id.name.clone())),
            (CRDS, "CustomResourceDefinition") => {
                let (plural, group) = id.name.split_once('.')?;
                Some(Self::Kind {
                    group: group.to_owned(),
                    kind: kind_of(group, plural),
                })
            }
            _ => None,
        }
    }

    /// Whether an object is in it.
    pub fn holds(&self, id: &ObjectId) -> bool {
        match self {
            Self::Namespace(namespace) => id.namespace == *namespace,
            Self::Kind { group, kind } => {
                id.group == *group && kind.as_ref().is_none_or(|kind| id.kind == *kind)
            }
        }
    }

    /// Whether the entry of an inventory may be in it: what the entry says is not taken apart for it.
    pub fn may_hold(&self, entry: &str) -> bool {
        match self {
            Self::Namespace(namespace) => entry
                .strip_prefix(namespace.as_str())
                .is_some_and(|rest| rest.starts_with('_')),
            Self::Kind { group, .. } => entry.contains(&format!("_{group}_")),
        }
    }
}

impl Occupied {
    /// Whether it is over by itself soon.
    pub fn is_leaving(&self) -> bool {
        matches!(self, Self::Other { leaves: true, .. })
    }

    /// The other Kustomization.
    pub fn other(&self) -> Option<&Owner> {
        match self {
            Self::Own { .. } => None,
            Self::Other { owner, .. } | Self::Unknown { owner, .. } => Some(owner),
        }
    }
}

impl fmt::Display for Occupied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own { one, objects: 1 } => write!(f, "{one} would go with it, which stays"),
            Self::Own { one, objects } => write!(
                f,
                "{one} and {} more object(s) of this Kustomization would go with it, which stay",
                objects - 1
            ),
            Self::Other { owner, objects, .. } => write!(
                f,
                "{objects} object(s) of the Kustomization {}/{} would go with it",
                owner.namespace, owner.name
            ),
            Self::Unknown { owner, why } => write!(
                f,
                "it is not known what of the Kustomization {}/{} would go with it: {why}",
                owner.namespace, owner.name
            ),
        }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
