//! The end of a Kustomization: its objects go as its policy says, then our finalizer.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use kube::{ResourceExt as _, runtime::controller::Action};
use plumbline_common::events;

use crate::{
    api::FINALIZER,
    context::{Error, Memory},
    controller, decide,
    inventory::{self, Inventory},
    prune::{self, Removal},
    reconcile::Step,
    report,
};

impl Step<'_> {
    /// The Kustomization is being deleted: so are its objects, as its policy says.
    pub async fn finalize(&self, memory: &mut Memory) -> Result<Action, Error> {
        let (context, spec, owner) = (self.context, &self.object.spec, self.owner);
        if !controller::has_finalizer(self.object) {
            return Ok(Action::await_change());
        }
        let old = self.status(memory);
        let delete = match spec.deletion_policy.as_deref() {
            _ if spec.suspend == Some(true) => false,
            Some("Orphan") => false,
            Some("Delete" | "WaitForTermination") => true,
            _ => spec.prune,
        };
        let (inventory, unreadable) = inventory::read(old.inventory.as_ref());
        if delete && !inventory.is_empty() {
            if context.kinds.asked().await == 0 {
                context.kinds.refresh_since(0).await.map_err(Error::Discovery)?;
            }
            let client = context.client_for(spec, &owner.namespace)?;
            let tools = self.prune_tools(&client);
            let mut surplus: Vec<_> = inventory.keys().cloned().collect();
            surplus.sort_by_cached_key(|id| std::cmp::Reverse(decide::stage_of(id)));
            context.live.forget_owner(owner);
            let removals = prune::prune(&tools, &surplus, &inventory, &BTreeSet::new()).await;
            let left: Inventory = inventory
                .into_iter()
                .filter(|(id, _)| matches!(removals.get(id), Some(Removal::Failed(_)) | None))
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
                let mut new = report::not_ready(&old, "PruneFailed", &message, self.about);
                new.inventory = Some(inventory::write(&left, &unreadable));
                self.tell_failure(&old, &new, "");
                context.write_status(owner, memory, &old, new).await?;
                return Ok(Action::requeue(
                    Duration::from_secs(5).min(controller::retry_interval(spec)),
                ));
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
}
