//! Pure: from what was observed to what is done.

use std::{
    collections::{BTreeSet, HashSet},
    fmt,
    sync::Arc,
};

use crate::{
    cluster::live::Need,
    inventory::Inventory,
    object::{Gvk, ObjectId},
    order::{self, Stage},
};

/// Inventories up to this size have no deletion budget.
const SMALL_INVENTORY: usize = 10;

/// An object that Git wants and that the cluster can have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its identity.
    pub id: ObjectId,
    /// The version it is written in.
    pub version: Arc<str>,
    /// When its turn is.
    pub stage: Stage,
    /// What it needs.
    pub need: Need,
}

/// An object that Git wants but that cannot be identified fully: its kind is unknown, or its namespace is missing.
/// It protects every object of that kind and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Unplaced {
    /// API group.
    pub group: String,
    /// Kind.
    pub kind: String,
    /// Name.
    pub name: String,
}

/// Whether everything that Git wants is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Knowledge {
    /// It is.
    Complete,
    /// Some file or document could not be read.
    Partial,
    /// There is not one object.
    Empty,
}

/// What `decide` looks at.
#[derive(Clone, Copy, Debug)]
pub struct Observed<'a> {
    /// The objects that Git wants, in Git's order.
    pub candidates: &'a [Candidate],
    /// Those that cannot be placed.
    pub unplaced: &'a BTreeSet<Unplaced>,
    /// Whether that is all.
    pub knowledge: Knowledge,
    /// What is ours in the cluster.
    pub inventory: &'a Inventory,
    /// `spec.prune`.
    pub prune: Prune,
    /// The revision as the status prints it.
    pub revision: &'a str,
    /// The revision whose deletions were confirmed by hand.
    pub confirmed: Option<&'a str>,
    /// How much of an inventory may go without confirmation, in percent.
    pub budget: u8,
}

/// Whether objects that Git no longer wants are deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prune {
    /// `spec.prune: true`.
    Delete,
    /// `spec.prune: false`.
    Keep,
}

/// Why deletions do not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// Something could not be read, so what looks removed may only be broken.
    Partial,
    /// The path holds no manifest.
    Empty,
    /// More than the budget.
    Budget {
        /// Objects that would be deleted.
        deletions: usize,
        /// Objects in the inventory.
        of: usize,
    },
}

/// What is done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Indices of candidates to apply, by stage.
    pub apply: Vec<(Stage, usize)>,
    /// Objects to delete, in order.
    pub delete: Vec<ObjectId>,
    /// Why deletions are held back, and how many.
    pub held: Option<(Held, usize)>,
    /// What Git no longer wants and stays: pruning is off, or held. It stays in the inventory.
    pub kept: Vec<ObjectId>,
    /// The inventory to write before anything else is: there are objects in it that may be made now.
    pub write_ahead: Option<Inventory>,
}

impl Plan {
    /// Whether the cluster's objects stay as they are.
    pub fn is_noop(&self) -> bool {
        self.apply.is_empty() && self.delete.is_empty()
    }
}

/// Decides.
pub fn decide(seen: &Observed<'_>) -> Plan {
    let mut plan = Plan::default();
    let mut wanted: HashSet<&ObjectId> = HashSet::with_capacity(seen.candidates.len());
    let mut ahead = None;
    for (index, candidate) in seen.candidates.iter().enumerate() {
        wanted.insert(&candidate.id);
        match candidate.need {
            Need::First | Need::Changed | Need::Missing | Need::Drifted(_) => {
                plan.apply.push((candidate.stage, index));
                if !seen.inventory.contains_key(&candidate.id) {
                    ahead
                        .get_or_insert_with(|| seen.inventory.clone())
                        .insert(candidate.id.clone(), Arc::clone(&candidate.version));
                }
            }
            Need::Nothing | Need::Left | Need::Flapping(_) | Need::Failed(..) => {}
        }
    }
    plan.write_ahead = ahead;
    plan.apply.sort_by_key(|(stage, _)| *stage);

    let mut surplus: Vec<ObjectId> = seen
        .inventory
        .keys()
        .filter(|id| !wanted.contains(id) && !is_protected(id, seen.unplaced))
        .cloned()
        .collect();
    surplus.sort_by_cached_key(|id| std::cmp::Reverse(stage_of(id)));
    match (surplus.is_empty(), seen.prune, hold(seen, surplus.len())) {
        (true, ..) => {}
        (false, Prune::Keep, _) => plan.kept = surplus,
        (false, Prune::Delete, Some(held)) => {
            plan.held = Some((held, surplus.len()));
            plan.kept = surplus;
        }
        (false, Prune::Delete, None) => plan.delete = surplus,
    }
    plan
}

fn is_protected(id: &ObjectId, unplaced: &BTreeSet<Unplaced>) -> bool {
    unplaced.contains(&Unplaced {
        group: id.group.clone(),
        kind: id.kind.clone(),
        name: id.name.clone(),
    })
}

/// The stage of an object whose version no longer matters; deletion goes through the stages backwards.
pub fn stage_of(id: &ObjectId) -> Stage {
    order::stage(Gvk {
        group: &id.group,
        version: "",
        kind: &id.kind,
    })
}

fn hold(seen: &Observed<'_>, deletions: usize) -> Option<Held> {
    match seen.knowledge {
        Knowledge::Partial => return Some(Held::Partial),
        Knowledge::Empty => return Some(Held::Empty),
        Knowledge::Complete => {}
    }
    let of = seen.inventory.len();
    let over = of > SMALL_INVENTORY && deletions * 100 > of * usize::from(seen.budget);
    (over && seen.confirmed != Some(seen.revision)).then_some(Held::Budget { deletions, of })
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Partial => f.write_str("nothing is deleted until every manifest can be read"),
            Self::Empty => f.write_str("nothing is deleted, because the path holds no manifest"),
            Self::Budget { deletions, of } => write!(f, "{deletions} of {of} objects would be deleted"),
        }
    }
}

#[cfg(test)]
#[path = "decide_properties.rs"]
mod properties;
#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
