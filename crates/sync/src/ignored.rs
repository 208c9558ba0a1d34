//! Pure: `spec.ignore`: fields that are left to others. Git gives their first value; from then on they are not applied.
//!
//! A field that we own and no longer apply would be removed by the API server. So its ownership is moved, in
//! `managedFields`, to a manager of its own: the value stays, anyone may change it, and for drift it does not count.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry};
use regex::{Regex, RegexBuilder};
use serde_json::{Map, Value};

use crate::{
    api::{IgnoreRule, Selector},
    cluster::fields,
    object::Gvk,
};

/// Who owns the fields that are left to others, until somebody else writes them.
const MANAGER: &str = "plumbline-ignored";
/// Bytes of a compiled pattern.
const PATTERN: usize = 1 << 20;

/// The rules of a Kustomization.
#[derive(Debug, Default)]
pub struct Rules(Vec<Rule>);

#[derive(Debug)]
struct Rule {
    paths: Vec<Vec<String>>,
    target: Target,
}

#[derive(Debug, Default)]
struct Target {
    /// Name of a property of the object, and what it has to match.
    patterns: Vec<(&'static str, Regex)>,
    labels: Vec<Requirement>,
    annotations: Vec<Requirement>,
}

/// One part of a label selector.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Requirement {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Missing(String),
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

impl Target {
    fn parse(selector: &Selector) -> Result<Self, String> {
        let mut target = Self::default();
        for (field, pattern) in [
            ("group", &selector.group),
            ("version", &selector.version),
            ("kind", &selector.kind),
            ("name", &selector.name),
            ("namespace", &selector.namespace),
        ] {
            let Some(pattern) = pattern.as_ref().filter(|pattern| !pattern.is_empty()) else {
                continue;
            };
            // Whole, as kustomize does.
            let regex = RegexBuilder::new(&format!("^(?:{pattern})$"))
                .size_limit(PATTERN)
                .build();
            let regex = regex.map_err(|_| format!("{field} {pattern:?} is no regular expression"))?;
            target.patterns.push((field, regex));
        }
        target.labels = requirements(selector.label_selector.as_deref().unwrap_or_default())?;
        target.annotations = requirements(selector.annotation_selector.as_deref().unwrap_or_default())?;
        Ok(target)
    }

    fn matches(&self, gvk: Gvk<'_>, body: &Value) -> bool {
        let metadata = &body["metadata"];
        let text = |field: &str| match field {
            "group" => gvk.group,
            "version" => gvk.version,
            "kind" => gvk.kind,
            field => metadata[field].as_str().unwrap_or_default(),
        };
        self.patterns
            .iter()
            .all(|(field, pattern)| pattern.is_match(text(field)))
            && self.labels.iter().all(|it| it.holds(&metadata["labels"]))
            && self
                .annotations
                .iter()
                .all(|it| it.holds(&metadata["annotations"]))
    }
}

impl Requirement {
    fn holds(&self, map: &Value) -> bool {
        let value = |key: &str| map[key].as_str();
        match self {
            Self::In(key, values) => value(key).is_some_and(|value| values.iter().any(|it| it == value)),
            Self::NotIn(key, values) => value(key).is_none_or(|value| values.iter().all(|it| it != value)),
            Self::Exists(key) => value(key).is_some(),
            Self::Missing(key) => value(key).is_none(),
        }
    }
}

/// A selector as `kubectl --selector` takes it.
fn requirements(text: &str) -> Result<Vec<Requirement>, String> {
    let mut parts: Vec<String> = Vec::new();
    let mut depth = 0;
    for c in text.chars() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if c == ',' && depth == 0 {
            parts.push(String::new());
        } else if let Some(last) = parts.last_mut() {
            last.push(c);
        } else {
            parts.push(c.to_string());
        }
    }
    let parts = parts
        .iter()
        .map(|part| part.trim())
        .filter(|part| !part.is_empty());
    parts
        .map(|part| requirement(part).ok_or_else(|| format!("{part:?} is no part of a selector")))
        .collect()
}

fn requirement(part: &str) -> Option<Requirement> {
    let key = |text: &str| {
        let text = text.trim();
        let is_key = !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || "!=(),".contains(c));
        is_key.then(|| text.to_owned())
    };
    if let Some((left, right)) = part.split_once("!=") {
        return Some(Requirement::NotIn(key(left)?, vec![right.trim().to_owned()]));
    }
    if let Some((left, right)) = part.split_once("==").or_else(|| part.split_once('=')) {
        return Some(Requirement::In(key(left)?, vec![right.trim().to_owned()]));
    }
    if let Some((left, list)) = part.split_once('(') {
        let values: Vec<String> = list
            .strip_suffix(')')?
            .split(',')
            .map(|it| it.trim().to_owned())
            .collect();
        let mut words = left.split_whitespace();
        let name = key(words.next()?)?;
        return match (words.next(), words.next()) {
            (Some("in"), None) => Some(Requirement::In(name, values)),
            (Some("notin"), None) => Some(Requirement::NotIn(name, values)),
            _ => None,
        };
    }
    match part.strip_prefix('!') {
        Some(name) => Some(Requirement::Missing(key(name)?)),
        None => Some(Requirement::Exists(key(part)?)),
    }
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

