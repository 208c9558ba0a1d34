//! Pure: whether the Kustomizations that come first are ready.

use std::{collections::HashSet, fmt::Write as _, sync::Arc};

use kube::ResourceExt as _;
use plumbline_common::conditions;

use crate::{api::Kustomization, cluster::live::Owner, controller::source_key};

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
    let own = object.namespace().unwrap_or_default();
    object.spec.depends_on.iter().map(move |dependency| Owner {
        namespace: dependency
            .namespace
            .clone()
            .filter(|namespace| !namespace.is_empty())
            .unwrap_or_else(|| own.clone()),
        name: dependency.name.clone(),
    })
}

/// Why one has to wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unmet {
    /// A dependency is not ready, for this reason; it may be in a moment.
    NotReady(String),
    /// They wait for one another.
    Cycle(String),
}

/// What keeps a Kustomization from being applied at `revision` of its source.
pub fn unmet(object: &Kustomization, revision: &str, find: Find<'_>) -> Option<Unmet> {
    if let Some(cycle) = cycle(object, find) {
        return Some(Unmet::Cycle(cycle));
    }
    let namespace = object.namespace().unwrap_or_default();
    let source = (&object.spec.source_ref.kind, source_key(&object.spec, &namespace));
    dependencies(object).find_map(|key| {
        let name = format!("dependency '{}/{}'", key.namespace, key.name);
        let Some(dependency) = find(&key) else {
            return Some(Unmet::NotReady(format!(
                "{name} does not exist: create it, or correct spec.dependsOn"
            )));
        };
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
    let start = Owner {
        namespace: object.namespace().unwrap_or_default(),
        name: object.name_any(),
    };
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
#[path = "depends_tests.rs"]
mod tests;
