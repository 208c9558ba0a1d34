//! A workload as the reloader remembers it: what rolls it, what it uses, what it was started with.

use std::{
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
};

use k8s_openapi::{
    api::core::v1::{EnvVar, PodSpec, PodTemplateSpec},
    apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta},
};
use serde::{Deserialize, Serialize};

use crate::{
    annotations::{Policy, Problem},
    keys::{self, Keys},
    kinds::{Progress, Rollable, WorkloadKind},
    options::Options,
    owned::Owned,
    references::References,
    stakater::VARIABLE_PREFIX,
    state::Baseline,
};

/// Names a workload in the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkloadKey {
    /// Its namespace.
    pub namespace: String,
    /// What it is.
    pub kind: WorkloadKind,
    /// Its name.
    pub name: String,
}

impl fmt::Display for WorkloadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.namespace, self.kind.kind(), self.name)
    }
}

/// What reading a workload depends on.
#[derive(Debug, Clone, Default)]
pub struct Reading {
    /// The annotation keys in force.
    pub keys: Keys,
    /// The id of the digest key in force.
    pub key_id: String,
}

/// Why and when a workload was last rolled by us: the value of an annotation on the workload.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastTrigger {
    /// How often, ever. Makes each trigger distinct.
    pub count: u64,
    /// When, in RFC 3339.
    pub at: String,
    /// For which sources (`cm/app`).
    pub sources: Vec<String>,
}

/// A variable of the env-vars strategy that stands in the template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    /// The container's name.
    pub container: String,
    /// The variable's name.
    pub name: String,
    /// Its value.
    pub value: String,
    /// Whether it was we who put it there and nobody changed it since.
    pub ours: bool,
}

/// What of ours or Stakater's stands in the template now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Live {
    /// The combined digest, if we own it.
    pub config_hash: Option<String>,
    /// Stakater's annotation, whoever wrote it.
    pub last_reloaded_from: Option<String>,
    /// Whether that annotation is ours.
    pub last_reloaded_from_ours: bool,
    /// When a Rollout is to be restarted, if that is ours.
    pub restart_at: Option<String>,
    /// `STAKATER_…` variables.
    pub variables: Vec<Variable>,
}

/// A Deployment's pause.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pause {
    /// The value of the pause-period annotation.
    pub period: Option<Result<std::time::Duration, Problem>>,
    /// `spec.paused`.
    pub paused: bool,
    /// The marker that it was a reloader, ours or Stakater's, who paused it.
    pub paused_at: Option<String>,
    /// Whether `spec.paused` was set by us.
    pub ours: bool,
}

/// All that is remembered of a workload.
#[derive(Debug, Clone)]
pub struct Workload {
    /// Its name.
    pub key: WorkloadKey,
    /// Its uid.
    pub uid: String,
    /// Its resource version as a number, 0 when it is none.
    pub version: u64,
    /// What rolls it.
    pub policy: Policy,
    /// What its template references.
    pub references: References,
    /// The names of its containers.
    pub containers: Vec<String>,
    /// What its pods were started with. `None`: not adopted yet.
    pub baseline: Option<Baseline>,
    /// When and why it was rolled last.
    pub last_trigger: Option<LastTrigger>,
    /// What stands in its template.
    pub live: Live,
    /// Tells templates apart, not counting what we or Stakater write into them.
    pub template: u64,
    /// The version at which this template was first seen, if that was seen happening.
    pub template_since: Option<u64>,
    /// A suspended CronJob.
    pub suspended: bool,
    /// How far its current rollout is.
    pub progress: Progress,
    /// Its pause.
    pub pause: Pause,
    /// Belongs to a CronJob: the CronJob is what is rolled.
    pub controlled: bool,
    /// What it asks for by our own annotations.
    pub options: Option<Box<Options>>,
    /// Since when its pods are being evicted.
    pub evicting: Option<String>,
    /// Which pods are its own, where they are to be evicted.
    pub selector: Option<String>,
    /// An Argo Rollout that is restarted instead of its template being changed.
    pub restart: bool,
    /// The workload of the same namespace whose template it uses.
    pub template_of: Option<WorkloadKey>,
}

