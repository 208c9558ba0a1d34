//! Report: what was done or could not be done, as a log line, an Event and metrics.

use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use plumbline_common::events::{Doing, Kind, Note, Recorder};

use crate::{
    alert::Alerter,
    decide::{Change, Recorded},
    error::Error,
    metrics::Metrics,
    notify::{Notifier, What},
    source::{SourceKey, SourceKind},
    state::Seen,
    workload::Workload,
};

/// Tells people and machines.
#[derive(Debug, Clone)]
pub struct Reporter {
    /// Counted here.
    pub metrics: Metrics,
    /// Events for ConfigMaps, as component `reloader-configmaps`.
    pub config_maps: Recorder,
    /// Events for Secrets, as component `reloader-secrets`.
    pub secrets: Recorder,
    /// Events give way to what is in progress here.
    pub doing: Doing,
    /// Count by namespace too.
    pub by_namespace: bool,
    /// Alerts, if they are on.
    pub alerter: Option<Alerter>,
    /// Notifications, if they are on.
    pub notifier: Option<Notifier>,
}

impl Reporter {
    /// A workload was rolled.
    pub fn rolled(&self, workload: &Workload, changes: &[Change], took: Duration) {
        let sources = names(changes);
        tracing::info!(workload = %workload.key, sources, "rolled");
        let how = if workload.selector.is_some() {
            "Its pods are evicted"
        } else {
            "Rolled"
        };
        let message = format!("{how} because {} changed", told(changes));
        self.notify(What::Rolled, workload, changes, &message);
        self.event(workload, changes, Kind::Normal, "Reloaded", message);
        self.executed(workload, "true");
        if let Some(alerter) = &self.alerter {
            for change in changes {
                alerter.rolled(&change.source, &workload.key);
            }
        }
        self.action(workload, "success", took);
    }

    /// A workload was not written, because this is a dry run.
    pub fn would_write(&self, workload: &Workload, changes: &[Change], stale: &[SourceKey]) {
        for source in stale {
            tracing::info!(workload = %workload.key, %source, "was changed before and never rolled (dry run)");
        }
        if changes.is_empty() {
            tracing::debug!(workload = %workload.key, "its state would be recorded (dry run)");
        } else {
            tracing::info!(workload = %workload.key, sources = names(changes), "would be rolled (dry run)");
        }
        self.skipped("dry_run");
    }

    /// Only the state was written.
    pub fn recorded(&self, workload: &Workload, why: Recorded, stale: &[SourceKey], took: Duration) {
        tracing::info!(workload = %workload.key, ?why, "state recorded");
        self.action(workload, "success", took);
        match why {
            Recorded::Adopted => drop(self.metrics.adopted.inc()),
            Recorded::Absorbed => self.skipped("absorbed"),
            Recorded::Suspended => self.skipped("suspended"),
            Recorded::Tracked => {}
        }
        for source in stale {
            self.metrics.adopted_stale.inc();
            let message = format!(
                "{} {} was changed before this workload was taken over and its pods may run with older content: \
                 run kubectl rollout restart, or start the reloader with --rollout-stale-on-adopt",
                source.kind.kind(),
                source.name
            );
            self.send(workload, source.kind, Kind::Warning, "StaleOnAdoption", message);
        }
    }

    /// A write failed and is tried again.
    pub fn failed(
        &self,
        workload: &Workload,
        changes: &[Change],
        error: &Error,
        again: Duration,
        took: Duration,
    ) {
        self.metrics
            .errors
            .get_or_create(&vec![("type", error.reason().to_owned())])
            .inc();
        self.action(workload, "error", took);
        if error.is_moot() {
            tracing::debug!(workload = %workload.key, %error, "is looked at again");
            return;
        }
        self.metrics.retries.inc();
        tracing::warn!(workload = %workload.key, %error, again = ?again, "not written, is tried again");
        if !changes.is_empty() {
            self.executed(workload, "false");
            let message = format!(
                "Not rolled although {} changed, is tried again: {error}",
                told(changes)
            );
            self.notify(What::Failed, workload, changes, &message);
            self.event(workload, changes, Kind::Warning, "ReloadFail", message);
        }
    }

    /// A workload has to wait or cannot be understood. Told once as long as it stays the same.
    pub fn held(&self, workload: &Workload, reason: &'static str, event: &'static str, message: String) {
        tracing::warn!(workload = %workload.key, message, "held");
        self.skipped(reason);
        self.notify(What::Held, workload, &[], &message);
        self.send(workload, SourceKind::ConfigMap, Kind::Warning, event, message);
    }

    fn notify(&self, what: What, workload: &Workload, changes: &[Change], message: &str) {
        if let Some(notifier) = &self.notifier {
            notifier.tell(what, workload, changes, message);
        }
    }

    fn event(&self, workload: &Workload, changes: &[Change], kind: Kind, reason: &str, message: String) {
        let source = changes
            .first()
            .map_or(SourceKind::ConfigMap, |change| change.source.kind);
        self.send(workload, source, kind, reason, message);
    }

    fn send(&self, workload: &Workload, source: SourceKind, kind: Kind, reason: &str, message: String) {
        let recorder = if source == SourceKind::Secret {
            &self.secrets
        } else {
            &self.config_maps
        };
        recorder.record(Note {
            regarding: ObjectReference {
                api_version: Some(workload.key.kind.api_version().into()),
                kind: Some(workload.key.kind.kind().into()),
                namespace: Some(workload.key.namespace.clone()),
                name: Some(workload.key.name.clone()),
                uid: Some(workload.uid.clone()),
                ..ObjectReference::default()
            },
            kind,
            reason: reason.into(),
            message,
            annotations: std::collections::BTreeMap::new(),
        });
    }

    /// A workload was looked at and left alone.
    pub fn skipped(&self, reason: &'static str) {
        self.metrics
            .skipped
            .get_or_create(&vec![("reason", reason.to_owned())])
            .inc();
    }

    fn executed(&self, workload: &Workload, success: &'static str) {
        self.metrics
            .executed
            .get_or_create(&vec![("success", success.to_owned())])
            .inc();
        if self.by_namespace {
            let labels = vec![
                ("success", success.to_owned()),
                ("namespace", workload.key.namespace.clone()),
            ];
            self.metrics.executed_by_namespace.get_or_create(&labels).inc();
        }
    }

    fn action(&self, workload: &Workload, result: &'static str, took: Duration) {
        let kind = ("workload_kind", workload.key.kind.kind().to_owned());
        self.metrics
            .actions
            .get_or_create(&vec![kind.clone(), ("result", result.to_owned())])
            .inc();
        self.metrics
            .action_latency
            .get_or_create(&vec![kind])
            .observe(took.as_secs_f64());
    }
}

fn names(changes: &[Change]) -> String {
    changes
        .iter()
        .map(|change| change.source.to_string())
        .collect::<Vec<_>>()
        .join(", ")
}

fn told(changes: &[Change]) -> String {
    let one = |change: &Change| {
        let what = format!("{} {}", change.source.kind.kind(), change.source.name);
        if change.seen == Seen::Absent {
            format!("{what} (deleted)")
        } else {
            what
        }
    };
    changes.iter().map(one).collect::<Vec<_>>().join(", ")
}
