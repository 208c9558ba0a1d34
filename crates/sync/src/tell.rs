//! Events and log lines of a look at a Kustomization: what changed, and what went wrong since the last look.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use plumbline_common::{conditions, events};

use crate::{
    act, api::KustomizationStatus, metrics::Drift, object::ObjectId, prune::Removal, reconcile::Step, report,
};

impl Step<'_> {
    /// Tells what was done, and how it ended.
    pub(crate) fn tell(
        &self,
        old: &KustomizationStatus,
        new: &KustomizationStatus,
        outcome: &act::Outcome,
        removals: &BTreeMap<ObjectId, Removal>,
        revision: &str,
    ) {
        let changes = report::changes(&outcome.applied, removals);
        // A commit that is about other things is none of this one's news.
        let is_news = changes.is_some() || ready(old).is_none_or(|was| was.status != "True");
        if let Some(changes) = changes {
            tracing::info!(
                name = self.owner.name,
                namespace = self.owner.namespace,
                revision,
                changes,
                "applied"
            );
            self.context.tell(
                self.object,
                events::Kind::Normal,
                "Progressing",
                changes,
                revision,
            );
        }
        if let Some(corrections) = report::corrections(&outcome.applied) {
            let corrected =
                |change: &&act::Change| matches!(change, act::Change::Corrected(_) | act::Change::Recreated);
            let count = outcome.applied.values().filter(corrected).count() as u64;
            let metrics = &self.context.metrics;
            metrics.drift(&self.owner.name, &self.owner.namespace, Drift::Corrected, count);
            tracing::info!(
                name = self.owner.name,
                namespace = self.owner.namespace,
                corrections,
                "drift corrected"
            );
            self.context.tell(
                self.object,
                events::Kind::Normal,
                "DriftCorrected",
                corrections,
                revision,
            );
        }
        self.tell_failure(old, new, revision);
        if let Some(now) = ready(new)
            && is_news
            && now.status == "True"
            && old.last_applied_revision.as_deref() != Some(revision)
        {
            let message = format!(
                "Reconciliation finished in {:.1} s: {}",
                self.begun.elapsed().as_secs_f64(),
                now.message
            );
            self.context
                .tell(self.object, events::Kind::Normal, &now.reason, message, revision);
        }
    }

    /// Tells a failure, once.
    pub(crate) fn tell_failure(&self, old: &KustomizationStatus, new: &KustomizationStatus, revision: &str) {
        let (before, Some(now)) = (ready(old), ready(new)) else {
            return;
        };
        let news = before
            .as_ref()
            .is_none_or(|b| b.reason != now.reason || b.message != now.message);
        if now.status == "False" && now.reason == "DependencyNotReady" {
            // It is in order, and its turn comes.
            if news {
                self.context.tell(
                    self.object,
                    events::Kind::Normal,
                    &now.reason,
                    now.message,
                    revision,
                );
            }
            return;
        }
        // What unhealthy objects say changes all the time.
        let told = now.reason == "HealthCheckFailed"
            && before.is_some_and(|b| b.reason == now.reason)
            && old.last_attempted_revision == new.last_attempted_revision;
        if now.status == "False" && news && !told {
            tracing::warn!(
                name = self.owner.name,
                namespace = self.owner.namespace,
                reason = now.reason,
                "{}",
                now.message
            );
            self.context.tell(
                self.object,
                events::Kind::Warning,
                &now.reason,
                now.message,
                revision,
            );
        }
    }
}

fn ready(status: &KustomizationStatus) -> Option<Condition> {
    conditions::find(&status.conditions, "Ready").cloned()
}
