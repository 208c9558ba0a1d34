//! What is said about an object: its status, an Event, a metric, a log line. One vocabulary for all four.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::jiff::Timestamp;
use plumbline_common::events::{Kind, Note};

use crate::api::{Condition, SealedSecret, SealedSecretStatus, Unsealed};
use crate::decide::Refusal;
use crate::desired::BadTemplate;
use crate::observe::Key;
use crate::unseal::UnsealError;

/// What came of a reconciliation.
#[derive(Clone, Debug)]
pub enum Finding {
    /// The Secret is as it should be.
    Synced(Unsealed),
    /// Some item does not open; what can be told about why.
    Unseal(UnsealError, Option<String>),
    /// The template cannot be used.
    Template(String),
    /// The Secret is not to be touched.
    Refused(Refusal),
    /// The API server refused a read or a write; its words, without values.
    Api(String),
}

impl From<BadTemplate> for Finding {
    fn from(error: BadTemplate) -> Self {
        Self::Template(error.to_string())
    }
}

impl Finding {
    /// One word for conditions, and the Event reason that existing alerts look for.
    fn reason(&self) -> (&'static str, &'static str) {
        match self {
            Self::Synced(_) => ("Unsealed", "Unsealed"),
            Self::Unseal(..) => ("UnsealFailed", "ErrUnsealFailed"),
            Self::Template(_) => ("TemplateFailed", "ErrUnsealFailed"),
            Self::Refused(Refusal::Unmanaged) => ("Unmanaged", "ErrUpdateFailed"),
            Self::Refused(Refusal::Immutable | Refusal::OtherType) => ("Immutable", "ErrUpdateFailed"),
            Self::Refused(Refusal::Drifted) => ("Drifted", "ErrUpdateFailed"),
            Self::Api(_) => ("UpdateFailed", "ErrUpdateFailed"),
        }
    }

    /// The label of `unseal_errors_total`; none for a success.
    pub fn metric(&self) -> Option<&'static str> {
        match self {
            Self::Synced(_) => None,
            Self::Unseal(..) | Self::Template(_) => Some("unseal"),
            Self::Refused(Refusal::Unmanaged) => Some("unmanaged"),
            Self::Refused(_) | Self::Api(_) => Some("update"),
        }
    }

    /// The message of the condition.
    pub fn message(&self, key: &Key) -> String {
        match self {
            Self::Synced(_) => String::new(),
            Self::Unseal(error, None) => error.to_string(),
            Self::Unseal(error, Some(advice)) => format!("{error}: {advice}"),
            Self::Template(error) | Self::Api(error) => error.clone(),
            Self::Refused(Refusal::Drifted) => format!(
                "the Secret {key} was changed by somebody else, and the drift policy is to report that: delete the Secret to have it made anew"
            ),
            Self::Refused(_) => format!("failed update: {}", self.event(key)),
        }
    }

    /// The message of the Event: the wording that people's alerts and tests match.
    fn event(&self, key: &Key) -> String {
        match self {
            Self::Synced(_) => "SealedSecret unsealed successfully".to_owned(),
            Self::Unseal(..) | Self::Template(_) => format!("Failed to unseal: {}", self.message(key)),
            Self::Refused(Refusal::Unmanaged) => {
                format!(
                    "Resource {:?} already exists and is not managed by SealedSecret",
                    key.name
                )
            }
            Self::Refused(Refusal::Immutable) => format!(
                "Error updating {key}: the target Secret is immutable. Once a Secret is marked as immutable, it is not possible to revert this change nor to mutate the contents of the data field. You can only delete and recreate the Secret."
            ),
            Self::Refused(Refusal::OtherType) => format!(
                "Error updating {key}: the type of a Secret cannot be changed: delete the Secret to have it made anew with the type of spec.template"
            ),
            Self::Refused(Refusal::Drifted) | Self::Api(_) => self.message(key),
        }
    }

    /// The Event about `sealed`.
    pub fn note(&self, sealed: &SealedSecret, key: &Key) -> Note {
        let kind = if matches!(self, Self::Synced(_)) {
            Kind::Normal
        } else {
            Kind::Warning
        };
        Note {
            regarding: ObjectReference {
                api_version: Some("bitnami.com/v1alpha1".to_owned()),
                kind: Some("SealedSecret".to_owned()),
                name: Some(key.name.clone()),
                namespace: Some(key.namespace.clone()),
                uid: sealed.metadata.uid.clone(),
                resource_version: sealed.metadata.resource_version.clone(),
                field_path: None,
            },
            kind,
            reason: self.reason().1.to_owned(),
            message: self.event(key),
            annotations: BTreeMap::new(),
        }
    }

    /// Whether the condition says this already; the record aside.
    pub fn is_said(&self, sealed: &SealedSecret, key: &Key) -> bool {
        let Some(old) = &sealed.status else { return false };
        let state = if matches!(self, Self::Synced(_)) {
            "True"
        } else {
            "False"
        };
        let message = Some(self.message(key)).filter(|message| !message.is_empty());
        let condition = old
            .conditions
            .iter()
            .find(|condition| condition.type_ == "Synced");
        old.observed_generation == sealed.metadata.generation
            && condition.is_some_and(|condition| {
                condition.status == state
                    && condition.message == message
                    && condition.reason.as_deref() == Some(self.reason().0)
            })
    }

    /// The status that says this; `None` when it is already there.
    pub fn status(&self, sealed: &SealedSecret, key: &Key, now: Timestamp) -> Option<SealedSecretStatus> {
        let old = sealed.status.clone().unwrap_or_default();
        let synced = matches!(self, Self::Synced(_));
        let state = if synced { "True" } else { "False" };
        let before = old
            .conditions
            .iter()
            .find(|condition| condition.type_ == "Synced");
        let now = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let message = Some(self.message(key)).filter(|message| !message.is_empty());
        let reason = Some(self.reason().0.to_owned());
        let record = match self {
            Self::Synced(record) => Some(record.clone()),
            // Whose Secret it is stays known while something is wrong.
            _ => old.unsealed.clone(),
        };
        if self.is_said(sealed, key) && old.unsealed == record {
            return None;
        }
        let transition = before
            .filter(|before| before.status == state)
            .and_then(|before| before.last_transition_time.clone())
            .unwrap_or_else(|| now.clone());
        let mut conditions = vec![Condition {
            type_: "Synced".to_owned(),
            status: state.to_owned(),
            last_transition_time: Some(transition),
            last_update_time: Some(now),
            reason,
            message,
        }];
        // Columns and health checks read the first condition; what others added follows.
        conditions.extend(
            old.conditions
                .into_iter()
                .filter(|condition| condition.type_ != "Synced"),
        );
        Some(SealedSecretStatus {
            conditions,
            observed_generation: sealed.metadata.generation,
            unsealed: record,
        })
    }
}
