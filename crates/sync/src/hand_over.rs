//! Objects that go from one Kustomization to another.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
    time::Duration,
};

use plumbline_common::events;

use crate::{
    cascade::as_kustomization,
    cluster::{
        identity::ClusterId,
        live::{Need, Owner},
    },
    context::{Error, Memory},
    decide::{Held, Plan},
    manifest::Desired,
    object::ObjectId,
    observe::Observation,
    prune::Removal,
    reconcile::{GO_ON, IN_A_MOMENT, Step},
    report, shards,
    source::SourceKey,
    wishes,
};

/// What another Kustomization has to do first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Awaited {
    /// Look at what its source has.
    Look(Owner),
    /// Its source has to be asked for the first time since the start.
    Source(Owner, SourceKey),
    /// Delete its objects that would go with ours.
    End(Owner),
}

impl fmt::Display for Awaited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Look(Owner { namespace, name }) => write!(
                f,
                "that are in another place of Git now wait for the Kustomization {namespace}/{name}"
            ),
            Self::Source(owner, (namespace, name)) => write!(
                f,
                "that are no longer in this place of Git wait until the GitRepository {namespace}/{name} was asked for its \
                 revision: the Kustomization {}/{} may want them",
                owner.namespace, owner.name
            ),
            Self::End(Owner { namespace, name }) => write!(
                f,
                "that are no longer in Git wait until those of the Kustomization {namespace}/{name} in them are gone"
            ),
        }
    }
}

impl Step<'_> {
    /// Hands over what others want and it does not, while it waits for what it depends on: the other one may be just that.
    pub(crate) async fn hand_over(
        &self,
        memory: &mut Memory,
        desired: &Desired,
        revision: &str,
    ) -> Result<(), Error> {
        let (context, owner) = (self.context, self.owner);
        let old = self.status(memory);
        let known = memory.inventory.take();
        // Not now: what is not known is not given away.
        let Ok(before) = shards::read(&context.client, &old, known, &self.home()).await else {
            return Ok(());
        };
        let wanted: HashSet<&str> = desired
            .objects
            .iter()
            .map(|wanted| wanted.id.name.as_str())
            .collect();
        let is_wanted = |id: &ObjectId| {
            wanted.contains(id.name.as_str())
                && desired
                    .objects
                    .iter()
                    .any(|wanted| wishes::is_same(id, &wanted.id))
        };
        let surplus = before.entries.keys().filter(|id| !is_wanted(id));
        let heirs = context.wishes.heirs(owner, &self.cluster.id, surplus);
        if heirs.is_empty() {
            memory.inventory = Some(before);
            return Ok(());
        }
        let mut rest = (*before.entries).clone();
        rest.retain(|id, _| !heirs.contains_key(id));
        let recorded = before.with(rest);
        let mut new = old.clone();
        new.inventory.clone_from(&recorded.written);
        let removals = self.give(&heirs);
        if let Some(changes) = report::changes(&BTreeMap::new(), &removals) {
            tracing::info!(
                name = owner.name,
                namespace = owner.namespace,
                changes,
                "handed over"
            );
            context.tell(
                self.object,
                events::Kind::Normal,
                "Progressing",
                changes,
                revision,
            );
        }
        self.write_recorded(memory, (&before, &recorded), &old, new)
            .await?;
        memory.inventory = Some(recorded);
        self.call(&heirs);
        Ok(())
    }

    /// The heirs have these objects from now on.
    pub(crate) fn give(&self, heirs: &HashMap<ObjectId, Owner>) -> BTreeMap<ObjectId, Removal> {
        let mut removals = BTreeMap::new();
        for (id, heir) in heirs {
            self.cluster.live.hand_over(id, heir);
            removals.insert(id.clone(), Removal::HandedOver(heir.clone()));
        }
        removals
    }

    /// Has the heirs look.
    pub(crate) fn call(&self, heirs: &HashMap<ObjectId, Owner>) {
        let heirs: HashSet<&Owner> = heirs.values().collect();
        self.context.wake_all(heirs.into_iter().cloned().collect());
    }

    /// Whether objects are on their way between Kustomizations, how many, and which other one is waited for. Nothing is
    /// deleted before all others have looked at what their sources have now.
    pub(crate) fn moving(&self, plan: &mut Plan, seen: &Observation) -> Option<(usize, Awaited)> {
        let context = self.context;
        let goes = !plan.delete.is_empty()
            || matches!(plan.held, Some((Held::Budget { .. } | Held::Unweighed { .. }, _)));
        if goes && context.unread(self.owner).is_some() {
            // First this, then a look: whoever looks in between calls back.
            context.wishes.wait(self.owner);
            if let Some(other) = context.unread(self.owner) {
                let held = plan.held.take().map_or(0, |(_, count)| count);
                let count = plan.delete.len().max(held);
                plan.kept.append(&mut plan.delete);
                return Some((count, other));
            }
        }
        let (_, other) = seen.in_transit.first()?;
        context.wishes.wait(self.owner);
        Some((seen.in_transit.len(), Awaited::Look(other.clone())))
    }

    /// A Kustomization that is new in Git and may inherit what another one has that Git dropped: whether too much would go is
    /// known when it has looked.
    pub(crate) fn newcomer(&self, plan: &mut Plan, seen: &Observation) -> Option<(usize, Awaited)> {
        let Some((Held::Budget { nested, .. }, count)) = &plan.held else {
            return None;
        };
        let is_home = self.cluster.id == ClusterId::Home;
        if nested.is_empty() || !is_home {
            return None;
        }
        let is_new = |(_, index): &(_, usize)| {
            let candidate = seen.candidates.get(*index)?;
            let is_new = matches!(candidate.need, Need::First | Need::Missing);
            as_kustomization(&candidate.id).filter(|_| is_new)
        };
        let moving = (*count, Awaited::Look(plan.apply.iter().find_map(is_new)?));
        plan.held = None;
        Some(moving)
    }

    /// How long the status is still left as it is while objects are on their way: it is over in a moment, as a rule.
    pub(crate) fn moment(&self, memory: &mut Memory, moving: bool) -> Option<Duration> {
        if !moving {
            memory.moving_since = None;
            return None;
        }
        let since = *memory.moving_since.get_or_insert(self.begun);
        Some(IN_A_MOMENT.checked_sub(since.elapsed())? + GO_ON)
    }
}

/// Objects that wait for others to delete theirs.
pub(crate) fn leaving(removals: &BTreeMap<ObjectId, Removal>) -> Option<(usize, Awaited)> {
    let mut waiting = removals.values().filter_map(|removal| match removal {
        Removal::Occupied(occupied) if occupied.is_leaving() => occupied.other(),
        _ => None,
    });
    let first = waiting.next()?.clone();
    Some((waiting.count() + 1, Awaited::End(first)))
}
