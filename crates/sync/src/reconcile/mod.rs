//! One look at a Kustomization, from its source to its status.
//!
//! ```text
//! refusal ── may it be looked at ── load ── what Git wants ── look ── what is to be done ── apply ── write ── the status
//! ```

mod apply;
mod load;
mod look;
mod refusal;
mod write;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use kube::{ResourceExt as _, runtime::controller::Action};

use crate::{
    api::{FINALIZER, Kustomization, KustomizationStatus},
    cluster::{live::Owner, target::TargetCluster},
    context::{Context, Error, Memory},
    controller,
    remote::{Purpose, Reached},
    report::{self, About},
    source::SourceKey,
    suspend::Suspension,
};

/// How long a Kustomization with an empty budget of time goes on later.
pub(crate) const GO_ON: Duration = Duration::from_millis(100);

/// When a Kustomization looks again whose objects are on their way from or to another one; it is called before, as a rule.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// How long objects may be on their way before the status says so.
pub(crate) const IN_A_MOMENT: Duration = Duration::from_secs(3);

/// How long a source that was never looked at is waited for before the status says that it is missing.
const FIRST_FETCH: Duration = Duration::from_secs(3);

/// One look.
pub struct Step<'a> {
    /// What the controller works with.
    pub context: &'a Context,
    /// The cluster that it is applied to; our own until another one is reached.
    pub cluster: Arc<TargetCluster>,
    /// The Kustomization.
    pub object: &'a Kustomization,
    /// Its name.
    pub owner: &'a Owner,
    /// What its status is about.
    pub about: About<'a>,
    /// When the look began.
    pub begun: Instant,
}

impl Step<'_> {
    /// Brings the cluster to what Git wants.
    pub async fn reconcile(&self, memory: &mut Memory) -> Result<Action, Error> {
        let old = self.noted(memory).await?;
        if let Some((reason, message)) = self.refusal() {
            self.is_stuck();
            let new = report::stalled(&old, reason, &message, self.about);
            self.tell_failure(&old, &new, "");
            self.context.write_status(self.owner, memory, &old, new).await?;
            return Ok(Action::await_change());
        }
        if !controller::has_finalizer(self.object) {
            let mut finalizers = self.object.finalizers().to_vec();
            finalizers.push(FINALIZER.to_owned());
            self.context.write_finalizers(self.object, finalizers).await?;
        }
        match self.reach(memory, old, Purpose::Apply).await? {
            Reached::Cluster(cluster, old) => self.at(cluster).reconcile_there(memory, old).await,
            Reached::Not(action) => Ok(action),
        }
    }

    async fn reconcile_there(
        &self,
        memory: &mut Memory,
        mut old: KustomizationStatus,
    ) -> Result<Action, Error> {
        let artifact = match self.artifact() {
            Ok(artifact) => artifact,
            Err(message) => {
                self.is_stuck();
                // After a start the sources are on their way: what the status says is not yet wrong.
                let since = *memory.waiting_since.get_or_insert(self.begun);
                if let Some(left) = FIRST_FETCH.checked_sub(since.elapsed())
                    && self.context.sources.find(&self.source_key()).is_none()
                {
                    return Ok(Action::requeue(left + GO_ON));
                }
                return self.not_ready(memory, &old, "ArtifactFailed", &message, "").await;
            }
        };
        let target = match self.target(memory, &mut old, &artifact).await? {
            Ok(target) => target,
            Err(waits) => return Ok(waits),
        };
        // Before it waits for others: they may have to know what it wants.
        let loaded = match self.variables().await {
            Ok(variables) => {
                let desired = self.desired(memory, &target.artifact, variables).await?;
                desired.map_err(|error| (error.reason(), error.to_string()))
            }
            Err(message) => Err(("BuildFailed", message)),
        };
        match &loaded {
            Ok(desired) => {
                let waited = self.set_wish(&artifact.digest, desired);
                self.context.wake_all(waited);
            }
            Err(_) => self.is_stuck(),
        }
        // What it returns to was not held back when it was new.
        if target.returned.is_none()
            && let Some(waits) = self.dependencies(memory, &old, &artifact.revision).await?
        {
            if let Ok(desired) = &loaded {
                self.hand_over(memory, desired, &artifact.revision).await?;
            }
            return Ok(waits);
        }
        let desired = match loaded {
            Ok(desired) => desired,
            Err((reason, message)) => {
                let failed = self.not_ready(memory, &old, reason, &message, &artifact.revision);
                return failed.await;
            }
        };
        self.apply(memory, old, &target, &desired).await
    }

    /// What it wants cannot be known now: nobody has to wait for it.
    pub(crate) fn is_stuck(&self) {
        let waited = self.context.wishes.stuck(self.owner);
        self.context.wake_all(waited);
    }

    /// Whether it is suspended now.
    pub(crate) fn is_suspended(&self) -> bool {
        Suspension::of(self.object.spec.suspend, &self.object.metadata, self.about.now).is_active()
    }

    /// The status as it is, which is newer than what the watch shows where we wrote it.
    pub(crate) fn status(&self, memory: &Memory) -> KustomizationStatus {
        memory
            .status
            .clone()
            .or_else(|| self.object.status.clone())
            .unwrap_or_default()
    }

    pub(crate) fn source_key(&self) -> SourceKey {
        controller::source_key(&self.object.spec, &self.owner.namespace)
    }

    pub(crate) async fn not_ready(
        &self,
        memory: &mut Memory,
        old: &KustomizationStatus,
        reason: &str,
        message: &str,
        revision: &str,
    ) -> Result<Action, Error> {
        let mut new = report::not_ready(old, reason, message, self.about);
        if !revision.is_empty() {
            new.last_attempted_revision = Some(revision.to_owned());
        }
        self.tell_failure(old, &new, revision);
        self.context.write_status(self.owner, memory, old, new).await?;
        // A change of the source brings us back; the interval is only a second chance.
        Ok(Action::requeue(controller::retry_interval(&self.object.spec)))
    }
}
