//! Pure: `spec.healthCheckExprs`: when objects of a kind are healthy, as their users say it.

use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::{Health, of};
use crate::{
    api::CustomHealthCheck,
    cel::{CelError, Condition},
    object::Gvk,
};

/// The checks of a Kustomization.
#[derive(Debug, Default)]
pub struct Checks(Vec<Check>);

#[derive(Debug)]
struct Check {
    group: String,
    /// Empty for every kind of the group.
    kind: String,
    /// In the order in which they are asked: what they mean, where they stand, what they say.
    conditions: Vec<(Means, String, Condition)>,
}

#[derive(Clone, Copy, Debug)]
enum Means {
    InProgress,
    Failed,
    Current,
}

impl Checks {
    /// Reads them; the error is for the condition.
    pub fn parse(specs: &[CustomHealthCheck]) -> Result<Self, String> {
        let mut checks = Vec::new();
        for (index, spec) in specs.iter().enumerate() {
            let mut conditions = Vec::new();
            for (means, field, text) in [
                (Means::InProgress, "inProgress", spec.in_progress.as_deref()),
                (Means::Failed, "failed", spec.failed.as_deref()),
                (Means::Current, "current", Some(spec.current.as_str())),
            ] {
                let Some(text) = text.filter(|text| !text.is_empty()) else {
                    continue;
                };
                let field = format!("spec.healthCheckExprs[{index}].{field}");
                let condition = Condition::parse(text).map_err(|error| format!("{field}: {error}"))?;
                conditions.push((means, field, condition));
            }
            checks.push(Check {
                group: Gvk::parse(&spec.api_version, "").group.to_owned(),
                kind: spec.kind.clone().unwrap_or_default(),
                conditions,
            });
        }
        Ok(Self(checks))
    }

    /// The check for a kind; one that names it comes before one for all kinds of its group.
    fn find(&self, group: &str, kind: &str) -> Option<&Check> {
        let of_group = || self.0.iter().filter(|check| check.group == group);
        let named = of_group().find(|check| check.kind == kind);
        named.or_else(|| of_group().find(|check| check.kind.is_empty()))
    }

    /// Whether objects of a kind are judged by one.
    pub fn has(&self, group: &str, kind: &str) -> bool {
        self.find(group, kind).is_some()
    }

    /// How `object` is at `now`. The error is about the expression, and for the condition.
    pub fn of(&self, object: &Value, now: Timestamp) -> Result<Health, String> {
        let text = |key: &str| object[key].as_str().unwrap_or_default();
        let gvk = Gvk::parse(text("apiVersion"), text("kind"));
        let Some(check) = self.find(gvk.group, gvk.kind) else {
            return Ok(of(object, now));
        };
        if !object["metadata"]["deletionTimestamp"].is_null() {
            return Ok(of(object, now));
        }
        // What every object may have is there, if empty, so that has() can ask for what is in it.
        let empty = json!({});
        let mut variables = vec![("spec", &empty), ("status", &empty), ("data", &empty)];
        variables.extend(
            object
                .as_object()
                .into_iter()
                .flatten()
                .map(|(name, value)| (name.as_str(), value)),
        );
        for (means, field, condition) in &check.conditions {
            let holds = match condition.holds(&variables) {
                Ok(holds) => holds,
                // Its controller may not have written it yet.
                Err(error @ CelError::Missing(_)) => {
                    return Ok(Health::InProgress(format!("{field}: {error}")));
                }
                Err(error) => return Err(format!("{field}: {error}")),
            };
            match means {
                _ if !holds => {}
                Means::InProgress => return Ok(Health::InProgress(format!("{field} holds"))),
                Means::Failed => return Ok(Health::Failed(format!("{field} holds"))),
                Means::Current => return Ok(Health::Current),
            }
        }
        Ok(Health::InProgress(
            "no expression of spec.healthCheckExprs holds".into(),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checks(specs: &Value) -> Result<Checks, String> {
        Checks::parse(&serde_json::from_value::<Vec<CustomHealthCheck>>(specs.clone()).unwrap())
    }

    #[test]
    fn expressions_are_asked_in_their_order_and_the_version_does_not_matter() {
        let checks = checks(&json!([
            { "apiVersion": "example.com/v1", "current": "true" },
            {
                "apiVersion": "example.com/v1", "kind": "Widget", "inProgress": "status.phase == 'Going'",
                "failed": "status.phase == 'Broken'", "current": "status.phase == 'Done'",
            },
        ]))
        .unwrap();
        let widget = |phase: &str| json!({ "apiVersion": "example.com/v2", "kind": "Widget", "metadata": {}, "status": { "phase": phase } });
        let of = |object: &Value| checks.of(object, Timestamp::UNIX_EPOCH);
        assert_eq!(of(&widget("Done")), Ok(Health::Current));
        assert!(
            matches!(of(&widget("Going")), Ok(Health::InProgress(why)) if why.contains("[1].inProgress"))
        );
        assert!(matches!(of(&widget("Broken")), Ok(Health::Failed(why)) if why.contains("[1].failed")));
        assert!(matches!(of(&widget("Odd")), Ok(Health::InProgress(_))));
        let fresh = json!({ "apiVersion": "example.com/v1", "kind": "Widget", "metadata": {} });
        assert!(matches!(of(&fresh), Ok(Health::InProgress(why)) if why.contains("no such field: phase")));
        let other = json!({ "apiVersion": "example.com/v1", "kind": "Other", "metadata": {} });
        assert_eq!(of(&other), Ok(Health::Current));
        assert!(checks.has("example.com", "Any") && !checks.has("", "ConfigMap"));
    }

    #[test]
    fn what_is_no_condition_names_its_field() {
        let wrong =
            json!([{ "apiVersion": "v1", "kind": "ConfigMap", "current": "data.", "failed": "true" }]);
        assert!(
            checks(&wrong)
                .unwrap_err()
                .starts_with("spec.healthCheckExprs[0].current: ")
        );
        let wrong = json!([{ "apiVersion": "v1", "kind": "ConfigMap", "current": "data.x" }]);
        let object =
            json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": {}, "data": { "x": "hunter2" } });
        let error = checks(&wrong)
            .unwrap()
            .of(&object, Timestamp::UNIX_EPOCH)
            .unwrap_err();
        assert!(
            error.contains("not true or false") && !error.contains("hunter2"),
            "{error}"
        );
    }
}
