//! The controller's flags: the original's, with its defaults, and ours behind them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{ArgAction, Parser};
use k8s_openapi::jiff::Timestamp;
use k8s_openapi::jiff::fmt::rfc2822;

use crate::crypto::Order;
use crate::decide::Drift;
use crate::goflags::boolean;

/// Turns SealedSecrets into Secrets.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "plumbline-unsealer",
    disable_version_flag = true,
    max_term_width = 110
)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "one flag each, fixed by the contract"
)]
pub struct Config {
    /// Prefix of the names of key Secrets
    #[arg(long, default_value = "sealed-secrets-key")]
    pub key_prefix: String,
    /// Size of new keys in bits
    #[arg(long, default_value_t = 4096)]
    pub key_size: usize,
    /// How long the certificate of a new key is valid
    #[arg(long, default_value = "87600h", value_parser = duration)]
    pub key_ttl: Duration,
    /// Common name in the certificate of a new key
    #[arg(long, default_value = "")]
    pub my_cn: String,
    /// When a new key is made, counted from the newest one; 0 never
    #[arg(long, alias = "rotate-period", default_value = "720h", value_parser = duration)]
    pub key_renew_period: Duration,
    /// What makes one key newer than another: CertNotBefore or SecretCreationTimestamp
    #[arg(long, default_value = "CertNotBefore")]
    pub key_order_priority: Order,
    /// A new key is made at start when the newest is older than this (as `date -R` prints)
    #[arg(long, default_value = "", hide_default_value = true)]
    pub key_cutoff_time: Cutoff,
    /// Open the deprecated spec.data
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "true",
          value_parser = boolean, action = ArgAction::Set)]
    pub accept_deprecated_v1_data: bool,
    /// Watch every namespace, not only the own one
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "true",
          value_parser = boolean, action = ArgAction::Set)]
    pub all_namespaces: bool,
    /// Namespaces to watch beside the own one, instead of all
    #[arg(long, value_delimiter = ',')]
    pub additional_namespaces: Vec<String>,
    /// Only SealedSecrets with these labels
    #[arg(long, default_value = "")]
    pub label_selector: String,
    /// Requests a second that /v1/verify and /v1/rotate answer
    #[arg(long, default_value_t = 2)]
    pub rate_limit: u32,
    /// Requests that may come at once
    #[arg(long, default_value_t = 2)]
    pub rate_limit_burst: u32,
    /// Annotations of new key Secrets, as KEY=VALUE,…
    #[arg(long, default_value = "", hide_default_value = true)]
    pub privatekey_annotations: Pairs,
    /// Labels of new key Secrets, as KEY=VALUE,…
    #[arg(long, default_value = "", hide_default_value = true)]
    pub privatekey_labels: Pairs,
    /// Delete Secrets of deleted SealedSecrets at once instead of leaving it to Kubernetes
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false",
          value_parser = boolean, action = ArgAction::Set)]
    pub old_gc_behavior: bool,
    /// Write the status of SealedSecrets
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "true",
          value_parser = boolean, action = ArgAction::Set)]
    pub update_status: bool,
    /// Accepted for compatibility: keys are always watched
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false",
          value_parser = boolean, action = ArgAction::Set)]
    pub watch_for_secrets: bool,
    /// Do not make deleted Secrets anew
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false",
          value_parser = boolean, action = ArgAction::Set)]
    pub skip_recreate: bool,
    /// Accepted for compatibility: logs go to standard error
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "true",
          value_parser = boolean, action = ArgAction::Set)]
    pub log_info_stdout: bool,
    /// DEBUG, INFO, WARN or ERROR
    #[arg(long, default_value = "INFO")]
    pub log_level: String,
    /// text or json
    #[arg(long, default_value = "text")]
    pub log_format: String,
    /// Quick retries of a write that fails; slower ones follow for as long as it takes
    #[arg(long, default_value_t = 5)]
    pub max_unseal_retries: u32,
    /// Accepted for compatibility: requests are bounded by --concurrency
    #[arg(long, default_value_t = 5.0)]
    pub kubeclient_qps: f32,
    /// Accepted for compatibility: requests are bounded by --concurrency
    #[arg(long, default_value_t = 10)]
    pub kubeclient_burst: u32,
    /// Where the API for kubeseal listens
    #[arg(long, default_value = ":8080")]
    pub listen_addr: String,
    /// Where metrics are served
    #[arg(long, default_value = ":8081")]
    pub listen_metrics_addr: String,
    /// How long a request may take to arrive
    #[arg(long, default_value = "2m", value_parser = duration)]
    pub read_timeout: Duration,
    /// How long an answer may take
    #[arg(long, default_value = "2m", value_parser = duration)]
    pub write_timeout: Duration,
    /// Leave names of objects out of metrics
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false",
          value_parser = boolean, action = ArgAction::Set)]
    pub metrics_omit_secret_labels: bool,
    /// Print the version
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false",
          value_parser = boolean, action = ArgAction::Set)]
    pub version: bool,
    /// What to do with a Secret that somebody else changed: correct, report or ignore
    #[arg(long, default_value = "correct", help_heading = "Plumbline")]
    pub drift_policy: Drift,
    /// Objects worked on at once
    #[arg(long, default_value_t = 8, help_heading = "Plumbline", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub concurrency: u16,
    /// Let one replica work at a time; all of them serve the certificate (needs access to Leases)
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false",
          value_parser = boolean, action = ArgAction::Set, help_heading = "Plumbline")]
    pub leader_elect: bool,
    /// New keys seal only once their backup is acknowledged, by the annotation
    /// plumbline.dev/backup-acknowledged=true on the key Secret; the key before seals until then
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false",
          value_parser = boolean, action = ArgAction::Set, help_heading = "Plumbline")]
    pub require_key_backup: bool,
    /// ConfigMap of the own namespace to publish the certificate in, as cert.pem (needs list, watch,
    /// create and patch of ConfigMaps there); none by default
    #[arg(
        long,
        default_value = "",
        hide_default_value = true,
        value_name = "NAME",
        help_heading = "Plumbline"
    )]
    pub certificate_configmap: String,
    /// Kubeconfig, outside of a cluster
    #[arg(long, value_name = "FILE", help_heading = "Plumbline")]
    pub kubeconfig: Option<PathBuf>,
    /// Instead of running
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What else the program does.
#[derive(Clone, Copy, Debug, clap::Subcommand)]
pub enum Command {
    /// Print the CustomResourceDefinition
    Crd,
}

