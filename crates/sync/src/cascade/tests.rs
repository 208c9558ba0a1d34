use super::*;

fn id(kind: &str, namespace: &str, name: &str) -> ObjectId {
    Identity {
        namespace: namespace.into(),
        group: String::new(),
        kind: kind.into(),
        name: name.into(),
    }
    .into()
}

fn ks(name: &str) -> ObjectId {
    kustomization(&Owner {
        namespace: "n".into(),
        name: name.into(),
    })
}

fn holding(objects: usize, children: &[&str]) -> Holding {
    Holding {
        objects: [(None, objects)].into(),
        children: children.iter().map(|name| (ks(name), None)).collect(),
        unknown: None,
    }
}

/// `own` deletes; `a` holds 5 objects and `b`, which holds 3 and, going round, `a`; `lonely` holds 7.
fn cascade() -> Cascade {
    Cascade {
        own: Some(ks("own")),
        kustomizations: [
            (ks("own"), Holding::default()),
            (ks("a"), holding(5, &["b"])),
            (ks("b"), holding(3, &["a"])),
            (ks("lonely"), holding(7, &[])),
        ]
        .into(),
        ..Cascade::default()
    }
}

fn objects(cascade: &Cascade, roots: &[ObjectId], all: &[ObjectId]) -> usize {
    cascade
        .fall(&roots.iter().collect(), &all.iter().collect())
        .objects
}

#[test]
fn a_kustomization_weighs_what_it_holds_and_each_counts_once() {
    let cascade = cascade();
    let map = id("ConfigMap", "n", "x");
    for (roots, expected) in [
        (vec![map.clone()], 1),
        (vec![ks("lonely")], 8),
        // One of which nothing is known takes nothing with it: it is gone, suspended, or orphans its objects.
        (vec![ks("gone")], 1),
        (vec![ks("a")], 1 + 5 + 1 + 3),
        (vec![ks("b")], 1 + 3 + 1 + 5),
        (vec![ks("a"), ks("b"), map.clone()], 2 + 5 + 3 + 1),
        (vec![ks("own"), map], 2),
    ] {
        assert_eq!(objects(&cascade, &roots, &roots), expected, "{roots:?}");
    }
}

#[test]
fn one_that_has_the_one_that_deletes_takes_all_of_it() {
    let mut cascade = cascade();
    let all = [ks("a"), ks("lonely"), id("ConfigMap", "n", "x")];
    cascade.kustomizations.insert(ks("b"), holding(3, &["own"]));
    assert_eq!(
        objects(&cascade, &[ks("a")], &all),
        3 + 5 + 1 + 3 + 7 + 1,
        "all three, what a, b and lonely hold, b itself, and the one that deletes"
    );
}

#[test]
fn what_is_inherited_goes_only_with_its_heir() {
    let mut cascade = cascade();
    let moving = Holding {
        objects: [(None, 2), (Some(ks("lonely")), 40)].into(),
        children: vec![(ks("b"), Some(ks("lonely")))],
        unknown: None,
    };
    cascade.kustomizations.insert(ks("a"), moving);
    cascade.kustomizations.insert(ks("b"), holding(3, &[]));
    let all = [ks("a"), ks("lonely")];
    assert_eq!(objects(&cascade, &[ks("a")], &all), 1 + 2);
    assert_eq!(objects(&cascade, &all, &all), 2 + 2 + 40 + 7 + 1 + 3);
}

#[test]
fn what_is_not_known_anywhere_below_is_said() {
    let mut cascade = cascade();
    if let Some(b) = cascade.kustomizations.get_mut(&ks("b")) {
        b.unknown = Some("no answer".into());
    }
    let all = [ks("a"), ks("lonely")];
    let unknown = |roots: &[ObjectId]| {
        let fall = cascade.fall(&roots.iter().collect(), &all.iter().collect());
        fall.unknown
    };
    assert_eq!(unknown(&[ks("a")]), Some((ks("b"), "no answer".into())));
    assert_eq!(unknown(&[ks("lonely")]), None);
}

#[test]
fn namespaces_and_kinds_hold_what_is_in_them() {
    let crd = Identity {
        namespace: String::new(),
        group: CRDS.into(),
        kind: "CustomResourceDefinition".into(),
        name: "things.example.org".into(),
    };
    let crd = ObjectId::from(crd);
    let thing = |group: &str, kind: &str| {
        ObjectId::from(Identity {
            namespace: "n".into(),
            group: group.into(),
            kind: kind.into(),
            name: "x".into(),
        })
    };
    let space = Scope::of(&id("Namespace", "", "n"), |_, _| None).unwrap();
    let known = Scope::of(&crd, |group, plural| {
        (group == "example.org" && plural == "things").then(|| "Thing".to_owned())
    })
    .unwrap();
    let unknown = Scope::of(&crd, |_, _| None).unwrap();
    assert_eq!(Scope::of(&id("ConfigMap", "n", "x"), |_, _| None), None);
    for (object, expected) in [
        (thing("example.org", "Thing"), [true, true, true]),
        (thing("example.org", "Other"), [true, false, true]),
        (thing("other.org", "Thing"), [true, false, false]),
        (id("Namespace", "", "n"), [false, false, false]),
        (id("ConfigMap", "n2", "n"), [false, false, false]),
    ] {
        let entry = crate::inventory::encode(&object);
        for (scope, expected) in [&space, &known, &unknown].into_iter().zip(expected) {
            assert_eq!(scope.holds(&object), expected, "{scope:?} {object}");
            assert!(scope.may_hold(&entry) || !expected, "{scope:?} {entry}");
        }
    }
}
