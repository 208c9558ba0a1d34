use std::time::{Duration, Instant};

use serde_json::json;

use super::*;

fn holds(text: &str, status: &Value) -> Result<bool, CelError> {
    let metadata = json!({ "generation": 2 });
    Condition::parse(text)?.holds(&[("status", status), ("metadata", &metadata)])
}

#[test]
fn conditions_as_people_write_them() {
    let status = json!({
        "replicas": 3, "phase": "Running", "ratio": 0.5, "observedGeneration": 2,
        "conditions": [{ "type": "Ready", "status": "True", "observedGeneration": 2 }, { "type": "Synced", "status": "False" }],
    });
    for (text, expected) in [
        ("true", true),
        ("status.replicas == 3 && status.replicas > 2", true),
        ("status.replicas + 1 == 4", true),
        ("status.phase in ['Running', 'Done']", true),
        (
            "status.phase.startsWith('Run') && status.phase.matches('^R.*g$')",
            true,
        ),
        (
            "status.conditions.filter(e, e.type == 'Ready').all(e, e.status == 'True' && e.observedGeneration == metadata.generation)",
            true,
        ),
        (
            "status.conditions.exists(e, e.type == 'Synced' && e.status == 'True')",
            false,
        ),
        ("has(status.failure)", false),
        ("!has(status.failure) || status.failure.size() == 0", true),
        ("status.conditions.map(e, e.type).size() == 2", true),
        (
            "status.observedGeneration == metadata.generation ? status.ratio < 1.0 : false",
            true,
        ),
    ] {
        assert_eq!(holds(text, &status), Ok(expected), "{text}");
    }
}

#[test]
fn what_is_no_condition_is_named() {
    let status = json!({ "phase": "hunter2", "items": [] });
    for text in ["", "status.", "a ==", "(((", "status.phase == 'x", "💥", "\u{0}"] {
        assert!(
            matches!(Condition::parse(text), Err(CelError::Invalid(_))),
            "{text:?}"
        );
    }
    for (text, expected) in [
        ("status.phase", "not true or false"),
        ("1 + 1", "not true or false"),
        ("nothing == 1", "nothing"),
        ("unknown(status)", "unknown"),
        ("status.phase > 3", ""),
        ("1 / 0 == 1", ""),
    ] {
        let Err(CelError::Invalid(message)) = holds(text, &status) else {
            panic!("{text} was taken");
        };
        assert!(message.contains(expected), "{text}: {message}");
        assert!(!message.contains("hunter2"), "{message}");
    }
    assert_eq!(
        holds("status.none == 1", &status),
        Err(CelError::Missing("none".into()))
    );
    assert!(matches!(
        holds("status.items[0] == 1", &status),
        Err(CelError::Missing(_))
    ));
}

#[test]
fn what_would_cost_too_much_is_not_begun() {
    let begin = Instant::now();
    let list: Vec<u32> = (0..2000).collect();
    let status = json!({ "list": list, "text": "a".repeat(1 << 20), "one": [1] });
    let nested = "status.list.all(a, status.list.all(b, status.list.all(c, a + b + c >= 0)))";
    let doubling = "['a']".to_owned() + &".map(x, x + x)".repeat(140) + ".size() == 1";
    let deep = "(".repeat(500) + "true" + &")".repeat(500);
    let long = "true && ".repeat(1000) + "true";
    // As deep as it may be, in every way that the grammar has.
    for deep in [
        "(".repeat(24) + "true" + &")".repeat(24),
        "!".repeat(2000) + "true",
        "-".repeat(2000) + "1 == 1",
        "true && ".repeat(250) + "true",
        "true ? ".repeat(100) + "true" + &" : false".repeat(100),
        "status".to_owned() + &".a".repeat(1000),
        "status".to_owned() + &"[0]".repeat(600),
        "['a']".to_owned() + &".map(x, x)".repeat(190) + " == ['a']",
        "1 + ".repeat(500) + "1 == 501",
    ] {
        drop(holds(&deep, &json!({})));
    }
    for text in [
        nested,
        &doubling,
        &deep,
        &long,
        "status.list.all(a, status.list.all(b, a != b || true))",
        "status.list.all(a, status.text.matches('(a*)*b'))",
        "(status.list + status.list).all(a, (status.list + status.list).exists(b, b == a))",
        "[status.list + status.list].all(a, a.all(b, a.all(c, c == b)))",
        "status.list.map(a, status.list).map(a, a.map(b, a)).size() == 1",
    ] {
        assert!(
            matches!(holds(text, &status), Err(CelError::Invalid(_))),
            "{}",
            &text[..40]
        );
    }
    // One loop over all of it is fine.
    let list = json!({ "list": status["list"] });
    assert_eq!(
        holds("status.list.filter(a, a > 5).all(a, a >= 0)", &list),
        Ok(true)
    );
    assert_eq!(
        holds(
            "status.one.all(a, status.one.all(b, a == b))",
            &json!({ "one": [1] })
        ),
        Ok(true)
    );
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
}
