//! Pure: what a Kustomization's status and events say.

use std::{collections::BTreeMap, fmt::Write as _, sync::Arc, time::Duration};

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use plumbline_common::{
    conditions::{self, Wanted},
    duration,
};

use crate::{
    act::Change,
    api::{CONFIRM_DELETION, KustomizationStatus, ResourceInventory, Snapshot},
    atomic::FailurePolicy,
    cluster::live::Owner,
    decide::Held,
    hand_over::Awaited,
    manifest::Problem,
    object::ObjectId,
    prune::Removal,
    returning::{self, Return},
    wait::Standing,
};

/// Problems that are written out in a condition; more are counted.
const WRITTEN_OUT: usize = 20;
/// Entries of `status.history`.
const HISTORY: usize = 5;

/// When and what a status is about.
#[derive(Clone, Copy, Debug)]
pub struct About<'a> {
    /// `metadata.generation`.
    pub generation: i64,
    /// Now.
    pub now: Timestamp,
    /// `reconcile.fluxcd.io/requestedAt`.
    pub requested: Option<&'a str>,
}

/// How a reconciliation ended.
#[derive(Clone, Debug, Default)]
pub struct Result<'a> {
    /// Name of the Kustomization.
    pub name: &'a str,
    /// Namespace of the Kustomization.
    pub namespace: &'a str,
    /// The revision that was tried.
    pub revision: &'a str,
    /// Digest of everything that Git wants, in hex.
    pub digest: String,
    /// Manifests that cannot be read, and objects that Git has in a form no cluster takes.
    pub build: Vec<Problem>,
    /// Objects that could not be applied or deleted.
    pub apply: Vec<Problem>,
    /// Objects that wait for the kind their own source defines.
    pub awaited: Vec<Problem>,
    /// Objects that were not tried for lack of time.
    pub untried: usize,
    /// Deletions held back.
    pub held: Option<(Held, usize)>,
    /// Objects that Git wants.
    pub total: usize,
    /// The inventory, as it is to stand in the status.
    pub inventory: Option<Arc<ResourceInventory>>,
    /// The health of what is waited for.
    pub standing: Standing,
    /// What the revision may not do as long as something of it is refused.
    pub policy: FailurePolicy,
    /// Objects that wait for another Kustomization.
    pub moving: Option<(usize, Awaited)>,
    /// Objects that two Kustomizations want, and the other one.
    pub contested: Vec<(ObjectId, Owner)>,
    /// Why an earlier revision than the source's is applied, if one is.
    pub returned: Option<&'a Return>,
    /// Whether anything was applied or deleted, other than to correct drift.
    pub did_something: bool,
    /// How long it took.
    pub took: Duration,
}

/// Condition status, reason and message.
pub type Verdict = (&'static str, &'static str, String);

/// The status after a reconciliation that got as far as looking at objects.
pub fn finished(old: &KustomizationStatus, result: &Result<'_>, about: About<'_>) -> KustomizationStatus {
    let mut status = base(old, about);
    status.last_attempted_revision = Some(result.revision.to_owned());
    if let Some(inventory) = &result.inventory {
        status.inventory = Some(Arc::clone(inventory));
    }
    let (value, reason, message) = verdict(result);
    if let Some(returned) = result.returned {
        let told = returned.verdict((value, reason, message.clone()));
        returned.mark(&mut status, value == "True", about);
        ready(&mut status, told.0, told.1, &told.2, about);
    } else {
        ready(&mut status, value, reason, &message, about);
    }
    healthy(&mut status, &result.standing, about);
    contested(&mut status, &result.contested, about);
    match value {
        "True" => {
            status.last_applied_revision = Some(result.revision.to_owned());
            conditions::remove(&mut status.conditions, "Reconciling");
        }
        "Unknown" => reconciling(&mut status, "Progressing", &message, about),
        _ => reconciling(&mut status, "ProgressingWithRetry", &message, about),
    }
    conditions::remove(&mut status.conditions, "Stalled");
    if result.returned.is_some() && value == "True" {
        // It is at its end, and not where it should be.
        stall(&mut status, about);
    }
    let outcome_changed = if result.returned.is_some() {
        returning::reason(old) != returning::reason(&status)
    } else {
        let before = conditions::find(&old.conditions, "Ready");
        before.is_none_or(|before| before.reason != reason)
    };
    let new_revision = old.last_attempted_revision != status.last_attempted_revision;
    if value != "Unknown" && (result.did_something || outcome_changed || new_revision) {
        remember(&mut status.history, result, reason, about.now);
    }
    status
}

