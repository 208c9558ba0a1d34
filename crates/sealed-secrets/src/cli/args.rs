//! kubeseal's flags, with the names and defaults its users have in their scripts.

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser};

pub use super::keys::{BackupArguments, KeysArguments, KeysCommand, ListArguments, RestoreArguments};
use crate::goflags::boolean;

/// Seals Secrets for a cluster: what it prints is safe to commit.
#[derive(Debug, Parser)]
#[command(name = "kubeseal", disable_version_flag = true, max_term_width = 110)]
pub struct Arguments {
    /// Certificate to seal with, a file or a URL; the controller is then not asked. Several seal one file per certificate:
    /// the {} in the name that -w gives is replaced by the certificate's name
    #[arg(long, value_name = "FILE|URL")]
    pub cert: Vec<String>,
    /// Namespace of the controller
    #[arg(long, default_value = "kube-system", global = true)]
    pub controller_namespace: String,
    /// Name of the controller's Service
    #[arg(long, default_value = "sealed-secrets-controller", global = true)]
    pub controller_name: String,
    /// Output format: json or yaml
    #[arg(short = 'o', long)]
    pub format: Option<String>,
    /// Secret to read (default: standard input)
    #[arg(short = 'f', long, value_name = "FILE")]
    pub secret_file: Option<PathBuf>,
    /// SealedSecret to write (default: standard output); only written when everything succeeded
    #[arg(short = 'w', long, value_name = "FILE")]
    pub sealed_secret_file: Option<PathBuf>,
    /// What to do instead of sealing.
    #[command(flatten)]
    pub mode: Mode,
    /// Seal a Secret without any items
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false",
          hide_default_value = true, hide_possible_values = true, value_parser = boolean, action = ArgAction::Set)]
    pub allow_empty_data: bool,
    /// With --raw: the file that holds the value (default: standard input)
    #[arg(long, value_name = "[KEY=]FILE", value_delimiter = ',')]
    pub from_file: Vec<String>,
    /// Name of the Secret; required with --raw and scope strict
    #[arg(long)]
    pub name: Option<String>,
    /// Where the items may be opened: strict, namespace-wide or cluster-wide
    #[arg(long)]
    pub scope: Option<crate::scope::Scope>,
    /// Record the fingerprint of the key in the annotation plumbline.dev/sealed-with of the SealedSecret
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false",
          hide_default_value = true, value_parser = boolean, action = ArgAction::Set)]
    pub sealed_with: bool,
    /// With --recovery-unseal: private keys, as PEM, key Secret or List of key Secrets (can be repeated)
    #[arg(long, value_name = "FILE", value_delimiter = ',')]
    pub recovery_private_key: Vec<PathBuf>,
    /// Which API server to talk to.
    #[command(flatten)]
    pub cluster: ClusterArguments,
    /// What else it does.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What the original does not do.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Check files of SealedSecrets without a cluster and without a private key
    Lint(LintArguments),
    /// Seal the items in files anew, changing nothing but ciphertexts
    Reseal(ResealArguments),
    /// Seal one value into a file, leaving everything else in it as it is
    Set(SetArguments),
    /// Edit the items of a file in your editor; what you do not change keeps its ciphertext
    Edit(EditArguments),
    /// The sealing keys of the cluster: list, backup, restore
    Keys(KeysArguments),
}

/// Of `kubeseal set`.
#[derive(Debug, Args)]
pub struct SetArguments {
    /// File with the SealedSecret: its name, namespace and scope count
    pub file: PathBuf,
    /// Key of the item; added when it is not there
    pub key: String,
    /// Certificate to seal with (default: --cert before the command, then the controller's)
    #[arg(long, value_name = "FILE|URL")]
    pub cert: Option<String>,
    /// File that holds the value (default: standard input); taken as it is, a line break at the end included
    #[arg(long, value_name = "FILE")]
    pub from_file: Option<PathBuf>,
    /// Which SealedSecret, when the file holds several
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Record the fingerprint of the key in the annotation plumbline.dev/sealed-with (kept up to date where it is there)
    #[arg(long)]
    pub sealed_with: bool,
}

/// Of `kubeseal edit`.
#[derive(Debug, Args)]
pub struct EditArguments {
    /// File with the SealedSecret: its name, namespace and scope count
    pub file: PathBuf,
    /// Certificate to seal with (default: --cert before the command, then the controller's)
    #[arg(long, value_name = "FILE|URL")]
    pub cert: Option<String>,
    /// Open the items with these private keys (default: take the values from the Secret in the cluster)
    #[arg(long, value_name = "FILE", value_delimiter = ',')]
    pub recovery_private_key: Vec<PathBuf>,
    /// Which SealedSecret, when the file holds several
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Record the fingerprint of the key in the annotation plumbline.dev/sealed-with (kept up to date where it is there)
    #[arg(long)]
    pub sealed_with: bool,
}

/// Of `kubeseal lint`.
#[derive(Debug, Args)]
pub struct LintArguments {
    /// Certificates that the items may be sealed with (can be repeated)
    #[arg(long, value_name = "FILE")]
    pub cert: Vec<PathBuf>,
    /// Files, and directories with everything below them
    #[arg(required = true)]
    pub paths: Vec<PathBuf>,
}

