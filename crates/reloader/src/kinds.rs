//! The kinds of workload, and what differs between them.

use std::fmt;

use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::{DaemonSet, Deployment, StatefulSet},
        batch::v1::{CronJob, Job},
        core::v1::PodTemplateSpec,
    },
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use serde::de::DeserializeOwned;

/// The kinds of workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WorkloadKind {
    /// Rolled by its template.
    Deployment,
    /// Rolled by its template.
    StatefulSet,
    /// Rolled by its template.
    DaemonSet,
    /// Runs a Job at once.
    CronJob,
    /// Is deleted and made anew.
    Job,
    /// Argo's, where its kind is known: rolled by its template, or restarted.
    Rollout,
}

impl WorkloadKind {
    /// All kinds.
    pub const ALL: [Self; 6] = [
        Self::Deployment,
        Self::StatefulSet,
        Self::DaemonSet,
        Self::CronJob,
        Self::Job,
        Self::Rollout,
    ];

    /// A kind as people write it: `deployment`, `Deployments`, `deploy`.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.to_ascii_lowercase();
        match text.as_str() {
            "deploy" => Some(Self::Deployment),
            "sts" => Some(Self::StatefulSet),
            "ds" => Some(Self::DaemonSet),
            "cj" => Some(Self::CronJob),
            "ro" => Some(Self::Rollout),
            text => Self::ALL.into_iter().find(|kind| {
                kind.kind()
                    .eq_ignore_ascii_case(text.strip_suffix('s').unwrap_or(text))
            }),
        }
    }

    /// The kind's name in the API.
    pub const fn kind(self) -> &'static str {
        match self {
            Self::Deployment => "Deployment",
            Self::StatefulSet => "StatefulSet",
            Self::DaemonSet => "DaemonSet",
            Self::CronJob => "CronJob",
            Self::Job => "Job",
            Self::Rollout => "Rollout",
        }
    }

    /// The group and version in which it is read and written.
    pub const fn api_version(self) -> &'static str {
        match self {
            Self::Deployment | Self::StatefulSet | Self::DaemonSet => "apps/v1",
            Self::CronJob | Self::Job => "batch/v1",
            Self::Rollout => "argoproj.io/v1alpha1",
        }
    }
}

impl fmt::Display for WorkloadKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())
    }
}

/// How far a workload's current rollout is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Progress {
    /// Every pod runs the current template.
    #[default]
    Done,
    /// Pods are being replaced.
    Running,
    /// Its deadline passed.
    Failed,
}

/// A kind of object with a pod template.
pub trait Rollable:
    kube::Resource<Scope = NamespaceResourceScope, DynamicType = ()>
    + Clone
    + fmt::Debug
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
    /// Which kind it is.
    const WORKLOAD: WorkloadKind;
    /// Its pod template.
    fn template(&self) -> Option<&PodTemplateSpec>;
    /// How far its rollout is.
    fn progress(&self) -> Progress {
        Progress::Done
    }
    /// Whether it is a suspended CronJob.
    fn suspended(&self) -> bool {
        false
    }
    /// Whether it is a paused Deployment.
    fn paused(&self) -> bool {
        false
    }
    /// Which pods are its own. `None`: not to be evicted.
    fn selector(&self) -> Option<&LabelSelector> {
        None
    }
    /// When a Rollout is to be restarted.
    fn restart_at(&self) -> Option<&str> {
        None
    }
    /// The workload whose template it uses instead of one of its own, as kind and name.
    fn template_of(&self) -> Option<(&str, &str)> {
        None
    }
}

impl Rollable for Deployment {
    const WORKLOAD: WorkloadKind = WorkloadKind::Deployment;

    fn template(&self) -> Option<&PodTemplateSpec> {
        self.spec.as_ref().map(|spec| &spec.template)
    }

    fn selector(&self) -> Option<&LabelSelector> {
        self.spec.as_ref().map(|spec| &spec.selector)
    }

