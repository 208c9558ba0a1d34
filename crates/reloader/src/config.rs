//! Flags and environment → a validated [`Config`]. No flag is looked at after this.

use std::{collections::HashSet, time::Duration};

use crate::{
    args::Flags,
    decide::{Flap, Settings},
    keys::Keys,
    kinds::WorkloadKind,
    patch::Strategy,
    queue::Debounce,
    selector,
    source::SourceKind,
};

/// A flag that makes no sense.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Neither of the two strategies.
    #[error("--reload-strategy {0:?} is unknown: write annotations or env-vars")]
    Strategy(String),
    /// Neither of the two kinds of source.
    #[error("--resources-to-ignore {0:?} is unknown: write configmaps or secrets")]
    Resource(String),
    /// Both kinds of source.
    #[error("--resources-to-ignore names both configmaps and secrets: nothing is left to watch")]
    EverythingIgnored,
    /// Neither of the two kinds of workload.
    #[error("--ignored-workload-types {0:?} is unknown: write jobs or cronjobs")]
    WorkloadType(String),
    /// Leader election without a place for its Lease.
    #[error("--enable-ha needs the environment variables POD_NAME and POD_NAMESPACE")]
    Ha,
}

/// The environment variables of the contract.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// `KUBERNETES_NAMESPACE`: work in this namespace only.
    pub kubernetes_namespace: Option<String>,
    /// `RELOADER_DEPLOYMENT_NAME`.
    pub deployment_name: Option<String>,
    /// `RELOADER_NAMESPACE`, else `POD_NAMESPACE`: where our own objects are.
    pub own_namespace: Option<String>,
    /// `POD_NAME`.
    pub pod_name: Option<String>,
    /// `METRICS_COUNT_BY_NAMESPACE`.
    pub count_by_namespace: Option<String>,
}

impl Environment {
    /// Reads the process's environment.
    pub fn read() -> Self {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        Self {
            kubernetes_namespace: variable("KUBERNETES_NAMESPACE"),
            own_namespace: variable("RELOADER_NAMESPACE").or_else(|| variable("POD_NAMESPACE")),
            deployment_name: variable("RELOADER_DEPLOYMENT_NAME"),
            pod_name: variable("POD_NAME"),
            count_by_namespace: variable("METRICS_COUNT_BY_NAMESPACE"),
        }
    }
}

/// Which namespaces are worked in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Namespaces {
    /// These, each watched by itself.
    Only(Vec<String>),
    /// All, but for the ignored ones and those a label selector does not select.
    All {
        /// Left alone.
        ignored: HashSet<String>,
        /// A label selector.
        selector: Option<String>,
    },
}

/// How many rollouts may be in progress; 0: any number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cap {
    /// Overall.
    pub overall: usize,
    /// In one namespace.
    pub per_namespace: usize,
}

/// Everything the controller depends on.
#[derive(Debug, Clone)]
#[allow(clippy::struct_excessive_bools, reason = "each is an independent flag")]
pub struct Config {
    /// Annotation keys.
    pub keys: Keys,
    /// `--auto-reload-all`.
    pub auto_all: bool,
    /// Decisions.
    pub settings: Settings,
    /// How templates are changed.
    pub strategy: Strategy,
    /// Kinds of source that are watched.
    pub sources: Vec<SourceKind>,
    /// Kinds of workload that are watched.
    pub workloads: Vec<WorkloadKind>,
    /// Where.
    pub namespaces: Namespaces,
    /// Labels of sources.
    pub source_selector: Option<String>,
    /// `--watch-helm-releases`.
    pub helm_releases: bool,
    /// Debounce.
    pub debounce: Debounce,
    /// Workers.
    pub concurrency: usize,
    /// Fan-out.
    pub cap: Cap,
    /// Polling.
    pub poll_interval: Duration,
    /// `--dry-run`.
    pub dry_run: bool,
    /// `--halt-on-failure`.
    pub halt: bool,
    /// `--prune-stakater-env`.
    pub prune: bool,
    /// `--watch-by-name`.
    pub by_name: bool,
    /// `--enable-csi-integration`.
    pub csi: bool,
    /// `--webhook-url`.
    pub webhook: Option<String>,
    /// Metrics by namespace.
    pub count_by_namespace: bool,
}

