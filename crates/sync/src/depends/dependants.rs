//! Who depends on whom, the other way around: a Kustomization that gets ready calls those that wait for it, and looks at no
//! others, however many there are.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, PoisonError},
};

use crate::cluster::live::Owner;

/// By Kustomization, those that name it in `spec.dependsOn`.
#[derive(Debug, Default)]
pub struct Dependants(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    dependencies: HashMap<Owner, HashSet<Owner>>,
    dependants: HashMap<Owner, HashSet<Owner>>,
}

impl Dependants {
    /// `owner` depends on these, and on no others.
    pub fn set(&self, owner: &Owner, on: HashSet<Owner>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known
            .dependencies
            .get(owner)
            .map_or(on.is_empty(), |old| *old == on)
        {
            return;
        }
        let old = known.dependencies.remove(owner).unwrap_or_default();
        for dependency in old.difference(&on) {
            if let Some(dependants) = known.dependants.get_mut(dependency) {
                dependants.remove(owner);
                if dependants.is_empty() {
                    known.dependants.remove(dependency);
                }
            }
        }
        for dependency in on.difference(&old) {
            let dependants = known.dependants.entry(dependency.clone()).or_default();
            dependants.insert(owner.clone());
        }
        if !on.is_empty() {
            known.dependencies.insert(owner.clone(), on);
        }
    }

    /// Those that depend on `owner`.
    pub fn of(&self, owner: &Owner) -> Vec<Owner> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known
            .dependants
            .get(owner)
            .into_iter()
            .flatten()
            .cloned()
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(name: &str) -> Owner {
        Owner {
            namespace: "n".into(),
            name: name.into(),
        }
    }

    fn sorted(mut owners: Vec<Owner>) -> Vec<String> {
        owners.sort();
        owners.into_iter().map(|owner| owner.name).collect()
    }

    #[test]
    fn who_depends_on_whom_follows_every_change() {
        let dependants = Dependants::default();
        dependants.set(&owner("a"), [owner("x"), owner("y")].into());
        dependants.set(&owner("b"), [owner("x")].into());
        assert_eq!(sorted(dependants.of(&owner("x"))), ["a", "b"]);
        assert_eq!(sorted(dependants.of(&owner("y"))), ["a"]);
        dependants.set(&owner("a"), [owner("y"), owner("z")].into());
        assert_eq!(sorted(dependants.of(&owner("x"))), ["b"]);
        assert_eq!(sorted(dependants.of(&owner("z"))), ["a"]);
        dependants.set(&owner("a"), HashSet::new());
        dependants.set(&owner("b"), HashSet::new());
        assert!(dependants.of(&owner("x")).is_empty());
        let known = dependants.0.lock().unwrap();
        assert!(
            known.dependants.is_empty() && known.dependencies.is_empty(),
            "nothing is kept"
        );
    }
}
