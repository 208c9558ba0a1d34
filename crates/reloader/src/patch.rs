//! The one server-side apply that writes state and trigger together.

use k8s_openapi::jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::{
    decide::Change,
    digest::Keyer,
    keys,
    kinds::WorkloadKind,
    stakater::{self, LastReloadedFrom},
    state::{Baseline, Seen},
    workload::{LastTrigger, Workload},
};

/// `--reload-strategy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Strategy {
    /// One annotation with the digest of everything, and Stakater's `last-reloaded-from`.
    #[default]
    Annotations,
    /// Stakater's variable.
    EnvVars,
}

/// What a patch is made from.
#[derive(Debug, Clone, Copy)]
pub struct Writing<'a> {
    /// The digest key in force.
    pub keyer: &'a Keyer,
    /// The strategy in force.
    pub strategy: Strategy,
    /// Now.
    pub now: Timestamp,
    /// The key of the marker of a pause.
    pub paused_at: &'a str,
    /// `--prune-stakater-env`.
    pub prune: bool,
}

/// What happens to a Deployment beside being rolled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beside {
    /// Nothing.
    Nothing,
    /// It is paused, with a marker of when.
    Pause,
}

impl Writing<'_> {
    /// Writes the state only. Nothing in the template changes.
    pub fn record(&self, workload: &Workload, baseline: &Baseline) -> Value {
        self.body(
            workload,
            baseline,
            &Template::standing(workload),
            workload.last_trigger.as_ref(),
        )
    }

    /// Writes the state and changes the template, so that the pods are replaced.
    pub fn roll(
        &self,
        workload: &Workload,
        baseline: &Baseline,
        changes: &[Change],
        beside: Beside,
    ) -> Value {
        let mut template = Template::standing(workload);
        if workload.restart {
            let trigger = self.next_trigger(workload, changes);
            template.restart_at = Some(self.time());
            return self.body(workload, baseline, &template, Some(&trigger));
        }
        // The containers of a Rollout are no list that an apply could merge into: its CRD does not say by what.
        if self.strategy == Strategy::EnvVars && workload.key.kind != WorkloadKind::Rollout {
            for change in changes {
                template.mark(workload, change);
            }
            // An apply puts what it states into the order in which it states it: containers keep theirs.
            let place = |name: &str| workload.containers.iter().position(|container| container == name);
            template
                .variables
                .sort_by_key(|(container, _, _)| place(container));
        }
        // Variables alone may come out as they were: two sources share one, or a hash collides, or the source is gone.
        if self.strategy == Strategy::Annotations || !template.differs(workload) {
            template.config_hash = Some(baseline.combined(self.keyer).to_string());
            template.last_reloaded_from = self.last_reloaded_from(workload, changes);
        }
        let trigger = self.next_trigger(workload, changes);
        let mut body = self.body(workload, baseline, &template, Some(&trigger));
        if beside == Beside::Pause {
            self.pause(&mut body, &self.time());
        }
        body
    }

    /// As [`Writing::roll`], and takes away the variables that Stakater left and nobody needs any more. It is one write,
    /// because two would be two rollouts. `None` if there are none.
    pub fn pruned(
        &self,
        workload: &Workload,
        baseline: &Baseline,
        changes: &[Change],
        beside: Beside,
    ) -> Option<Value> {
        let needed = |name: &str| {
            let mut sources = baseline.sources.keys();
            self.strategy == Strategy::EnvVars && sources.any(|source| stakater::variable(source) == name)
        };
        let orphans = workload.live.variables.iter();
        let orphans = orphans.filter(|variable| self.prune && !variable.ours && !needed(&variable.name));
        let orphans: Vec<_> = orphans.collect();
        if orphans.is_empty() || workload.restart || workload.key.kind == WorkloadKind::Rollout {
            return None;
        }
        let mut body = self.roll(workload, baseline, changes, beside);
        let template = body
            .pointer_mut("/spec/template")
            .and_then(Value::as_object_mut)?;
        let spec = template.entry("spec").or_insert_with(|| json!({}));
        if spec.get("containers").is_none() {
            spec["containers"] = json!([]);
        }
        let containers = spec.get_mut("containers").and_then(Value::as_array_mut)?;
        for orphan in orphans {
            let entry = json!({"name": orphan.name, "$patch": "delete"});
            let known = containers
                .iter_mut()
                .find(|container| container["name"] == orphan.container.as_str());
            match known
                .and_then(|container| container.get_mut("env"))
                .and_then(Value::as_array_mut)
            {
                Some(env) => env.push(entry),
                None => containers.push(json!({"name": orphan.container, "env": [entry]})),
            }
        }
        Some(body)
    }

    /// Writes the state, and from when on its pods are to be evicted. The template stays as it is.
    pub fn evict(&self, workload: &Workload, baseline: &Baseline, changes: &[Change]) -> Value {
        let mut body = self.body(
            workload,
            baseline,
            &Template::standing(workload),
            Some(&self.next_trigger(workload, changes)),
        );
        body["metadata"]["annotations"][keys::EVICTING] = self.time().into();
        body
    }

    /// Writes the state of a CronJob or Job that was run: their templates stay as they are.
    pub fn ran(&self, workload: &Workload, baseline: &Baseline, changes: &[Change]) -> Value {
        self.body(
            workload,
            baseline,
            &Template::default(),
            Some(&self.next_trigger(workload, changes)),
        )
    }

    fn next_trigger(&self, workload: &Workload, changes: &[Change]) -> LastTrigger {
        let count = workload.last_trigger.as_ref().map_or(0, |last| last.count) + 1;
        let sources = changes.iter().map(|change| change.source.to_string()).collect();
        LastTrigger {
            count,
            at: self.time(),
            sources,
        }
    }

    fn time(&self) -> String {
        self.now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    }

    fn pause(&self, body: &mut Value, at: &str) {
        if let Some(annotations) = body
            .pointer_mut("/metadata/annotations")
            .and_then(Value::as_object_mut)
        {
            annotations.insert(self.paused_at.to_owned(), at.into());
        }
        if let Some(object) = body.as_object_mut() {
            let spec = object.entry("spec").or_insert_with(|| json!({}));
            if let Some(spec) = spec.as_object_mut() {
                spec.insert("paused".into(), true.into());
            }
        }
    }

    fn last_reloaded_from(&self, workload: &Workload, changes: &[Change]) -> Option<String> {
        let last = changes.last()?;
        let container = workload.container(workload.references.container(&last.source));
        let (namespace, name) = last.source.home(&workload.key.namespace);
        let value = LastReloadedFrom {
            kind: last.source.kind.shout().into(),
            name: name.to_owned(),
            namespace: namespace.to_owned(),
            hash: last.sha1.to_string(),
            container_refs: container.map(Into::into).into_iter().collect(),
            observed_at: self.now.as_second(),
        };
        serde_json::to_string(&value).ok()
    }

    fn body(
        &self,
        workload: &Workload,
        baseline: &Baseline,
        template: &Template,
        trigger: Option<&LastTrigger>,
    ) -> Value {
        let mut annotations = Map::new();
        annotations.insert(keys::SOURCES.into(), baseline.encode(self.keyer.id()).into());
        if let Some(text) = trigger.and_then(|trigger| serde_json::to_string(trigger).ok()) {
            annotations.insert(keys::LAST_TRIGGER.into(), text.into());
        }
        if let Some(since) = &workload.evicting {
            annotations.insert(keys::EVICTING.into(), since.clone().into());
        }
        let mut body = json!({
            "apiVersion": workload.key.kind.api_version(),
            "kind": workload.key.kind.kind(),
            "metadata": {
                "name": workload.key.name,
                "namespace": workload.key.namespace,
                // An apply creates what is not there: with the uid it fails instead, and never hits a namesake.
                "uid": workload.uid,
                "annotations": annotations,
            },
        });
        let value = template.value().filter(|_| !batch(workload.key.kind));
        if let (Some(value), Some(object)) = (value, body.as_object_mut()) {
            object.insert("spec".into(), json!({ "template": value }));
        }
        if let (Some(at), Some(object)) = (&template.restart_at, body.as_object_mut()) {
            let spec = object.entry("spec").or_insert_with(|| json!({}));
            spec["restartAt"] = at.clone().into();
        }
        // A pause of ours goes on: it ends by its own write, not by being left out here.
        if let (true, Some(at)) = (workload.pause.ours, &workload.pause.paused_at) {
            self.pause(&mut body, at);
        }
        body
    }
}