impl Workload {
    /// Reads an object. `None` when it has no name, uid or pod template, or is being deleted.
    pub fn read<K: Rollable>(object: &K, reading: &Reading) -> Option<Self> {
        let meta = object.meta();
        // One that uses another's template has none of its own until that has been read.
        let (empty, empty_spec) = (PodTemplateSpec::default(), PodSpec::default());
        let template_of = object.template_of();
        let template = object.template().or(template_of.map(|_| &empty))?;
        let spec = template.spec.as_ref().or(template_of.map(|_| &empty_spec))?;
        if meta.deletion_timestamp.is_some() {
            return None;
        }
        let own = meta.annotations.as_ref();
        let inner = template
            .metadata
            .as_ref()
            .and_then(|meta| meta.annotations.as_ref());
        let annotation = |key: &str| own.and_then(|map| map.get(key));
        let owned = Owned::of(meta);
        let key = WorkloadKey {
            namespace: meta.namespace.clone().unwrap_or_default(),
            kind: K::WORKLOAD,
            name: meta.name.clone()?,
        };
        let mut policy = Policy::parse(own, inner, &reading.keys);
        let options = Options::parse(own, &mut policy.problems);
        let mut references = References::of(spec);
        if !options.as_ref().is_some_and(|options| options.by_key) {
            references.forget_keys();
        }
        let evict = options.as_ref().is_some_and(|options| options.evict);
        Some(Self {
            uid: meta.uid.clone()?,
            version: version(meta),
            policy,
            references,
            containers: spec
                .containers
                .iter()
                .map(|container| container.name.clone())
                .collect(),
            baseline: annotation(keys::SOURCES).and_then(|text| Baseline::parse(text, &reading.key_id)),
            last_trigger: annotation(keys::LAST_TRIGGER).and_then(|text| serde_json::from_str(text).ok()),
            live: Live {
                restart_at: object
                    .restart_at()
                    .filter(|_| owned.restart_at())
                    .map(ToOwned::to_owned),
                ..live(template, &owned)
            },
            template: fingerprint(template),
            template_since: None,
            suspended: object.suspended(),
            progress: object.progress(),
            pause: Pause {
                period: (K::WORKLOAD == WorkloadKind::Deployment)
                    .then(|| annotation(&reading.keys.pause_period))
                    .flatten()
                    .map(|value| pause_period(value, &reading.keys)),
                paused: object.paused(),
                paused_at: annotation(&reading.keys.paused_at).cloned(),
                ours: owned.paused(),
            },
            controlled: K::WORKLOAD == WorkloadKind::Job
                && meta
                    .owner_references
                    .iter()
                    .flatten()
                    .any(|owner| owner.controller == Some(true)),
            selector: object.selector().filter(|_| evict).and_then(selector),
            options,
            evicting: annotation(keys::EVICTING).cloned(),
            restart: K::WORKLOAD == WorkloadKind::Rollout
                && (template_of.is_some()
                    || annotation(keys::ROLLOUT_STRATEGY).is_some_and(|value| value == "restart")),
            template_of: template_of.and_then(|(kind, name)| {
                Some(WorkloadKey {
                    namespace: key.namespace.clone(),
                    kind: WorkloadKind::parse(kind)?,
                    name: name.to_owned(),
                })
            }),
            key,
        })
    }

    /// Takes over what the workload whose template it uses has in it.
    pub fn use_template_of(&mut self, other: &Self) {
        self.references = other.references.clone();
        self.containers.clone_from(&other.containers);
        self.template = other.template;
    }

    /// Whether it asks for what `what` looks at.
    pub fn opts(&self, what: impl FnOnce(&Options) -> bool) -> bool {
        self.options.as_deref().is_some_and(what)
    }

    /// The name of the container that gets the variable of a source.
    pub fn container(&self, position: usize) -> Option<&str> {
        self.containers
            .get(position)
            .or_else(|| self.containers.first())
            .map(String::as_str)
    }
}

/// An object's resource version as a number: comparable since Kubernetes 1.35, and in fact long before. 0 if it is none.
pub fn version(meta: &ObjectMeta) -> u64 {
    meta.resource_version
        .as_deref()
        .and_then(|text| text.parse().ok())
        .unwrap_or(0)
}

fn selector(selector: &LabelSelector) -> Option<String> {
    let selector: kube::core::Selector = selector.clone().try_into().ok()?;
    Some(selector.to_string())
}

fn pause_period(value: &str, keys: &Keys) -> Result<std::time::Duration, Problem> {
    plumbline_common::duration::parse(value).map_err(|error| Problem {
        key: keys.pause_period.clone(),
        value: value.into(),
        error: error.to_string(),
    })
}

fn live(template: &PodTemplateSpec, owned: &Owned<'_>) -> Live {
    let annotations = template
        .metadata
        .as_ref()
        .and_then(|meta| meta.annotations.as_ref());
    let annotation = |key: &str| annotations.and_then(|map| map.get(key)).cloned();
    let mut variables = Vec::new();
    for container in template.spec.iter().flat_map(|spec| &spec.containers) {
        for variable in container
            .env
            .iter()
            .flatten()
            .filter(|variable| is_marker(variable))
        {
            variables.push(Variable {
                container: container.name.clone(),
                name: variable.name.clone(),
                value: variable.value.clone().unwrap_or_default(),
                ours: owned.variable(&container.name, &variable.name),
            });
        }
    }
    Live {
        config_hash: annotation(keys::CONFIG_HASH).filter(|_| owned.template_annotation(keys::CONFIG_HASH)),
        last_reloaded_from: annotation(keys::LAST_RELOADED_FROM),
        restart_at: None,
        last_reloaded_from_ours: owned.template_annotation(keys::LAST_RELOADED_FROM),
        variables,
    }
}

fn is_marker(variable: &EnvVar) -> bool {
    variable.value_from.is_none()
        && variable.name.starts_with(VARIABLE_PREFIX)
        && crate::source::SourceKind::ALL
            .iter()
            .any(|kind| variable.name.ends_with(kind.shout()))
}

// Only ever compared within this process.
fn fingerprint(template: &PodTemplateSpec) -> u64 {
    let mut template = template.clone();
    if let Some(annotations) = template
        .metadata
        .as_mut()
        .and_then(|meta| meta.annotations.as_mut())
    {
        annotations.retain(|key, _| key != keys::CONFIG_HASH && key != keys::LAST_RELOADED_FROM);
    }
    for container in template.spec.iter_mut().flat_map(|spec| &mut spec.containers) {
        if let Some(env) = &mut container.env {
            env.retain(|variable| !is_marker(variable));
        }
        container.env = container.env.take().filter(|env| !env.is_empty());
    }
    if let Some(meta) = &mut template.metadata {
        meta.annotations = meta
            .annotations
            .take()
            .filter(|annotations| !annotations.is_empty());
    }
    let mut hasher = DefaultHasher::new();
    serde_json::to_string(&template)
        .unwrap_or_default()
        .hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
#[path = "workload_tests.rs"]
mod tests;
