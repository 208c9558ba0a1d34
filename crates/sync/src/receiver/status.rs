//! Pure: what the status of a Receiver says.

use k8s_openapi::jiff::Timestamp;
use plumbline_common::conditions::{self, Wanted};

use crate::api::ReceiverStatus;

/// Why a Receiver is not served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) reason: &'static str,
    pub(super) message: String,
    pub(super) until: Until,
}

/// What ends a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Until {
    /// Another spec.
    Changed,
    /// Something that may happen by itself: it is looked at again.
    LookedAt,
}

/// The status of a Receiver that is served at `path`, or is not.
pub(super) fn after(
    old: &ReceiverStatus,
    outcome: &Result<String, Refusal>,
    generation: i64,
    requested: Option<&str>,
    now: Timestamp,
) -> ReceiverStatus {
    let mut status = old.clone();
    status.observed_generation = Some(generation);
    if let Some(requested) = requested {
        status.last_handled_reconcile_at = Some(requested.to_owned());
    }
    let mut set = |type_, value, reason, message: &str| {
        let wanted = Wanted {
            type_,
            status: value,
            reason,
            message,
        };
        conditions::set(&mut status.conditions, &wanted, generation, now);
    };
    match outcome {
        Ok(path) => {
            set(
                "Ready",
                "True",
                "Succeeded",
                &format!("Receiver initialized for path: {path}"),
            );
            conditions::remove(&mut status.conditions, "Stalled");
            conditions::remove(&mut status.conditions, "Reconciling");
            status.webhook_path = Some(path.clone());
        }
        Err(refusal) => {
            set("Ready", "False", refusal.reason, &refusal.message);
            let (shown, reason, other) = match refusal.until {
                Until::Changed => ("Stalled", refusal.reason, "Reconciling"),
                Until::LookedAt => ("Reconciling", "ProgressingWithRetry", "Stalled"),
            };
            set(shown, "True", reason, &refusal.message);
            conditions::remove(&mut status.conditions, other);
            status.webhook_path = None;
        }
    }
    status
}
