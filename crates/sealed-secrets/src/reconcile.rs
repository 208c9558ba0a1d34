//! One object, once: observe, decide, act, report.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::jiff::Timestamp;
use kube::Client;
use plumbline_common::events::Recorder;
use tokio::sync::watch;

use crate::api::{SealedSecret, Unsealed};
use crate::config::Config;
use crate::crypto::Keyring;
use crate::decide::{self, Plan, Refusal};
use crate::metrics::Metrics;
use crate::observe::{Index, Key, Mark};
use crate::report::Finding;
use crate::unseal::{DeprecatedData, UnsealError, unseal};
use crate::{act, template};

/// What every reconciliation works with.
pub struct Context {
    /// The API server.
    pub client: Client,
    /// The flags.
    pub config: Arc<Config>,
    /// The namespace of the keys.
    pub key_namespace: String,
    /// The keys.
    pub keyring: watch::Receiver<Arc<Keyring>>,
    /// What is counted.
    pub metrics: Metrics,
    /// Events.
    pub recorder: Recorder,
    /// What is known of the cluster.
    pub index: Mutex<Index>,
    /// Records of what was unsealed: a CRD of the original has no place for them in the status.
    pub records: Mutex<HashMap<Key, Unsealed>>,
    /// Whether the CRD drops records from the status.
    pub drops_records: AtomicBool,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How a reconciliation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Nothing to wait for.
    Done,
    /// Until the SealedSecret or the keys change.
    NeedsKeys,
    /// Until the Secret in the way changes.
    Blocked,
    /// An error that passes.
    Retry,
}

/// Observe, decide, act, report: once, for one object.
pub(crate) async fn reconcile(context: &Context, key: &Key) -> Ended {
    let (read, mark) = {
        let index = lock(&context.index);
        (index.sealed(key).cloned(), index.secret(key).cloned())
    };
    let sealed = match read {
        None => return gone(context, key, mark).await,
        Some(Err((metadata, error))) => {
            context.metrics.failed("fetch", &key.namespace);
            tracing::error!(object = %key, error, "the SealedSecret is malformed");
            let stub = SealedSecret {
                metadata: (*metadata).clone(),
                ..SealedSecret::default()
            };
            let finding = Finding::Template(format!("malformed SealedSecret: {error}"));
            context.recorder.record(finding.note(&stub, key));
            return Ended::Done;
        }
        Some(Ok(sealed)) => sealed,
    };
    if sealed.metadata.deletion_timestamp.is_some() {
        return Ended::Done;
    }
    let sealed = with_record(context, key, sealed);
    if decide::is_up_to_date(&sealed, mark.as_ref()) {
        context.metrics.condition(key, instance(&sealed), Some(true));
        tracing::debug!(object = %key, "nothing changed");
        return Ended::Done;
    }
    let (finding, wrote) = find(context, key, &sealed, mark.is_some()).await;
    report(context, key, &sealed, finding, wrote).await
}

/// The object with the record that memory has and the status lacks.
fn with_record(context: &Context, key: &Key, sealed: Arc<SealedSecret>) -> Arc<SealedSecret> {
    let recorded = sealed
        .status
        .as_ref()
        .is_some_and(|status| status.unsealed.is_some());
    match lock(&context.records).get(key) {
        Some(record) if !recorded => {
            let mut with = (*sealed).clone();
            with.status.get_or_insert_default().unsealed = Some(record.clone());
            Arc::new(with)
        }
        _ => sealed,
    }
}

/// Everything up to the write of the Secret. Says what came of it, and whether something was written.
async fn find(context: &Context, key: &Key, sealed: &Arc<SealedSecret>, exists: bool) -> (Finding, bool) {
    context.metrics.unseal_requested();
    let keyring = Arc::clone(&context.keyring.borrow());
    let deprecated = if context.config.accept_deprecated_v1_data {
        DeprecatedData::Accept
    } else {
        DeprecatedData::Refuse
    };
    let object = Arc::clone(sealed);
    let opened = tokio::task::spawn_blocking(move || {
        let items =
            unseal(&object, &keyring, deprecated, &decide::hints(&object)).map_err(Finding::Unseal)?;
        let data = template::render(object.spec.template.data.as_ref(), items.data)
            .map_err(|error| Finding::Template(error.to_string()))?;
        Ok((data, items.type_, items.keys))
    })
    .await;
    let (data, type_, keys) = match opened {
        Ok(Ok(opened)) => opened,
        Ok(Err(finding)) => return (finding, false),
        Err(_) => {
            return (
                Finding::Template("unsealing failed unexpectedly".to_owned()),
                false,
            );
        }
    };
    let desired = match decide::desired(sealed, data, type_, &context.key_namespace) {
        Ok(desired) => desired,
        Err(error) => return (error.into(), false),
    };
    // A Secret that the watch has not told of yet shows itself when ours is created.
    let mut look = exists;
    let mut attempts = 0;
    loop {
        attempts += 1;
        let existing = if look {
            match act::existing(&context.client, key).await {
                Ok(existing) => existing,
                Err(error) => return (Finding::Api(error), false),
            }
        } else {
            None
        };
        let plan = decide::decide(sealed, existing.as_ref(), &desired, context.config.drift_policy);
        if let Plan::Refuse(refusal) = plan {
            return (Finding::Refused(refusal), false);
        }
        match act::act(&context.client, key, &plan).await {
            Ok(written) => {
                let wrote = written.is_some();
                let mark = written
                    .or_else(|| existing.as_ref().map(|secret| Mark::of(&secret.metadata)))
                    .unwrap_or_default();
                if wrote {
                    tracing::info!(object = %key, "Secret written");
                }
                lock(&context.index).wrote_secret(key, mark.clone());
                return (Finding::Synced(decide::record(sealed, &mark, &keys)), wrote);
            }
            // Somebody was faster: look again.
            Err(kube::Error::Api(status)) if status.code == 409 && attempts < 3 => look = true,
            Err(error) => return (Finding::Api(error), false),
        }
    }
}

