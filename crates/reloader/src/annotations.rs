//! Annotations of a workload and its pod template → the [`Policy`] of what rolls it.

use std::{collections::BTreeMap, sync::Arc};

use regex::{Regex, RegexBuilder};

use crate::{
    go,
    keys::{self, Keys},
    source::SourceKind,
};

type Annotations = BTreeMap<String, String>;

/// A name from a comma list of sources.
#[derive(Debug, Clone)]
pub enum Pattern {
    /// Has no meaning as an expression: matches itself.
    Literal(String),
    /// Stakater's `^…$` around an expression. `a|b` therefore means "starts with a or ends with b".
    Expression(Arc<Regex>),
}

impl Pattern {
    // The state of one expression is bounded: a tenant's annotation must not take the controller's memory.
    const SIZE_LIMIT: usize = 64 << 10;

    fn parse(text: &str) -> Result<Self, regex::Error> {
        if text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            return Ok(Self::Literal(text.into()));
        }
        let regex = RegexBuilder::new(&format!("^{text}$"))
            .size_limit(Self::SIZE_LIMIT)
            .build()?;
        Ok(Self::Expression(Arc::new(regex)))
    }

    /// Whether a source of this name is meant.
    pub fn matches(&self, name: &str) -> bool {
        match self {
            Self::Literal(literal) => literal == name,
            Self::Expression(regex) => regex.is_match(name),
        }
    }
}

/// What an `auto` annotation and its typed sibling say together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Auto {
    /// One of them is true.
    On,
    /// Both are absent or empty: `--auto-reload-all` decides.
    Unset,
    /// Anything else, junk included: not even `--auto-reload-all` rolls it.
    Off,
}

/// What rolls the workload, for one kind of source.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Names from the `…/reload` list.
    pub named: Vec<Pattern>,
    /// `auto` and typed auto.
    pub auto: Auto,
    /// Reload for referenced sources that carry the match annotation.
    pub search: bool,
    /// Exact names that never roll it.
    pub exclude: Vec<String>,
}

/// Marks that the source itself carries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Marks {
    /// `reloader.stakater.com/ignore: "true"`.
    pub ignore: bool,
    /// `reloader.stakater.com/match: "true"`.
    pub search_match: bool,
    /// Ours: the namespaces whose workloads it may roll beside those of its own.
    pub shared_with: Option<Box<str>>,
}

impl Marks {
    /// Whether the source's owner lets it roll workloads of a namespace.
    pub fn shared(&self, namespace: &str) -> bool {
        let mut namespaces = self.shared_with.iter().flat_map(|list| self::list(list));
        namespaces.any(|allowed| allowed == "*" || allowed == namespace)
    }

    /// Reads the marks of a source.
    pub fn parse(annotations: Option<&Annotations>, keys: &Keys) -> Self {
        let marked = |key: &str| {
            annotations
                .and_then(|map| map.get(key))
                .is_some_and(|value| value == "true")
        };
        Self {
            ignore: marked(&keys.ignore),
            search_match: marked(&keys.search_match),
            shared_with: annotations
                .and_then(|map| map.get(keys::SHARED_WITH))
                .map(|value| value.as_str().into()),
        }
    }
}

/// Why a source rolls a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Named by the `…/reload` annotation.
    Named,
    /// Search on the workload met match on the source.
    Search,
    /// `auto` or typed auto.
    Auto,
    /// `--auto-reload-all`.
    AutoAll,
    /// Ours: a source of another namespace, named by the workload and shared by its owner.
    Shared,
}

impl Cause {
    /// For people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Named => "named by the reload annotation",
            Self::Search => "found by search and match",
            Self::Auto => "referenced, with auto on",
            Self::AutoAll => "referenced, with --auto-reload-all",
            Self::Shared => "of another namespace, named here and shared there",
        }
    }
}

/// How a source and a workload are related.
#[derive(Debug, Clone, Copy)]
pub struct Relation<'a> {
    /// The source's name.
    pub name: &'a str,
    /// The source's own annotations.
    pub marks: &'a Marks,
    /// Whether the pod template references the source.
    pub referenced: bool,
    /// `--auto-reload-all`.
    pub auto_all: bool,
}

impl Rules {
    /// The order of precedence: ignore, exclude, named, search, auto, auto for all.
    pub fn cause(&self, relation: Relation<'_>) -> Option<Cause> {
        if relation.marks.ignore || self.exclude.iter().any(|name| name == relation.name) {
            return None;
        }
        if self.named.iter().any(|pattern| pattern.matches(relation.name)) {
            return Some(Cause::Named);
        }
        if !relation.referenced {
            return None;
        }
        if self.search && relation.marks.search_match {
            return Some(Cause::Search);
        }
        match self.auto {
            Auto::On => Some(Cause::Auto),
            Auto::Unset if relation.auto_all => Some(Cause::AutoAll),
            Auto::Unset | Auto::Off => None,
        }
    }

