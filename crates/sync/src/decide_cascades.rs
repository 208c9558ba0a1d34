//! What goes with what is deleted counts, too: Kustomizations that hold objects and one another, Namespaces that hold objects
//! of several of them, in any shape; what decides is the real thing, and what would happen then is played through.

use std::collections::{BTreeMap, BTreeSet};

use proptest::{collection, prelude::*};

use super::*;
use crate::{
    cascade::{Holding, Scope, kustomization},
    cluster::live::Owner,
    object::Identity,
};

const KUSTOMIZATIONS: usize = 5;
const SPACES: u8 = 3;
const BUDGET: u8 = 50;

/// One Kustomization; the first of them decides.
#[derive(Clone, Debug)]
struct Model {
    /// How many objects it has in each namespace.
    objects: Vec<u8>,
    children: BTreeSet<usize>,
    /// Whether its end deletes what it has.
    deletes: bool,
    /// Whether all that it has can be read.
    is_known: bool,
}

fn model() -> impl Strategy<Value = Model> {
    (
        collection::vec(prop_oneof![2 => Just(0_u8), 1 => 1..20_u8], usize::from(SPACES)),
        collection::btree_set(0..KUSTOMIZATIONS, 0..3),
        prop::bool::weighted(0.8),
        prop::bool::weighted(0.9),
    )
        .prop_map(|(objects, children, deletes, is_known)| Model {
            objects,
            children,
            deletes,
            is_known,
        })
}

fn id(kind: &str, namespace: &str, name: String) -> ObjectId {
    Identity {
        namespace: namespace.into(),
        group: String::new(),
        kind: kind.into(),
        name,
    }
    .into()
}

fn child(number: usize) -> ObjectId {
    kustomization(&Owner {
        namespace: "home".into(),
        name: format!("k{number}"),
    })
}

fn space(number: u8) -> ObjectId {
    id("Namespace", "", format!("space-{number}"))
}

struct World(Vec<Model>);

impl World {
    fn leaves(&self, number: usize) -> BTreeSet<ObjectId> {
        let mut all = BTreeSet::new();
        for (space, count) in self.0[number].objects.iter().enumerate() {
            let namespace = format!("space-{space}");
            all.extend((0..*count).map(|n| id("ConfigMap", &namespace, format!("k{number}-{n}"))));
        }
        all
    }

    /// The first one has the namespaces, too.
    fn inventory(&self, number: usize) -> BTreeSet<ObjectId> {
        let mut all = self.leaves(number);
        all.extend(self.0[number].children.iter().map(|n| child(*n)));
        if number == 0 {
            all.extend((0..SPACES).map(space));
        }
        all
    }

    /// As it is told to `decide`.
    fn cascade(&self, surplus: &BTreeSet<ObjectId>) -> Cascade {
        let holding = |number: usize| {
            let model = &self.0[number];
            let holding = if model.is_known {
                Holding {
                    objects: [(None, self.leaves(number).len())].into(),
                    children: model.children.iter().map(|n| (child(*n), None)).collect(),
                    unknown: None,
                }
            } else {
                Holding {
                    unknown: Some("no answer".into()),
                    ..Holding::default()
                }
            };
            (child(number), holding)
        };
        let others = (1..self.0.len()).filter(|n| self.0[*n].deletes);
        let mut cascade = Cascade {
            own: Some(child(0)),
            kustomizations: others.map(holding).collect(),
            ..Cascade::default()
        };
        cascade.kustomizations.insert(child(0), Holding::default());
        for number in 0..SPACES {
            let scope = Scope::Namespace(format!("space-{number}"));
            let inside = |n: &usize| self.leaves(*n).iter().filter(|id| scope.holds(id)).count();
            let occupant = (1..self.0.len()).find(|n| inside(n) > 0);
            if let Some(occupant) = occupant.filter(|_| surplus.contains(&space(number))) {
                let occupied = Occupied::Other {
                    owner: Owner {
                        namespace: "home".into(),
                        name: format!("k{occupant}"),
                    },
                    objects: inside(&occupant),
                    leaves: false,
                };
                cascade.occupied.insert(space(number), occupied);
            }
            if surplus.contains(&space(number)) {
                cascade.scopes.insert(space(number), scope);
            }
        }
        cascade
    }