/// Status, Event, metric and log of `finding`.
async fn report(context: &Context, key: &Key, sealed: &SealedSecret, finding: Finding, wrote: bool) -> Ended {
    let ended = match &finding {
        Finding::Unseal(UnsealError::NoKey(_)) => Ended::NeedsKeys,
        Finding::Refused(Refusal::Unmanaged) => Ended::Blocked,
        Finding::Api(_) => Ended::Retry,
        Finding::Synced(_) | Finding::Unseal(_) | Finding::Template(_) | Finding::Refused(_) => Ended::Done,
    };
    let synced = matches!(finding, Finding::Synced(_));
    context.metrics.condition(key, instance(sealed), Some(synced));
    if let Some(reason) = finding.metric() {
        context.metrics.failed(reason, &key.namespace);
        tracing::warn!(object = %key, reason, message = finding.message(key), "not synced");
    }
    if let Finding::Synced(record) = &finding {
        lock(&context.records).insert(key.clone(), record.clone());
    }
    let only_record = finding.is_said(sealed, key) && context.drops_records.load(Ordering::Relaxed);
    let status = finding
        .status(sealed, key, Timestamp::now())
        .filter(|_| !only_record);
    // An Event tells of a change; the state is in the status.
    let before = sealed
        .status
        .as_ref()
        .and_then(|status| status.conditions.first());
    let told = before.is_some_and(|before| {
        (before.status == "True") == synced
            && before.message.as_deref().unwrap_or_default() == finding.message(key)
    });
    if wrote || !told {
        context.recorder.record(finding.note(sealed, key));
    }
    let Some(status) = status.filter(|_| context.config.update_status) else {
        return ended;
    };
    let records = status.unsealed.is_some();
    match act::write_status(&context.client, sealed, status).await {
        Ok(written) => {
            let kept = written
                .status
                .as_ref()
                .is_some_and(|status| status.unsealed.is_some());
            if records && !kept && !context.drops_records.swap(true, Ordering::Relaxed) {
                tracing::warn!(
                    "the CustomResourceDefinition drops records from the status: every start opens everything once; \
                     install the one that `plumbline-unsealer crd` prints"
                );
            }
            lock(&context.index).wrote_sealed(key, Arc::new(written));
            ended
        }
        // Changed or deleted meanwhile: the watch brings the new version, which is reconciled again.
        Err(kube::Error::Api(status)) if status.code == 404 => ended,
        Err(kube::Error::Api(status)) if status.code == 409 => Ended::Retry,
        Err(error) => {
            context.metrics.failed("status", &key.namespace);
            tracing::warn!(object = %key, %error, "cannot write the status: next attempt follows");
            Ended::Retry
        }
    }
}

/// The SealedSecret is no more; its Secret is Kubernetes' to collect, unless the old way is asked for.
async fn gone(context: &Context, key: &Key, mark: Option<Mark>) -> Ended {
    context.metrics.forget(key);
    let record = lock(&context.records).remove(key);
    let ours = mark.filter(|mark| record.is_some_and(|record| record.secret_uid == mark.uid));
    match ours.filter(|_| context.config.old_gc_behavior) {
        Some(mark) => match act::delete(&context.client, key, &mark).await {
            Ok(()) => Ended::Done,
            Err(error) => {
                tracing::warn!(object = %key, %error, "cannot delete the Secret of a deleted SealedSecret");
                lock(&context.records).insert(
                    key.clone(),
                    Unsealed {
                        secret_uid: mark.uid,
                        ..Unsealed::default()
                    },
                );
                Ended::Retry
            }
        },
        None => Ended::Done,
    }
}

/// A label that existing dashboards group by.
fn instance(sealed: &SealedSecret) -> &str {
    sealed
        .metadata
        .labels
        .as_ref()
        .and_then(|labels| labels.get("app.kubernetes.io/instance"))
        .map_or("", String::as_str)
}
