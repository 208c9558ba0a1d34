//! From what Git wants and what is known of the cluster to a plan. The controller carries it out; the command line shows it.

use std::{sync::Arc, time::Instant};

use kube::ResourceExt as _;

use crate::{
    api::CONFIRM_DELETION,
    decide::{self, Plan, Prune},
    inventory::{Inventory, Recorded},
    manifest::{Desired, Overlay},
    object::ObjectId,
    observe::{self, Observation},
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
}

impl Step<'_> {
    /// Decides what is to be done. No request is made.
    pub(crate) fn plan(&self, recorded: Recorded, artifact: &Artifact, desired: &Desired) -> Planned {
        let (context, spec, owner) = (self.context, &self.object.spec, self.owner);
        let overlay = observe::overlay(owner, spec);
        let claimed = |id: &ObjectId| {
            let other = context.live.owner(id).filter(|other| **other != *owner)?;
            context.claims(&other, id).then(|| (*other).clone())
        };
        let cluster = observe::Cluster {
            kinds: &context.kinds,
            live: &context.live,
            claimed: &claimed,
        };
        let seen = observe::place(desired, &overlay, &cluster, Instant::now());
        let inventory = Arc::clone(&recorded.entries);
        let plan = decide::decide(&decide::Observed {
            candidates: &seen.candidates,
            unplaced: &seen.unplaced,
            knowledge: observe::knowledge(desired),
            inventory: &inventory,
            prune: if spec.prune { Prune::Delete } else { Prune::Keep },
            revision: &artifact.revision,
            confirmed: self
                .object
                .annotations()
                .get(CONFIRM_DELETION)
                .map(String::as_str),
            budget: context.settings.budget,
        });
        Planned {
            overlay,
            seen,
            recorded,
            inventory,
            plan,
        }
    }
}