/// The entries with these fields of `body` moved out of ours; `None` when none of them is ours. The error is for the condition.
pub fn release(
    entries: &[ManagedFieldsEntry],
    body: &Value,
    paths: &[Vec<String>],
) -> Result<Option<Vec<ManagedFieldsEntry>>, String> {
    let Some(ours) = entries.iter().position(fields::is_ours) else {
        return Ok(None);
    };
    let mut entries = entries.to_vec();
    let Some(mut own) = entries[ours].fields_v1.take() else {
        return Ok(None);
    };
    let mut released = Value::Object(Map::new());
    for path in paths {
        let steps = steps(&own.0, body, path)?;
        if let Some(steps) = steps
            && let Some(taken) = take(&mut own.0, &steps)
        {
            put(&mut released, &steps, taken);
        }
    }
    entries[ours].fields_v1 = Some(own);
    if released.as_object().is_none_or(Map::is_empty) {
        return Ok(None);
    }
    let is_theirs = |entry: &ManagedFieldsEntry| {
        entry.manager.as_deref() == Some(MANAGER) && entry.operation.as_deref() == Some("Update")
    };
    if let Some(theirs) = entries.iter_mut().find(|entry| is_theirs(entry)) {
        let mut all = theirs.fields_v1.take().map_or(Value::Null, |it| it.0);
        if all.is_null() {
            all = Value::Object(Map::new());
        }
        fields::union(&mut all, &released);
        theirs.fields_v1 = Some(FieldsV1(all));
    } else {
        let entry = ManagedFieldsEntry {
            manager: Some(MANAGER.into()),
            operation: Some("Update".into()),
            fields_v1: Some(FieldsV1(released)),
            ..entries[ours].clone()
        };
        entries.push(entry);
    }
    Ok(Some(entries))
}

/// The way to a field in `managedFields`; `None` when it is not there.
fn steps(owned: &Value, body: &Value, path: &[String]) -> Result<Option<Vec<String>>, String> {
    let (mut owned, mut value) = (owned, body);
    let mut steps = Vec::new();
    for part in path {
        let inside = owned
            .as_object()
            .filter(|fields| fields.keys().any(|key| key != "."));
        let Some(inside) = inside else {
            if steps.is_empty() || owned.is_null() {
                return Ok(None);
            }
            return Err(format!(
                "/{} is part of a value that the API server only takes as a whole: leave the whole of it to others",
                path.join("/")
            ));
        };
        let (step, next) = match value {
            Value::Array(items) => {
                let Some(item) = part.parse::<usize>().ok().and_then(|index| items.get(index)) else {
                    return Ok(None);
                };
                let step = inside.keys().find(|key| is_item(key, item));
                (step.cloned(), item)
            }
            value => (Some(format!("f:{part}")), &value[part]),
        };
        let Some((step, below)) = step.and_then(|step| Some((step.clone(), inside.get(&step)?))) else {
            return Ok(None);
        };
        steps.push(step);
        owned = below;
        value = next;
    }
    Ok(Some(steps))
}

/// Whether a key of `managedFields` is about this item of a list.
fn is_item(key: &str, item: &Value) -> bool {
    let read = |text: &str| serde_json::from_str::<Value>(text).ok();
    if let Some(value) = key.strip_prefix("v:") {
        return read(value).is_some_and(|value| value == *item);
    }
    let Some(names) = key.strip_prefix("k:").and_then(read) else {
        return false;
    };
    // What the item leaves out has its default there.
    let fields: BTreeMap<String, Value> = serde_json::from_value(names).unwrap_or_default();
    let mut all = fields.iter();
    !fields.is_empty() && all.all(|(name, value)| item[name].is_null() || item[name] == *value)
}

/// Takes a field out, and what is empty then.
fn take(owned: &mut Value, steps: &[String]) -> Option<Value> {
    let (first, rest) = steps.split_first()?;
    let fields = owned.as_object_mut()?;
    if rest.is_empty() {
        return fields.remove(first);
    }
    let below = fields.get_mut(first)?;
    let taken = take(below, rest);
    if below.as_object().is_some_and(Map::is_empty) {
        fields.remove(first);
    }
    taken
}

fn put(into: &mut Value, steps: &[String], value: Value) {
    let mut at = into;
    for step in steps {
        if !at.is_object() {
            *at = Value::Object(Map::new());
        }
        at = &mut at[step.as_str()];
    }
    *at = value;
}

#[cfg(test)]
#[path = "ignored_tests.rs"]
mod tests;
