//! The end of a Kustomization: its objects go as its policy says, then our finalizer.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::jiff::SignedDuration;
use kube::{ResourceExt as _, runtime::controller::Action};
use plumbline_common::events;

use crate::{
    api::{FINALIZER, KustomizationStatus},
    cascade::{self, Cascade, Occupied},
    context::{Error, Memory},
    controller, decide,
    inventory::{Inventory, Recorded},
    object::ObjectId,
    prune::{self, Removal},
    reconcile::{IN_A_MOMENT, Step},
    remote::{Purpose, Reached},
    report, shards,
};

/// When deletions that failed are tried again.
const RETRY: Duration = Duration::from_secs(5);
/// When objects that are being deleted are looked at again.
const TERMINATION: Duration = Duration::from_secs(1);

/// How what could not be deleted ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    /// Others are about to delete what is in it.
    BySelf,
    /// Not without somebody who mends it.
    Never,
}

impl Step<'_> {
    /// The Kustomization is being deleted: so are its objects, as its policy says.
    pub async fn finalize(&self, memory: &mut Memory) -> Result<Action, Error> {
        let (context, owner) = (self.context, self.owner);
        if !controller::has_finalizer(self.object) {
            return Ok(Action::await_change());
        }
        let mut old = self.noted(memory).await?;
        let delete = !self.is_suspended() && cascade::deletes(&self.object.spec);
        let is_empty = old.inventory.as_ref().is_none_or(|all| all.entries.is_empty());
        if delete && !is_empty {
            let cluster = match self.reach(memory, old, Purpose::Delete).await? {
                Reached::Cluster(cluster, now) => {
                    old = now;
                    cluster
                }
                Reached::Not(action) => return Ok(action),
            };
            if let Some(again) = self.at(cluster).delete_objects(memory, &old).await? {
                return Ok(again);
            }
        }
        let finalizers = self
            .object
            .finalizers()
            .iter()
            .filter(|name| *name != FINALIZER)
            .cloned()
            .collect();
        context.write_finalizers(self.object, finalizers).await?;
        self.change_connection(memory, None);
        context.forget(owner);
        memory.finished = true;
        Ok(Action::await_change())
    }

    /// Deletes what is in the inventory; says when to go on if that is not the end of it.
    async fn delete_objects(
        &self,
        memory: &mut Memory,
        old: &KustomizationStatus,
    ) -> Result<Option<Action>, Error> {
        let (context, spec, owner) = (self.context, &self.object.spec, self.owner);
        let known = memory.inventory.take();
        let recorded = match shards::read(&context.client, old, known, &self.home()).await {
            Ok(recorded) => recorded,
            Err(message) => {
                let new = report::not_ready(old, "PruneFailed", &message, self.about);
                self.tell_failure(old, &new, "");
                context.write_status(owner, memory, old, new).await?;
                return Ok(Some(Action::requeue(RETRY.min(controller::retry_interval(spec)))));
            }
        };
        let inventory = &recorded.entries;
        if inventory.is_empty() {
            return Ok(None);
        }
        let cluster = &self.cluster;
        if cluster.kinds.asked().await == 0 {
            let asked = cluster.kinds.refresh_since(0).await.map_err(Error::Discovery);
            if let Err(error) = asked {
                memory.inventory = Some(recorded);
                let undiscovered = self.undiscovered(memory, old, error, (Purpose::Delete, ""));
                return undiscovered.await.map(Some);
            }
        }
        let client = self.client()?;
        context.wake_all(context.wishes.forget(owner));
        if self.waits_for_others(memory, old, inventory.len()).await? {
            memory.inventory = Some(recorded);
            return Ok(Some(Action::requeue(TERMINATION)));
        }
        let mut surplus: Vec<_> = inventory.keys().cloned().collect();
        let heirs = context.wishes.heirs(owner, &cluster.id, &surplus);
        surplus.retain(|id| !heirs.contains_key(id));
        surplus.sort_by_cached_key(|id| std::cmp::Reverse(decide::stage_of(id)));
        let mut cascade = Cascade::default();
        self.look_into(&mut cascade, &surplus, &heirs).await;
        let tools = self.prune_tools(&client, (&cascade.scopes, &cascade.occupied));
        for (id, heir) in &heirs {
            cluster.live.hand_over(id, heir);
        }
        cluster.live.forget_owner(owner);
        let mut removals = prune::prune(&tools, &surplus, inventory, &BTreeSet::new()).await;
        let ends = self.let_go(&mut removals);
        for (id, heir) in heirs {
            context.wake(&heir);
            removals.insert(id, Removal::HandedOver(heir));
        }
        let left: Inventory = inventory
            .iter()
            .filter(|(id, _)| {
                matches!(
                    removals.get(id),
                    Some(Removal::Failed(_) | Removal::Occupied(_)) | None
                )
            })
            .map(|(id, version)| (id.clone(), Arc::clone(version)))
            .collect();
        if !left.is_empty() {
            let told = self
                .left_over(memory, old, (&recorded, left), &removals, ends)
                .await;
            return told.map(Some);
        }
        if let Some(changes) = report::changes(&BTreeMap::new(), &removals) {
            tracing::info!(
                name = owner.name,
                namespace = owner.namespace,
                changes,
                "finalized"
            );
            context.tell(
                self.object,
                events::Kind::Normal,
                "ReconciliationSucceeded",
                changes,
                "",
            );
        }
        let leaving = removals
            .values()
            .filter(|r| matches!(r, Removal::Deleted | Removal::Terminating))
            .count();
        if leaving > 0 && self.may_wait() {
            let message = format!("{leaving} object(s) are being deleted");
            let new = report::not_ready(old, "Progressing", &message, self.about);
            context.write_status(owner, memory, old, new).await?;
            return Ok(Some(Action::requeue(TERMINATION)));
        }
        Ok(None)
    }

    /// Whether another Kustomization may want what is to be deleted, and has not looked yet.
    async fn waits_for_others(
        &self,
        memory: &mut Memory,
        old: &KustomizationStatus,
        objects: usize,
    ) -> Result<bool, Error> {
        let (context, owner) = (self.context, self.owner);
        if context.unread(owner).is_none() {
            return Ok(false);
        }
        // First this, then a look: whoever looks in between calls back.
        context.wishes.wait(owner);
        let Some(awaited) = context.unread(owner) else {
            return Ok(false);
        };
        let since = *memory.moving_since.get_or_insert(self.begun);
        if since.elapsed() > IN_A_MOMENT {
            let message = format!("{objects} object(s) {awaited}");
            let new = report::not_ready(old, "Progressing", &message, self.about);
            context.write_status(owner, memory, old, new).await?;
        }
        Ok(true)
    }

    /// Says what is still there and why, and that is all that the inventory has from now on.
    async fn left_over(
        &self,
        memory: &mut Memory,
        old: &KustomizationStatus,
        (recorded, left): (&Recorded, Inventory),
        removals: &BTreeMap<ObjectId, Removal>,
        ends: Ends,
    ) -> Result<Action, Error> {
        let problems: Vec<String> = removals
            .iter()
            .filter_map(|(id, removal)| match removal {
                Removal::Failed(message) => Some(format!("{id}: {message}")),
                Removal::Occupied(occupied) => Some(format!("{id}: {occupied}")),
                _ => None,
            })
            .take(20)
            .collect();
        let (reason, what) = match ends {
            Ends::BySelf => ("Progressing", "are deleted as soon as others in them are"),
            Ends::Never => ("PruneFailed", "cannot be deleted"),
        };
        let message = format!("{} object(s) {what}:\n{}", left.len(), problems.join("\n"));
        let mut new = report::not_ready(old, reason, &message, self.about);
        new.inventory = recorded.with(left).written;
        if ends == Ends::Never {
            self.tell_failure(old, &new, "");
        }
        self.context.write_status(self.owner, memory, old, new).await?;
        Ok(Action::requeue(
            RETRY.min(controller::retry_interval(&self.object.spec)),
        ))
    }

    /// What others have objects in and keep stays, and is let go: a Kustomization does not wait for what may never be. Says
    /// how the rest ends.
    fn let_go(&self, removals: &mut BTreeMap<ObjectId, Removal>) -> Ends {
        let mut ends = Ends::BySelf;
        for removal in removals.values_mut() {
            match removal {
                Removal::Occupied(occupied) if occupied.is_leaving() => self.context.wishes.wait(self.owner),
                Removal::Occupied(Occupied::Other { .. }) => {
                    *removal = Removal::Released(
                        "another Kustomization has objects in it: delete it by hand if it should go",
                    );
                }
                Removal::Failed(_) | Removal::Occupied(_) => ends = Ends::Never,
                _ => {}
            }
        }
        ends
    }

    /// Whether the policy is to wait until the objects are gone, and the time for it is not up.
    fn may_wait(&self) -> bool {
        let timeout =
            SignedDuration::try_from(controller::timeout(&self.object.spec)).unwrap_or(SignedDuration::MAX);
        let since = self.object.metadata.deletion_timestamp.as_ref();
        self.object.spec.deletion_policy.as_deref() == Some("WaitForTermination")
            && since.is_some_and(|since| self.about.now.duration_since(since.0) < timeout)
    }
}