impl Config {
    /// The namespaces to watch; one empty name for all.
    pub fn namespaces(&self, own: &str) -> Vec<String> {
        let mut namespaces: Vec<String> = self
            .additional_namespaces
            .iter()
            .map(|name| name.trim().to_owned())
            .filter(|name| !name.is_empty())
            .collect();
        if namespaces.is_empty() && self.all_namespaces {
            return vec![String::new()];
        }
        namespaces.push(own.to_owned());
        namespaces.sort();
        namespaces.dedup();
        namespaces
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    plumbline_common::duration::parse(text).map_err(|error| error.to_string())
}

/// A moment, or none for empty text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cutoff(pub Option<Timestamp>);

impl FromStr for Cutoff {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self(None));
        }
        rfc2822::parse(text)
            .map(|time| Self(Some(time.timestamp())))
            .map_err(|error| format!("{error}: write it as `date -R` prints it"))
    }
}

/// `KEY=VALUE,…`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pairs(pub BTreeMap<String, String>);

impl FromStr for Pairs {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.split(',')
            .filter(|pair| !pair.trim().is_empty())
            .map(|pair| {
                pair.split_once('=')
                    .map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()))
                    .ok_or_else(|| format!("{pair:?} is not KEY=VALUE"))
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    fn read(flags: &[&str]) -> Result<Config, clap::Error> {
        let all: Vec<OsString> = std::iter::once("x")
            .chain(flags.iter().copied())
            .map(Into::into)
            .collect();
        crate::goflags::parse(&all, &|_| None)
    }

    #[test]
    fn what_the_chart_passes_is_understood() {
        let config = read(&[
            "--update-status",
            "--key-renew-period",
            "0",
            "--rate-limit=3",
            "--privatekey-labels=a=b,c=d",
            "--privatekey-annotations=",
            "--additional-namespaces",
            "",
            "--log-info-stdout=false",
            "--key-cutoff-time",
            "Tue, 24 Nov 2026 00:00:00 +0100",
            "-v=4",
        ])
        .unwrap();
        assert_eq!(config.key_renew_period, Duration::ZERO);
        assert_eq!(config.privatekey_labels.0.len(), 2);
        assert_eq!(
            config.key_cutoff_time.0.unwrap().to_string(),
            "2026-11-23T23:00:00Z"
        );
        assert_eq!(config.namespaces("own"), [""]);
    }

    #[test]
    fn what_go_refuses_is_refused() {
        for flags in [
            ["--key-renew-period", "30d"],
            ["--privatekey-labels", "foo"],
            ["--key-cutoff-time", "today"],
        ] {
            assert!(read(&flags).is_err(), "{flags:?}");
        }
    }

    #[test]
    fn namespaces_that_are_listed_replace_all() {
        assert_eq!(
            read(&["--additional-namespaces=b,a, a"])
                .unwrap()
                .namespaces("own"),
            ["a", "b", "own"]
        );
        assert_eq!(
            read(&["--all-namespaces=false"]).unwrap().namespaces("own"),
            ["own"]
        );
    }
}
