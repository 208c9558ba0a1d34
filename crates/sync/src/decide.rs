//! Pure: from what was observed to what is done.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fmt::{self, Write as _},
    sync::Arc,
};

use crate::{
    cascade::{Cascade, Occupied, as_kustomization},
    cluster::live::Need,
    inventory::Inventory,
    object::{Gvk, ObjectId},
    order::{self, Stage},
};

/// Inventories up to this size have no deletion budget.
const SMALL_INVENTORY: usize = 10;
/// Kustomizations that a message names.
const NAMED: usize = 5;

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
    /// What else would go with what Git dropped.
    pub cascade: &'a Cascade,
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
#[derive(Clone, Debug, PartialEq, Eq)]
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
        /// The Kustomizations among those that would be deleted, and how many objects would go with each.
        nested: Vec<(ObjectId, usize)>,
    },
    /// How much would go with a Kustomization is not known.
    Unweighed {
        /// The Kustomization.
        id: ObjectId,
        /// Why it is not known.
        why: String,
    },
}

/// What is done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Indices of candidates to apply, by stage.
    pub apply: Vec<(Stage, usize)>,
    /// Objects to delete, in order.
    pub delete: Vec<ObjectId>,
    /// Those among them that have to stay as long as others are in them.
    pub occupied: BTreeMap<ObjectId, Occupied>,
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
    plan.occupied = occupied(seen, &surplus);
    match (surplus.is_empty(), seen.prune, hold(seen, &surplus)) {
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

/// What of the surplus holds objects that stay.
fn occupied(seen: &Observed<'_>, surplus: &[ObjectId]) -> BTreeMap<ObjectId, Occupied> {
    let mut occupied = seen.cascade.occupied.clone();
    if seen.cascade.scopes.is_empty() {
        return occupied;
    }
    let goes: HashSet<&ObjectId> = surplus.iter().collect();
    let wanted = seen.candidates.iter().map(|candidate| &candidate.id);
    let stays: BTreeSet<&ObjectId> = wanted
        .chain(seen.inventory.keys().filter(|id| !goes.contains(id)))
        .collect();
    for (id, scope) in &seen.cascade.scopes {
        let mut inside = stays.iter().filter(|other| scope.holds(other));
        if let Some(one) = inside.next() {
            let own = Occupied::Own {
                one: (*one).clone(),
                objects: inside.count() + 1,
            };
            occupied.insert(id.clone(), own);
        }
    }
    occupied
}

fn hold(seen: &Observed<'_>, surplus: &[ObjectId]) -> Option<Held> {
    match seen.knowledge {
        Knowledge::Partial => return Some(Held::Partial),
        Knowledge::Empty => return Some(Held::Empty),
        Knowledge::Complete => {}
    }
    if seen.confirmed == Some(seen.revision) {
        return None;
    }
    let all: BTreeSet<&ObjectId> = seen.inventory.keys().collect();
    let fall = |roots: &BTreeSet<&ObjectId>| seen.cascade.fall(roots, &all);
    let goes = fall(&surplus.iter().collect());
    if let Some((id, why)) = goes.unknown {
        return Some(Held::Unweighed { id, why });
    }
    let over =
        |deletions: usize, of: usize| of > SMALL_INVENTORY && deletions * 100 > of * usize::from(seen.budget);
    // Neither measure excuses the other: what a child holds that stays does not make more go of what is here.
    let (here, of_here) = (surplus.len(), seen.inventory.len());
    let (deletions, of) = (goes.objects, fall(&all).objects);
    let (deletions, of) = match (over(deletions, of), over(here, of_here)) {
        (true, _) => (deletions, of),
        (false, true) => (here, of_here),
        (false, false) => return None,
    };
    let with = |id: &ObjectId| fall(&[id].into()).objects - 1;
    let nested = surplus.iter().filter(|id| as_kustomization(id).is_some());
    let nested = nested.map(|id| (id.clone(), with(id)));
    let nested = if deletions > here {
        nested.filter(|(_, count)| *count > 0).collect()
    } else {
        Vec::new()
    };
    Some(Held::Budget {
        deletions,
        of,
        nested,
    })
}

impl Held {
    /// Which Kustomizations have a part in it: `, including 100 object(s) of the Kustomization apps/shop`.
    pub fn nested(&self) -> String {
        let Self::Budget { nested, .. } = self else {
            return String::new();
        };
        let mut text = String::new();
        for (index, (id, count)) in nested.iter().take(NAMED).enumerate() {
            let and = if index == 0 { ", including" } else { " and" };
            // Writing to a String cannot fail.
            let _ = write!(
                text,
                "{and} {count} object(s) of the Kustomization {}/{}",
                id.namespace, id.name
            );
        }
        let others: usize = nested.iter().skip(NAMED).map(|(_, count)| count).sum();
        if others > 0 {
            let _ = write!(text, " and {others} of others");
        }
        text
    }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Partial => f.write_str("nothing is deleted until every manifest can be read"),
            Self::Empty => f.write_str("nothing is deleted, because the path holds no manifest"),
            Self::Budget { deletions, of, .. } => {
                write!(f, "{deletions} of {of} objects would be deleted{}", self.nested())
            }
            Self::Unweighed { id, why } => write!(
                f,
                "nothing is deleted, because it is not known how many objects would go with the Kustomization {}/{}: {why}",
                id.namespace, id.name
            ),
        }
    }
}

#[cfg(test)]
#[path = "decide_cascades.rs"]
mod cascades;
#[cfg(test)]
#[path = "decide_properties.rs"]
mod properties;
#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
