//! Argo's Rollout, as far as the reloader looks at it.

use std::borrow::Cow;

use k8s_openapi::{
    NamespaceResourceScope,
    api::core::v1::PodTemplateSpec,
    apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta},
};
use serde::Deserialize;

use crate::kinds::{Progress, Rollable, WorkloadKind};

/// `argoproj.io/v1alpha1` Rollout.
#[derive(Debug, Clone, Deserialize)]
pub struct Rollout {
    metadata: ObjectMeta,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    template: Option<PodTemplateSpec>,
    workload_ref: Option<WorkloadRef>,
    restart_at: Option<String>,
    selector: Option<LabelSelector>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct WorkloadRef {
    kind: String,
    name: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    phase: Option<String>,
    // A text, other than everywhere else.
    observed_generation: Option<String>,
}

impl kube::Resource for Rollout {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        "Rollout".into()
    }

    fn group((): &()) -> Cow<'_, str> {
        "argoproj.io".into()
    }

    fn version((): &()) -> Cow<'_, str> {
        "v1alpha1".into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        "rollouts".into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl Rollable for Rollout {
    const WORKLOAD: WorkloadKind = WorkloadKind::Rollout;

    fn template(&self) -> Option<&PodTemplateSpec> {
        self.spec.template.as_ref()
    }

    fn progress(&self) -> Progress {
        let generation = self.metadata.generation.map(|number| number.to_string());
        match self.status.phase.as_deref() {
            Some("Degraded") => Progress::Failed,
            Some("Healthy") if self.status.observed_generation == generation => Progress::Done,
            // Without Argo's controller nothing tells.
            None => Progress::Done,
            Some(_) => Progress::Running,
        }
    }

    fn selector(&self) -> Option<&LabelSelector> {
        self.spec.selector.as_ref()
    }

    fn restart_at(&self) -> Option<&str> {
        self.spec.restart_at.as_deref()
    }

    fn template_of(&self) -> Option<(&str, &str)> {
        let other = self.spec.workload_ref.as_ref()?;
        Some((&other.kind, &other.name))
    }
}