const fn batch(kind: WorkloadKind) -> bool {
    matches!(kind, WorkloadKind::CronJob | WorkloadKind::Job)
}

// What we state of the template.
#[derive(Default)]
struct Template {
    config_hash: Option<String>,
    last_reloaded_from: Option<String>,
    // Of a Rollout.
    restart_at: Option<String>,
    // Container, variable, value: in the template's order.
    variables: Vec<(String, String, String)>,
}

impl Template {
    // What is ours and stays: an apply that no longer stated it would take it away, and roll the workload.
    fn standing(workload: &Workload) -> Self {
        let live = &workload.live;
        let ours = live.variables.iter().filter(|variable| variable.ours);
        Self {
            config_hash: live.config_hash.clone(),
            last_reloaded_from: live
                .last_reloaded_from
                .clone()
                .filter(|_| live.last_reloaded_from_ours),
            restart_at: live.restart_at.clone(),
            variables: ours
                .map(|variable| {
                    (
                        variable.container.clone(),
                        variable.name.clone(),
                        variable.value.clone(),
                    )
                })
                .collect(),
        }
    }

    fn mark(&mut self, workload: &Workload, change: &Change) {
        let name = stakater::variable(&change.source);
        let Some(container) = workload.container(workload.references.container(&change.source)) else {
            return;
        };
        self.variables.retain(|(_, variable, _)| *variable != name);
        // Stakater removes the variable of a deleted source.
        if change.seen != Seen::Absent {
            self.variables
                .push((container.into(), name, change.sha1.to_string()));
        }
    }

