//! Whether what comes first is ready. Pure here, for Kustomizations; objects of other kinds are in [`object`], and waiting for
//! either in [`gate`].

pub mod dependants;
pub mod gate;
pub mod object;
pub mod watch;

use std::{collections::HashSet, fmt::Write as _, sync::Arc};

use kube::ResourceExt as _;
use plumbline_common::conditions;
use serde_json::{Map, Value};

use crate::{
    api::Kustomization,
    cel::{CelError, Condition},
    cluster::live::Owner,
    controller::source_key,
};

/// How to find a Kustomization.
pub type Find<'a> = &'a dyn Fn(&Owner) -> Option<Arc<Kustomization>>;

/// What of a Kustomization those wait for that depend on it. When it changes, they look again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    generation: Option<i64>,
    observed: Option<i64>,
    ready: Option<(String, String)>,
    revision: Option<String>,
}

/// The signature of a Kustomization.
pub fn signature(object: &Kustomization) -> Signature {
    let status = object.status.as_ref();
    let ready = status.and_then(|status| conditions::find(&status.conditions, "Ready"));
    Signature {
        generation: object.metadata.generation,
        observed: status.and_then(|status| status.observed_generation),
        ready: ready.map(|ready| (ready.status.clone(), ready.reason.clone())),
        revision: status.and_then(|status| status.last_applied_revision.clone()),
    }
}

/// The Kustomizations that one depends on.
pub fn dependencies(object: &Kustomization) -> impl Iterator<Item = Owner> + '_ {
    numbered(object).map(|(_, owner)| owner)
}

/// The same, each with its place in `spec.dependsOn`.
fn numbered(object: &Kustomization) -> impl Iterator<Item = (usize, Owner)> + '_ {
    let own = object.namespace().unwrap_or_default();
    let all = object.spec.depends_on.iter().enumerate();
    all.filter(|(_, on)| object::is_kustomization(on))
        .map(move |(index, on)| {
            let owner = Owner {
                namespace: object::namespace(on, &own).to_owned(),
                name: on.name.clone(),
            };
            (index, owner)
        })
}

/// Why one has to wait, in words that name the dependency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unmet {
    /// A dependency is not ready, for this reason; it may be in a moment.
    NotReady(String),
    /// They wait for one another.
    Cycle(String),
    /// A `readyExpr` is no condition for the dependency it is about.
    Invalid(String),
}

/// Reads the expressions; the error is for the condition.
pub fn check(object: &Kustomization) -> Result<(), String> {
    for (index, expression) in expressions(object) {
        Condition::parse(expression)
            .map_err(|error| format!("spec.dependsOn[{index}].readyExpr: {error}"))?;
    }
    Ok(())
}

fn expressions(object: &Kustomization) -> impl Iterator<Item = (usize, &str)> {
    let all = object.spec.depends_on.iter().enumerate();
    all.filter_map(|(index, on)| Some((index, on.ready_expr.as_deref().filter(|text| !text.is_empty())?)))
}

/// Whether a Kustomization says in an expression when `owner` is ready.
pub fn has_expression_about(object: &Kustomization, owner: &Owner) -> bool {
    let mut all = numbered(object);
    expressions(object).next().is_some()
        && all.any(|(at, key)| key == *owner && expressions(object).any(|(index, _)| index == at))
}

/// Whether the expression about a dependency holds. It takes the place of the usual rule.
fn by_expression(
    own: Value,
    dependency: Value,
    (index, expression): (usize, &str),
    name: &str,
) -> Option<Unmet> {
    let field = format!("spec.dependsOn[{index}].readyExpr");
    let (own, its) = (variable(own), variable(dependency));
    let holds = Condition::parse(expression).and_then(|it| it.holds(&[("self", &own), ("dep", &its)]));
    match holds {
        Ok(true) => None,
        Ok(false) => Some(Unmet::NotReady(format!(
            "{name} is not ready: {field} does not hold"
        ))),
        Err(error @ CelError::Missing(_)) => {
            Some(Unmet::NotReady(format!("{name} is not ready: {field}: {error}")))
        }
        Err(error) => Some(Unmet::Invalid(format!("{field}: {error}"))),
    }
}

/// A Kustomization as an expression sees it.
fn seen(object: &Kustomization) -> Value {
    let mut value = serde_json::to_value(object).unwrap_or_default();
    // The larger part of it, and nothing that says whether it is ready.
    if let Some(status) = value.get_mut("status").and_then(Value::as_object_mut) {
        status.remove("inventory");
        status.remove("history");
    }
    value
}

/// What every object may have is there, if empty, so that has() can ask for what is in it.
fn variable(mut value: Value) -> Value {
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    for name in ["metadata", "spec", "status"] {
        if value[name].is_null() {
            value[name] = Value::Object(Map::new());
        }
    }
    value
}

/// What keeps a Kustomization from being applied at `revision` of its source.
pub fn unmet(object: &Kustomization, revision: &str, find: Find<'_>) -> Option<Unmet> {
    if let Some(cycle) = cycle(object, find) {
        return Some(Unmet::Cycle(cycle));
    }
    let namespace = object.namespace().unwrap_or_default();
    let source = (&object.spec.source_ref.kind, source_key(&object.spec, &namespace));
    numbered(object).find_map(|(at, key)| {
        let name = format!("dependency '{}/{}'", key.namespace, key.name);
        let Some(dependency) = find(&key) else {
            return Some(Unmet::NotReady(format!(
                "{name} does not exist: create it, or correct spec.dependsOn"
            )));
        };
        if let Some(expression) = expressions(object).find(|(index, _)| *index == at) {
            return by_expression(seen(object), seen(&dependency), expression, &name);
        }
        let its = signature(&dependency);
        if its.generation != its.observed {
            return Some(Unmet::NotReady(format!(
                "{name} has changed and is not applied yet"
            )));
        }
        match its.ready {
            Some((status, _)) if status == "True" => {}
            Some((_, reason)) => {
                return Some(Unmet::NotReady(format!("{name} is not ready: {reason}")));
            }
            None => return Some(Unmet::NotReady(format!("{name} is not ready"))),
        }
        let its_source = source_key(&dependency.spec, &key.namespace);
        let same = (&dependency.spec.source_ref.kind, its_source) == source;
        (same && its.revision.as_deref() != Some(revision))
            .then(|| Unmet::NotReady(format!("{name} is not at revision {revision} yet")))
    })
}

/// The way from a Kustomization over its dependencies back to itself.
fn cycle(object: &Kustomization, find: Find<'_>) -> Option<String> {
    let start = Owner::of(object);
    // Depth first; what was left once without finding the start never finds it.
    let mut left: HashSet<Owner> = HashSet::new();
    let mut way = vec![(start.clone(), dependencies(object).collect::<Vec<_>>())];
    while let Some((_, next)) = way.last_mut() {
        let Some(key) = next.pop() else {
            way.pop();
            continue;
        };
        if key == start {
            let mut text = String::from("these wait for one another: ");
            for (owner, _) in &way {
                // Writing to a String cannot fail.
                let _ = write!(text, "{}/{} → ", owner.namespace, owner.name);
            }
            let _ = write!(
                text,
                "{}/{}. Take one of them out of a spec.dependsOn",
                start.namespace, start.name
            );
            return Some(text);
        }
        if left.insert(key.clone())
            && let Some(dependency) = find(&key)
        {
            let next = dependencies(&dependency).collect();
            way.push((key, next));
        }
    }
    None
}

#[cfg(test)]
mod tests;
