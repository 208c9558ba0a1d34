//! Pure: entries of `spec.dependsOn` that name an object of another kind, and whether that object is ready.

use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use super::{Unmet, by_expression, seen};
use crate::{
    api::{DependencyReference, Kustomization},
    health::{self, Health},
    object::{Gvk, ObjectId},
};

/// So many objects are asked for at most, each with a request, before something new is applied.
const MOST: usize = 100;

/// An object of another kind that has to be ready first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference<'a> {
    /// Its place in `spec.dependsOn`.
    pub index: usize,
    /// Group, version and kind.
    pub gvk: Gvk<'a>,
    /// The namespace, should its kind have namespaces.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
    expression: Option<&'a str>,
}

/// Whether an entry names a Kustomization.
pub fn is_kustomization(on: &DependencyReference) -> bool {
    let (api_version, kind) = (text(on.api_version.as_ref()), text(on.kind.as_ref()));
    kind.is_empty()
        || (kind == "Kustomization" && api_version.split('/').next() == Some("kustomize.toolkit.fluxcd.io"))
}

/// The namespace that an entry names.
pub fn namespace<'a>(on: &'a DependencyReference, own: &'a str) -> &'a str {
    Some(text(on.namespace.as_ref()))
        .filter(|namespace| !namespace.is_empty())
        .unwrap_or(own)
}

fn text(field: Option<&String>) -> &str {
    field.map(String::as_str).unwrap_or_default()
}

/// The objects of other kinds that a Kustomization of the namespace `own` depends on.
pub fn references<'a>(object: &'a Kustomization, own: &'a str) -> Vec<Reference<'a>> {
    let all = object.spec.depends_on.iter().enumerate();
    all.filter(|(_, on)| !is_kustomization(on))
        .map(|(index, on)| Reference {
            index,
            gvk: Gvk::parse(text(on.api_version.as_ref()), text(on.kind.as_ref())),
            namespace: namespace(on, own),
            name: &on.name,
            expression: on.ready_expr.as_deref().filter(|text| !text.is_empty()),
        })
        .collect()
}

/// What is wrong with the entries; the error is for the condition.
pub fn check(object: &Kustomization) -> Result<(), String> {
    for (index, on) in object.spec.depends_on.iter().enumerate() {
        if text(on.kind.as_ref()).is_empty() != text(on.api_version.as_ref()).is_empty() {
            return Err(format!(
                "spec.dependsOn[{index}]: apiVersion and kind belong together: give both, or neither for a Kustomization"
            ));
        }
    }
    let count = object
        .spec
        .depends_on
        .iter()
        .filter(|on| !is_kustomization(on))
        .count();
    if count > MOST {
        return Err(format!(
            "spec.dependsOn: {count} objects of other kinds are named, and {MOST} are allowed"
        ));
    }
    Ok(())
}

/// The first entry that leads into another namespace than `own`: its name and namespace.
pub fn foreign<'a>(object: &'a Kustomization, own: &'a str) -> Option<(&'a str, &'a str)> {
    let mut all = object.spec.depends_on.iter();
    let on = all.find(|on| namespace(on, own) != own)?;
    Some((namespace(on, own), &on.name))
}