fn verdict(result: &Result<'_>) -> Verdict {
    let broken = result.build.len() + result.apply.len();
    let others = match result.policy {
        FailurePolicy::Isolate => "everything else is applied",
        FailurePolicy::Atomic => "nothing new is applied, because plumbline.dev/failure-policy is Atomic",
    };
    if broken > 0 {
        let reason = if result.build.is_empty() {
            "ReconciliationFailed"
        } else {
            "BuildFailed"
        };
        let mut problems = result.build.iter().chain(&result.apply);
        let mut message = if let (Some(only), 1) = (problems.next(), broken) {
            format!("{only} (revision {}; {others})", result.revision)
        } else {
            let mut message = format!("{broken} problems at revision {}; {others}:", result.revision);
            list(&mut message, result.build.iter().chain(&result.apply));
            message
        };
        if let Some((_, _, held)) = held(result) {
            message.push('\n');
            message.push_str(&held);
        }
        return ("False", reason, message);
    }
    if let Some(held) = held(result) {
        return held;
    }
    if result.untried > 0 {
        let message = format!(
            "{} of {} objects are still to be applied",
            result.untried, result.total
        );
        return ("Unknown", "Progressing", message);
    }
    if let Some((count, awaited)) = &result.moving {
        let message = format!("{count} object(s) {awaited}");
        return ("Unknown", "Progressing", message);
    }
    if !result.awaited.is_empty() {
        let mut message = format!(
            "{} object(s) wait for their kind to be served:",
            result.awaited.len()
        );
        list(&mut message, result.awaited.iter());
        return ("Unknown", "Progressing", message);
    }
    match &result.standing {
        Standing::Waiting { timeout, .. } => {
            return ("Unknown", "Progressing", running(result.revision, *timeout));
        }
        Standing::Failed { message, .. } => return ("False", "HealthCheckFailed", message.clone()),
        Standing::Invalid(message) => return ("False", "InvalidCELExpression", message.clone()),
        Standing::NotAsked | Standing::Unchecked | Standing::Healthy => {}
    }
    (
        "True",
        "ReconciliationSucceeded",
        format!("Applied revision: {}", result.revision),
    )
}

fn running(revision: &str, timeout: Duration) -> String {
    format!(
        "Running health checks for revision {revision} with a timeout of {}",
        duration::format(timeout)
    )
}

/// The condition Healthy, which there is only where health is asked for.
fn healthy(status: &mut KustomizationStatus, standing: &Standing, about: About<'_>) {
    let waits;
    let (value, reason, message) = match standing {
        Standing::NotAsked => {
            conditions::remove(&mut status.conditions, "Healthy");
            return;
        }
        Standing::Unchecked => return,
        Standing::Healthy => ("True", "Succeeded", "Health check passed"),
        Standing::Waiting { timeout, .. } => {
            waits = format!(
                "Health checks run with a timeout of {}",
                duration::format(*timeout)
            );
            ("Unknown", "Progressing", waits.as_str())
        }
        Standing::Failed { message, .. } => ("False", "HealthCheckFailed", message.as_str()),
        Standing::Invalid(message) => ("False", "InvalidCELExpression", message.as_str()),
    };
    let wanted = Wanted {
        type_: "Healthy",
        status: value,
        reason,
        message,
    };
    conditions::set(&mut status.conditions, &wanted, about.generation, about.now);
}

