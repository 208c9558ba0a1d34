//! One object, once: observe, decide, act, report.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use k8s_openapi::jiff::Timestamp;

use crate::api::SealedSecret;
use crate::context::{Context, lock};
use crate::decide::{self, Plan};
use crate::desired::{Keys, desired};
use crate::observe::{Key, Mark};
use crate::report::Finding;
use crate::unseal::{DeprecatedData, UnsealError, unseal};
use crate::{act, hint, record, redact, template};

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
        None => return gone(context, key, mark.is_some()).await,
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
    let sealed = context.with_memory(key, sealed);
    if record::is_up_to_date(&sealed, mark.as_ref()) {
        context.metrics.condition(key, instance(&sealed), Some(true));
        tracing::debug!(object = %key, "nothing changed");
        return Ended::Done;
    }
    let (finding, wrote) = find(context, key, &sealed, mark.is_some()).await;
    report(context, key, &sealed, finding, wrote).await
}

/// Everything up to the write of the Secret. Says what came of it, and whether something was written.
async fn find(context: &Context, key: &Key, sealed: &Arc<SealedSecret>, exists: bool) -> (Finding, bool) {
    context.metrics.unseal_requested();
    let keyring = Arc::clone(&context.keyring.borrow());
    let deprecated = DeprecatedData::from_flag(context.config.accept_deprecated_v1_data);
    let object = Arc::clone(sealed);
    let opened = tokio::task::spawn_blocking(move || {
        let items = unseal(&object, &keyring, deprecated, &hint::hints(&object)).map_err(|error| {
            let advice = match &error {
                UnsealError::NoKey(failed) => hint::advice(&object, &keyring, failed),
                _ => None,
            };
            Finding::Unseal(error, advice)
        })?;
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
    let place = Keys {
        namespace: &context.key_namespace,
        prefix: &context.config.key_prefix,
    };
    let desired = match desired(sealed, data, type_, place) {
        Ok(desired) => desired,
        Err(error) => return (error.into(), false),
    };
    let failed = |error: &kube::Error| (Finding::Api(redact::words(error, &desired.data)), false);
    // A Secret that the watch has not told of yet shows itself when ours is created.
    let mut look = exists;
    let mut attempts = 0;
    loop {
        attempts += 1;
        let existing = if look {
            match act::existing(&context.client, key).await {
                Ok(existing) => existing,
                Err(error) => return failed(&error),
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
                    tracing::info!(key = %key, "Updating");
                }
                lock(&context.index).wrote_secret(key, mark.clone());
                let merged = existing
                    .as_ref()
                    .is_some_and(|secret| decide::is_merged_into(secret, sealed));
                let record = record::record(sealed, &mark, merged, &keys);
                return (Finding::Synced(record), wrote);
            }
            // Somebody was faster: look again.
            Err(kube::Error::Api(status)) if status.code == 409 && attempts < 3 => look = true,
            Err(error) => return failed(&error),
        }
    }
}

/// Status, Event, metric and log of `finding`.
async fn report(context: &Context, key: &Key, sealed: &SealedSecret, finding: Finding, wrote: bool) -> Ended {
    let ended = match &finding {
        Finding::Unseal(UnsealError::NoKey(_), _) => Ended::NeedsKeys,
        Finding::Refused(_) => Ended::Blocked,
        Finding::Api(_) => Ended::Retry,
        Finding::Synced(_) | Finding::Unseal(..) | Finding::Template(_) => Ended::Done,
    };
    let synced = matches!(finding, Finding::Synced(_));
    context.metrics.condition(key, instance(sealed), Some(synced));
    if let Some(reason) = finding.metric() {
        context.metrics.failed(reason, &key.namespace);
        tracing::warn!(object = %key, reason, message = finding.message(key), "not synced");
    }
    let told = context.told(key, sealed).is_some_and(|before| {
        (before.status == "True") == synced
            && before.message.as_deref().unwrap_or_default() == finding.message(key)
    });
    if wrote || !told {
        context.recorder.record(finding.note(sealed, key));
    }
    let Some(status) = finding.status(sealed, key, Timestamp::now()) else {
        return ended;
    };
    lock(&context.memory).insert(key.clone(), status.clone());
    let only_record = finding.is_said(sealed, key) && context.drops_records.load(Ordering::Relaxed);
    if only_record || !context.config.update_status {
        return ended;
    }
    let records = status.unsealed.is_some();
    match act::write_status(&context.client, sealed, status).await {
        Ok(written) => {
            let kept = written
                .status
                .as_ref()
                .is_some_and(|status| status.unsealed.is_some());
            if kept || !records {
                lock(&context.memory).remove(key);
            } else if !context.drops_records.swap(true, Ordering::Relaxed) {
                tracing::warn!(
                    "the CustomResourceDefinition drops records from the status: every start opens everything once; \
                     install the one that `plumbline-unsealer crd` prints"
                );
            }
            lock(&context.index).wrote_sealed(key, Arc::new(written));
            ended
        }
        // Deleted meanwhile: the watch tells.
        Err(kube::Error::Api(status)) if status.code == 404 => ended,
        // Changed meanwhile: the watch brings the new version.
        Err(kube::Error::Api(status)) if status.code == 409 => Ended::Retry,
        Err(error) => {
            context.metrics.failed("status", &key.namespace);
            tracing::warn!(object = %key, %error, "cannot write the status: next attempt follows");
            Ended::Retry
        }
    }
}

/// The SealedSecret is no more; its Secret is Kubernetes' to collect, unless the old way is asked for.
async fn gone(context: &Context, key: &Key, exists: bool) -> Ended {
    context.metrics.forget(key);
    lock(&context.memory).remove(key);
    if !exists || !context.config.old_gc_behavior {
        return Ended::Done;
    }
    match act::delete_orphan(&context.client, key).await {
        Ok(()) => Ended::Done,
        Err(error) => {
            tracing::warn!(object = %key, %error, "cannot delete the Secret of a deleted SealedSecret: next attempt follows");
            Ended::Retry
        }
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
