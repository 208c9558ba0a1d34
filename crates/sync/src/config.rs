//! Flags, named as Flux's where Flux has the flag. Where Flux's default is open, ours is closed; the help says so.

use std::{path::PathBuf, time::Duration};

use clap::{ArgAction, Args, ValueEnum};
use plumbline_common::{duration, telemetry};

use crate::{
    git::{HostPattern, Scheme},
    source::Rewinds,
};

/// Flags of the controller.
#[derive(Args, Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the contract")]
pub struct ControllerArgs {
    /// Kustomizations and GitRepositories reconciled at the same time
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..))]
    pub concurrent: u16,
    /// Requests in flight that apply objects, over all Kustomizations
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..))]
    pub concurrent_ssa: u16,
    /// Directory for Git mirrors; it may be lost, but then repositories are fetched anew
    #[arg(long, default_value = "/data", value_name = "DIR")]
    pub storage_path: PathBuf,
    /// Watch custom resources in all namespaces; false means only the one in RUNTIME_NAMESPACE
    #[arg(long, default_value_t = true, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub watch_all_namespaces: bool,
    /// Only reconcile custom resources with these labels (sharding)
    #[arg(long, default_value = "", value_name = "SELECTOR")]
    pub watch_label_selector: String,
    /// Labels of the ConfigMaps and Secrets whose change is acted on at once where spec.postBuild or spec.kubeConfig names them;
    /// empty watches none
    #[arg(
        long,
        default_value = "reconcile.fluxcd.io/watch=Enabled",
        value_name = "SELECTOR"
    )]
    pub watch_configs_label_selector: String,
    /// Refuse references to objects in other namespaces (Flux's default is false)
    #[arg(long, default_value_t = true, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub no_cross_namespace_refs: bool,
    /// The kustomize program, by name or path
    #[arg(long, default_value = "kustomize", value_name = "PROGRAM")]
    pub kustomize: PathBuf,
    /// Builds by kustomize that run at the same time
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..))]
    pub concurrent_builds: u16,
    /// Refuse remote bases in kustomize directories (Flux's default is false; there is no way to allow them)
    #[arg(long, default_value_t = true, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub no_remote_bases: bool,
    /// ServiceAccount to apply as where spec.serviceAccountName is not set
    #[arg(long, default_value = "", value_name = "NAME")]
    pub default_service_account: String,
    /// Field manager whose fields are taken over when an object is adopted (can be repeated)
    #[arg(long, value_name = "MANAGER")]
    pub override_manager: Vec<String>,
    /// Spread of the intervals in percent, so that not everything happens at the same time
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(0..=99))]
    pub interval_jitter_percentage: u8,
    /// Share of an inventory of more than 10 objects, in percent, that one revision may delete without confirmation
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub deletion_budget_percentage: u8,
    /// Entries of an inventory that stand in status.inventory, where flux reads them; more are kept in ConfigMaps. An object of
    /// Kubernetes has room for about 15000; 0 means as many as have room
    #[arg(
        long,
        default_value_t = 10_000,
        value_name = "ENTRIES",
        hide_short_help = true
    )]
    pub inventory_status_limit: usize,
    /// Hosts that repositories, their submodules and redirects may be on: example.com, *.example.com, example.com:8443; all if
    /// not given. Link-local addresses, and those where clouds keep a machine's credentials, are always refused
    #[arg(long, value_name = "HOST", value_delimiter = ',')]
    pub allowed_git_hosts: Vec<HostPattern>,
    /// Schemes that they may have: https, ssh, http; all if not given
    #[arg(long, value_name = "SCHEME", value_delimiter = ',', value_parser = parse_scheme)]
    pub allowed_git_schemes: Vec<Scheme>,
    /// Hosts that the clusters of spec.kubeConfig, and proxies before them, may be on, as for Git; all if not given. The same
    /// addresses are always refused
    #[arg(long, value_name = "HOST", value_delimiter = ',')]
    pub allowed_cluster_hosts: Vec<HostPattern>,
    /// Let kubeconfigs turn the verification of a cluster's certificate off
    #[arg(long, default_value_t = false, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub insecure_kubeconfig_tls: bool,
    /// What becomes of a branch that does not continue what was fetched before (after a forced push, for example): held
    /// until it is confirmed by an annotation, or followed
    #[arg(long, default_value = "hold")]
    pub branch_rewind: Rewinds,
    /// Follow file:// URLs: for development, they read any repository this process can read
    #[arg(long)]
    pub allow_file_urls: bool,
    /// Address of /metrics; 0 turns it off
    #[arg(long, default_value = ":8080", value_name = "ADDRESS")]
    pub metrics_addr: String,
    /// Address of /healthz, /livez and /readyz; 0 turns it off
    #[arg(long, default_value = ":9440", value_name = "ADDRESS")]
    pub health_addr: String,
    /// Address that Git servers call when something was pushed (Receivers), :9292 as in Flux for example; 0 serves none
    #[arg(long, alias = "receiverAddr", default_value = "0", value_name = "ADDRESS")]
    pub receiver_addr: String,
    /// Let one of several replicas work at a time
    #[arg(long, default_value_t = false, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub enable_leader_election: bool,
    /// Namespace of the Lease, and of the controller with --watch-all-namespaces=false
    #[arg(
        long,
        env = "RUNTIME_NAMESPACE",
        default_value = "flux-system",
        value_name = "NAMESPACE"
    )]
    pub runtime_namespace: String,
    #[command(flatten)]
    log: LogArgs,
    #[command(flatten)]
    accepted: AcceptedArgs,
}

