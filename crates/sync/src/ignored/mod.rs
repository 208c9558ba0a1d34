//! Pure: `spec.ignore`: fields that are left to others. Git gives their first value; from then on they are not applied.
//!
//! A field that we own and no longer apply would be removed by the API server. So its ownership is moved, in
//! `managedFields`, to a manager of its own: the value stays, anyone may change it, and for drift it does not count.

mod release;
mod target;

use serde_json::{Map, Value};

pub use self::release::release;
use self::target::Target;
use crate::{api::IgnoreRule, object::Gvk};

/// The rules of a Kustomization.
#[derive(Debug, Default)]
pub struct Rules(Vec<Rule>);

#[derive(Debug)]
struct Rule {
    paths: Vec<Vec<String>>,
    target: Target,
}

impl Rules {
    /// Reads them; the error is for the condition.
    pub fn parse(rules: &[IgnoreRule]) -> Result<Self, String> {
        let mut parsed = Vec::new();
        for (index, rule) in rules.iter().enumerate() {
            let at = |field: &str, error: String| format!("spec.ignore[{index}].{field}: {error}");
            let mut paths = Vec::new();
            for path in &rule.paths {
                paths.push(pointer(path).map_err(|error| at("paths", error))?);
            }
            let target = match &rule.target {
                Some(selector) => Target::parse(selector).map_err(|error| at("target", error))?,
                None => Target::default(),
            };
            parsed.push(Rule { paths, target });
        }
        Ok(Self(parsed))
    }

    /// The fields of this body that are left to others.
    pub fn of(&self, gvk: Gvk<'_>, body: &Value) -> Vec<Vec<String>> {
        let rules = self.0.iter().filter(|rule| rule.target.matches(gvk, body));
        let mut paths: Vec<Vec<String>> = rules
            .flat_map(|rule| &rule.paths)
            .filter(|path| find(body, path).is_some())
            .cloned()
            .collect();
        paths.sort();
        paths.dedup();
        paths
    }
}

/// RFC 6901.
fn pointer(text: &str) -> Result<Vec<String>, String> {
    let Some(rest) = text.strip_prefix('/') else {
        return Err(format!("{text:?} is no JSON pointer: it begins with a /"));
    };
    let parts: Vec<String> = rest
        .split('/')
        .map(|part| part.replace("~1", "/").replace("~0", "~"))
        .collect();
    let is_own = match parts.first().map(String::as_str) {
        Some("" | "apiVersion" | "kind") => true,
        Some("metadata") => {
            let inner = parts.get(1).map(String::as_str);
            !matches!(
                inner,
                Some("labels" | "annotations" | "finalizers" | "ownerReferences")
            ) || parts.get(2).is_none()
                || parts
                    .get(2)
                    .is_some_and(|key| key.starts_with("kustomize.toolkit.fluxcd.io/"))
        }
        _ => false,
    };
    if is_own {
        return Err(format!(
            "{text:?} is what the object is found by, and cannot be left to others"
        ));
    }
    Ok(parts)
}

fn find<'v>(value: &'v Value, path: &[String]) -> Option<&'v Value> {
    path.iter().try_fold(value, |value, part| match value {
        Value::Object(entries) => entries.get(part),
        Value::Array(items) => items.get(part.parse::<usize>().ok()?),
        _ => None,
    })
}

/// The body without these fields, and without what is empty then: an empty mapping would be ours as a whole.
pub fn strip(body: &Value, paths: &[Vec<String>]) -> Value {
    let mut body = body.clone();
    // From the end, so that the places of a list's other items stay what they are.
    for path in paths.iter().rev() {
        remove(&mut body, path);
    }
    body
}

fn remove(value: &mut Value, path: &[String]) {
    let Some((first, rest)) = path.split_first() else {
        return;
    };
    match value {
        Value::Object(entries) => {
            let is_gone = match entries.get_mut(first) {
                Some(below) if !rest.is_empty() => {
                    remove(below, rest);
                    below.as_object().is_some_and(Map::is_empty)
                }
                _ => true,
            };
            if is_gone {
                entries.remove(first);
            }
        }
        Value::Array(items) => {
            let index = first.parse::<usize>().ok().filter(|index| *index < items.len());
            match index {
                Some(index) if rest.is_empty() => drop(items.remove(index)),
                Some(index) => remove(&mut items[index], rest),
                None => {}
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests;
