//! From what Git wants and what is known of the cluster to a plan. The controller carries it out; the command line shows it.

use std::{collections::HashMap, sync::Arc, time::Instant};

use kube::ResourceExt as _;

use crate::{
    api::CONFIRM_DELETION,
    cascade::Cascade,
    cluster::live::Owner,
    decide::{self, Held, Plan, Prune},
    inventory::{Inventory, Recorded},
    manifest::{Desired, Overlay},
    object::ObjectId,
    observe::{self, Claim, Observation},
    reconcile::Step,
    source::Artifact,
};

/// A plan, and what it was made from.
pub struct Planned {
    /// Labels and annotations of every object.
    pub overlay: Overlay,
    /// The objects that Git wants, each with its place in the cluster.
    pub seen: Observation,
    /// The inventory as it is written.
    pub recorded: Recorded,
    /// The inventory that the plan was made from.
    pub inventory: Arc<Inventory>,
    /// What is to be done.
    pub plan: Plan,
    /// Objects that other Kustomizations have from now on.
    pub heirs: HashMap<ObjectId, Owner>,
    /// What would go with what is to be deleted.
    pub cascade: Cascade,
}

impl Step<'_> {
    /// Decides what is to be done. A request is made only for what would go with what is to be deleted.
    pub(crate) async fn plan(&self, recorded: Recorded, artifact: &Artifact, desired: &Desired) -> Planned {
        let planned = self.decide(recorded, artifact, desired, Cascade::default());
        let Plan {
            delete, held, kept, ..
        } = &planned.plan;
        let is_dropped = matches!(held, Some((Held::Budget { .. }, _)));
        let surplus = if is_dropped { kept } else { delete };
        if surplus.is_empty() {
            return planned;
        }
        let cascade = self.cascade(surplus, &planned.inventory, &planned.heirs).await;
        if cascade == Cascade::default() {
            return planned;
        }
        self.decide(planned.recorded, artifact, desired, cascade)
    }

    fn decide(
        &self,
        recorded: Recorded,
        artifact: &Artifact,
        desired: &Desired,
        cascade: Cascade,
    ) -> Planned {
        let (context, spec, owner) = (self.context, &self.object.spec, self.owner);
        let (live, which) = (&self.cluster.live, &self.cluster.id);
        let overlay = observe::overlay(owner, spec);
        let claimed = |id: &ObjectId| {
            let other = live.owner(id).filter(|other| **other != *owner)?;
            let claim = || {
                if context.leaves(&other, id) {
                    Claim::Leaves
                } else {
                    Claim::Keeps
                }
            };
            context
                .claims(&other, which, id)
                .then(|| (Owner::clone(&other), claim()))
        };
        let cluster = observe::Cluster {
            kinds: &self.cluster.kinds,
            live,
            claimed: &claimed,
        };
        let seen = observe::place(desired, &overlay, &cluster, Instant::now());
        let inventory = Arc::clone(&recorded.entries);
        let confirmed = self.object.annotations().get(CONFIRM_DELETION);
        let decide = |inventory: &Inventory| {
            decide::decide(&decide::Observed {
                candidates: &seen.candidates,
                unplaced: &seen.unplaced,
                knowledge: observe::knowledge(desired),
                inventory,
                prune: if spec.prune { Prune::Delete } else { Prune::Keep },
                revision: &artifact.revision,
                confirmed: confirmed.map(String::as_str),
                budget: context.settings.budget,
                cascade: &cascade,
            })
        };
        let mut plan = decide(&inventory);
        let heirs = context
            .wishes
            .heirs(owner, which, plan.delete.iter().chain(&plan.kept));
        if !heirs.is_empty() {
            // What is handed over is not deleted, and counts for no budget.
            let mut rest = Inventory::clone(&inventory);
            rest.retain(|id, _| !heirs.contains_key(id));
            plan = decide(&rest);
        }
        Planned {
            overlay,
            seen,
            recorded,
            inventory,
            plan,
            heirs,
            cascade,
        }
    }
}
