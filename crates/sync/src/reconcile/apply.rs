//! From a plan to the status: write ahead, apply, wait for health, delete, report.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use kube::runtime::controller::Action;
use plumbline_common::backoff;

use super::{GO_ON, LOOK_AGAIN, Step};
use crate::{
    act,
    api::KustomizationStatus,
    atomic::FailurePolicy,
    bodies::Bodies,
    cluster::{live::Need, target::Waits},
    context::{Error, Memory},
    controller,
    decide::Held,
    drift,
    hand_over::leaving,
    inventory::Inventory,
    manifest::Desired,
    observe::{self, Observation},
    outcome,
    planning::Planned,
    prune::{self, Removal},
    remote::Purpose,
    report,
    returning::Target,
    wait::{self, Standing},
};

impl Step<'_> {
    #[expect(
        clippy::too_many_lines,
        reason = "one look from plan to status, told in order"
    )]
    pub(super) async fn apply(
        &self,
        memory: &mut Memory,
        mut old: KustomizationStatus,
        target: &Target,
        desired: &Arc<Desired>,
    ) -> Result<Action, Error> {
        let (context, spec, owner) = (self.context, &self.object.spec, self.owner);
        let artifact = &target.artifact;
        if let Err(error) = self.learn_kinds(memory, desired).await {
            let about = (Purpose::Apply, artifact.revision.as_str());
            return self.undiscovered(memory, &old, error, about).await;
        }
        let planned = match self.look(memory, &old, artifact, desired).await {
            Ok(planned) => planned,
            Err(message) => {
                let revision = target.attempted();
                let failed = self.not_ready(memory, &old, "ReconciliationFailed", &message, revision);
                return failed.await;
            }
        };
        let Planned {
            overlay,
            mut seen,
            mut recorded,
            inventory,
            mut plan,
            heirs,
            cascade,
        } = planned;
        let left = {
            let found = drift::Found {
                desired,
                overlay: &overlay,
                artifact,
                inventory: &inventory,
                is_old_revision: old.last_applied_revision.as_deref() == Some(&artifact.revision)
                    && old.observed_generation == Some(self.about.generation)
                    && !target.is_returning(),
            };
            self.leave_drift(memory, &mut seen, &found).await?
        };
        plan.apply
            .retain(|(_, index)| !matches!(seen.candidates[*index].need, Need::Left | Need::Nothing));
        let moving = self.moving(&mut plan, &seen);
        if let Some(left) = self.moment(memory, moving.is_some()) {
            memory.inventory = Some(recorded);
            return Ok(Action::requeue(left));
        }
        let moving = moving.or_else(|| self.newcomer(&mut plan, &seen));
        let policy = FailurePolicy::of(self.object).unwrap_or_default();
        let bodies = Bodies::new(artifact.snapshot.clone(), desired);
        let revision = &artifact.revision;
        let mut refused = match policy {
            FailurePolicy::Isolate => Vec::new(),
            FailurePolicy::Atomic => {
                self.ask(&mut plan, &seen, desired, &bodies, (&overlay, revision))
                    .await?
            }
        };
        if let Some(ahead) = plan.write_ahead.take() {
            let before = recorded;
            recorded = before.with(ahead);
            let mut new = report::started(&old, &artifact.revision, recorded.written.clone(), self.about);
            if let Some(returned) = &target.returned {
                returned.started(&mut new, self.about);
            }
            self.write_recorded(memory, (&before, &recorded), &old, new.clone())
                .await?;
            old = new;
        }
        let awaited = self.awaited();
        let mut outcome = if plan.apply.is_empty() {
            act::Outcome::default()
        } else {
            let tools = (&overlay, revision.as_str(), awaited.as_ref());
            self.write(&plan, &seen, desired, &bodies, tools).await?
        };
        outcome.failed.append(&mut refused);
        let standing = match awaited {
            None => {
                memory.waiting = None;
                Standing::NotAsked
            }
            Some(awaited)
                if outcome.failed.is_empty()
                    && outcome.untried == 0
                    && observe::all_applied(&seen, desired) =>
            {
                let acted = !outcome.applied.is_empty();
                self.standing(memory, &seen, desired, revision, (awaited, acted))
                    .await?
            }
            Some(_) => Standing::Unchecked,
        };
        if !standing.allows_pruning() {
            // What takes the place of the others is not there yet, and may be so because of these.
            plan.delete.retain(prune::is_in_the_way);
        }
        let mut removals = if plan.delete.is_empty() {
            BTreeMap::new()
        } else {
            self.remove(&plan, &seen, desired, &outcome, (&inventory, &cascade))
                .await?
        };
        let moving = moving.or_else(|| leaving(&removals));
        removals.extend(self.give(&heirs));
        let is_weighed = matches!(plan.held, Some((Held::Budget { .. } | Held::Unweighed { .. }, _)));
        if !plan.occupied.is_empty() || is_weighed {
            // Others may change that.
            context.wishes.wait(owner);
        }
        context.wake_all(context.wishes.contest(owner, &seen.contested));
        let waits = if seen.parked.is_empty() {
            Waits::ForNothing
        } else {
            Waits::ForKinds
        };
        self.cluster.park(owner, waits);

        let before = recorded.clone();
        let after = outcome::inventory_after(&recorded.entries, &inventory, &seen, &outcome, &removals);
        let is_recorded = after.is_none() && recorded.written.is_some();
        if let Some(after) = after {
            recorded = recorded.with(after);
        } else if recorded.written.is_none() {
            recorded = recorded.with(Inventory::new());
        }
        let result = outcome::summary(owner, &plan, &seen, desired, artifact, &outcome, &removals);
        let result = report::Result {
            inventory: recorded.written.clone(),
            took: self.begun.elapsed(),
            standing,
            policy,
            moving,
            returned: target.returned.as_ref(),
            contested: [seen.contested.clone(), context.wishes.contested(owner)].concat(),
            ..result
        };
        let mut new = report::finished(&old, &result, self.about);
        drift::mark(&mut new.conditions, &left, self.about);
        let makes_way = self.make_way(memory, &old, &mut new, &result, target).await;
        self.tell(&old, &new, &outcome, &removals, &artifact.revision);
        if is_recorded && let Some(left) = wait::almost_healthy(memory, &old, &new, &result.standing) {
            memory.inventory = Some(recorded);
            return Ok(Action::requeue(left));
        }
        self.write_recorded(memory, (&before, &recorded), &old, new)
            .await?;
        memory.inventory = Some(recorded);
        self.call(&heirs);
        let mut next = self.next(&seen, &outcome);
        let is_stuck = |removal: &Removal| matches!(removal, Removal::Failed(_));
        let is_unweighed = matches!(plan.held, Some((Held::Unweighed { .. }, _)));
        if desired.build_failed || is_unweighed || removals.values().any(is_stuck) {
            next = next.min(controller::retry_interval(spec));
        }
        let moving = result.moving.is_some().then_some(LOOK_AGAIN);
        let soon = moving
            .into_iter()
            .chain(result.standing.next())
            .chain(makes_way)
            .min();
        Ok(Action::requeue(soon.map_or(next, |soon| soon.min(next))))
    }

    /// When to look again if nothing happens before.
    fn next(&self, seen: &Observation, outcome: &act::Outcome) -> Duration {
        if outcome.untried > 0 {
            return GO_ON;
        }
        let mut next = controller::interval(&self.object.spec);
        if !outcome.failed.is_empty() {
            // The failures' own delays are asked for in the next look.
            next = next.min(Duration::from_secs(1));
        }
        for candidate in &seen.candidates {
            if let Need::Failed(_, left) | Need::Flapping(left) = candidate.need {
                next = next.min(left.max(Duration::from_millis(100)));
            }
        }
        if seen.parked.is_empty() {
            backoff::jitter(next, self.context.settings.jitter, rand::random())
        } else {
            next.min(controller::retry_interval(&self.object.spec))
        }
    }
}
