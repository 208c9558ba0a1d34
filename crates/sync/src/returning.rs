//! `plumbline.dev/on-unhealthy: Return`: a revision that does not get healthy makes way for the last one that was.
//!
//! All of it stands in the status, before the first object is touched: `lastAttemptedRevision` is the revision that failed,
//! `lastAppliedRevision` the one that is returned to, and the condition `Returned` says so, and why. It holds until the source
//! has another revision, the spec changes, or somebody asks for another try.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{ResourceExt as _, runtime::controller::Action};
use plumbline_common::{
    conditions::{self, Wanted},
    events,
};

use crate::{
    api::{KustomizationStatus, ON_UNHEALTHY, REQUESTED_AT},
    context::{Error, Memory},
    controller,
    reconcile::{GO_ON, Step},
    report::{self, About},
    source::{self, Artifact},
    wait::Standing,
};

/// The condition that tells of it.
const RETURNED: &str = "Returned";
/// Its reason while objects are on their way back.
const RETURNING: &str = "Returning";

/// What becomes of a revision that does not get healthy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnUnhealthy {
    /// It stays, and says so.
    Stay,
    /// It makes way for the last healthy one.
    Return,
}

impl OnUnhealthy {
    /// As the annotation says; the error is for the condition.
    pub fn of(annotations: &BTreeMap<String, String>) -> Result<Self, String> {
        let text = annotations
            .get(ON_UNHEALTHY)
            .map(|text| text.trim().to_ascii_lowercase());
        match text.as_deref() {
            None | Some("" | "stay") => Ok(Self::Stay),
            Some("return") => Ok(Self::Return),
            Some(other) => Err(format!(
                "the annotation {ON_UNHEALTHY}: {other:?} is neither Stay nor Return"
            )),
        }
    }
}

/// A return that is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Return {
    /// The revision that did not get healthy.
    pub failed: String,
    /// The revision that is applied instead.
    pub to: String,
    /// What was wrong with the first.
    pub failure: String,
    /// Whether the second has been applied in full, and was healthy.
    pub is_done: bool,
}

/// The condition, if it is about this revision of the source, this spec and this request.
fn concerning<'a>(
    status: &'a KustomizationStatus,
    revision: &str,
    about: About<'_>,
) -> Option<&'a Condition> {
    let handled = status.last_handled_reconcile_at.as_deref();
    conditions::find(&status.conditions, RETURNED).filter(|found| {
        found.observed_generation == Some(about.generation)
            && status.last_attempted_revision.as_deref() == Some(revision)
            && about.requested.is_none_or(|requested| handled == Some(requested))
    })
}

impl Return {
    /// What the status says, when the source has `revision`.
    pub fn of(status: &KustomizationStatus, revision: &str, about: About<'_>) -> Option<Self> {
        let found = concerning(status, revision, about).filter(|found| found.status == "True")?;
        Some(Self {
            failed: revision.to_owned(),
            to: status.last_applied_revision.clone()?,
            failure: found.message.clone(),
            is_done: found.reason == RETURNED,
        })
    }

    /// What Ready says instead of what it would say of the revision that is returned to.
    pub fn verdict(&self, inner: report::Verdict) -> report::Verdict {
        let Self { to, failure, .. } = self;
        let (value, reason, message) = inner;
        let message = match value {
            "True" => {
                let again =
                    format!("a newer commit is tried, this one again when {REQUESTED_AT} asks for it");
                format!("returned to revision {to}, the last healthy one ({again}): {failure}")
            }
            "Unknown" => format!("returning to revision {to}, the last healthy one: {message}\n{failure}"),
            _ => format!(
                "{message}\nThis is after the return to the last healthy revision, because: {failure}"
            ),
        };
        let reason = if value == "False" {
            reason
        } else {
            "HealthCheckFailed"
        };
        ("False", reason, message)
    }