    fn differs(&self, workload: &Workload) -> bool {
        let live = &workload.live.variables;
        let stands = |(container, name, value): &(String, String, String)| {
            live.iter()
                .any(|v| v.container == *container && v.name == *name && v.value == *value)
        };
        let kept = |name: &str| self.variables.iter().any(|(_, variable, _)| variable == name);
        !self.variables.iter().all(stands)
            || live.iter().any(|variable| variable.ours && !kept(&variable.name))
    }

    fn value(&self) -> Option<Value> {
        let mut template = Map::new();
        let mut annotations = Map::new();
        if let Some(hash) = &self.config_hash {
            annotations.insert(keys::CONFIG_HASH.into(), hash.clone().into());
        }
        if let Some(last) = &self.last_reloaded_from {
            annotations.insert(keys::LAST_RELOADED_FROM.into(), last.clone().into());
        }
        if !annotations.is_empty() {
            template.insert("metadata".into(), json!({ "annotations": annotations }));
        }
        let mut containers: Vec<(&str, Vec<Value>)> = Vec::new();
        for (container, name, value) in &self.variables {
            let variable = json!({ "name": name, "value": value });
            match containers.iter_mut().find(|(name, _)| name == container) {
                Some((_, variables)) => variables.push(variable),
                None => containers.push((container, vec![variable])),
            }
        }
        if !containers.is_empty() {
            let containers: Vec<_> = containers
                .into_iter()
                .map(|(name, env)| json!({ "name": name, "env": env }))
                .collect();
            template.insert("spec".into(), json!({ "containers": containers }));
        }
        (!template.is_empty()).then_some(Value::Object(template))
    }
}

#[cfg(test)]
#[path = "patch_tests.rs"]
mod tests;
