//! What a deletion would take with it, from the watch on Kustomizations. A request is made only where one of those that go is
//! not in it, or has a part of its inventory elsewhere.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use kube::{Api, ResourceExt as _, api::ListParams};

use super::{Cascade, Holding, Occupied, Scope, as_kustomization, kustomization};
use crate::{
    api::{Kustomization, KustomizationSpec},
    cluster::{
        identity::{self, ClusterId},
        live::Owner,
        requests,
    },
    inventory::{self, Home, Inventory, Recorded, SHARD_PREFIX},
    object::ObjectId,
    reconcile::Step,
    shards,
    suspend::Suspension,
};

/// Whether the end of a Kustomization deletes its objects.
pub(crate) fn deletes(spec: &KustomizationSpec) -> bool {
    match spec.deletion_policy.as_deref() {
        Some("Orphan") => false,
        Some("Delete" | "WaitForTermination") => true,
        _ => spec.prune,
    }
}

/// The cluster that its inventory is about; `None` for one of Flux's, which may be about any cluster but ours.
fn cluster_of(object: &Kustomization) -> Option<ClusterId> {
    let status = object.status.as_ref()?;
    let generation = object.metadata.generation.unwrap_or_default();
    identity::of_inventory(status, &object.spec, generation)
}

fn entries(object: &Kustomization) -> impl Iterator<Item = &str> {
    let status = object.status.iter();
    let inventories = status.filter_map(|status| status.inventory.as_deref());
    inventories.flat_map(|inventory| inventory.entries.iter().map(|entry| entry.id.as_str()))
}