/// Of `kubeseal reseal`.
#[derive(Debug, Args)]
pub struct ResealArguments {
    /// Certificate to seal with
    #[arg(long, value_name = "FILE|URL")]
    pub cert: String,
    /// Private keys that open what is there, as PEM, key Secret or List of key Secrets (can be repeated)
    #[arg(long, value_name = "FILE", value_delimiter = ',', required = true)]
    pub recovery_private_key: Vec<PathBuf>,
    /// Say what would be done
    #[arg(long)]
    pub dry_run: bool,
    /// Record the fingerprint of the key in the annotation plumbline.dev/sealed-with (kept up to date where it is there)
    #[arg(long)]
    pub sealed_with: bool,
    /// Accepted for clarity: directories are always followed down
    #[arg(long)]
    pub recursive: bool,
    /// Files, and directories with everything below them
    #[arg(required = true)]
    pub paths: Vec<PathBuf>,
}

/// The modes other than sealing; the first that is set wins, in this order of the code, not of the command line.
#[derive(Debug, Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "one flag each, fixed by the contract"
)]
pub struct Mode {
    /// Print the version
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false",
          hide_default_value = true, value_parser = boolean, action = ArgAction::Set)]
    pub version: bool,
    /// Print the controller's certificate, for use with --cert
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false",
          hide_default_value = true, value_parser = boolean, action = ArgAction::Set)]
    pub fetch_cert: bool,
    /// Ask the controller whether it can open the SealedSecrets
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false",
          hide_default_value = true, value_parser = boolean, action = ArgAction::Set)]
    pub validate: bool,
    /// Seal into an existing SealedSecret file, replacing items of the same key
    #[arg(long, value_name = "FILE")]
    pub merge_into: Option<PathBuf>,
    /// Seal one bare value; prints the item alone
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false",
          hide_default_value = true, value_parser = boolean, action = ArgAction::Set)]
    pub raw: bool,
    /// Let the controller seal the SealedSecrets anew with its newest key
    #[arg(long, alias = "rotate", num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value = "false", hide_default_value = true, value_parser = boolean, action = ArgAction::Set)]
    pub re_encrypt: bool,
    /// Open a SealedSecret from standard input with private keys, without a cluster
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false",
          hide_default_value = true, value_parser = boolean, action = ArgAction::Set)]
    pub recovery_unseal: bool,
}

/// kubectl's connection flags.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Cluster")]
pub struct ClusterArguments {
    /// Kubeconfig file (default: $KUBECONFIG, then ~/.kube/config, then the pod's service account)
    #[arg(global = true, long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Namespace of the Secrets that do not state one
    #[arg(global = true, short = 'n', long)]
    pub namespace: Option<String>,
    /// Context of the kubeconfig
    #[arg(global = true, long)]
    pub context: Option<String>,
    /// Cluster of the kubeconfig
    #[arg(global = true, long)]
    pub cluster: Option<String>,
    /// User of the kubeconfig
    #[arg(global = true, long)]
    pub user: Option<String>,
    /// User to impersonate
    #[arg(global = true, long = "as", value_name = "USER")]
    pub impersonate: Option<String>,
    /// Group to impersonate (can be repeated)
    #[arg(global = true, long = "as-group", value_name = "GROUP")]
    pub impersonate_groups: Vec<String>,
    /// UID to impersonate
    #[arg(global = true, long = "as-uid", value_name = "UID")]
    pub impersonate_uid: Option<String>,
    /// Address of the API server
    #[arg(global = true, short = 's', long, value_name = "URL")]
    pub server: Option<String>,
    /// Bearer token
    #[arg(global = true, long, hide_env_values = true)]
    pub token: Option<String>,
    /// CA bundle of the API server
    #[arg(global = true, long, value_name = "FILE")]
    pub certificate_authority: Option<PathBuf>,
    /// Client certificate
    #[arg(global = true, long, value_name = "FILE")]
    pub client_certificate: Option<PathBuf>,
    /// Client key
    #[arg(global = true, long, value_name = "FILE")]
    pub client_key: Option<PathBuf>,
    /// Do not check the API server's certificate
    #[arg(global = true, long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = boolean,
          action = ArgAction::Set)]
    pub insecure_skip_tls_verify: Option<bool>,
    /// Name that the API server's certificate is checked for
    #[arg(global = true, long, value_name = "NAME")]
    pub tls_server_name: Option<String>,
    /// Proxy on the way to the API server
    #[arg(global = true, long, value_name = "URL")]
    pub proxy_url: Option<String>,
    /// Ask for uncompressed answers
    #[arg(global = true, long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = boolean,
          action = ArgAction::Set)]
    pub disable_compression: Option<bool>,
    /// How long to wait for an answer, for instance 30s; 0 waits as long as it takes
    #[arg(global = true, long, value_name = "DURATION")]
    pub request_timeout: Option<String>,
    /// User name for basic authentication
    #[arg(global = true, long)]
    pub username: Option<String>,
    /// Password for basic authentication
    #[arg(global = true, long)]
    pub password: Option<String>,
}
