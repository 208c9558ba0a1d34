use k8s_openapi::jiff::Timestamp;

use super::*;

fn about(generation: i64, requested: Option<&str>) -> About<'_> {
    About {
        generation,
        now: Timestamp::UNIX_EPOCH,
        requested,
    }
}

/// Revision `new` failed, and `old` was healthy before it.
fn failed() -> KustomizationStatus {
    let mut status = KustomizationStatus {
        last_applied_revision: Some("old".into()),
        last_attempted_revision: Some("new".into()),
        last_handled_reconcile_at: Some("1".into()),
        ..KustomizationStatus::default()
    };
    mark(&mut status, ("True", RETURNING, "web is down"), about(3, None));
    status
}

#[test]
fn it_holds_for_one_revision_spec_and_request() {
    let status = failed();
    let held = Return::of(&status, "new", about(3, Some("1"))).unwrap();
    assert_eq!(
        (held.failed.as_str(), held.to.as_str(), held.is_done),
        ("new", "old", false)
    );
    assert_eq!(held.failure, "web is down");
    assert!(Return::of(&status, "new", about(3, None)).is_some());
    for (revision, about) in [
        ("newer", about(3, Some("1"))),
        ("new", about(4, Some("1"))),
        ("new", about(3, Some("2"))),
    ] {
        assert_eq!(Return::of(&status, revision, about), None, "{revision} {about:?}");
    }
    let mut over = status;
    mark(&mut over, ("False", "CannotReturn", "why"), about(3, None));
    assert_eq!(Return::of(&over, "new", about(3, None)), None);
    assert!(concerning(&over, "new", about(3, None)).is_some());
}

#[test]
fn ready_is_false_whatever_becomes_of_the_earlier_revision() {
    let held = Return::of(&failed(), "new", about(3, None)).unwrap();
    for (inner, reason, parts) in [
        (
            ("True", "ReconciliationSucceeded", "fine"),
            "HealthCheckFailed",
            ["returned to revision old", "web is down"],
        ),
        (
            ("Unknown", "Progressing", "2 of 3"),
            "HealthCheckFailed",
            ["returning to revision old", "2 of 3"],
        ),
        (
            ("False", "BuildFailed", "a.yaml:3"),
            "BuildFailed",
            ["a.yaml:3", "web is down"],
        ),
    ] {
        let (value, why, message) = held.verdict((inner.0, inner.1, inner.2.to_owned()));
        assert_eq!((value, why), ("False", reason));
        assert!(parts.iter().all(|part| message.contains(part)), "{message}");
    }
}

#[test]
fn the_status_says_how_far_it_is_and_keeps_the_failed_revision() {
    let held = Return::of(&failed(), "new", about(3, None)).unwrap();
    let mut status = failed();
    status.last_attempted_revision = Some("old".into());
    held.started(&mut status, about(3, None));
    assert_eq!(status.last_attempted_revision.as_deref(), Some("new"));
    let ready = conditions::find(&status.conditions, "Ready").unwrap();
    assert_eq!(
        (ready.status.as_str(), ready.reason.as_str()),
        ("False", "HealthCheckFailed")
    );
    held.mark(&mut status, false, about(3, None));
    assert_eq!(reason(&status), Some(RETURNING));
    assert_eq!(status.last_attempted_revision.as_deref(), Some("new"));
    held.mark(&mut status, true, about(3, None));
    let held = Return::of(&status, "new", about(3, None)).unwrap();
    assert!(held.is_done);
    // What happens later does not begin it anew.
    held.mark(&mut status, false, about(3, None));
    assert_eq!(reason(&status), Some(RETURNED));
}

#[test]
fn the_annotation_is_read_in_any_case() {
    let of = |text: &str| OnUnhealthy::of(&[(ON_UNHEALTHY.to_owned(), text.to_owned())].into());
    assert_eq!(
        (of("Return"), of(" stay "), of("")),
        (
            Ok(OnUnhealthy::Return),
            Ok(OnUnhealthy::Stay),
            Ok(OnUnhealthy::Stay)
        )
    );
    assert_eq!(OnUnhealthy::of(&BTreeMap::new()), Ok(OnUnhealthy::Stay));
    assert!(
        of("back")
            .unwrap_err()
            .contains("\"back\" is neither Stay nor Return")
    );
}

#[test]
fn the_same_objects_are_nothing_to_return_to() {
    let mut status = failed();
    status.history.push(
        serde_json::from_value(serde_json::json!({
            "digest": "sha256:abc", "firstReconciled": "2026-01-01T00:00:00Z", "lastReconciled": "2026-01-01T00:00:00Z",
            "lastReconciledDuration": "1s", "lastReconciledStatus": "ReconciliationSucceeded", "totalReconciliations": 1,
            "metadata": { "revision": "old" },
        }))
        .unwrap(),
    );
    assert!(has_same_objects(&status, "old", "abc"));
    assert!(!has_same_objects(&status, "old", "abd") && !has_same_objects(&status, "older", "abc"));
}