    /// The status while the inventory is written ahead: as much as Ready says of it is true of the earlier revision only.
    pub fn started(&self, status: &mut KustomizationStatus, about: About<'_>) {
        self.mark(status, false, about);
        let (value, reason, message) =
            self.verdict(("Unknown", "Progressing", "objects are applied".to_owned()));
        let wanted = Wanted {
            type_: "Ready",
            status: value,
            reason,
            message: &message,
        };
        conditions::set(&mut status.conditions, &wanted, about.generation, about.now);
    }

    /// Makes the status say how far the return is. `reached`: what is returned to is applied in full.
    pub fn mark(&self, status: &mut KustomizationStatus, reached: bool, about: About<'_>) {
        status.last_attempted_revision = Some(self.failed.clone());
        let reason = if reached || self.is_done {
            RETURNED
        } else {
            RETURNING
        };
        mark(status, ("True", reason, &self.failure), about);
    }
}

fn mark(status: &mut KustomizationStatus, (value, reason, message): (&str, &str, &str), about: About<'_>) {
    let wanted = Wanted {
        type_: RETURNED,
        status: value,
        reason,
        message,
    };
    conditions::set(&mut status.conditions, &wanted, about.generation, about.now);
}

/// The reason of the condition.
pub fn reason(status: &KustomizationStatus) -> Option<&str> {
    conditions::find(&status.conditions, RETURNED).map(|found| found.reason.as_str())
}

/// What a look applies.
pub(crate) struct Target {
    /// The files.
    pub(crate) artifact: Arc<Artifact>,
    /// Why these, if they are not what the source has now.
    pub(crate) returned: Option<Return>,
}

impl Target {
    /// The revision that the source has.
    pub(crate) fn attempted(&self) -> &str {
        let failed = self.returned.as_ref().map(|it| it.failed.as_str());
        failed.unwrap_or(&self.artifact.revision)
    }

    /// Whether objects are on their way back to an earlier revision.
    pub(crate) fn is_returning(&self) -> bool {
        self.returned.as_ref().is_some_and(|it| !it.is_done)
    }
}

/// What is remembered of a return.
#[derive(Default)]
pub struct Earlier {
    /// The files that are returned to, and the artifact in whose place they are.
    found: Option<(String, Arc<Artifact>)>,
    /// When it was last found that they cannot be had.
    missed: Option<Instant>,
}

