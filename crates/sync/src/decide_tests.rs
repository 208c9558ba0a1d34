use super::*;
use crate::object::{Gvk, Identity};

fn id(kind: &str, name: &str) -> ObjectId {
    Identity {
        namespace: "demo".into(),
        group: String::new(),
        kind: kind.into(),
        name: name.into(),
    }
    .into()
}

fn candidate(kind: &str, name: &str, need: Need) -> Candidate {
    Candidate {
        id: id(kind, name),
        version: "v1".into(),
        stage: order::stage(Gvk::parse("v1", kind)),
        need,
    }
}

fn inventory(names: impl IntoIterator<Item = String>) -> Inventory {
    names
        .into_iter()
        .map(|name| (id("ConfigMap", &name), "v1".into()))
        .collect()
}

fn observed<'a>(candidates: &'a [Candidate], inventory: &'a Inventory) -> Observed<'a> {
    static NONE: BTreeSet<Unplaced> = BTreeSet::new();
    static ALONE: Cascade = Cascade {
        own: None,
        kustomizations: BTreeMap::new(),
        scopes: BTreeMap::new(),
        occupied: BTreeMap::new(),
    };
    Observed {
        candidates,
        unplaced: &NONE,
        knowledge: Knowledge::Complete,
        inventory,
        prune: Prune::Delete,
        revision: "main@sha1:1",
        confirmed: None,
        budget: 50,
        cascade: &ALONE,
    }
}

fn budget(deletions: usize, of: usize, nested: &[(ObjectId, usize)]) -> Held {
    Held::Budget {
        deletions,
        of,
        nested: nested.to_vec(),
    }
}

#[test]
fn nothing_needed_is_nothing_done() {
    let inventory = inventory(["a".to_owned()]);
    let plan = decide(&observed(
        &[candidate("ConfigMap", "a", Need::Nothing)],
        &inventory,
    ));
    assert_eq!(plan, Plan::default());
    assert!(plan.is_noop());
}

#[test]
fn new_objects_are_in_the_inventory_before_they_are_made_and_in_stages() {
    let inventory = inventory(["a".to_owned()]);
    let candidates = [
        candidate("Pod", "p", Need::First),
        candidate("ConfigMap", "a", Need::Changed),
        candidate("Namespace", "n", Need::First),
    ];
    let plan = decide(&observed(&candidates, &inventory));
    assert_eq!(
        plan.apply,
        [
            (Stage::Definitions, 2),
            (Stage::Configuration, 1),
            (Stage::Workloads, 0)
        ]
    );
    assert_eq!(plan.write_ahead.unwrap().len(), 3);
}

#[test]
fn changes_alone_write_no_inventory_ahead() {
    let inventory = inventory(["a".to_owned()]);
    let plan = decide(&observed(
        &[candidate("ConfigMap", "a", Need::Missing)],
        &inventory,
    ));
    assert_eq!((plan.apply.len(), plan.write_ahead), (1, None));
}

#[test]
fn what_git_dropped_is_deleted_only_when_pruning() {
    let inventory = inventory(["a".to_owned(), "b".to_owned()]);
    let candidates = [candidate("ConfigMap", "a", Need::Nothing)];
    let mut seen = observed(&candidates, &inventory);
    assert_eq!(decide(&seen).delete, [id("ConfigMap", "b")]);
    seen.prune = Prune::Keep;
    let plan = decide(&seen);
    assert_eq!(
        (plan.delete.len(), plan.kept, plan.held),
        (0, vec![id("ConfigMap", "b")], None)
    );
}

#[test]
fn nothing_is_deleted_on_incomplete_knowledge() {
    let inventory = inventory(["a".to_owned()]);
    for (knowledge, held) in [
        (Knowledge::Partial, Held::Partial),
        (Knowledge::Empty, Held::Empty),
    ] {
        let mut seen = observed(&[], &inventory);
        seen.knowledge = knowledge;
        let plan = decide(&seen);
        assert_eq!((plan.delete.len(), plan.held), (0, Some((held, 1))));
        assert_eq!(plan.kept.len(), 1);
    }
}

#[test]
fn an_object_of_unknown_scope_protects_its_namesakes() {
    let inventory = inventory(["a".to_owned(), "b".to_owned()]);
    let unplaced = [Unplaced {
        group: String::new(),
        kind: "ConfigMap".into(),
        name: "a".into(),
    }]
    .into();
    let mut seen = observed(&[], &inventory);
    seen.unplaced = &unplaced;
    assert_eq!(decide(&seen).delete, [id("ConfigMap", "b")]);
}

#[test]
fn a_mass_deletion_waits_for_its_revision_to_be_confirmed() {
    let eleven = inventory((0..11).map(|i| format!("c{i:02}")));
    let five: Vec<_> = (0..5)
        .map(|i| candidate("ConfigMap", &format!("c{i:02}"), Need::Nothing))
        .collect();
    let mut seen = observed(&five, &eleven);
    assert_eq!(decide(&seen).held, Some((budget(6, 11, &[]), 6)));
    seen.confirmed = Some("main@sha1:0");
    assert!(decide(&seen).held.is_some());
    seen.confirmed = Some("main@sha1:1");
    assert_eq!(decide(&seen).delete.len(), 6);
}

