//! No input in Git, and no failure, may delete an object that this sync did not create or was not handed, that it still
//! wants, or that exceeds the deletion budget. Arbitrary commits, failures, crashes and hands in a model of a cluster;
//! what decides is the real thing.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use proptest::{collection, prelude::*, sample::Index};

use super::*;
use crate::{
    act::{self, Change},
    api::{ADOPTED, OWNER_NAME, OWNER_NAMESPACE},
    cluster::{live::Owner, requests::RequestError},
    manifest::Desired,
    object::Identity,
    observe::Observation,
    outcome::inventory_after,
    prune::{Removal, reason_to_keep},
};

/// Two Kustomizations, and so many objects that the budget matters.
const SYNCS: usize = 2;
const OBJECTS: u8 = 24;
const BUDGET: u8 = 50;

#[derive(Clone, Debug)]
enum Step {
    /// Git changes what a Kustomization wants: these objects; whether all files can be read; one object without a place.
    Commit(usize, BTreeSet<u8>, Reading, Option<u8>),
    /// The controller looks. These applies are refused or have no answer; the process dies after so many writes.
    Look(usize, BTreeSet<u8>, BTreeSet<u8>, Option<usize>),
    /// Somebody confirms the deletions of the present revision.
    Confirm(usize),
    /// Somebody makes, deletes, protects or relabels an object by hand.
    Hand(u8, Deed),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Reading {
    Whole,
    Partial,
    Empty,
}

#[derive(Clone, Copy, Debug)]
enum Deed {
    Make,
    Delete,
    Protect,
    Unlabel,
    Give(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let sync = 0..SYNCS;
    let some = || collection::btree_set(0..OBJECTS, 0..4);
    // Most commits keep most objects; some drop nearly all.
    let wanted = prop_oneof![
        3 => collection::btree_set(0..OBJECTS, 10..usize::from(OBJECTS)),
        1 => collection::btree_set(0..OBJECTS, 0..6),
    ];
    let reading =
        prop_oneof![6 => Just(Reading::Whole), 1 => Just(Reading::Partial), 1 => Just(Reading::Empty)];
    let crash = prop_oneof![2 => Just(None), 1 => (0..40_usize).prop_map(Some)];
    let deed = prop_oneof![
        Just(Deed::Make),
        Just(Deed::Delete),
        Just(Deed::Protect),
        Just(Deed::Unlabel),
        sync.clone().prop_map(Deed::Give)
    ];
    prop_oneof![
        3 => (sync.clone(), wanted, reading, prop::option::weighted(0.1, 0..OBJECTS))
            .prop_map(|(sync, wanted, reading, lost)| Step::Commit(sync, wanted, reading, lost)),
        6 => (sync.clone(), some(), some(), crash)
            .prop_map(|(sync, refused, away, crash)| Step::Look(sync, refused, away, crash)),
        1 => sync.prop_map(Step::Confirm),
        2 => (0..OBJECTS, deed).prop_map(|(object, deed)| Step::Hand(object, deed)),
    ]
}

/// An object of the cluster.
#[derive(Clone, Debug)]
struct Thing {
    label: Option<usize>,
    adopted: bool,
    protected: bool,
    /// Who made it, or was handed it; `None`: somebody by hand. Only the test knows.
    truly_of: Option<usize>,
    /// Who made it by an apply.
    made_by: Option<usize>,
}

impl Thing {
    fn metadata(&self) -> ObjectMeta {
        let owner = self.label.map(owner);
        let labels = owner.map(|owner| {
            BTreeMap::from([
                (OWNER_NAME.to_owned(), owner.name),
                (OWNER_NAMESPACE.to_owned(), owner.namespace),
            ])
        });
        let mut annotations = BTreeMap::new();
        if self.adopted {
            annotations.insert(ADOPTED.to_owned(), "true".to_owned());
        }
        if self.protected {
            annotations.insert(
                "kustomize.toolkit.fluxcd.io/prune".to_owned(),
                "disabled".to_owned(),
            );
        }
        ObjectMeta {
            labels,
            annotations: Some(annotations),
            ..ObjectMeta::default()
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Sync {
    /// As the API server has it.
    inventory: Inventory,
    wanted: BTreeSet<u8>,
    reading: Option<Reading>,
    lost: Option<u8>,
    revision: u32,
    confirmed: Option<u32>,
}

#[derive(Debug, Default)]
struct World {
    things: BTreeMap<u8, Thing>,
    syncs: [Sync; SYNCS],
    deleted: usize,
    held: usize,
}

fn owner(sync: usize) -> Owner {
    Owner {
        namespace: "demo".into(),
        name: format!("sync-{sync}"),
    }
}

fn id(number: u8) -> ObjectId {
    Identity {
        namespace: "demo".into(),
        group: String::new(),
        kind: "ConfigMap".into(),
        name: format!("o{number:02}"),
    }
    .into()
}

fn number(id: &ObjectId) -> u8 {
    id.name.trim_start_matches('o').parse().unwrap()
}

/// Writes until the process dies.
struct Alive(Option<usize>);

impl Alive {
    fn write(&mut self) -> bool {
        match &mut self.0 {
            None => true,
            Some(0) => false,
            Some(left) => {
                *left -= 1;
                true
            }
        }
    }
}

impl World {
    fn step(&mut self, step: &Step) {
        match step {
            Step::Commit(sync, wanted, reading, lost) => {
                let sync = &mut self.syncs[*sync];
                sync.wanted.clone_from(wanted);
                sync.reading = Some(*reading);
                sync.lost = *lost;
                sync.revision += 1;
            }
            Step::Confirm(sync) => self.syncs[*sync].confirmed = Some(self.syncs[*sync].revision),
            Step::Look(sync, refused, away, crash) => self.look(*sync, refused, away, Alive(*crash)),
            Step::Hand(object, deed) => self.hand(*object, *deed),
        }
    }

    fn hand(&mut self, object: u8, deed: Deed) {
        match (self.things.get_mut(&object), deed) {
            (None, Deed::Make) => {
                let thing = Thing {
                    label: None,
                    adopted: false,
                    protected: false,
                    truly_of: None,
                    made_by: None,
                };
                self.things.insert(object, thing);
            }
            (Some(_), Deed::Delete) => drop(self.things.remove(&object)),
            (Some(thing), Deed::Protect) => thing.protected = true,
            (Some(thing), Deed::Unlabel) => {
                thing.label = None;
                thing.truly_of = None;
                thing.made_by = None;
            }
            // Giving the labels of a Kustomization to an object hands it over, unless it is marked as there before.
            (Some(thing), Deed::Give(sync)) => {
                thing.label = Some(sync);
                thing.truly_of = (!thing.adopted).then_some(sync);
                thing.made_by = None;
            }
            _ => {}
        }
    }

    /// What `observe::place` does.
    fn place(&self, me: usize, wanted: &BTreeSet<u8>) -> (Vec<Candidate>, BTreeSet<Unplaced>) {
        let sync = &self.syncs[me];
        let mut unplaced = BTreeSet::new();
        let mut candidates = Vec::new();
        for number in wanted.iter().copied() {
            let id = id(number);
            let label = self.things.get(&number).and_then(|thing| thing.label);
            let claimed =
                label.is_some_and(|other| other != me && self.syncs[other].inventory.contains_key(&id));
            if claimed || sync.lost == Some(number) {
                unplaced.insert(Unplaced {
                    group: String::new(),
                    kind: id.kind.clone(),
                    name: id.name.clone(),
                });
                continue;
            }
            candidates.push(Candidate {
                id,
                version: "v1".into(),
                stage: Stage::Configuration,
                need: Need::First,
            });
        }
        (candidates, unplaced)
    }

    /// What `observe`, `act` and `prune` do around `decide`, in their order, without a cluster.
    fn look(&mut self, me: usize, refused: &BTreeSet<u8>, away: &BTreeSet<u8>, mut alive: Alive) {
        let sync = self.syncs[me].clone();
        let Some(reading) = sync.reading else { return };
        let wanted: BTreeSet<u8> = match reading {
            Reading::Whole => sync.wanted.clone(),
            Reading::Partial => sync.wanted.iter().copied().filter(|n| n % 3 != 0).collect(),
            Reading::Empty => BTreeSet::new(),
        };
        let (candidates, unplaced) = self.place(me, &wanted);
        let revision = format!("r{}", sync.revision);
        let confirmed = sync.confirmed.map(|revision| format!("r{revision}"));
        let plan = decide(&Observed {
            candidates: &candidates,
            unplaced: &unplaced,
            knowledge: match (reading, candidates.is_empty() && unplaced.is_empty()) {
                (Reading::Partial, _) => Knowledge::Partial,
                (_, true) => Knowledge::Empty,
                _ => Knowledge::Complete,
            },
            inventory: &sync.inventory,
            prune: Prune::Delete,
            revision: &revision,
            confirmed: confirmed.as_deref(),
            budget: BUDGET,
            cascade: &Cascade::default(),
        });
        self.held += usize::from(plan.held.is_some());
        let before = sync.inventory.clone();
        if let Some(ahead) = plan.write_ahead.clone() {
            if !alive.write() {
                return;
            }
            self.syncs[me].inventory = ahead;
        }
        let base = self.syncs[me].inventory.clone();
        let mut outcome = act::Outcome::default();
        for (_, index) in &plan.apply {
            let id = &candidates[*index].id;
            let number = number(id);
            if refused.contains(&number) {
                let error = RequestError::Refused {
                    code: 422,
                    message: String::new(),
                };
                outcome.failed.push((*index, error));
                continue;
            }
            if !alive.write() {
                return;
            }
            // With no answer it may or may not have been made.
            if away.contains(&number) {
                outcome
                    .failed
                    .push((*index, RequestError::Unavailable(String::new())));
                if number.is_multiple_of(2) {
                    continue;
                }
            }
            assert!(
                self.syncs[me].inventory.contains_key(id),
                "{id} is made before it is in the inventory"
            );
            let thing = self.things.entry(number).or_insert(Thing {
                label: Some(me),
                adopted: false,
                protected: false,
                truly_of: Some(me),
                made_by: Some(me),
            });
            if thing.label.is_none() {
                thing.adopted = true;
            } else if thing.label != Some(me) && !thing.adopted {
                // Nobody has it in an inventory: it is handed over.
                thing.truly_of = Some(me);
                thing.made_by = None;
            }
            thing.label = Some(me);
            if !away.contains(&number) {
                outcome.applied.insert(id.clone(), Change::Configured);
            }
        }
        let seen = Observation {
            candidates,
            ..Observation::default()
        };
        let troubled = act::troubled_kinds(&outcome, &seen, &Desired::default());
        let removals = self.prune(me, &plan, &troubled, &before, &mut alive);
        if alive.0 == Some(0) {
            return;
        }
        if let Some(after) = inventory_after(&base, &before, &seen, &outcome, &removals)
            && alive.write()
        {
            self.syncs[me].inventory = after;
        }
    }

    fn prune(
        &mut self,
        me: usize,
        plan: &Plan,
        troubled: &BTreeSet<(String, String)>,
        before: &Inventory,
        alive: &mut Alive,
    ) -> BTreeMap<ObjectId, Removal> {
        let mut removals = BTreeMap::new();
        let mut deletions = 0;
        for id in &plan.delete {
            if troubled.contains(&(id.group.clone(), id.kind.clone())) {
                removals.insert(id.clone(), Removal::Waits);
                continue;
            }
            let Some(thing) = self.things.get_mut(&number(id)) else {
                removals.insert(id.clone(), Removal::Gone);
                continue;
            };
            if !alive.write() {
                break;
            }
            if let Some(reason) = reason_to_keep(&thing.metadata(), &owner(me)) {
                if thing.label == Some(me) && thing.adopted {
                    thing.label = None;
                    thing.adopted = false;
                }
                removals.insert(id.clone(), Removal::Released(reason));
                continue;
            }
            let sync = &self.syncs[me];
            assert_eq!(
                thing.truly_of,
                Some(me),
                "{id} was neither made by {me} nor handed to it: {thing:?}"
            );
            assert!(!sync.wanted.contains(&number(id)), "{id} is still wanted");
            assert_eq!(
                sync.reading,
                Some(Reading::Whole),
                "{id} is deleted on incomplete knowledge"
            );
            assert!(!thing.protected, "{id} is protected");
            deletions += 1;
            self.deleted += 1;
            self.things.remove(&number(id));
            removals.insert(id.clone(), Removal::Deleted);
        }
        let over = before.len() > SMALL_INVENTORY && deletions * 100 > before.len() * usize::from(BUDGET);
        let sync = &self.syncs[me];
        assert!(
            !over || sync.confirmed == Some(sync.revision),
            "{deletions} of {} deleted",
            before.len()
        );
        removals
    }
}

impl World {
    /// Whatever happened, what an apply made is in the inventory: nothing is ever orphaned.
    fn has_no_orphans(&self) {
        for (number, thing) in &self.things {
            if let Some(sync) = thing.made_by
                && thing.label == Some(sync)
                && !thing.protected
            {
                let known = self.syncs[sync].inventory.contains_key(&id(*number));
                assert!(known, "o{number} of {sync} is in no inventory");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_deleted_that_must_stay(steps in collection::vec(step(), 1..60)) {
        let mut world = World::default();
        for step in &steps {
            world.step(step);
            world.has_no_orphans();
        }
    }

    /// The same, aimed: a full inventory, then every kind of commit with every kind of failure. Without it a run could
    /// pass by never deleting anything.
    #[test]
    fn a_full_inventory_shrinks_only_as_it_may(
        kept in collection::btree_set(0..OBJECTS, 0..usize::from(OBJECTS)),
        crash in prop::option::of(0..40_usize),
        confirm in any::<bool>(),
        lost in prop::option::of(any::<Index>()),
    ) {
        let all: BTreeSet<u8> = (0..OBJECTS).collect();
        let nothing = BTreeSet::new();
        let mut world = World::default();
        world.step(&Step::Commit(0, all, Reading::Whole, None));
        world.step(&Step::Look(0, nothing.clone(), nothing.clone(), None));
        assert_eq!(world.things.len(), usize::from(OBJECTS));
        let lost = lost.map(|index| u8::try_from(index.index(usize::from(OBJECTS))).unwrap());
        world.step(&Step::Commit(0, kept.clone(), Reading::Whole, lost));
        if confirm {
            world.step(&Step::Confirm(0));
        }
        world.step(&Step::Look(0, nothing.clone(), nothing.clone(), crash));
        world.step(&Step::Look(0, nothing.clone(), nothing, None));
        let going = usize::from(OBJECTS) - kept.len();
        let may = confirm || going * 2 <= usize::from(OBJECTS);
        let expected = if may && !kept.is_empty() { going } else { 0 };
        assert_eq!(world.deleted, expected);
    }
}
