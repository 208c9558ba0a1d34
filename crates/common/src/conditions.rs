//! Pure: `metav1.Condition`s as Kubernetes' API conventions want them
//! (<https://github.com/kubernetes/community/blob/master/contributors/devel/sig-architecture/api-conventions.md>).

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};

/// The API server refuses condition messages beyond this many bytes (32 KiB in the CRD schema).
const MAX_MESSAGE: usize = 20_000;

/// What a condition should say; times are filled in by [`set`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted<'a> {
    /// Condition type, `Ready` for example.
    pub type_: &'a str,
    /// `True`, `False` or `Unknown`.
    pub status: &'a str,
    /// One CamelCase word.
    pub reason: &'a str,
    /// What, where and what to do.
    pub message: &'a str,
}

/// Adds or replaces the condition of that type. `lastTransitionTime` changes only with the status.
/// Returns whether anything but the observed generation changed.
pub fn set(conditions: &mut Vec<Condition>, wanted: &Wanted<'_>, generation: i64, now: Timestamp) -> bool {
    let message = truncate(wanted.message);
    if let Some(known) = conditions.iter_mut().find(|c| c.type_ == wanted.type_) {
        let transition = known.status != wanted.status;
        let changed = transition || known.reason != wanted.reason || known.message != message;
        if transition {
            known.last_transition_time = Time(now);
        }
        wanted.status.clone_into(&mut known.status);
        wanted.reason.clone_into(&mut known.reason);
        known.message = message;
        known.observed_generation = Some(generation);
        return changed;
    }
    conditions.push(Condition {
        type_: wanted.type_.to_owned(),
        status: wanted.status.to_owned(),
        reason: wanted.reason.to_owned(),
        message,
        observed_generation: Some(generation),
        last_transition_time: Time(now),
    });
    true
}

/// Removes the condition of that type; says whether it was there.
pub fn remove(conditions: &mut Vec<Condition>, type_: &str) -> bool {
    let before = conditions.len();
    conditions.retain(|c| c.type_ != type_);
    conditions.len() != before
}

/// The condition of that type.
pub fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|c| c.type_ == type_)
}

/// Whether the condition of that type is there and `True`.
pub fn is_true(conditions: &[Condition], type_: &str) -> bool {
    find(conditions, type_).is_some_and(|c| c.status == "True")
}

fn truncate(message: &str) -> String {
    if message.len() <= MAX_MESSAGE {
        return message.to_owned();
    }
    let mut end = MAX_MESSAGE;
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}… (cut at {MAX_MESSAGE} bytes)", &message[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready(status: &'static str, message: &'static str) -> Wanted<'static> {
        Wanted {
            type_: "Ready",
            status,
            reason: "Because",
            message,
        }
    }

    #[test]
    fn transition_time_moves_only_with_the_status() {
        let (t0, t1) = (
            Timestamp::from_second(10).unwrap(),
            Timestamp::from_second(20).unwrap(),
        );
        let mut conditions = vec![];
        assert!(set(&mut conditions, &ready("True", "a"), 1, t0));
        assert!(!set(&mut conditions, &ready("True", "a"), 2, t1));
        assert_eq!(conditions[0].observed_generation, Some(2));
        assert!(set(&mut conditions, &ready("True", "b"), 2, t1));
        assert_eq!(conditions[0].last_transition_time, Time(t0));
        assert!(set(&mut conditions, &ready("False", "b"), 2, t1));
        assert_eq!(conditions[0].last_transition_time, Time(t1));
    }

    #[test]
    fn long_messages_are_cut_at_a_character() {
        let long = "ü".repeat(MAX_MESSAGE);
        let mut conditions = vec![];
        set(
            &mut conditions,
            &Wanted {
                type_: "Ready",
                status: "False",
                reason: "R",
                message: &long,
            },
            1,
            Timestamp::UNIX_EPOCH,
        );
        assert!(conditions[0].message.len() < MAX_MESSAGE + 40);
        assert!(remove(&mut conditions, "Ready") && !remove(&mut conditions, "Ready"));
    }
}