/// The condition Conflict, which there is only where two Kustomizations want the same object.
fn contested(status: &mut KustomizationStatus, objects: &[(ObjectId, Owner)], about: About<'_>) {
    if objects.is_empty() {
        conditions::remove(&mut status.conditions, "Conflict");
        return;
    }
    let mut message = format!(
        "{} object(s) are in the manifests of two Kustomizations; the one that had them first keeps them:",
        objects.len()
    );
    let lines: Vec<Problem> = objects
        .iter()
        .map(|(id, other)| Problem {
            at: id.to_string(),
            message: format!("also in {}/{}", other.namespace, other.name),
        })
        .collect();
    list(&mut message, lines.iter());
    let wanted = Wanted {
        type_: "Conflict",
        status: "True",
        reason: "TwoOwners",
        message: &message,
    };
    conditions::set(&mut status.conditions, &wanted, about.generation, about.now);
}

/// What is held back, and how it goes on.
fn held(result: &Result<'_>) -> Option<Verdict> {
    let revision = result.revision;
    let confirm = || {
        format!(
            "If that is intended: kubectl annotate kustomization {} --namespace {} --overwrite {CONFIRM_DELETION}={revision}",
            result.name, result.namespace
        )
    };
    let (reason, message) = match result.held.as_ref()? {
        (held @ Held::Budget { deletions, of, .. }, _) => (
            "DeletionHeld",
            format!(
                "{deletions} of {of} objects are gone from Git at revision {revision}{}, which is more than may be deleted \
                 without confirmation. Nothing was deleted. {}",
                held.nested(),
                confirm()
            ),
        ),
        (held @ Held::Unweighed { .. }, count) => (
            "DeletionHeld",
            format!(
                "{count} object(s) are gone from Git at revision {revision}, but {held}. It is tried again. {}",
                confirm()
            ),
        ),
        (Held::Empty, count) => (
            "ArtifactFailed",
            format!(
                "the path holds no manifest at revision {revision}, but the inventory has {count} object(s): nothing was \
                 deleted. To delete them, delete the Kustomization"
            ),
        ),
        (held @ Held::Partial, count) => (
            "BuildFailed",
            format!("{count} object(s) are no longer in Git, but {held}"),
        ),
    };
    Some(("False", reason, message))
}

fn list<'a>(message: &mut String, problems: impl Iterator<Item = &'a Problem>) {
    let mut more = 0;
    for (index, problem) in problems.enumerate() {
        if index < WRITTEN_OUT {
            // Writing to a String cannot fail.
            let _ = write!(message, "\n{problem}");
        } else {
            more += 1;
        }
    }
    if more > 0 {
        let _ = write!(message, "\n… and {more} more");
    }
}

/// The status while objects are applied that were not there before: with the inventory that is written ahead.
pub fn started(
    old: &KustomizationStatus,
    revision: &str,
    inventory: Option<Arc<ResourceInventory>>,
    about: About<'_>,
) -> KustomizationStatus {
    let mut status = base(old, about);
    status.inventory = inventory;
    status.last_attempted_revision = Some(revision.to_owned());
    let message = format!("Applying revision: {revision}");
    ready(&mut status, "Unknown", "Progressing", &message, about);
    reconciling(&mut status, "Progressing", &message, about);
    status
}

/// The status when nothing can be done until something else happens.
pub fn not_ready(
    old: &KustomizationStatus,
    reason: &str,
    message: &str,
    about: About<'_>,
) -> KustomizationStatus {
    let mut status = base(old, about);
    ready(&mut status, "False", reason, message, about);
    reconciling(&mut status, "ProgressingWithRetry", message, about);
    conditions::remove(&mut status.conditions, "Stalled");
    status
}

/// The status when only a change of the object helps.
pub fn stalled(
    old: &KustomizationStatus,
    reason: &str,
    message: &str,
    about: About<'_>,
) -> KustomizationStatus {
    let mut status = base(old, about);
    ready(&mut status, "False", reason, message, about);
    conditions::remove(&mut status.conditions, "Reconciling");
    stall(&mut status, about);
    status
}

/// Says that nothing goes on by itself, in the words of Ready.
fn stall(status: &mut KustomizationStatus, about: About<'_>) {
    let Some(ready) = conditions::find(&status.conditions, "Ready").cloned() else {
        return;
    };
    let wanted = Wanted {
        type_: "Stalled",
        status: "True",
        reason: &ready.reason,
        message: &ready.message,
    };
    conditions::set(&mut status.conditions, &wanted, about.generation, about.now);
}