/// How to log.
#[derive(Args, Clone, Debug)]
pub struct LogArgs {
    /// Least important level that is logged
    #[arg(long, default_value = "info", value_parser = ["trace", "debug", "info", "warn", "error"])]
    log_level: String,
    /// Form of log lines: json, or text for console; text on a terminal by default
    #[arg(long)]
    log_encoding: Option<Encoding>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Encoding {
    Json,
    Console,
}

/// Flags of Flux that are taken so that existing command lines work, and mean nothing here.
#[derive(Args, Clone, Debug)]
struct AcceptedArgs {
    /// No effect: programs that a kubeconfig names are never run
    #[arg(long, hide_short_help = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    insecure_kubeconfig_exec: Option<bool>,
    /// No effect: dependencies are looked at when they change
    #[arg(long, hide_short_help = true, value_parser = parse_duration)]
    requeue_dependency: Option<Duration>,
    /// No effect: artifacts are read from Git, not over HTTP
    #[arg(long, hide_short_help = true)]
    http_retry: Option<u16>,
    /// No effect: the API server's priority and fairness limits requests
    #[arg(long, hide_short_help = true)]
    kube_api_qps: Option<f32>,
    /// No effect: the API server's priority and fairness limits requests
    #[arg(long, hide_short_help = true)]
    kube_api_burst: Option<u32>,
    /// No effect: events go to the Kubernetes API
    #[arg(long, hide_short_help = true)]
    events_addr: Option<String>,
    /// No effect: no artifacts are served
    #[arg(long, hide_short_help = true)]
    storage_addr: Option<String>,
    /// No effect: no artifacts are served
    #[arg(long, hide_short_help = true)]
    storage_adv_addr: Option<String>,
}

fn parse_scheme(text: &str) -> Result<Scheme, String> {
    [Scheme::Https, Scheme::Ssh, Scheme::Http]
        .into_iter()
        .find(|scheme| scheme.name() == text)
        .ok_or_else(|| format!("{text:?} is none of https, ssh and http"))
}

fn parse_duration(text: &str) -> Result<Duration, duration::DurationError> {
    duration::parse(text)
}

impl ControllerArgs {
    /// Sets logging up as the flags say.
    pub fn init_telemetry(&self) {
        let format = match self.log.log_encoding {
            None => telemetry::Format::Auto,
            Some(Encoding::Json) => telemetry::Format::Json,
            Some(Encoding::Console) => telemetry::Format::Text,
        };
        telemetry::init(&self.log.log_level, format);
    }

    /// Names the flags that were given and have no effect.
    pub fn without_effect(&self) -> Vec<&'static str> {
        let accepted = &self.accepted;
        [
            (
                "--insecure-kubeconfig-exec",
                accepted.insecure_kubeconfig_exec == Some(true),
            ),
            ("--requeue-dependency", accepted.requeue_dependency.is_some()),
            ("--http-retry", accepted.http_retry.is_some()),
            ("--kube-api-qps", accepted.kube_api_qps.is_some()),
            ("--kube-api-burst", accepted.kube_api_burst.is_some()),
            ("--events-addr", accepted.events_addr.is_some()),
            ("--storage-addr", accepted.storage_addr.is_some()),
            ("--storage-adv-addr", accepted.storage_adv_addr.is_some()),
        ]
        .into_iter()
        .filter_map(|(flag, given)| given.then_some(flag))
        .collect()
    }
}
