//! Command line: Stakater's flags letter for letter, then ours.

use std::{path::PathBuf, time::Duration};

use clap::{ArgAction, Args, Parser, Subcommand};
use plumbline_common::duration;

use crate::{go, notify::Format};

/// Rolls Kubernetes workloads when the ConfigMaps and Secrets they use change
#[derive(Debug, Parser)]
#[command(name = "plumbline-reloader", version)]
pub struct Cli {
    /// What to do instead of running the controller.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The controller's flags.
    #[command(flatten)]
    pub flags: Flags,
}

/// The commands for people.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Tell what a workload uses and why it would or would not be rolled
    Explain(Explain),
}

/// `explain KIND/NAME`.
#[derive(Debug, Args)]
pub struct Explain {
    /// The workload, for example deployment/web
    #[arg(value_name = "KIND/NAME")]
    pub workload: String,
    /// Its namespace (default: the kubeconfig's)
    #[arg(long, short)]
    pub namespace: Option<String>,
}

/// The controller's flags.
#[derive(Debug, Clone, Args)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of the contract")]
pub struct Flags {
    /// Roll every workload for the sources it references, unless an auto annotation says otherwise
    #[arg(long, value_parser = boolean, default_value = "false", num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set)]
    pub auto_reload_all: bool,
    /// Annotation that names ConfigMaps
    #[arg(
        long,
        value_name = "KEY",
        default_value = "configmap.reloader.stakater.com/reload"
    )]
    pub configmap_annotation: String,
    /// Annotation that names Secrets
    #[arg(
        long,
        value_name = "KEY",
        default_value = "secret.reloader.stakater.com/reload"
    )]
    pub secret_annotation: String,
    /// Annotation for every referenced source
    #[arg(long, value_name = "KEY", default_value = "reloader.stakater.com/auto")]
    pub auto_annotation: String,
    /// Annotation for every referenced ConfigMap
    #[arg(
        long,
        value_name = "KEY",
        default_value = "configmap.reloader.stakater.com/auto"
    )]
    pub configmap_auto_annotation: String,
    /// Annotation for every referenced Secret
    #[arg(long, value_name = "KEY", default_value = "secret.reloader.stakater.com/auto")]
    pub secret_auto_annotation: String,
    /// Annotation for referenced sources that carry the match annotation
    #[arg(long, value_name = "KEY", default_value = "reloader.stakater.com/search")]
    pub auto_search_annotation: String,
    /// Annotation on a source that search looks for
    #[arg(long, value_name = "KEY", default_value = "reloader.stakater.com/match")]
    pub search_match_annotation: String,
    /// Annotation on a source that rolls nothing
    #[arg(long, value_name = "KEY", default_value = "reloader.stakater.com/ignore")]
    pub ignore_annotation: String,
    /// Annotation with the time a Deployment is paused after a change
    #[arg(
        long,
        value_name = "KEY",
        default_value = "deployment.reloader.stakater.com/pause-period"
    )]
    pub pause_deployment_annotation: String,
    /// Annotation that marks a Deployment as paused by the reloader
    #[arg(
        long,
        value_name = "KEY",
        default_value = "deployment.reloader.stakater.com/paused-at"
    )]
    pub pause_deployment_time_annotation: String,
    /// How a template is changed: annotations (the default) or env-vars
    #[arg(long, value_name = "STRATEGY", default_value = "default")]
    pub reload_strategy: String,
    /// Roll when a source appears that a workload waits for: exactly true
    #[arg(long, value_name = "TEXT", default_value = "false", num_args = 0..=1, default_missing_value = "true")]
    pub reload_on_create: String,
    /// Roll when a source is deleted: exactly true
    #[arg(long, value_name = "TEXT", default_value = "false", num_args = 0..=1, default_missing_value = "true")]
    pub reload_on_delete: String,
    /// Accepted for compatibility: what was missed while the reloader was down is always noticed
    #[arg(long, value_parser = boolean, default_value = "false", num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set)]
    pub sync_after_restart: bool,
    /// Kinds of source to leave alone: configmaps or secrets, not both
    #[arg(long, value_name = "KIND", value_delimiter = ',')]
    pub resources_to_ignore: Vec<String>,
    /// Kinds of workload to leave alone: jobs, cronjobs
    #[arg(long, value_name = "KIND", value_delimiter = ',')]
    pub ignored_workload_types: Vec<String>,
    /// Namespaces to work in (default: all)
    #[arg(long, value_name = "NAMESPACE", value_delimiter = ',')]
    pub namespaces: Vec<String>,
    /// Namespaces to leave alone
    #[arg(long, value_name = "NAMESPACE", value_delimiter = ',')]
    pub namespaces_to_ignore: Vec<String>,
    /// Labels of the namespaces to work in
    #[arg(long, value_name = "SELECTOR", value_delimiter = ',')]
    pub namespace_selector: Vec<String>,
    /// Labels of the ConfigMaps and Secrets to watch
    #[arg(long, value_name = "SELECTOR", value_delimiter = ',')]
    pub resource_label_selector: Vec<String>,
    /// Roll Argo Rollouts too: exactly true
    #[arg(long = "is-Argo-Rollouts", value_name = "TEXT", default_value = "false", num_args = 0..=1, default_missing_value = "true")]
    pub is_argo_rollouts: String,
    /// Follow SecretProviderClasses of the secrets-store CSI driver
    #[arg(long, value_parser = boolean, default_value = "false", num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set)]
    pub enable_csi_integration: bool,
    /// Post to this address at each change of a ConfigMap or Secret, and roll nothing
    #[arg(long, value_name = "URL", default_value = "")]
    pub webhook_url: String,
    /// Accepted for compatibility and without effect
    #[arg(long, value_parser = boolean, default_value = "false", num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set)]
    pub enable_pprof: bool,
    /// Accepted for compatibility and without effect
    #[arg(long, value_name = "ADDRESS", default_value = ":6060")]
    pub pprof_addr: String,
    /// Accepted for compatibility: the lease holds 15 s
    #[arg(long, value_name = "DURATION", default_value = "15s", value_parser = duration::parse)]
    pub leader_election_lease_duration: Duration,
    /// Accepted for compatibility
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration::parse)]
    pub leader_election_renew_deadline: Duration,
    /// Accepted for compatibility
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = duration::parse)]
    pub leader_election_retry_period: Duration,
    /// Elect a leader, so that several replicas can run
    #[arg(long, value_parser = boolean, default_value = "false", num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set)]
    pub enable_ha: bool,
    /// json or text (default: text on a terminal)
    #[arg(long, value_name = "FORMAT", default_value = "")]
    pub log_format: String,
    /// trace, debug, info, warning or error
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    pub log_level: String,

    /// Where /metrics, /live, /livez and /readyz are served
    #[arg(
        long,
        value_name = "ADDRESS",
        default_value = ":9090",
        help_heading = "Plumbline"
    )]
    pub listen_address: String,
    /// How long to wait after a change for further ones (0s: not at all)
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = duration::parse, help_heading = "Plumbline")]
    pub debounce: Duration,
    /// How long to wait at most while changes keep coming
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration::parse, help_heading = "Plumbline")]
    pub debounce_max: Duration,
    /// How many workloads are written at the same time
    #[arg(long, value_name = "NUMBER", default_value_t = 8, help_heading = "Plumbline")]
    pub concurrency: usize,
    /// Hold a workload that was rolled this often within --flap-window (0: never)
    #[arg(long, value_name = "NUMBER", default_value_t = 10, help_heading = "Plumbline")]
    pub flap_limit: usize,
    /// The window of --flap-limit
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = duration::parse, help_heading = "Plumbline")]
    pub flap_window: Duration,
    /// How many rollouts may be in progress at the same time (0: any number)
    #[arg(long, value_name = "NUMBER", default_value_t = 0, help_heading = "Plumbline")]
    pub max_rollouts: usize,
    /// How many rollouts may be in progress in one namespace (0: any number)
    #[arg(long, value_name = "NUMBER", default_value_t = 0, help_heading = "Plumbline")]
    pub max_rollouts_per_namespace: usize,
    /// Roll what Stakater's hash shows to have been missed when a workload is taken over
    #[arg(long, help_heading = "Plumbline")]
    pub rollout_stale_on_adopt: bool,
    /// Hold workloads for which the rollout of another has failed with the same content
    #[arg(long, help_heading = "Plumbline")]
    pub halt_on_failure: bool,
    /// Take away Stakater's variables that nobody needs any more, with the next rollout
    #[arg(long, help_heading = "Plumbline")]
    pub prune_stakater_env: bool,
    /// Watch each source that is used by its name, for Roles with resourceNames
    #[arg(long, help_heading = "Plumbline")]
    pub watch_by_name: bool,
    /// Where a JSON document is posted for each rollout
    #[arg(
        long,
        value_name = "URL",
        env = "NOTIFICATION_URL",
        hide_env_values = true,
        help_heading = "Plumbline"
    )]
    pub notification_url: Option<String>,
    /// json, or cloudevents for its envelope
    #[arg(
        long,
        value_name = "FORMAT",
        value_enum,
        default_value = "json",
        hide_possible_values = true,
        help_heading = "Plumbline"
    )]
    pub notification_format: Format,
    /// Watch Helm's release Secrets too
    #[arg(long, help_heading = "Plumbline")]
    pub watch_helm_releases: bool,
    /// How often to list a kind that may be listed but not watched
    #[arg(long, value_name = "DURATION", default_value = "15s", value_parser = duration::parse, help_heading = "Plumbline")]
    pub poll_interval: Duration,
    /// Decide and tell, but write nothing
    #[arg(long, help_heading = "Plumbline")]
    pub dry_run: bool,
    /// Kubeconfig file (default: KUBECONFIG, ~/.kube/config, then the Pod's ServiceAccount)
    #[arg(long, value_name = "FILE", global = true, help_heading = "Plumbline")]
    pub kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig
    #[arg(long, value_name = "NAME", global = true, help_heading = "Plumbline")]
    pub context: Option<String>,
}

fn boolean(text: &str) -> Result<bool, String> {
    go::parse_bool(text).ok_or_else(|| "write true or false".into())
}