impl Config {
    /// Checks the flags.
    pub fn new(flags: &Flags, environment: &Environment) -> Result<Self, ConfigError> {
        if flags.enable_ha && (environment.pod_name.is_none() || environment.own_namespace.is_none()) {
            return Err(ConfigError::Ha);
        }
        let strategy = match flags.reload_strategy.as_str() {
            "default" | "" | "annotations" => Strategy::Annotations,
            "env-vars" => Strategy::EnvVars,
            other => return Err(ConfigError::Strategy(other.into())),
        };
        Ok(Self {
            keys: keys(flags),
            auto_all: flags.auto_reload_all,
            settings: Settings {
                on_create: flags.reload_on_create == "true",
                on_delete: flags.reload_on_delete == "true",
                roll_stale: flags.rollout_stale_on_adopt,
                flap: Flap {
                    limit: flags.flap_limit,
                    window: flags.flap_window,
                },
            },
            strategy,
            sources: sources(&flags.resources_to_ignore)?,
            // With a webhook it is told instead of rolling anything.
            workloads: if flags.webhook_url.is_empty() {
                workloads(flags)?
            } else {
                Vec::new()
            },
            namespaces: namespaces(flags, environment),
            source_selector: joined(&flags.resource_label_selector),
            helm_releases: flags.watch_helm_releases,
            debounce: Debounce {
                quiet: flags.debounce,
                longest: flags.debounce_max.max(flags.debounce),
            },
            concurrency: flags.concurrency.max(1),
            cap: Cap {
                overall: flags.max_rollouts,
                per_namespace: flags.max_rollouts_per_namespace,
            },
            poll_interval: flags.poll_interval.max(Duration::from_secs(1)),
            dry_run: flags.dry_run,
            halt: flags.halt_on_failure,
            prune: flags.prune_stakater_env,
            by_name: flags.watch_by_name,
            csi: flags.enable_csi_integration && flags.webhook_url.is_empty(),
            webhook: Some(flags.webhook_url.clone()).filter(|url| !url.is_empty()),
            count_by_namespace: environment.count_by_namespace.as_deref() == Some("enabled"),
        })
    }
}

fn keys(flags: &Flags) -> Keys {
    Keys {
        auto: flags.auto_annotation.clone(),
        configmap_auto: flags.configmap_auto_annotation.clone(),
        secret_auto: flags.secret_auto_annotation.clone(),
        configmap: flags.configmap_annotation.clone(),
        secret: flags.secret_annotation.clone(),
        search: flags.auto_search_annotation.clone(),
        search_match: flags.search_match_annotation.clone(),
        ignore: flags.ignore_annotation.clone(),
        pause_period: flags.pause_deployment_annotation.clone(),
        paused_at: flags.pause_deployment_time_annotation.clone(),
    }
}

fn entries(list: &[String]) -> impl Iterator<Item = &str> {
    list.iter()
        .map(|entry| entry.trim())
        .filter(|entry| !entry.is_empty())
}

fn sources(ignored: &[String]) -> Result<Vec<SourceKind>, ConfigError> {
    let mut kinds = vec![SourceKind::ConfigMap, SourceKind::Secret];
    for entry in entries(ignored) {
        let kind = match entry.to_ascii_lowercase().as_str() {
            "configmaps" => SourceKind::ConfigMap,
            "secrets" => SourceKind::Secret,
            _ => return Err(ConfigError::Resource(entry.into())),
        };
        kinds.retain(|known| *known != kind);
    }
    if kinds.is_empty() {
        Err(ConfigError::EverythingIgnored)
    } else {
        Ok(kinds)
    }
}

fn workloads(flags: &Flags) -> Result<Vec<WorkloadKind>, ConfigError> {
    let mut kinds = WorkloadKind::ALL.to_vec();
    kinds.retain(|kind| *kind != WorkloadKind::Rollout || flags.is_argo_rollouts == "true");
    for entry in entries(&flags.ignored_workload_types) {
        let kind = match entry.to_ascii_lowercase().as_str() {
            "jobs" => WorkloadKind::Job,
            "cronjobs" => WorkloadKind::CronJob,
            _ => return Err(ConfigError::WorkloadType(entry.into())),
        };
        kinds.retain(|known| *known != kind);
    }
    Ok(kinds)
}

fn namespaces(flags: &Flags, environment: &Environment) -> Namespaces {
    let mut only: Vec<String> = entries(&flags.namespaces).map(Into::into).collect();
    only.extend(environment.kubernetes_namespace.clone());
    only.sort();
    only.dedup();
    if only.is_empty() {
        let ignored = entries(&flags.namespaces_to_ignore).map(Into::into).collect();
        Namespaces::All {
            ignored,
            selector: joined(&flags.namespace_selector),
        }
    } else {
        Namespaces::Only(only)
    }
}

fn joined(selectors: &[String]) -> Option<String> {
    let selectors: Vec<_> = entries(selectors).map(selector::modern).collect();
    (!selectors.is_empty()).then(|| selectors.join(","))
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
