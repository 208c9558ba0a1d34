//! `plumbline.dev/failure-policy`: whether a revision is applied as far as it can be, or as a whole.

use std::collections::BTreeSet;

use kube::ResourceExt as _;

use crate::{
    api::{FAILURE_POLICY, Kustomization},
    cluster::live::Need,
    decide::Plan,
    manifest::Desired,
    observe::Observation,
    outcome,
};

/// What one bad object means for the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FailurePolicy {
    /// Nothing: everything else is applied.
    #[default]
    Isolate,
    /// None is applied: the API server is asked about each of them first.
    Atomic,
}

impl FailurePolicy {
    /// The policy of a Kustomization; the error is for the condition.
    pub fn of(object: &Kustomization) -> Result<Self, String> {
        match object.annotations().get(FAILURE_POLICY).map(String::as_str) {
            None | Some("Isolate") => Ok(Self::Isolate),
            Some("Atomic") => Ok(Self::Atomic),
            Some(other) => Err(format!(
                "the annotation {FAILURE_POLICY} is {other:?}: it can be Isolate (the default) or Atomic"
            )),
        }
    }
}

/// Whether anything stands in the way of applying all, as far as is known without asking. Objects that wait for a CRD of the
/// same source do not.
pub fn is_blocked(seen: &Observation, desired: &Desired) -> bool {
    let stands = |need: &Need| matches!(need, Need::Failed(..));
    !desired.unreadable.is_empty()
        || !desired.problems.is_empty()
        || !seen.problems.is_empty()
        || seen.candidates.iter().any(|candidate| stands(&candidate.need))
        || outcome::parked(seen, desired).any(|(_, expected)| !expected)
}

/// Takes out of a plan all that is new: what was applied before is still kept as it was.
pub fn hold(plan: &mut Plan, seen: &Observation) {
    plan.apply
        .retain(|(_, index)| !is_new(&seen.candidates[*index].need));
    plan.kept.append(&mut plan.delete);
    plan.write_ahead = None;
}

/// What has to be asked about.
pub fn news(plan: &Plan, seen: &Observation) -> Vec<usize> {
    let all = plan.apply.iter().map(|(_, index)| *index);
    all.filter(|index| is_new(&seen.candidates[*index].need))
        .collect()
}

fn is_new(need: &Need) -> bool {
    matches!(need, Need::First | Need::Changed)
}

/// Names of the Namespaces that the plan makes: what is refused only because one of them is missing is not refused.
pub fn namespaces(plan: &Plan, seen: &Observation) -> BTreeSet<String> {
    let ids = plan.apply.iter().map(|(_, index)| &seen.candidates[*index].id);
    let namespaces = ids.filter(|id| id.kind == "Namespace" && id.group.is_empty());
    namespaces.map(|id| id.name.clone()).collect()
}
