//! `source.toolkit.fluxcd.io/v1` GitRepository.

#![expect(unreachable_pub, reason = "KubeSchema derives a public type for its own use")]

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    LocalObjectReference,
    schema::{DURATION, SHORT_DURATION, conditions},
};

/// GitRepositorySpec says which repository and which reference of it to follow.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "source.toolkit.fluxcd.io",
    version = "v1",
    kind = "GitRepository",
    plural = "gitrepositories",
    shortname = "gitrepo",
    category = "all",
    category = "fluxcd",
    category = "fluxcd-sources",
    namespaced,
    status = "GitRepositoryStatus",
    derive = "Default",
    derive = "PartialEq",
    doc = "GitRepository is the source of manifests in a Git repository.",
    printcolumn = r#"{"name":"URL","type":"string","jsonPath":".spec.url"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name":"Status","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].message"}"#
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("!has(self.serviceAccountName) || (has(self.provider) && self.provider in ['aws', 'azure'])", "serviceAccountName can only be set when provider is 'azure' or 'aws'"),
)]
pub struct GitRepositorySpec {
    /// The repository's http, https or ssh URL.
    #[schemars(regex(pattern = r"^(http|https|ssh)://.*$"))]
    pub url: String,
    /// How often the repository is asked for a new revision.
    #[schemars(regex(pattern = DURATION))]
    pub interval: String,
    /// Bound on Git operations, defaults to 60s.
    #[serde(default = "sixty_seconds", skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = SHORT_DURATION))]
    pub timeout: Option<String>,
    /// Which reference to follow, defaults to the branch `master`.
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    pub reference: Option<GitRepositoryRef>,
    /// Secret with the credentials: `username` and `password`, or `bearerToken`, for HTTPS (with `ca.crt`, `tls.crt`
    /// and `tls.key` where needed); `identity`, `known_hosts` and `password` (of the key) for SSH.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<LocalObjectReference>,
    /// How to authenticate; `generic` uses the Secret of secretRef.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["generic", "aws", "azure", "github"]))]
    pub provider: Option<String>,
    /// ServiceAccount that authenticates to the provider.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_account_name: Option<String>,
    /// Signature verification of the resolved commit or tag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verify: Option<GitRepositoryVerification>,
    /// Secret with the proxy to use: `address`, `username`, `password`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy_secret_ref: Option<LocalObjectReference>,
    /// Excluded paths in gitignore syntax, instead of the defaults.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ignore: Option<String>,
    /// Directories to keep; everything else is left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sparse_checkout: Vec<String>,
    /// Also fetch submodules, with the same credentials.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recurse_submodules: Option<bool>,
    /// Other GitRepositories whose files are added to this one's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub include: Vec<GitRepositoryInclude>,
    /// Stop following the repository; what was fetched stays in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
}

#[expect(clippy::unnecessary_wraps, reason = "serde wants the field's type")]
fn sixty_seconds() -> Option<String> {
    Some("60s".into())
}

/// GitRepositoryRef says what to resolve: commit, else name, else semver, else tag, else branch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct GitRepositoryRef {
    /// Branch to follow, defaults to `master`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// Tag to follow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// Semantic version range: the highest matching tag is followed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub semver: Option<String>,
    /// Full name of a reference, `refs/pull/1/head` for example.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Commit id to pin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
}

/// GitRepositoryVerification names the keys that a commit or tag must be signed with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GitRepositoryVerification {
    /// What must be signed, defaults to HEAD.
    #[serde(default = "head", skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["head", "HEAD", "Tag", "TagAndHEAD"]))]
    pub mode: Option<String>,
    /// Secret with the public keys of trusted authors: `*.asc` (PGP) and `*.sshpub`.
    pub secret_ref: LocalObjectReference,
}

#[expect(clippy::unnecessary_wraps, reason = "serde wants the field's type")]
fn head() -> Option<String> {
    Some("HEAD".into())
}

/// GitRepositoryInclude adds another repository's files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GitRepositoryInclude {
    /// The GitRepository to include, of the same namespace.
    pub repository: LocalObjectReference,
    /// Its path to take, defaults to its root.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_path: Option<String>,
    /// Where to put it, defaults to the repository's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_path: Option<String>,
}

/// Artifact is what was last fetched.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Artifact {
    /// Path of the artifact in a file store; manifests are read straight from Git here, so it only names them.
    pub path: String,
    /// Address of the artifact; empty, because nothing is served over HTTP.
    pub url: String,
    /// What was fetched, `main@sha1:…`.
    pub revision: String,
    /// Digest of the artifact.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[a-z0-9]+(?:[.+_-][a-z0-9]+)*:[a-zA-Z0-9=_-]+$"))]
    pub digest: Option<String>,
    /// When it was fetched.
    pub last_update_time: Time,
    /// Size in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<i64>,
    /// More about the artifact.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<BTreeMap<String, String>>,
}

/// GitRepositoryStatus is what the controller last saw and did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct GitRepositoryStatus {
    /// The generation that was last looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, Reconciling, Stalled, FetchFailed, ArtifactInStorage and their reasons.
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
    /// The last fetched revision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub artifact: Option<Artifact>,
    /// Artifacts of included repositories.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub included_artifacts: Vec<Artifact>,
    /// The spec.ignore that the artifact was made with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_ignore: Option<String>,
    /// The spec.recurseSubmodules that the artifact was made with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_recurse_submodules: Option<bool>,
    /// The spec.include that the artifact was made with.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub observed_include: Vec<GitRepositoryInclude>,
    /// The spec.sparseCheckout that the artifact was made with.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub observed_sparse_checkout: Vec<String>,
    /// The verification mode that was last applied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_verification_mode: Option<String>,
    /// The last value of the annotation reconcile.fluxcd.io/requestedAt that was acted on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_handled_reconcile_at: Option<String>,
}