impl Step<'_> {
    /// What goes with the objects that Git dropped, beside those that others inherit.
    pub(crate) async fn cascade(
        &self,
        surplus: &[ObjectId],
        inventory: &Inventory,
        heirs: &HashMap<ObjectId, Owner>,
    ) -> Cascade {
        let mut cascade = Cascade::default();
        // A Kustomization on another cluster is somebody else's: it is an object as any other.
        if self.cluster.id == ClusterId::Home {
            cascade.own = Some(kustomization(self.owner));
            if surplus.iter().any(|id| as_kustomization(id).is_some()) {
                self.follow(&mut cascade, surplus).await;
                self.add_kept(&mut cascade, inventory);
            }
        }
        self.look_into(&mut cascade, surplus, heirs).await;
        cascade
    }

    /// What is in Namespaces and CustomResourceDefinitions, and whose it is.
    pub(crate) async fn look_into(
        &self,
        cascade: &mut Cascade,
        surplus: &[ObjectId],
        heirs: &HashMap<ObjectId, Owner>,
    ) {
        for id in surplus {
            let kind_of = |group: &str, plural: &str| self.cluster.kinds.find_plural(group, plural);
            if let Some(scope) = Scope::of(id, kind_of) {
                cascade.scopes.insert(id.clone(), scope);
            }
        }
        for (id, scope) in &cascade.scopes {
            let inherits = heirs.iter().find(|(object, _)| scope.holds(object));
            let occupied = match inherits {
                Some((_, heir)) => Some(Occupied::Other {
                    owner: heir.clone(),
                    objects: heirs.keys().filter(|object| scope.holds(object)).count(),
                    leaves: false,
                }),
                None => self.occupant(scope, surplus).await,
            };
            if let Some(occupied) = occupied {
                cascade.occupied.insert(id.clone(), occupied);
            }
        }
    }

    /// The Kustomizations that would go, and whatever they hold: all of it has to be known.
    async fn follow(&self, cascade: &mut Cascade, surplus: &[ObjectId]) {
        let mut next: Vec<ObjectId> = surplus.to_vec();
        while let Some(id) = next.pop() {
            let Some(owner) = as_kustomization(&id) else {
                continue;
            };
            if cascade.kustomizations.contains_key(&id) || owner == *self.owner {
                continue;
            }
            let holding = match self.look_up(&owner).await {
                Ok(Some(object)) if self.takes_its_objects(&object) => match self.whole(&object).await {
                    Ok(inventory) => self.holding(&owner, &object, &inventory),
                    Err(why) => Holding {
                        unknown: Some(why),
                        ..Holding::default()
                    },
                },
                Ok(_) => continue,
                Err(why) => Holding {
                    unknown: Some(why),
                    ..Holding::default()
                },
            };
            next.extend(holding.children.iter().map(|(child, _)| child.clone()));
            cascade.kustomizations.insert(id, holding);
        }
        // One that has us: then what we hold goes, too, and is counted as ours.
        if let Some(own) = &cascade.own {
            cascade.kustomizations.entry(own.clone()).or_default();
        }
    }

    /// The Kustomizations that stay, as the watch shows them: they say how much there is, so less than all only errs on the
    /// safe side.
    fn add_kept(&self, cascade: &mut Cascade, inventory: &Inventory) {
        let mut next: Vec<ObjectId> = inventory.keys().cloned().collect();
        while let Some(id) = next.pop() {
            let Some(object) = as_kustomization(&id).and_then(|owner| self.context.find(&owner)) else {
                continue;
            };
            if cascade.kustomizations.contains_key(&id) || !self.takes_its_objects(&object) {
                continue;
            }
            let mut holding = Holding::default();
            let is_home = cluster_of(&object) == Some(ClusterId::Home);
            for entry in entries(&object).filter(|entry| !entry.contains(SHARD_PREFIX)) {
                let child = inventory::decode(entry).filter(|id| is_home && as_kustomization(id).is_some());
                match child {
                    Some(child) => holding.children.push((child, None)),
                    None => *holding.objects.entry(None).or_default() += 1,
                }
            }
            next.extend(holding.children.iter().map(|(child, _)| child.clone()));
            cascade.kustomizations.insert(id, holding);
        }
    }

    fn holding(&self, owner: &Owner, object: &Kustomization, inventory: &Inventory) -> Holding {
        let which = cluster_of(object);
        let heirs = match &which {
            Some(which) => self.context.wishes.heirs(owner, which, inventory.keys()),
            None => HashMap::new(),
        };
        let mut holding = Holding::default();
        for id in inventory.keys() {
            let heir = heirs.get(id).map(kustomization);
            if which == Some(ClusterId::Home) && as_kustomization(id).is_some() {
                holding.children.push((id.clone(), heir));
            } else {
                *holding.objects.entry(heir).or_default() += 1;
            }
        }
        holding
    }

    /// Whether its end, should it come now, would delete objects. One that is being deleted already does so whatever we do.
    fn takes_its_objects(&self, object: &Kustomization) -> bool {
        let suspension = Suspension::of(object.spec.suspend, &object.metadata, self.about.now);
        object.metadata.deletion_timestamp.is_none() && deletes(&object.spec) && !suspension.is_active()
    }

    /// A Kustomization; `None` when there is none.
    async fn look_up(&self, owner: &Owner) -> Result<Option<Arc<Kustomization>>, String> {
        if let Some(known) = self.context.find(owner) {
            return Ok(Some(known));
        }
        // It is gone, or another syncer's. The watch needs the right to list; no other is needed here.
        let api: Api<Kustomization> = Api::namespaced(self.context.client.clone(), &owner.namespace);
        let named = ListParams::default().fields(&format!("metadata.name={}", owner.name));
        let found = requests::bounded(api.list(&named)).await;
        let found = found.map_err(|error| format!("it cannot be read: {error}"))?;
        Ok(found.items.into_iter().next().map(Arc::new))
    }

    /// Its inventory with the part that is not in its status.
    async fn whole(&self, object: &Kustomization) -> Result<Arc<Inventory>, String> {
        let home = Home {
            namespace: object.namespace().unwrap_or_default(),
            uid: object.metadata.uid.clone().unwrap_or_default(),
            limit: self.context.settings.inventory_limit,
        };
        let status = object.status.clone().unwrap_or_default();
        let read: Recorded = shards::read(&self.context.client, &status, None, &home).await?;
        Ok(read.entries)
    }

    /// Another Kustomization that has objects in what Git dropped; one that keeps them before one that does not.
    async fn occupant(&self, scope: &Scope, surplus: &[ObjectId]) -> Option<Occupied> {
        let which = &self.cluster.id;
        let mut found = None;
        for object in self.context.all() {
            let owner = Owner::of(&object);
            if owner == *self.owner {
                continue;
            }
            let is_there = cluster_of(&object).map_or(*which != ClusterId::Home, |its| its.is(which));
            let objects = match self.objects_in(scope, &object, is_there).await {
                Ok(objects) => objects,
                Err(why) => return Some(Occupied::Unknown { owner, why }),
            };
            // The Kustomization itself, too: it is not ours to delete in this way, and may need what is there to end.
            let itself = kustomization(&owner);
            let is_in_it = *which == ClusterId::Home && scope.holds(&itself);
            let count = objects.len() + usize::from(is_in_it);
            if count == 0 {
                continue;
            }
            let is_ending = object.metadata.deletion_timestamp.is_some() || surplus.contains(&itself);
            let drops = || {
                let suspension = Suspension::of(object.spec.suspend, &object.metadata, self.about.now);
                let wants = |id| self.context.wishes.wants(&owner, id) != Some(false);
                object.spec.prune && !suspension.is_active() && !is_in_it && !objects.iter().any(wants)
            };
            let occupied = Occupied::Other {
                leaves: is_ending || drops(),
                owner,
                objects: count,
            };
            if !occupied.is_leaving() {
                return Some(occupied);
            }
            found = found.or(Some(occupied));
        }
        found
    }

    /// Which objects of another Kustomization are in it.
    async fn objects_in(
        &self,
        scope: &Scope,
        object: &Kustomization,
        is_there: bool,
    ) -> Result<Vec<ObjectId>, String> {
        if !is_there {
            return Ok(Vec::new());
        }
        let holds = |id: &ObjectId| scope.holds(id) && !id.name.starts_with(SHARD_PREFIX);
        let in_status = entries(object).filter(|entry| scope.may_hold(entry));
        let found: Vec<ObjectId> = in_status.filter_map(inventory::decode).filter(holds).collect();
        if !found.is_empty() || !entries(object).any(|entry| entry.contains(SHARD_PREFIX)) {
            return Ok(found);
        }
        let whole: BTreeMap<ObjectId, _> = Arc::unwrap_or_clone(self.whole(object).await?);
        Ok(whole.into_keys().filter(holds).collect())
    }
}