impl Step<'_> {
    fn on_unhealthy(&self) -> OnUnhealthy {
        // What cannot be read was refused before.
        OnUnhealthy::of(self.object.annotations()).unwrap_or(OnUnhealthy::Stay)
    }

    /// What is to be applied: what the source has, or what is returned to. The error: nothing can be applied now, and when to
    /// look again.
    pub(crate) async fn target(
        &self,
        memory: &mut Memory,
        old: &mut KustomizationStatus,
        artifact: &Arc<Artifact>,
    ) -> Result<Result<Target, Action>, Error> {
        let revision = &artifact.revision;
        let returns = self.on_unhealthy() == OnUnhealthy::Return;
        let Some(returned) = Return::of(old, revision, self.about).filter(|_| returns) else {
            let stands = returns && concerning(old, revision, self.about).is_some();
            if !stands && reason(old).is_some() {
                // It must never be taken for one about the revision that is tried now.
                let mut new = old.clone();
                conditions::remove(&mut new.conditions, RETURNED);
                self.context
                    .write_status(self.owner, memory, old, new.clone())
                    .await?;
                *old = new;
                memory.earlier = Earlier::default();
            }
            return Ok(Ok(Target {
                artifact: Arc::clone(artifact),
                returned: None,
            }));
        };
        match self.earlier(memory, &returned.to, artifact).await {
            Ok(artifact) => Ok(Ok(Target {
                artifact,
                returned: Some(returned),
            })),
            Err(problem) => {
                let message = format!(
                    "revision {} was returned to and cannot be read now, so nothing is applied: {problem}\n{}",
                    returned.to, returned.failure
                );
                let waits = self.not_ready(memory, old, "ArtifactFailed", &message, revision);
                waits.await.map(Err)
            }
        }
    }

    /// The files of an earlier revision, with all else as the source has it now.
    async fn earlier(
        &self,
        memory: &mut Memory,
        revision: &str,
        now: &Artifact,
    ) -> Result<Arc<Artifact>, String> {
        if let Some((instead_of, found)) = &memory.earlier.found
            && *instead_of == now.digest
            && found.revision == revision
        {
            return Ok(Arc::clone(found));
        }
        let found = source::revisit(&self.context.source, &self.source_key(), revision).await?;
        memory.earlier.found = Some((now.digest.clone(), Arc::clone(&found)));
        Ok(found)
    }

    /// Has a revision that did not get healthy make way, if that is wanted and can be. Says when to look again for that.
    pub(crate) async fn make_way(
        &self,
        memory: &mut Memory,
        old: &KustomizationStatus,
        new: &mut KustomizationStatus,
        result: &report::Result<'_>,
        target: &Target,
    ) -> Option<Duration> {
        if let Some(returned) = &target.returned {
            if !returned.is_done && reason(new) == Some(RETURNED) {
                self.tell_return(new);
            }
            return None;
        }
        let Standing::Failed { message: failure, .. } = &result.standing else {
            if result.standing == Standing::Healthy {
                conditions::remove(&mut new.conditions, RETURNED);
            }
            return None;
        };
        if self.on_unhealthy() == OnUnhealthy::Stay {
            return None;
        }
        let Some(to) = &old.last_applied_revision else {
            let message = "no earlier revision was healthy: there is nothing to return to";
            mark(new, ("False", "NothingToReturnTo", message), self.about);
            return None;
        };
        if to == result.revision {
            return None;
        }
        if has_same_objects(old, to, &result.digest) {
            let message = format!("revision {to}, the last healthy one, has the same objects");
            mark(new, ("False", "NothingToReturnTo", &message), self.about);
            return None;
        }
        let retry = controller::retry_interval(&self.object.spec);
        if memory.earlier.missed.is_some_and(|at| at.elapsed() < retry) {
            return Some(retry);
        }
        match self.earlier(memory, to, &target.artifact).await {
            Ok(_) => {
                memory.earlier.missed = None;
                mark(new, ("True", RETURNING, failure), self.about);
                Some(GO_ON)
            }
            Err(problem) => {
                memory.earlier.missed = Some(Instant::now());
                let message =
                    format!("revision {to}, the last healthy one, cannot be returned to: {problem}");
                if reason(old) != Some("CannotReturn") {
                    let kind = events::Kind::Warning;
                    self.context.tell(
                        self.object,
                        kind,
                        "CannotReturn",
                        message.clone(),
                        result.revision,
                    );
                }
                mark(new, ("False", "CannotReturn", &message), self.about);
                Some(retry)
            }
        }
    }

    /// Tells that the return is over.
    fn tell_return(&self, new: &KustomizationStatus) {
        let ready = conditions::find(&new.conditions, "Ready");
        let message = ready.map(|ready| ready.message.clone()).unwrap_or_default();
        let revision = new.last_attempted_revision.as_deref().unwrap_or_default();
        tracing::warn!(
            name = self.owner.name,
            namespace = self.owner.namespace,
            "{message}"
        );
        self.context
            .tell(self.object, events::Kind::Warning, RETURNED, message, revision);
    }
}

/// Whether `revision` was applied with just the objects of this digest: it is not the commit that makes them unhealthy.
fn has_same_objects(status: &KustomizationStatus, revision: &str, digest: &str) -> bool {
    status.history.iter().any(|past| {
        let of = past.metadata.as_ref().and_then(|it| it.get("revision"));
        past.last_reconciled_status == "ReconciliationSucceeded"
            && of.is_some_and(|of| of == revision)
            && past.digest == format!("sha256:{digest}")
    })
}

#[cfg(test)]
#[path = "returning_tests.rs"]
mod tests;
