//! Which objects a rule is about.

use regex::{Regex, RegexBuilder};
use serde_json::Value;

use crate::{api::Selector, object::Gvk};

/// Bytes of a compiled pattern.
const PATTERN: usize = 1 << 20;

/// What of an object has to match.
#[derive(Debug, Default)]
pub(super) struct Target {
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

impl Target {
    pub(super) fn parse(selector: &Selector) -> Result<Self, String> {
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

    pub(super) fn matches(&self, gvk: Gvk<'_>, body: &Value) -> bool {
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
