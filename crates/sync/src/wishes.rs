//! What each Kustomization wants at the revision it last looked at: by this an object that leaves one Kustomization and enters
//! another is handed over instead of deleted, and two that want the same object both hear of it.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    cluster::{identity::ClusterId, live::Owner},
    manifest::Desired,
    object::ObjectId,
};

/// What one Kustomization wants.
#[derive(Default)]
struct Wish {
    /// Digest of the artifact it last looked at; `None` when something keeps it from looking.
    artifact: Option<String>,
    /// What it wants at the last revision that it could load, and where.
    desired: Option<(ClusterId, Arc<Desired>)>,
}

#[derive(Default)]
struct Known {
    wishes: HashMap<Owner, Wish>,
    /// Those that wait until all others have looked.
    waiting: HashSet<Owner>,
    /// By the owner that has the object: who else wants it.
    contested: HashMap<Owner, BTreeMap<ObjectId, Owner>>,
}

/// The wishes of all Kustomizations.
#[derive(Default)]
pub struct Wishes(Mutex<Known>);

impl Wishes {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It has loaded an artifact. Returns those that waited for it.
    #[must_use]
    pub fn set(
        &self,
        owner: &Owner,
        which: &ClusterId,
        artifact: &str,
        desired: &Arc<Desired>,
    ) -> Vec<Owner> {
        let wish = Wish {
            artifact: Some(artifact.to_owned()),
            desired: Some((which.clone(), Arc::clone(desired))),
        };
        let mut known = self.lock();
        let old = known.wishes.insert(owner.clone(), wish);
        if old.is_some_and(|old| old.artifact.as_deref() == Some(artifact)) {
            return Vec::new();
        }
        known.waiting.drain().filter(|waits| waits != owner).collect()
    }

    /// Something keeps it from loading; what it last wanted stands. Returns those that waited for it.
    #[must_use]
    pub fn stuck(&self, owner: &Owner) -> Vec<Owner> {
        let mut known = self.lock();
        let is_news = !known.wishes.contains_key(owner);
        if known
            .wishes
            .entry(owner.clone())
            .or_default()
            .artifact
            .take()
            .is_none()
            && !is_news
        {
            return Vec::new();
        }
        known.waiting.drain().filter(|waits| waits != owner).collect()
    }

    /// It is gone. Returns those that waited for it, or contested with it.
    #[must_use]
    pub fn forget(&self, owner: &Owner) -> Vec<Owner> {
        let mut known = self.lock();
        known.wishes.remove(owner);
        let mut concerned: Vec<Owner> = known.waiting.drain().collect();
        if let Some(contested) = known.contested.remove(owner) {
            concerned.extend(contested.into_values());
        }
        for (first, contested) in &mut known.contested {
            let before = contested.len();
            contested.retain(|_, second| second != owner);
            if contested.len() != before {
                concerned.push(first.clone());
            }
        }
        concerned.retain(|other| other != owner);
        concerned
    }

    /// Whether a Kustomization has looked at an artifact, or cannot.
    pub fn has_looked(&self, owner: &Owner, artifact: &str) -> bool {
        let known = self.lock();
        let wish = known.wishes.get(owner);
        wish.is_some_and(|wish| wish.artifact.as_deref().is_none_or(|looked| looked == artifact))
    }

    /// Whether nobody has looked at anything, as on the command line.
    pub fn is_empty(&self) -> bool {
        self.lock().wishes.is_empty()
    }

    /// Calls `owner` back when another one has looked.
    pub fn wait(&self, owner: &Owner) {
        self.lock().waiting.insert(owner.clone());
    }

    /// Those that wait for others to look, who look again themselves.
    pub fn take_waiting(&self) -> Vec<Owner> {
        self.lock().waiting.drain().collect()
    }

    /// Who else wants each of these objects of one cluster.
    pub fn heirs<'i>(
        &self,
        owner: &Owner,
        which: &ClusterId,
        ids: impl IntoIterator<Item = &'i ObjectId>,
    ) -> HashMap<ObjectId, Owner> {
        let ids: HashSet<&ObjectId> = ids.into_iter().collect();
        let mut heirs = HashMap::new();
        if ids.is_empty() {
            return heirs;
        }
        let names: HashSet<&str> = ids.iter().map(|id| id.name.as_str()).collect();
        let known = self.lock();
        for (other, wish) in known.wishes.iter().filter(|(other, _)| *other != owner) {
            let here = wish.desired.iter().filter(|(its, _)| its.is(which));
            let objects = here.flat_map(|(_, desired)| &desired.objects);
            for wanted in objects.filter(|wanted| names.contains(wanted.id.name.as_str())) {
                if let Some(id) = ids.iter().find(|id| is_same(id, &wanted.id)) {
                    heirs.insert(ObjectId::clone(id), other.clone());
                }
            }
        }
        heirs
    }

    /// Whether a Kustomization wants an object at the last revision it could load; `None` before it has loaded one.
    pub fn wants(&self, owner: &Owner, id: &ObjectId) -> Option<bool> {
        let known = self.lock();
        let (_, desired) = known.wishes.get(owner)?.desired.as_ref()?;
        Some(desired.objects.iter().any(|wanted| is_same(id, &wanted.id)))
    }

    /// `second` wants these objects of others and does not get them. Returns the owners for which that is news.
    #[must_use]
    pub fn contest(&self, second: &Owner, objects: &[(ObjectId, Owner)]) -> Vec<Owner> {
        let mut known = self.lock();
        let mut concerned = HashSet::new();
        for (first, contested) in &mut known.contested {
            let before = contested.len();
            let stands = |id: &ObjectId| {
                objects
                    .iter()
                    .any(|(wanted, owner)| owner == first && wanted == id)
            };
            contested.retain(|id, by| by != second || stands(id));
            if contested.len() != before {
                concerned.insert(first.clone());
            }
        }
        for (id, first) in objects {
            let contested = known.contested.entry(first.clone()).or_default();
            if contested.insert(id.clone(), second.clone()).as_ref() != Some(second) {
                concerned.insert(first.clone());
            }
        }
        known.contested.retain(|_, contested| !contested.is_empty());
        concerned.into_iter().collect()
    }

    /// The objects of a Kustomization that others want, too.
    pub fn contested(&self, owner: &Owner) -> Vec<(ObjectId, Owner)> {
        let known = self.lock();
        let contested = known.contested.get(owner).into_iter().flatten();
        contested.map(|(id, other)| (id.clone(), other.clone())).collect()
    }
}