#[test]
fn half_of_an_inventory_or_a_small_one_needs_no_confirmation() {
    let twelve = inventory((0..12).map(|i| format!("c{i:02}")));
    let six: Vec<_> = (0..6)
        .map(|i| candidate("ConfigMap", &format!("c{i:02}"), Need::Nothing))
        .collect();
    assert_eq!(decide(&observed(&six, &twelve)).delete.len(), 6);
    let ten = inventory((0..10).map(|i| format!("c{i:02}")));
    let one = [candidate("ConfigMap", "c00", Need::Nothing)];
    assert_eq!(decide(&observed(&one, &ten)).delete.len(), 9);
}

#[test]
fn deletion_goes_through_the_stages_backwards() {
    let inventory: Inventory = ["Namespace", "Pod", "ConfigMap"]
        .map(|kind| (id(kind, "x"), "v1".into()))
        .into_iter()
        .collect();
    let kinds: Vec<_> = decide(&observed(&[], &inventory))
        .delete
        .into_iter()
        .map(|id| id.kind.clone())
        .collect();
    assert_eq!(kinds, ["Pod", "ConfigMap", "Namespace"]);
}

fn child(name: &str) -> ObjectId {
    crate::cascade::kustomization(&crate::cluster::live::Owner {
        namespace: "demo".into(),
        name: name.into(),
    })
}

/// Three objects and a Kustomization, and what goes with it.
fn parent(holding: crate::cascade::Holding) -> (Inventory, Vec<Candidate>, Cascade) {
    let mut all = inventory(["a", "b", "c"].map(str::to_owned));
    all.insert(child("shop"), "v1".into());
    let kept = ["a", "b", "c"].map(|name| candidate("ConfigMap", name, Need::Nothing));
    let cascade = Cascade {
        kustomizations: [(child("shop"), holding)].into(),
        ..Cascade::default()
    };
    (all, kept.to_vec(), cascade)
}

#[test]
fn a_kustomization_counts_with_what_it_holds() {
    let holds = |count| crate::cascade::Holding {
        objects: [(None, count)].into(),
        ..Default::default()
    };
    let (all, kept, cascade) = parent(holds(40));
    let mut seen = observed(&kept, &all);
    seen.cascade = &cascade;
    let expected = budget(41, 44, &[(child("shop"), 40)]);
    let plan = decide(&seen);
    assert_eq!(plan.held, Some((expected.clone(), 1)));
    assert_eq!((plan.delete, plan.kept), (vec![], vec![child("shop")]));
    assert_eq!(
        expected.to_string(),
        "41 of 44 objects would be deleted, including 40 object(s) of the Kustomization demo/shop"
    );
    seen.confirmed = Some("main@sha1:1");
    assert_eq!(decide(&seen).delete, [child("shop")]);
    // A few objects are no mass, and what stays elsewhere is no excuse for what goes here.
    let (all, kept, cascade) = parent(holds(6));
    let mut seen = observed(&kept, &all);
    seen.cascade = &cascade;
    assert_eq!(decide(&seen).delete, [child("shop")]);
    let mut eleven = inventory((0..11).map(|i| format!("c{i:02}")));
    eleven.insert(child("shop"), "v1".into());
    let shop = [Candidate {
        id: child("shop"),
        ..candidate("Kustomization", "shop", Need::Nothing)
    }];
    let cascade = Cascade {
        kustomizations: [(child("shop"), holds(1000))].into(),
        ..Cascade::default()
    };
    let mut seen = observed(&shop, &eleven);
    seen.cascade = &cascade;
    assert_eq!(decide(&seen).held, Some((budget(11, 12, &[]), 11)));
}

#[test]
fn what_cannot_be_weighed_is_not_deleted_unless_somebody_says_so() {
    let (all, kept, cascade) = parent(crate::cascade::Holding {
        unknown: Some("no answer".into()),
        ..Default::default()
    });
    let mut seen = observed(&kept, &all);
    seen.cascade = &cascade;
    let held = Held::Unweighed {
        id: child("shop"),
        why: "no answer".into(),
    };
    assert_eq!(decide(&seen).held, Some((held, 1)));
    seen.confirmed = Some("main@sha1:1");
    assert_eq!(decide(&seen).delete, [child("shop")]);
}

#[test]
fn a_namespace_that_holds_what_stays_is_occupied() {
    use crate::cascade::Scope;
    let space: Inventory = [(id("Namespace", "space"), "v1".into())].into();
    let space = space.into_keys().next().unwrap();
    let mut all = inventory(["a", "b"].map(str::to_owned));
    all.insert(space.clone(), "v1".into());
    let cascade = Cascade {
        scopes: [(space.clone(), Scope::Namespace("demo".into()))].into(),
        ..Cascade::default()
    };
    let kept = [candidate("ConfigMap", "a", Need::Nothing)];
    let mut seen = observed(&kept, &all);
    seen.cascade = &cascade;
    let own = Occupied::Own {
        one: id("ConfigMap", "a"),
        objects: 1,
    };
    let plan = decide(&seen);
    assert_eq!(plan.occupied, [(space.clone(), own)].into());
    assert_eq!(
        plan.delete,
        [id("ConfigMap", "b"), space],
        "a look at it is taken"
    );
    // With everything in it gone from Git it goes, too.
    let other = [candidate("ConfigMap", "z", Need::Nothing)];
    let elsewhere = Cascade {
        scopes: [(id("Namespace", "space"), Scope::Namespace("other".into()))].into(),
        ..Cascade::default()
    };
    let mut seen = observed(&other, &all);
    seen.cascade = &elsewhere;
    assert!(decide(&seen).occupied.is_empty());
}
