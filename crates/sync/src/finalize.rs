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
    context::{Error, Memory},
    controller, decide,
    inventory::Inventory,
    prune::{self, Removal},
    reconcile::Step,
    report, shards,
};

/// When deletions that failed are tried again.
const RETRY: Duration = Duration::from_secs(5);
/// When objects that are being deleted are looked at again.
const TERMINATION: Duration = Duration::from_secs(1);

impl Step<'_> {
    /// The Kustomization is being deleted: so are its objects, as its policy says.
    pub async fn finalize(&self, memory: &mut Memory) -> Result<Action, Error> {
        let (context, spec, owner) = (self.context, &self.object.spec, self.owner);
        if !controller::has_finalizer(self.object) {
            return Ok(Action::await_change());
        }
        let old = self.status(memory);
        let delete = match spec.deletion_policy.as_deref() {
            _ if self.is_suspended() => false,
            Some("Orphan") => false,
            Some("Delete" | "WaitForTermination") => true,
            _ => spec.prune,
        };
        if delete && let Some(again) = self.delete_objects(memory, &old).await? {
            return Ok(Action::requeue(again));
        }
        let finalizers = self
            .object
            .finalizers()
            .iter()
            .filter(|name| *name != FINALIZER)
            .cloned()
            .collect();
        context.write_finalizers(self.object, finalizers).await?;
        context.forget(owner);
        memory.finished = true;
        Ok(Action::await_change())
    }

    /// Deletes what is in the inventory; says when to go on if that is not the end of it.
    async fn delete_objects(
        &self,
        memory: &mut Memory,
        old: &KustomizationStatus,
    ) -> Result<Option<Duration>, Error> {
        let (context, spec, owner) = (self.context, &self.object.spec, self.owner);
        let known = memory.inventory.take();
        let recorded = match shards::read(&context.client, old, known, &self.home()).await {
            Ok(recorded) => recorded,
            Err(message) => {
                let new = report::not_ready(old, "PruneFailed", &message, self.about);
                self.tell_failure(old, &new, "");
                context.write_status(owner, memory, old, new).await?;
                return Ok(Some(RETRY.min(controller::retry_interval(spec))));
            }
        };
        let inventory = &recorded.entries;
        if inventory.is_empty() {
            return Ok(None);
        }
        if context.kinds.asked().await == 0 {
            context.kinds.refresh_since(0).await?;
        }
        let client = context.client_for(spec, &owner.namespace)?;
        let tools = self.prune_tools(&client);
        context.wake_all(context.wishes.forget(owner));
        if context.unread(owner).is_some() {
            // First this, then a look: whoever looks in between calls back.
            context.wishes.wait(owner);
            if context.unread(owner).is_some() {
                memory.inventory = Some(recorded);
                return Ok(Some(TERMINATION));
            }
        }
        let mut surplus: Vec<_> = inventory.keys().cloned().collect();
        let heirs = context.wishes.heirs(owner, &surplus);
        surplus.retain(|id| !heirs.contains_key(id));
        surplus.sort_by_cached_key(|id| std::cmp::Reverse(decide::stage_of(id)));
        for (id, heir) in &heirs {
            context.live.hand_over(id, heir);
        }
        context.live.forget_owner(owner);
        let mut removals = prune::prune(&tools, &surplus, inventory, &BTreeSet::new()).await;
        for (id, heir) in heirs {
            context.watches.wake(&heir);
            removals.insert(id, Removal::HandedOver(heir));
        }
        let left: Inventory = inventory
            .iter()
            .filter(|(id, _)| matches!(removals.get(id), Some(Removal::Failed(_)) | None))
            .map(|(id, version)| (id.clone(), Arc::clone(version)))
            .collect();
        if !left.is_empty() {
            let problems: Vec<String> = removals
                .iter()
                .filter_map(|(id, removal)| match removal {
                    Removal::Failed(message) => Some(format!("{id}: {message}")),
                    _ => None,
                })
                .take(20)
                .collect();
            let message = format!(
                "{} object(s) cannot be deleted:\n{}",
                left.len(),
                problems.join("\n")
            );
            let mut new = report::not_ready(old, "PruneFailed", &message, self.about);
            new.inventory = recorded.with(left).written;
            self.tell_failure(old, &new, "");
            context.write_status(owner, memory, old, new).await?;
            return Ok(Some(RETRY.min(controller::retry_interval(spec))));
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
            return Ok(Some(TERMINATION));
        }
        Ok(None)
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