/// Whether a manifest's object is the live one. What a manifest says of the namespace does not count for an object without.
pub(crate) fn is_same(live: &ObjectId, wanted: &ObjectId) -> bool {
    live.name == wanted.name
        && live.kind == wanted.kind
        && live.group == wanted.group
        && (live.namespace.is_empty() || live.namespace == wanted.namespace)
}

#[cfg(test)]
mod tests {
    use std::slice::from_ref;

    use super::*;
    use crate::{
        manifest::{Made, ParseCache, SourceFile, load},
        object::Identity,
    };

    fn owner(name: &str) -> Owner {
        Owner {
            namespace: "n".into(),
            name: name.into(),
        }
    }

    fn id(kind: &str, namespace: &str, name: &str) -> ObjectId {
        ObjectId::from(Identity {
            namespace: namespace.into(),
            group: String::new(),
            kind: kind.into(),
            name: name.into(),
        })
    }

    fn desired(text: &str) -> Arc<Desired> {
        let file = SourceFile {
            path: "a.yaml".into(),
            blob: "0".repeat(40).parse().unwrap(),
            made: Made::Written,
        };
        let read = |_: &SourceFile| Ok(text.as_bytes().to_vec());
        Arc::new(load(&[file], None, &mut ParseCache::default(), read))
    }

    #[test]
    fn what_another_one_wants_has_an_heir() {
        let wishes = Wishes::default();
        let (a, b) = (owner("a"), owner("b"));
        let wanted = desired(
            "{apiVersion: v1, kind: ConfigMap, metadata: {name: map, namespace: ns}}\n---\n\
             {apiVersion: v1, kind: Namespace, metadata: {name: space, namespace: odd}}",
        );
        assert!(wishes.set(&b, &ClusterId::Home, "2", &wanted).is_empty());
        let (map, space, other) = (
            id("ConfigMap", "ns", "map"),
            id("Namespace", "", "space"),
            id("ConfigMap", "other", "map"),
        );
        let heirs = wishes.heirs(&a, &ClusterId::Home, [&map, &space, &other]);
        assert_eq!(heirs, [(map.clone(), b.clone()), (space, b.clone())].into());
        assert!(
            wishes.heirs(&b, &ClusterId::Home, [&map]).is_empty(),
            "not from itself"
        );
        let elsewhere = ClusterId::Remote {
            uid: None,
            server: "https://elsewhere".into(),
        };
        assert!(
            wishes.heirs(&a, &elsewhere, [&map]).is_empty(),
            "what is wanted of one cluster is not wanted of another"
        );
        assert_eq!(wishes.wants(&b, &other), Some(false));
        assert_eq!(wishes.wants(&a, &map), None);

        assert!(wishes.has_looked(&b, "2") && !wishes.has_looked(&b, "3") && !wishes.has_looked(&a, "2"));
        wishes.wait(&a);
        assert_eq!(wishes.stuck(&b), from_ref(&a));
        assert!(wishes.has_looked(&b, "3"), "it cannot");
        assert_eq!(wishes.wants(&b, &map), Some(true), "what it last wanted stands");
    }

    #[test]
    fn both_hear_of_a_conflict_and_of_its_end() {
        let wishes = Wishes::default();
        let (a, b) = (owner("a"), owner("b"));
        let x = id("ConfigMap", "n", "x");
        let both = [(x.clone(), a.clone())];
        assert_eq!(wishes.contest(&b, &both), from_ref(&a));
        assert!(wishes.contest(&b, &both).is_empty(), "no news");
        assert_eq!(wishes.contested(&a), [(x, b.clone())]);
        assert_eq!(wishes.contest(&b, &[]), from_ref(&a));
        assert!(wishes.contested(&a).is_empty());
        assert_eq!(wishes.contest(&b, &both), from_ref(&a));
        assert_eq!(wishes.forget(&b), from_ref(&a));
        assert!(wishes.contested(&a).is_empty());
    }
}
