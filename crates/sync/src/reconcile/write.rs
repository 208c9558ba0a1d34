//! What a plan needs to be carried out: as whom, with what, within which bounds.

use std::collections::BTreeMap;

use super::Step;
use crate::{
    act, atomic,
    bodies::Bodies,
    cascade::{Cascade, Occupied, Scope},
    cluster::requests::RequestError,
    context::Error,
    controller,
    decide::Plan,
    ignored::Rules,
    inventory::Inventory,
    manifest::{Desired, Overlay},
    object::ObjectId,
    observe::Observation,
    prune::{self, Removal},
    wait::Awaited,
};

impl Step<'_> {
    fn tools<'t>(
        &'t self,
        client: &'t kube::Client,
        overlay: &'t Overlay,
        ignored: &'t Rules,
        (revision, awaited): (&'t str, Option<&'t Awaited>),
    ) -> act::Tools<'t> {
        let (context, cluster, spec) = (self.context, &self.cluster, &self.object.spec);
        act::Tools {
            client,
            in_flight: &cluster.in_flight,
            concurrency: context.settings.concurrency,
            live: &cluster.live,
            watches: &cluster.watches,
            override_managers: &context.settings.override_managers,
            owner: self.owner,
            overlay,
            force: spec.force,
            awaited,
            ignored,
            retry: controller::retry_interval(spec),
            deadline: self.begun + controller::timeout(spec),
            revision,
        }
    }

    /// What cannot be read was refused before.
    fn rules(&self) -> Rules {
        Rules::parse(&self.object.spec.ignore).unwrap_or_default()
    }

    pub(super) async fn write(
        &self,
        plan: &Plan,
        seen: &Observation,
        desired: &Desired,
        bodies: &Bodies,
        (overlay, revision, awaited): (&Overlay, &str, Option<&Awaited>),
    ) -> Result<act::Outcome, Error> {
        let client = self.client()?;
        Ok(act::apply(
            &self.tools(&client, overlay, &self.rules(), (revision, awaited)),
            plan,
            seen,
            desired,
            bodies,
        )
        .await)
    }

    /// Takes all that is new out of a plan if anything of it would be refused; returns what was refused just now.
    pub(super) async fn ask(
        &self,
        plan: &mut Plan,
        seen: &Observation,
        desired: &Desired,
        bodies: &Bodies,
        (overlay, revision): (&Overlay, &str),
    ) -> Result<Vec<(usize, RequestError)>, Error> {
        if plan.is_noop() {
            return Ok(Vec::new());
        }
        if atomic::is_blocked(seen, desired) {
            atomic::hold(plan, seen);
            return Ok(Vec::new());
        }
        let client = self.client()?;
        let refused = act::rehearse(
            &self.tools(&client, overlay, &self.rules(), (revision, None)),
            plan,
            seen,
            desired,
            bodies,
        )
        .await;
        if !refused.is_empty() {
            atomic::hold(plan, seen);
        }
        Ok(refused)
    }

    pub(super) async fn remove(
        &self,
        plan: &Plan,
        seen: &Observation,
        desired: &Desired,
        outcome: &act::Outcome,
        (inventory, cascade): (&Inventory, &Cascade),
    ) -> Result<BTreeMap<ObjectId, Removal>, Error> {
        let client = self.client()?;
        let mut troubled = act::troubled_kinds(outcome, seen, desired);
        if outcome.untried > 0 {
            // Not everything was tried: deletions have time.
            let patient = plan.delete.iter().filter(|id| !prune::is_in_the_way(id));
            troubled.extend(patient.map(|id| (id.group.clone(), id.kind.clone())));
        }
        let tools = self.prune_tools(&client, (&cascade.scopes, &plan.occupied));
        Ok(prune::prune(&tools, &plan.delete, inventory, &troubled).await)
    }

    /// What deleting needs, as the identity of `client`.
    pub(crate) fn prune_tools<'t>(
        &'t self,
        client: &'t kube::Client,
        (scopes, occupied): (&'t BTreeMap<ObjectId, Scope>, &'t BTreeMap<ObjectId, Occupied>),
    ) -> prune::Tools<'t> {
        prune::Tools {
            client,
            in_flight: &self.cluster.in_flight,
            concurrency: self.context.settings.concurrency,
            kinds: &self.cluster.kinds,
            live: &self.cluster.live,
            owner: self.owner,
            vital: self.vital(),
            scopes,
            occupied,
        }
    }
}
