//! The custom resources: Flux v2's `GitRepository`, `Kustomization` and `Receiver`, field for field, so that existing
//! repositories and the unmodified `flux` command line work. Field semantics: <https://fluxcd.io/flux/components/>.
//!
//! Enumerations are strings here: the CRD's schema checks them, and an object that slipped past an older schema
//! must be reported on its status, not break the watch of its kind.

mod git_repository;
mod kustomization;
mod receiver;
mod schema;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

pub use git_repository::*;
pub use kustomization::*;
pub use receiver::*;

/// Asks for a reconciliation now: any new value; `flux reconcile` writes the time.
pub const REQUESTED_AT: &str = "reconcile.fluxcd.io/requestedAt";
/// Confirms a mass deletion: the revision as the status prints it.
pub const CONFIRM_DELETION: &str = "plumbline.dev/confirm-deletion";
/// On a Kustomization: whether one bad object leaves the others alone (Isolate, the default) or holds all back (Atomic).
pub const FAILURE_POLICY: &str = "plumbline.dev/failure-policy";
/// Prefix of our own annotations.
pub const OWN_PREFIX: &str = "plumbline.dev/";
/// On a GitRepository: `allow` follows a branch that is moved back, `hold` holds it.
pub const REWIND: &str = "plumbline.dev/rewind";
/// Confirms that a branch is moved back: the revision as the condition prints it.
pub const CONFIRM_REWIND: &str = "plumbline.dev/confirm-rewind";
/// On a GitRepository: `range` verifies every commit since the last that was fetched, `tip` only the newest.
pub const VERIFY: &str = "plumbline.dev/verify";
/// On a Kustomization: what is done about objects that somebody changed: `Correct`, `Report` or `Ignore`.
pub const DRIFT: &str = "plumbline.dev/drift";
/// On a Kustomization: what becomes of a revision that does not get healthy: `Stay` or `Return`.
pub const ON_UNHEALTHY: &str = "plumbline.dev/on-unhealthy";
/// Why an object is suspended.
pub const SUSPEND_REASON: &str = "plumbline.dev/suspend-reason";
/// Who suspended it.
pub const SUSPEND_BY: &str = "plumbline.dev/suspend-by";
/// Until when, as in 2026-11-30T08:00:00Z.
pub const SUSPEND_UNTIL: &str = "plumbline.dev/suspend-until";
/// On an applied object: it was there before we first applied it, so it is never deleted by us.
pub const ADOPTED: &str = "plumbline.dev/adopted";
/// On an applied object: the revision that brought its present content.
pub const REVISION: &str = "plumbline.dev/revision";
/// On an applied object, Secrets excepted: digest of what Git had when it was applied.
pub const DIGEST: &str = "plumbline.dev/digest";
/// On an applied object: `disabled` where Git said when it was applied that it is never to be deleted. Who takes Flux's own
/// annotation off the live object does not take this one.
pub const PRUNE: &str = "plumbline.dev/prune";
/// What every apply writes about itself: no difference that anybody wants to see.
pub const OWN_ANNOTATIONS: [&str; 3] = [REVISION, DIGEST, PRUNE];
/// Finalizer of Kustomizations, Flux's.
pub const FINALIZER: &str = "finalizers.fluxcd.io";
/// Label that names the owning Kustomization on every applied object.
pub const OWNER_NAME: &str = "kustomize.toolkit.fluxcd.io/name";
/// Label with the owning Kustomization's namespace on every applied object.
pub const OWNER_NAMESPACE: &str = "kustomize.toolkit.fluxcd.io/namespace";

/// A reference to an object of the same namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LocalObjectReference {
    /// Name of the referent.
    pub name: String,
}

/// Which URL schemes the CRD admits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UrlSchemes {
    /// http, https and ssh, as in Flux.
    Remote,
    /// Also `file://`, for development.
    WithFile,
}

/// The CRDs, ready to be applied.
pub fn crds(schemes: UrlSchemes) -> Vec<CustomResourceDefinition> {
    let mut all = vec![GitRepository::crd(), Kustomization::crd(), Receiver::crd()];
    for crd in &mut all {
        schema::complete(crd);
        if schemes == UrlSchemes::WithFile {
            schema::admit_file_urls(crd);
        }
        // A repository that syncs these very CRDs through postBuild must not have them mangled.
        let annotations = crd.metadata.annotations.get_or_insert_default();
        annotations.insert("kustomize.toolkit.fluxcd.io/substitute".into(), "disabled".into());
        let labels = crd.metadata.labels.get_or_insert_default();
        labels.insert("app.kubernetes.io/part-of".into(), "flux".into());
    }
    all
}

/// The CRDs as one YAML stream.
pub fn crds_yaml(schemes: UrlSchemes) -> Result<String, serde_yaml::Error> {
    let mut out = String::new();
    for crd in crds(schemes) {
        let mut value = serde_json::to_value(&crd).unwrap_or_else(|_| json!({}));
        if let Some(map) = value.as_object_mut() {
            map.remove("status");
        }
        out.push_str("---\n");
        out.push_str(&serde_yaml::to_string(&value)?);
    }
    Ok(out)
}

#[cfg(test)]
mod tests;
