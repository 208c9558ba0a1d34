use super::*;

const REVISION: &str = "main@sha1:0123456789012345678901234567890123456789";

fn about() -> About<'static> {
    About {
        generation: 3,
        now: Timestamp::from_second(100).unwrap(),
        requested: Some("now"),
    }
}

fn result() -> Result<'static> {
    Result {
        name: "app",
        namespace: "team",
        revision: REVISION,
        digest: "d".into(),
        total: 2,
        did_something: true,
        ..Result::default()
    }
}

fn condition<'a>(status: &'a KustomizationStatus, type_: &str) -> (&'a str, &'a str, &'a str) {
    let c = status.conditions.iter().find(|c| c.type_ == type_).unwrap();
    (&c.status, &c.reason, &c.message)
}

fn problem(at: &str) -> Problem {
    Problem {
        at: at.into(),
        message: "is wrong".into(),
    }
}

#[test]
fn success_says_what_the_flux_command_line_prints() {
    let status = finished(&KustomizationStatus::default(), &result(), about());
    let message = format!("Applied revision: {REVISION}");
    assert_eq!(
        condition(&status, "Ready"),
        ("True", "ReconciliationSucceeded", message.as_str())
    );
    assert_eq!(status.last_applied_revision.as_deref(), Some(REVISION));
    assert_eq!(
        (
            status.observed_generation,
            status.last_handled_reconcile_at.as_deref()
        ),
        (Some(3), Some("now"))
    );
    assert_eq!(status.history.len(), 1);
    assert!(!status.conditions.iter().any(|c| c.type_ == "Reconciling"));
}

#[test]
fn looking_again_without_change_writes_nothing_new() {
    let first = finished(&KustomizationStatus::default(), &result(), about());
    let idle = Result {
        did_something: false,
        took: Duration::from_secs(9),
        ..result()
    };
    let later = About {
        now: Timestamp::from_second(500).unwrap(),
        ..about()
    };
    assert_eq!(finished(&first, &idle, later), first);
}

#[test]
fn every_problem_is_listed_and_the_applied_revision_stays() {
    let mut old = finished(&KustomizationStatus::default(), &result(), about());
    old.last_applied_revision = Some("older".into());
    let broken = Result {
        build: vec![problem("a.yaml:3")],
        apply: vec![problem("b.yaml:1")],
        ..result()
    };
    let status = finished(&old, &broken, about());
    let (value, reason, message) = condition(&status, "Ready");
    assert_eq!((value, reason), ("False", "BuildFailed"));
    assert!(
        message.contains("2 problems") && message.contains("a.yaml:3: is wrong\nb.yaml:1: is wrong"),
        "{message}"
    );
    assert_eq!(status.last_applied_revision.as_deref(), Some("older"));
    assert_eq!(condition(&status, "Reconciling").1, "ProgressingWithRetry");
    let many = Result {
        apply: (0..30).map(|i| problem(&i.to_string())).collect(),
        ..result()
    };
    assert!(
        condition(&finished(&old, &many, about()), "Ready")
            .2
            .ends_with("… and 10 more")
    );
}

#[test]
fn a_held_deletion_says_exactly_what_to_type() {
    let command = format!(
        "kubectl annotate kustomization app --namespace team --overwrite plumbline.dev/confirm-deletion={REVISION}"
    );
    let held = Result {
        held: Some((
            Held::Budget {
                deletions: 9,
                of: 12,
                nested: Vec::new(),
            },
            9,
        )),
        ..result()
    };
    let status = finished(&KustomizationStatus::default(), &held, about());
    let (value, reason, message) = condition(&status, "Ready");
    assert_eq!((value, reason), ("False", "DeletionHeld"));
    assert!(message.ends_with(&command), "{message}");

    // It is said too where something else is wrong, possibly for ever.
    let held = Result {
        apply: vec![problem("hpa.yaml:1")],
        ..held
    };
    let status = finished(&KustomizationStatus::default(), &held, about());
    let (_, reason, message) = condition(&status, "Ready");
    assert_eq!(reason, "ReconciliationFailed");
    assert!(message.contains("hpa.yaml:1"), "{message}");
    assert!(message.ends_with(&command), "{message}");
}

#[test]
fn waiting_for_a_kind_is_progress_not_failure() {
    let waiting = Result {
        awaited: vec![problem("cr.yaml:1")],
        ..result()
    };
    let status = finished(&KustomizationStatus::default(), &waiting, about());
    assert_eq!(condition(&status, "Ready").0, "Unknown");
    assert_eq!(status.last_applied_revision, None);
}

#[test]
fn history_keeps_five_and_counts_repetitions() {
    let mut status = KustomizationStatus::default();
    for i in 0..7 {
        let at = About {
            now: Timestamp::from_second(100 + i).unwrap(),
            ..about()
        };
        status = finished(
            &status,
            &Result {
                digest: i.to_string(),
                ..result()
            },
            at,
        );
    }
    let digests: Vec<_> = status.history.iter().map(|s| s.digest.as_str()).collect();
    assert_eq!(
        digests,
        ["sha256:6", "sha256:5", "sha256:4", "sha256:3", "sha256:2"]
    );
    let again = finished(
        &status,
        &Result {
            digest: "6".into(),
            ..result()
        },
        about(),
    );
    assert_eq!(
        again
            .history
            .iter()
            .find(|s| s.digest == "sha256:6")
            .unwrap()
            .total_reconciliations,
        2
    );
}