    fn progress(&self) -> Progress {
        let (Some(spec), Some(status)) = (&self.spec, &self.status) else {
            return Progress::Running;
        };
        let seen = status.observed_generation >= self.metadata.generation;
        let failed = status.conditions.iter().flatten().any(|condition| {
            condition.type_ == "Progressing"
                && condition.reason.as_deref() == Some("ProgressDeadlineExceeded")
        });
        let wanted = spec.replicas.unwrap_or(1);
        let (updated, available) = (
            status.updated_replicas.unwrap_or(0),
            status.available_replicas.unwrap_or(0),
        );
        let stale = status.replicas.unwrap_or(0) > updated;
        match () {
            () if seen && failed => Progress::Failed,
            () if seen && !stale && updated >= wanted && available >= wanted => Progress::Done,
            () => Progress::Running,
        }
    }

    fn paused(&self) -> bool {
        self.spec.as_ref().is_some_and(|spec| spec.paused == Some(true))
    }
}

impl Rollable for StatefulSet {
    const WORKLOAD: WorkloadKind = WorkloadKind::StatefulSet;

    fn template(&self) -> Option<&PodTemplateSpec> {
        self.spec.as_ref().map(|spec| &spec.template)
    }

    fn selector(&self) -> Option<&LabelSelector> {
        self.spec.as_ref().map(|spec| &spec.selector)
    }

    fn progress(&self) -> Progress {
        let (Some(spec), Some(status)) = (&self.spec, &self.status) else {
            return Progress::Running;
        };
        let strategy = spec.update_strategy.as_ref();
        if strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("OnDelete") {
            return Progress::Done;
        }
        let wanted = spec.replicas.unwrap_or(1);
        let kept = strategy
            .and_then(|strategy| strategy.rolling_update.as_ref())
            .and_then(|update| update.partition);
        let updated = status.updated_replicas.unwrap_or(0) >= wanted - kept.unwrap_or(0).clamp(0, wanted);
        let seen = status.observed_generation >= self.metadata.generation;
        if seen && updated && status.ready_replicas.unwrap_or(0) >= wanted {
            Progress::Done
        } else {
            Progress::Running
        }
    }
}

impl Rollable for DaemonSet {
    const WORKLOAD: WorkloadKind = WorkloadKind::DaemonSet;

    fn template(&self) -> Option<&PodTemplateSpec> {
        self.spec.as_ref().map(|spec| &spec.template)
    }

    fn selector(&self) -> Option<&LabelSelector> {
        self.spec.as_ref().map(|spec| &spec.selector)
    }

    fn progress(&self) -> Progress {
        let (Some(spec), Some(status)) = (&self.spec, &self.status) else {
            return Progress::Running;
        };
        if spec
            .update_strategy
            .as_ref()
            .and_then(|strategy| strategy.type_.as_deref())
            == Some("OnDelete")
        {
            return Progress::Done;
        }
        let wanted = status.desired_number_scheduled;
        let seen = status.observed_generation >= self.metadata.generation;
        let updated = status.updated_number_scheduled.unwrap_or(0) >= wanted;
        if seen && updated && status.number_available.unwrap_or(0) >= wanted {
            Progress::Done
        } else {
            Progress::Running
        }
    }
}

impl Rollable for CronJob {
    const WORKLOAD: WorkloadKind = WorkloadKind::CronJob;

    fn template(&self) -> Option<&PodTemplateSpec> {
        self.spec
            .as_ref()
            .and_then(|spec| spec.job_template.spec.as_ref())
            .map(|spec| &spec.template)
    }

    fn suspended(&self) -> bool {
        self.spec.as_ref().is_some_and(|spec| spec.suspend == Some(true))
    }
}

impl Rollable for Job {
    const WORKLOAD: WorkloadKind = WorkloadKind::Job;

    fn template(&self) -> Option<&PodTemplateSpec> {
        self.spec.as_ref().map(|spec| &spec.template)
    }
}
