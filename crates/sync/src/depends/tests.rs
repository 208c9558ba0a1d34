use std::collections::HashMap;

use serde_json::{Value, json};

use super::*;

struct Estate(HashMap<Owner, Arc<Kustomization>>);

fn key(name: &str) -> Owner {
    Owner {
        namespace: "ns".into(),
        name: name.into(),
    }
}

impl Estate {
    fn new(objects: &[(&str, &[&str])]) -> Self {
        let mut estate = Self(HashMap::new());
        for (name, after) in objects {
            estate.set(name, after, &json!({}));
        }
        estate
    }

    fn set(&mut self, name: &str, after: &[&str], status: &Value) {
        let after: Vec<_> = after.iter().map(|name| json!({"name": name})).collect();
        let object = json!({
            "apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization",
            "metadata": {"name": name, "namespace": "ns", "generation": 2},
            "spec": {"interval": "1m", "prune": true, "sourceRef": {"kind": "GitRepository", "name": "s"}, "dependsOn": after},
            "status": status,
        });
        let object: Kustomization = serde_json::from_value(object).unwrap();
        self.0.insert(key(name), Arc::new(object));
    }

    fn unmet(&self, name: &str) -> Option<Unmet> {
        unmet(&self.0[&key(name)], "main@sha1:b", &|key| {
            self.0.get(key).cloned()
        })
    }

    fn reason(&self, name: &str) -> String {
        match self.unmet(name) {
            Some(Unmet::NotReady(reason) | Unmet::Cycle(reason) | Unmet::Invalid(reason)) => reason,
            None => String::new(),
        }
    }
}

fn status(ready: &str, generation: i64, revision: &str) -> Value {
    json!({
        "observedGeneration": generation, "lastAppliedRevision": revision,
        "conditions": [{"type": "Ready", "status": ready, "reason": "Why", "message": "m", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
    })
}

#[test]
fn a_dependency_must_be_ready_at_its_generation_and_at_the_same_revision() {
    let mut estate = Estate::new(&[("a", &[]), ("b", &["a"])]);
    assert_eq!(estate.unmet("a"), None);
    assert!(
        estate.reason("b").contains("has changed"),
        "{}",
        estate.reason("b")
    );
    for (its, expected) in [
        (status("True", 2, "main@sha1:b"), ""),
        (status("True", 2, "main@sha1:a"), "not at revision main@sha1:b"),
        (status("True", 1, "main@sha1:b"), "has changed"),
        (status("False", 2, "main@sha1:b"), "'ns/a' is not ready: Why"),
        (status("Unknown", 2, "main@sha1:b"), "is not ready"),
    ] {
        estate.set("a", &[], &its);
        let reason = estate.reason("b");
        assert!(
            reason.contains(expected) && reason.is_empty() == expected.is_empty(),
            "{reason}"
        );
    }
    estate.set("c", &["gone"], &json!({}));
    assert!(estate.reason("c").contains("'ns/gone' does not exist"));
}

#[test]
fn a_cycle_stops_only_its_members() {
    let ready = status("True", 2, "main@sha1:b");
    let mut estate = Estate::new(&[("a", &["b"]), ("b", &["c"]), ("c", &["a"]), ("self", &["self"])]);
    estate.set("user", &["a", "free"], &ready);
    estate.set("free", &[], &ready);
    for name in ["a", "b", "c"] {
        let unmet = estate.unmet(name).unwrap();
        let Unmet::Cycle(way) = &unmet else {
            panic!("{unmet:?}")
        };
        assert_eq!(way.matches(&format!("ns/{name}")).count(), 2, "{way}");
        assert_eq!(way.matches(" → ").count(), 3, "{way}");
    }
    assert!(matches!(estate.unmet("self"), Some(Unmet::Cycle(_))));
    assert!(matches!(estate.unmet("user"), Some(Unmet::NotReady(_))));
    assert_eq!(estate.unmet("free"), None);
}

#[test]
fn a_wide_and_deep_estate_is_walked_once() {
    let names: Vec<String> = (0..2000).map(|n| format!("k{n}")).collect();
    let mut estate = Estate(HashMap::new());
    for (n, name) in names.iter().enumerate() {
        let after: Vec<&str> = names[..n].iter().rev().take(8).map(String::as_str).collect();
        estate.set(name, &after, &json!({}));
    }
    assert!(matches!(estate.unmet("k1999"), Some(Unmet::NotReady(_))));
}

#[test]
fn an_expression_takes_the_place_of_the_rule() {
    let mut estate = Estate::new(&[("a", &[]), ("b", &["a"])]);
    estate.set("a", &[], &status("False", 1, "main@sha1:a"));
    let unmet = |estate: &mut Estate, expression: &str| {
        let mut object = Kustomization::clone(&estate.0[&key("b")]);
        object.spec.depends_on[0].ready_expr = Some(expression.into());
        let checked = check(&object);
        estate.0.insert(key("b"), Arc::new(object));
        checked
            .err()
            .or_else(|| Some(estate.reason("b")).filter(|text| !text.is_empty()))
    };
    for (expression, expected) in [
        ("true", None),
        ("dep.metadata.generation == self.metadata.generation", None),
        ("dep.status.lastAppliedRevision == 'main@sha1:a'", None),
        (
            "dep.status.conditions.exists(c, c.type == 'Ready' && c.status == 'True')",
            Some("readyExpr does not hold"),
        ),
        ("dep.status.history.size() > 0", Some("no such field: history")),
        (
            "dep.metadata.name",
            Some("spec.dependsOn[0].readyExpr: it is string, and not true or false"),
        ),
        ("dep.", Some("spec.dependsOn[0].readyExpr: ")),
    ] {
        let message = unmet(&mut estate, expression);
        match expected {
            None => assert_eq!(message, None, "{expression}"),
            Some(part) => assert!(
                message.as_ref().is_some_and(|it| it.contains(part)),
                "{expression}: {message:?}"
            ),
        }
    }
    assert!(has_expression_about(&estate.0[&key("b")], &key("a")));
    assert!(!has_expression_about(&estate.0[&key("a")], &key("b")));
}
