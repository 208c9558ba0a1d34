use proptest::{collection, prelude::*};

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
    assert_eq!(write(inventory.iter(), &unreadable), status);
}

fn home() -> Home {
    Home {
        namespace: "flux-system".into(),
        uid: "u-1".into(),
        limit: 4,
    }
}

fn of(numbers: impl IntoIterator<Item = u8>) -> Inventory {
    let numbers = numbers.into_iter();
    numbers
        .map(|n| (id("demo", &format!("o{n:03}"), "", "ConfigMap"), "v1".into()))
        .collect()
}

/// The ConfigMaps of the shards.
type Stored = BTreeMap<u16, String>;

type Write = Box<dyn FnOnce(&mut Stored, &mut Option<Arc<ResourceInventory>>)>;

/// What a new process reads.
fn reread(status: &Arc<ResourceInventory>, stored: &Stored) -> Recorded {
    let mut recorded = Recorded::read(Some(status), None, &home());
    for number in recorded.unread.clone() {
        recorded.add_shard(number, &stored[&number]);
    }
    recorded
}

#[test]
fn what_has_no_room_in_the_status_is_in_shards_that_the_status_names() {
    let empty = Recorded::read(None, None, &home());
    let full = empty.with(of(0..7));
    let status = full.written.clone().unwrap();
    let ids: Vec<_> = status.entries.iter().map(|entry| entry.id.as_str()).collect();
    assert_eq!(ids.len(), 5);
    assert_eq!(ids[4], "flux-system_plumbline-inventory-u-1-0__ConfigMap");
    let changed = full.changed_shards(&empty);
    assert_eq!(changed[&0].as_deref().unwrap().lines().count(), 3);
    assert_eq!(full.changed_shards(&full), BTreeMap::new());
    // As long as a shard was not read, its name stays.
    let unread = Recorded::read(Some(&status), None, &home());
    assert_eq!(
        (unread.unread.as_slice(), unread.entries.len()),
        ([0].as_slice(), 4)
    );
    assert!(
        unread
            .with(of(0..2))
            .written
            .unwrap()
            .entries
            .iter()
            .any(|entry| entry.id == ids[4])
    );
    // The name of a shard of another Kustomization is an entry like any other.
    let other = Home {
        uid: "u-2".into(),
        ..home()
    };
    assert_eq!(
        Recorded::read(Some(&status), None, &other).unread,
        Vec::<u16>::new()
    );
    // A limit that is not there.
    let endless = Home { limit: 0, ..home() };
    assert_eq!(
        Recorded::read(None, None, &endless)
            .with(of(0..200))
            .written
            .unwrap()
            .entries
            .len(),
        200
    );
}

#[test]
fn long_names_have_room_too() {
    // The longest names that Kubernetes takes: 12,000 of them are 4 MiB.
    let namespace = "n".repeat(63);
    let entries: Inventory = (0..12_000)
        .map(|n| (id(&namespace, &format!("{n:0253}"), "", "ConfigMap"), "v1".into()))
        .collect();
    for limit in [0, 10_000, 100] {
        let home = Home { limit, ..home() };
        let empty = Recorded::read(None, None, &home);
        let full = empty.with(entries.clone());
        let status = full.written.clone().unwrap();
        let written = serde_json::to_string(&status).unwrap().len();
        assert!(written < 1_200_000, "{written}");
        let texts: Stored = full
            .changed_shards(&empty)
            .into_iter()
            .map(|(number, text)| (number, text.unwrap()))
            .collect();
        assert!(texts.values().all(|text| text.len() < 1 << 20));
        let mut reread = Recorded::read(Some(&status), None, &home);
        for number in reread.unread.clone() {
            reread.add_shard(number, &texts[&number]);
        }
        assert_eq!(reread.entries, full.entries);
        // What is there stays where it is.
        let fewer: Inventory = entries
            .iter()
            .skip(6_000)
            .map(|(id, v)| (id.clone(), v.clone()))
            .collect();
        let less = full.with(fewer);
        assert!(serde_json::to_string(&less.written).unwrap().len() <= written);
    }
}

proptest! {
    /// Whatever changes and whenever the process dies: every entry that was and stays is read back by the next one, and
    /// after a whole write nothing else is.
    #[test]
    fn no_moment_loses_an_entry(
        steps in collection::vec((collection::btree_set(0..40_u8, 0..30), 0..6_usize), 1..12)
    ) {
        let mut stored = Stored::new();
        let mut recorded = Recorded::read(None, None, &home());
        let mut status: Option<Arc<ResourceInventory>> = None;
        for (wanted, dies_after) in steps {
            let next = recorded.with(of(wanted));
            let changed = next.changed_shards(&recorded);
            let before = recorded.entries.clone();
            // The order of the writes: shards, the status, then empty shards go.
            let mut writes: Vec<Write> = Vec::new();
            for (number, text) in changed.clone() {
                if let Some(text) = text {
                    writes.push(Box::new(move |stored, _| drop(stored.insert(number, text))));
                }
            }
            let written = next.written.clone();
            writes.push(Box::new(move |_, status| *status = written));
            for (number, text) in changed {
                if text.is_none() {
                    writes.push(Box::new(move |stored, _| drop(stored.remove(&number))));
                }
            }
            let all = writes.len();
            for write in writes.into_iter().take(dies_after) {
                write(&mut stored, &mut status);
            }
            let after = status.as_ref().map_or_else(|| Recorded::read(None, None, &home()), |status| reread(status, &stored));
            for id in before.keys().filter(|id| next.entries.contains_key(*id)) {
                prop_assert!(after.entries.contains_key(id), "{} is lost", id);
            }
            if dies_after >= all {
                prop_assert_eq!(&after.entries, &next.entries);
            }
            if let Some(status) = &status {
                prop_assert!(status.entries.len() <= 4 + 10, "{}", status.entries.len());
            }
            recorded = after;
        }
    }
}