fn base(old: &KustomizationStatus, about: About<'_>) -> KustomizationStatus {
    let mut status = old.clone();
    status.observed_generation = Some(about.generation);
    if let Some(requested) = about.requested {
        status.last_handled_reconcile_at = Some(requested.to_owned());
    }
    status
}

fn ready(status: &mut KustomizationStatus, value: &str, reason: &str, message: &str, about: About<'_>) {
    let wanted = Wanted {
        type_: "Ready",
        status: value,
        reason,
        message,
    };
    conditions::set(&mut status.conditions, &wanted, about.generation, about.now);
}

fn reconciling(status: &mut KustomizationStatus, reason: &str, message: &str, about: About<'_>) {
    let wanted = Wanted {
        type_: "Reconciling",
        status: "True",
        reason,
        message,
    };
    conditions::set(&mut status.conditions, &wanted, about.generation, about.now);
}

fn remember(history: &mut Vec<Snapshot>, result: &Result<'_>, reason: &str, now: Timestamp) {
    let digest = format!("sha256:{}", result.digest);
    let took = duration::format(result.took);
    if let Some(known) = history
        .iter_mut()
        .find(|s| s.digest == digest && s.last_reconciled_status == reason)
    {
        known.last_reconciled = Time(now);
        known.last_reconciled_duration = took;
        known.total_reconciliations += 1;
        known.metadata = Some(revision(result));
    } else {
        history.push(Snapshot {
            digest,
            first_reconciled: Time(now),
            last_reconciled: Time(now),
            last_reconciled_duration: took,
            last_reconciled_status: reason.to_owned(),
            total_reconciliations: 1,
            metadata: Some(revision(result)),
        });
    }
    history.sort_by_key(|snapshot| std::cmp::Reverse(snapshot.last_reconciled.0));
    history.truncate(HISTORY);
}

fn revision(result: &Result<'_>) -> BTreeMap<String, String> {
    [("revision".to_owned(), result.revision.to_owned())].into()
}

/// One line an object, as an event tells it; `None` when nothing changed.
pub fn changes(
    applied: &BTreeMap<ObjectId, Change>,
    removed: &BTreeMap<ObjectId, Removal>,
) -> Option<String> {
    let mut lines = Vec::new();
    for (id, change) in applied {
        match change {
            Change::Created => lines.push(format!("{id} created")),
            Change::Configured => lines.push(format!("{id} configured")),
            Change::Adopted => lines.push(format!(
                "{id} adopted: it was there before, and will not be deleted"
            )),
            Change::Replaced(why) => lines.push(format!("{id} deleted and created anew: {why}")),
            Change::Corrected(_) | Change::Recreated | Change::Unchanged | Change::Resumed => {}
        }
    }
    for (id, removal) in removed {
        match removal {
            Removal::Deleted => lines.push(format!("{id} deleted")),
            Removal::Released(reason) => lines.push(format!("{id} kept: {reason}")),
            Removal::HandedOver(heir) => lines.push(format!(
                "{id} handed over to the Kustomization {}/{}, which has it now",
                heir.namespace, heir.name
            )),
            Removal::Terminating
            | Removal::Gone
            | Removal::Failed(_)
            | Removal::Waits
            | Removal::Occupied(_) => {}
        }
    }
    (!lines.is_empty()).then(|| lines.join("\n"))
}

/// One line an object whose drift was corrected, with the likely cause.
pub fn corrections(applied: &BTreeMap<ObjectId, Change>) -> Option<String> {
    let lines: Vec<String> = applied
        .iter()
        .filter_map(|(id, change)| match change {
            Change::Recreated => Some(format!("{id} was deleted and is there again")),
            Change::Corrected(correction) => {
                let mut line = format!("{id} is as in Git again");
                if !correction.fields.is_empty() {
                    let _ = write!(line, " in {}", correction.fields.join(", "));
                }
                if let Some(writer) = &correction.writer {
                    let _ = write!(line, "; last changed by {writer}");
                }
                Some(line)
            }
            _ => None,
        })
        .collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