    fn opted_in(&self, auto_all: bool) -> bool {
        !self.named.is_empty()
            || self.search
            || self.auto == Auto::On
            || (auto_all && self.auto == Auto::Unset)
    }
}

/// What rolls a workload.
#[derive(Debug, Clone)]
pub struct Policy {
    /// For ConfigMaps.
    pub config_map: Rules,
    /// For Secrets.
    pub secret: Rules,
    /// For SecretProviderClasses.
    pub class: Rules,
    /// Annotations that could not be understood. The others hold nevertheless.
    pub problems: Vec<Problem>,
}

/// An annotation that could not be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("annotation {key}: {value:?} is ignored: {error}")]
pub struct Problem {
    /// Its key.
    pub key: String,
    /// The offending part of its value.
    pub value: String,
    /// What is wrong with it and what would be right.
    pub error: String,
}

impl Policy {
    /// Reads the annotations of a workload, and those of its pod template where the workload has none.
    pub fn parse(workload: Option<&Annotations>, template: Option<&Annotations>, keys: &Keys) -> Self {
        let mut problems = Vec::new();
        let none = Annotations::new();
        let places = Places {
            workload: workload.unwrap_or(&none),
            template: template.unwrap_or(&none),
            keys,
        };
        Self {
            config_map: places.rules(
                &keys.configmap,
                &keys.configmap_auto,
                keys::CONFIGMAP_EXCLUDE,
                &mut problems,
            ),
            secret: places.rules(
                &keys.secret,
                &keys.secret_auto,
                keys::SECRET_EXCLUDE,
                &mut problems,
            ),
            class: places.rules(
                keys::CLASS_NAMED,
                keys::CLASS_AUTO,
                keys::CLASS_EXCLUDE,
                &mut problems,
            ),
            problems,
        }
    }

    /// The rules for sources of this kind.
    pub fn rules(&self, kind: SourceKind) -> &Rules {
        match kind {
            SourceKind::ConfigMap => &self.config_map,
            SourceKind::Secret => &self.secret,
            SourceKind::SecretProviderClass => &self.class,
        }
    }

    /// Whether anything at all could roll this workload.
    pub fn opted_in(&self, auto_all: bool) -> bool {
        SourceKind::ALL
            .into_iter()
            .any(|kind| self.rules(kind).opted_in(auto_all))
    }
}

struct Places<'a> {
    workload: &'a Annotations,
    template: &'a Annotations,
    keys: &'a Keys,
}

impl Places<'_> {
    fn rules(&self, named: &str, typed_auto: &str, exclude: &str, problems: &mut Vec<Problem>) -> Rules {
        let keys = [named, &self.keys.auto, typed_auto, &self.keys.search];
        // The presence of any key on the workload, whatever its value, makes the template's irrelevant.
        let place = if keys.iter().any(|key| self.workload.contains_key(*key)) {
            self.workload
        } else {
            self.template
        };
        let value = |key: &str| place.get(key).map_or("", String::as_str);
        let (auto, typed) = (value(&self.keys.auto), value(typed_auto));
        // Upstream takes exclusions from the workload only; users put them beside the others and expect them to hold.
        let exclude = self.workload.get(exclude).or_else(|| self.template.get(exclude));
        Rules {
            named: patterns(named, value(named), problems),
            auto: if go::parse_bool(auto) == Some(true) || go::parse_bool(typed) == Some(true) {
                Auto::On
            } else if auto.is_empty() && typed.is_empty() {
                Auto::Unset
            } else {
                Auto::Off
            },
            search: value(&self.keys.search) == "true",
            exclude: list(exclude.map_or("", String::as_str)).map(Into::into).collect(),
        }
    }
}

fn list(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim).filter(|name| !name.is_empty())
}

fn patterns(key: &str, value: &str, problems: &mut Vec<Problem>) -> Vec<Pattern> {
    let mut patterns = Vec::new();
    for name in list(value) {
        match Pattern::parse(name) {
            Ok(pattern) => patterns.push(pattern),
            Err(error) => {
                // The library's message draws the expression over several lines; the last one says what is wrong.
                let text = error.to_string();
                let reason = text
                    .lines()
                    .last()
                    .unwrap_or_default()
                    .trim_start_matches("error: ")
                    .to_owned();
                let problem = Problem {
                    key: key.into(),
                    value: name.into(),
                    error: reason,
                };
                if !problems.contains(&problem) {
                    problems.push(problem);
                }
            }
        }
    }
    patterns
}

#[cfg(test)]
#[path = "annotations_tests.rs"]
mod tests;