    /// Deletes an object and plays finalizers. Whether an inventory was followed that cannot be read.
    fn delete(&self, id: &ObjectId, gone: &mut BTreeSet<ObjectId>) -> bool {
        if !gone.insert(id.clone()) {
            return false;
        }
        let number = (0..self.0.len()).find(|n| child(*n) == *id);
        let Some(number) = number.filter(|n| *n == 0 || self.0[*n].deletes) else {
            return false;
        };
        let mut blind = !self.0[number].is_known && number != 0;
        for held in self.inventory(number) {
            // One that decides about itself keeps itself.
            if !(number == 0 && held == child(0)) {
                blind |= self.delete(&held, gone);
            }
        }
        blind
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2048, ..ProptestConfig::default() })]

    #[test]
    fn what_goes_with_others_is_in_the_budget_and_nothing_goes_from_under_others(
        models in collection::vec(model(), KUSTOMIZATIONS),
        drops in collection::vec(any::<bool>(), 64),
        confirm in prop::bool::weighted(0.3),
    ) {
        let world = World(models);
        let all = world.inventory(0);
        let mut drops = drops.into_iter().chain(std::iter::repeat(false));
        let (surplus, kept): (BTreeSet<ObjectId>, BTreeSet<ObjectId>) =
            all.iter().cloned().partition(|id| *id != child(0) && drops.next() == Some(true));
        let inventory: Inventory = all.iter().map(|id| (id.clone(), "v1".into())).collect();
        let candidates: Vec<Candidate> = kept
            .iter()
            .map(|id| Candidate {
                id: id.clone(),
                version: "v1".into(),
                stage: stage_of(id),
                need: Need::Nothing,
            })
            .collect();
        let cascade = world.cascade(&surplus);
        let plan = decide(&Observed {
            candidates: &candidates,
            unplaced: &BTreeSet::new(),
            knowledge: Knowledge::Complete,
            inventory: &inventory,
            prune: Prune::Delete,
            revision: "r1",
            confirmed: confirm.then_some("r1"),
            budget: BUDGET,
            cascade: &cascade,
        });
        let mut gone = BTreeSet::new();
        let mut blind = false;
        for id in plan.delete.iter().filter(|id| !plan.occupied.contains_key(id)) {
            if let Some(scope) = cascade.scopes.get(id) {
                let others = (0..KUSTOMIZATIONS).flat_map(|n| world.leaves(n));
                let mut inside = others.filter(|other| scope.holds(other));
                let under = inside.find(|other| !plan.delete.contains(other));
                prop_assert!(under.is_none(), "{id} goes from under {under:?}");
            }
            blind |= world.delete(id, &mut gone);
        }
        let mut whole = BTreeSet::new();
        for id in &all {
            world.delete(id, &mut whole);
        }
        let is_over = whole.len() > SMALL_INVENTORY && gone.len() * 100 > whole.len() * usize::from(BUDGET);
        prop_assert!(confirm || !blind, "deleted without knowing how much: {gone:?}");
        prop_assert!(confirm || !is_over, "{} of {} deleted: {gone:?}", gone.len(), whole.len());
        // What is held says no more than would really go.
        if let Some((Held::Budget { deletions, of, .. }, _)) = &plan.held {
            let mut would = BTreeSet::new();
            for id in &surplus {
                world.delete(id, &mut would);
            }
            prop_assert!(*deletions <= would.len() && *of <= whole.len(), "{deletions} of {of}: {would:?}");
        }
        // And no excuse for never deleting anything.
        if confirm {
            prop_assert_eq!(plan.delete.len(), surplus.len());
        }
    }
}

/// Kept simple on purpose: the shapes that matter are made, and some of them are held and some not.
#[test]
fn both_ends_are_reached() {
    let model = |objects: u8, children: &[usize]| Model {
        objects: vec![objects, 0, 0],
        children: children.iter().copied().collect(),
        deletes: true,
        is_known: true,
    };
    let world = World(vec![model(1, &[1]), model(2, &[2]), model(8, &[1])]);
    let mut gone = BTreeSet::new();
    assert!(!world.delete(&child(1), &mut gone));
    assert_eq!(gone.len(), 1 + 2 + 1 + 8);
    let counts: BTreeMap<usize, usize> = (0..3).map(|n| (n, world.inventory(n).len())).collect();
    assert_eq!(counts, [(0, 5), (1, 3), (2, 9)].into());
}
