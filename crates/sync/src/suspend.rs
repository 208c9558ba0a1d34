//! Pure: whether an object is suspended, by whom, why, and until when.
//!
//! `spec.suspend` is the switch, as in Flux. Annotations say more, and `plumbline.dev/suspend-until` ends it: the spec is
//! then left as it is, because it may stand in Git, and the condition says that it no longer counts.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, ManagedFieldsEntry, ObjectMeta},
    jiff::Timestamp,
};
use plumbline_common::conditions::{self, Wanted};

use crate::api::{SUSPEND_BY, SUSPEND_REASON, SUSPEND_UNTIL};

/// The condition that tells of it.
const SUSPENDED: &str = "Suspended";
/// A wait is looked at again after this time at the latest: clocks are set.
const LOOK: Duration = Duration::from_hours(1);

/// Whether an object is suspended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Suspension {
    /// It is not.
    None,
    /// It is.
    Active {
        /// By whom, until when, and why.
        message: String,
        /// When to look again.
        look: Option<Duration>,
    },
    /// It was, and its time is over.
    Ended {
        /// When it ended.
        message: String,
    },
}

impl Suspension {
    /// What the object says about itself.
    pub fn of(suspend: Option<bool>, metadata: &ObjectMeta, now: Timestamp) -> Self {
        if suspend != Some(true) {
            return Self::None;
        }
        let empty = BTreeMap::new();
        let notes = metadata.annotations.as_ref().unwrap_or(&empty);
        let note = |name: &str| {
            notes
                .get(name)
                .map(|text| text.trim())
                .filter(|text| !text.is_empty())
        };
        let by = note(SUSPEND_BY).map_or_else(|| switched_by(metadata), |by| Some(format!("by {by}")));
        let until = note(SUSPEND_UNTIL).map(|text| (text, text.parse::<Timestamp>()));
        let mut message = "suspended".to_owned();
        if let Some(by) = by {
            message = format!("{message} {by}");
        }
        let mut look = None;
        match until {
            None => {}
            Some((text, Ok(until))) if until <= now => {
                return Self::Ended {
                    message: format!("the suspension ended at {text}: spec.suspend can be removed"),
                };
            }
            Some((text, Ok(until))) => {
                let left = Duration::try_from(until.duration_since(now)).unwrap_or_default();
                // A moment after, so that it is over then.
                look = Some((left + Duration::from_millis(10)).min(LOOK));
                message = format!("{message} until {text}");
            }
            Some((text, Err(_))) => {
                message = format!(
                    "{message} without an end, because {SUSPEND_UNTIL} {text:?} is no time like 2026-11-30T08:00:00Z"
                );
            }
        }
        if let Some(reason) = note(SUSPEND_REASON) {
            message = format!("{message}: {reason}");
        }
        Self::Active { message, look }
    }

    /// Whether it holds now.
    pub const fn is_active(&self) -> bool {
        matches!(self, Self::Active { .. })
    }

    /// Makes the conditions say so.
    pub fn mark(&self, conditions: &mut Vec<Condition>, generation: i64, now: Timestamp) {
        let (status, reason, message) = match self {
            Self::None => {
                conditions::remove(conditions, SUSPENDED);
                return;
            }
            Self::Active { message, .. } => ("True", SUSPENDED, message),
            Self::Ended { message } => ("False", "SuspensionEnded", message),
        };
        let wanted = Wanted {
            type_: SUSPENDED,
            status,
            reason,
            message,
        };
        conditions::set(conditions, &wanted, generation, now);
    }

    /// What is news, compared with what the conditions said: an event's reason and message.
    pub fn news(&self, old: &[Condition]) -> Option<(&'static str, String)> {
        let before = conditions::find(old, SUSPENDED);
        match self {
            Self::Active { message, .. } => {
                let known =
                    before.is_some_and(|before| before.status == "True" && before.message == *message);
                (!known).then(|| (SUSPENDED, message.clone()))
            }
            Self::Ended { message } => {
                let was = before.is_some_and(|before| before.status == "True");
                was.then(|| ("SuspensionEnded", message.clone()))
            }
            Self::None => {
                let was = before.is_some_and(|before| before.status == "True");
                was.then(|| ("Resumed", "not suspended any longer".to_owned()))
            }
        }
    }
}

