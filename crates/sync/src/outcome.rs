//! Pure: what a look at a Kustomization came to, summed up for its status.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use crate::{
    act::{self, Change},
    atomic::FailurePolicy,
    cluster::{live::Owner, requests::RequestError},
    decide::Plan,
    inventory::Inventory,
    manifest::{Desired, Problem},
    object::ObjectId,
    observe::{self, Observation},
    prune::Removal,
    report,
    source::Artifact,
    wait::Standing,
};

/// Sums a look up for the status.
pub fn summary<'r>(
    owner: &'r Owner,
    plan: &Plan,
    seen: &Observation,
    desired: &Desired,
    artifact: &'r Artifact,
    outcome: &act::Outcome,
    removals: &BTreeMap<ObjectId, Removal>,
) -> report::Result<'r> {
    let mut build: Vec<Problem> = desired
        .unreadable
        .iter()
        .chain(&desired.problems)
        .cloned()
        .collect();
    build.extend(seen.problems.iter().cloned());
    let mut apply: Vec<Problem> = outcome
        .failed
        .iter()
        .map(|(index, error)| Problem {
            at: desired.objects[seen.placed[*index].index].origin.to_string(),
            message: format!("{}: {error}", seen.candidates[*index].id),
        })
        .collect();
    apply.extend(observe::standing_problems(seen, desired));
    let (awaited, unknown): (Vec<_>, Vec<_>) = parked(seen, desired).partition(|(_, expected)| *expected);
    apply.extend(unknown.into_iter().map(|(problem, _)| problem));
    for (id, removal) in removals {
        let message = match removal {
            Removal::Failed(message) => format!("cannot be deleted: {message}"),
            Removal::Waits => format!(
                "is no longer in Git, and is not deleted while a {} cannot be applied",
                id.kind
            ),
            // It is over in a moment.
            Removal::Occupied(occupied) if occupied.is_leaving() => continue,
            Removal::Occupied(occupied) => format!(
                "is no longer in Git, and is not deleted, because {occupied}. If it should stay, let go of it: kubectl annotate \
                 {} {} kustomize.toolkit.fluxcd.io/prune=disabled",
                id.kind.to_lowercase(),
                id.name
            ),
            _ => continue,
        };
        apply.push(Problem {
            at: id.to_string(),
            message,
        });
    }
    report::Result {
        name: &owner.name,
        namespace: &owner.namespace,
        revision: &artifact.revision,
        digest: desired.digest.clone(),
        build,
        apply,
        awaited: awaited.into_iter().map(|(problem, _)| problem).collect(),
        untried: outcome.untried,
        held: plan.held.clone(),
        total: desired.objects.len(),
        inventory: None,
        standing: Standing::Unchecked,
        policy: FailurePolicy::Isolate,
        moving: None,
        contested: Vec::new(),
        returned: None,
        did_something: did_something(outcome, removals) && !only_corrections(outcome, removals),
        took: Duration::ZERO,
    }
}

/// Whether anything changed. What failed once more is no news: a status that counted it would wake us, and fail again.
fn did_something(outcome: &act::Outcome, removals: &BTreeMap<ObjectId, Removal>) -> bool {
    !outcome.applied.is_empty() || !removals.values().all(Removal::stays_ours)
}

/// Whether all that was done was to correct drift. That is told as an event and counted, and is no news for the status:
/// writing it would cost the API server the whole object for every `kubectl edit`.
fn only_corrections(outcome: &act::Outcome, removals: &BTreeMap<ObjectId, Removal>) -> bool {
    let correction = |change: &Change| matches!(change, Change::Corrected(_) | Change::Recreated);
    outcome.failed.is_empty()
        && outcome.untried == 0
        && removals.is_empty()
        && outcome.applied.values().all(correction)
}

/// Objects whose kind is not served, and whether the source itself has a CRD for it.
pub(crate) fn parked<'a>(
    seen: &'a Observation,
    desired: &'a Desired,
) -> impl Iterator<Item = (Problem, bool)> + 'a {
    let defined: HashSet<&str> = desired
        .objects
        .iter()
        .filter(|object| object.id.kind == "CustomResourceDefinition")
        .filter_map(|object| object.id.name.split_once('.').map(|(_, group)| group))
        .collect();
    seen.parked.iter().map(move |index| {
        let object = &desired.objects[*index];
        let gvk = object.gvk();
        let message = format!(
            "{} {:?}: no matches for kind {:?} in version {:?}: the API server does not serve it; it is applied as soon \
             as it does",
            gvk.kind,
            object.id.name,
            gvk.kind,
            gvk.api_version()
        );
        (Problem { at: object.origin.to_string(), message }, defined.contains(gvk.group))
    })
}

/// What is ours after everything was tried: what was ours, and what was made. What was refused was never made.
/// `None` when that is `base`.
pub fn inventory_after(
    base: &Inventory,
    before: &Inventory,
    seen: &Observation,
    outcome: &act::Outcome,
    removals: &BTreeMap<ObjectId, Removal>,
) -> Option<Inventory> {
    let mut after = Cow::Borrowed(base);
    for candidate in &seen.candidates {
        if base
            .get(&candidate.id)
            .is_some_and(|version| *version != candidate.version)
        {
            after
                .to_mut()
                .insert(candidate.id.clone(), Arc::clone(&candidate.version));
        }
    }
    for (index, error) in &outcome.failed {
        let id = &seen.candidates[*index].id;
        if !before.contains_key(id) && matches!(error, RequestError::Refused { .. }) {
            after.to_mut().remove(id);
        }
    }
    for (id, removal) in removals {
        if matches!(
            removal,
            Removal::Deleted
                | Removal::Terminating
                | Removal::Gone
                | Removal::Released(_)
                | Removal::HandedOver(_)
        ) {
            after.to_mut().remove(id);
        }
    }
    match after {
        Cow::Owned(after) => Some(after),
        Cow::Borrowed(_) => None,
    }
}