impl Reference<'_> {
    /// What keeps the object, as it was read at `now`, from being ready; `None` when nothing does.
    pub fn unmet(
        &self,
        object: &Kustomization,
        id: &ObjectId,
        found: Option<Value>,
        now: Timestamp,
    ) -> Option<Unmet> {
        let name = format!("dependency '{id}'");
        let Some(found) = found else {
            return Some(Unmet::NotReady(format!(
                "{name} does not exist: create it, or correct spec.dependsOn"
            )));
        };
        if let Some(expression) = self.expression {
            return by_expression(seen(object), found, (self.index, expression), &name);
        }
        match health::of(&found, now) {
            Health::Current => None,
            Health::InProgress(why) => Some(Unmet::NotReady(format!("{name} is not ready: {why}"))),
            Health::Failed(why) => Some(Unmet::NotReady(format!("{name} has failed: {why}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::object::Identity;

    fn on(entries: &Value) -> Kustomization {
        serde_json::from_value(json!({
            "apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization",
            "metadata": { "name": "app", "namespace": "ns" },
            "spec": {
                "interval": "1m", "prune": true, "sourceRef": { "kind": "GitRepository", "name": "s" },
                "dependsOn": entries,
            },
        }))
        .unwrap()
    }

    #[test]
    fn an_entry_without_a_kind_is_a_kustomization() {
        let object = on(&json!([
            { "name": "a" },
            { "apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization", "name": "b" },
            { "apiVersion": "apps/v1", "kind": "Deployment", "name": "c" },
            { "apiVersion": "v1", "kind": "Node", "name": "d", "namespace": "" },
        ]));
        let found: Vec<_> = references(&object, "ns")
            .iter()
            .map(|it| format!("{} {} {}/{}", it.index, it.gvk, it.namespace, it.name))
            .collect();
        assert_eq!(found, ["2 apps/v1, Kind=Deployment ns/c", "3 v1, Kind=Node ns/d"]);
        let names: Vec<_> = super::super::dependencies(&object).map(|it| it.name).collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!((check(&object), foreign(&object, "ns")), (Ok(()), None));
        let elsewhere = on(&json!([{ "apiVersion": "v1", "kind": "Pod", "name": "p", "namespace": "x" }]));
        assert_eq!(foreign(&elsewhere, "ns"), Some(("x", "p")));
    }

    #[test]
    fn half_a_kind_and_too_many_are_refused() {
        for half in [
            json!({ "kind": "Job", "name": "a" }),
            json!({ "apiVersion": "v1", "name": "a" }),
        ] {
            let error = check(&on(&json!([{ "name": "x" }, half]))).unwrap_err();
            assert!(
                error.starts_with("spec.dependsOn[1]: apiVersion and kind"),
                "{error}"
            );
        }
        let many = |count| {
            let one = json!({ "apiVersion": "v1", "kind": "Pod", "name": "p" });
            check(&on(&Value::Array(vec![one; count])))
        };
        assert_eq!(many(MOST), Ok(()));
        assert!(many(MOST + 1).unwrap_err().contains("101 objects"));
    }

    #[test]
    fn an_object_is_ready_by_its_health_or_by_an_expression() {
        let unmet = |expression: Option<&str>, found: Option<Value>| {
            let object = on(
                &json!([{ "apiVersion": "batch/v1", "kind": "Job", "name": "j", "readyExpr": expression }]),
            );
            let id = ObjectId::from(Identity {
                namespace: "ns".into(),
                group: "batch".into(),
                kind: "Job".into(),
                name: "j".into(),
            });
            let all = references(&object, "ns");
            all[0].unmet(&object, &id, found, Timestamp::UNIX_EPOCH)
        };
        let job = |condition: &str| {
            Some(json!({
                "apiVersion": "batch/v1", "kind": "Job", "metadata": { "name": "j", "managedFields": [{}] },
                "status": { "conditions": [{ "type": condition, "status": "True", "reason": "Why", "message": "so" }] },
            }))
        };
        let text = |unmet: Option<Unmet>| match unmet {
            Some(Unmet::NotReady(text)) => text,
            other => panic!("{other:?}"),
        };
        assert_eq!(unmet(None, job("Complete")), None);
        assert!(text(unmet(None, None)).starts_with("dependency 'Job/ns/j' does not exist"));
        assert_eq!(
            text(unmet(None, job("Failed"))),
            "dependency 'Job/ns/j' has failed: Why: so"
        );
        let text_of = text(unmet(None, job("Suspended")));
        assert!(
            text_of.starts_with("dependency 'Job/ns/j' is not ready: "),
            "{text_of}"
        );
        // An expression takes the place of the rule, and sees neither more nor less than there is.
        assert_eq!(
            unmet(
                Some("!has(dep.spec.x) && self.metadata.name == 'app'"),
                job("Failed")
            ),
            None
        );
        assert!(
            text(unmet(Some("has(dep.metadata.managedFields)"), job("Complete"))).contains("does not hold")
        );
        assert!(matches!(
            unmet(Some("dep.metadata.name"), job("Complete")),
            Some(Unmet::Invalid(_))
        ));
    }
}