/// Who set `spec.suspend`, as the API server remembers it.
fn switched_by(metadata: &ObjectMeta) -> Option<String> {
    let owns = |entry: &&ManagedFieldsEntry| {
        let fields = entry.fields_v1.as_ref().map(|fields| &fields.0);
        fields.is_some_and(|fields| {
            fields
                .get("f:spec")
                .is_some_and(|spec| spec.get("f:suspend").is_some())
        })
    };
    let entry = metadata
        .managed_fields
        .iter()
        .flatten()
        .filter(owns)
        .max_by_key(|entry| entry.time.as_ref().map(|time| time.0))?;
    let manager = entry.manager.as_deref()?;
    Some(match &entry.time {
        Some(time) => format!("by {manager} at {}", time.0),
        None => format!("by {manager}"),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn of(suspend: bool, metadata: Value) -> Suspension {
        let metadata = serde_json::from_value(metadata).unwrap();
        Suspension::of(Some(suspend), &metadata, "2026-11-26T12:00:00Z".parse().unwrap())
    }

    fn message(suspension: &Suspension) -> &str {
        match suspension {
            Suspension::Active { message, .. } | Suspension::Ended { message } => message,
            Suspension::None => "",
        }
    }

    #[test]
    fn annotations_say_who_why_and_until_when() {
        let notes = |until: &str| {
            json!({ "annotations": {
                SUSPEND_BY: "ada", SUSPEND_REASON: "the database moves", SUSPEND_UNTIL: until,
            } })
        };
        let active = of(true, notes("2026-11-26T12:00:30Z"));
        assert_eq!(
            message(&active),
            "suspended by ada until 2026-11-26T12:00:30Z: the database moves"
        );
        let Suspension::Active { look: Some(look), .. } = active else {
            panic!("{active:?}")
        };
        assert!(look > Duration::from_secs(30) && look < Duration::from_secs(31));
        let far = of(true, notes("2027-11-26T12:00:30+01:00"));
        assert!(
            matches!(far, Suspension::Active { look: Some(LOOK), .. }),
            "{far:?}"
        );
        assert!(matches!(
            of(true, notes("2026-11-26T12:00:00Z")),
            Suspension::Ended { .. }
        ));
        let wrong = of(true, notes("tomorrow"));
        assert!(
            matches!(wrong, Suspension::Active { look: None, .. }),
            "{wrong:?}"
        );
        assert!(message(&wrong).contains("\"tomorrow\" is no time"), "{wrong:?}");
        // Notes alone suspend nothing.
        assert_eq!(of(false, notes("2027-11-26T12:00:00Z")), Suspension::None);
    }

    #[test]
    fn without_annotations_the_api_server_is_asked() {
        let suspended = of(
            true,
            json!({ "managedFields": [
            { "manager": "kubectl", "operation": "Update", "time": "2026-11-26T10:00:00Z", "fieldsV1": { "f:spec": { "f:path": {} } } },
            { "manager": "flux", "operation": "Update", "time": "2026-11-26T11:00:00Z", "fieldsV1": { "f:spec": { "f:suspend": {} } } },
        ] }),
        );
        assert_eq!(message(&suspended), "suspended by flux at 2026-11-26T11:00:00Z");
        assert_eq!(message(&of(true, json!({}))), "suspended");
    }

    #[test]
    fn each_change_is_told_once() {
        let now = Timestamp::UNIX_EPOCH;
        let mut conditions = Vec::new();
        let active = of(true, json!({}));
        assert_eq!(active.news(&conditions).unwrap().0, "Suspended");
        active.mark(&mut conditions, 1, now);
        assert_eq!(active.news(&conditions), None);
        let ended = of(
            true,
            json!({ "annotations": { SUSPEND_UNTIL: "2026-11-26T11:00:00Z" } }),
        );
        assert_eq!(ended.news(&conditions).unwrap().0, "SuspensionEnded");
        assert_eq!(Suspension::None.news(&conditions).unwrap().0, "Resumed");
        ended.mark(&mut conditions, 1, now);
        assert_eq!(
            (ended.news(&conditions), Suspension::None.news(&conditions)),
            (None, None)
        );
        Suspension::None.mark(&mut conditions, 1, now);
        assert_eq!(conditions, []);
    }
}
