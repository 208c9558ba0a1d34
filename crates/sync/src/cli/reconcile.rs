//! `reconcile`: Flux's protocol. An annotation asks; the status says when it was acted on.

use std::{process::ExitCode, time::Duration};

use anyhow::{Context as _, bail};
use clap::Args;
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Condition, jiff::Timestamp};
use kube::{
    Api,
    api::{Patch, PatchParams},
    runtime::wait::await_condition,
};
use plumbline_common::{conditions, duration};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::{
    ClusterArgs, TROUBLE,
    output::{self, plain},
    session::Session,
};
use crate::{
    api::{GitRepository, Kustomization, REQUESTED_AT},
    cluster::{fields::MANAGER, live::Owner},
    controller,
};

/// `reconcile`.
#[derive(Args, Debug)]
pub struct ReconcileArgs {
    /// Name of the Kustomization
    name: String,
    #[command(flatten)]
    cluster: ClusterArgs,
    /// Fetch its source first
    #[arg(long)]
    with_source: bool,
    /// How long to wait for the outcome
    #[arg(long, default_value = "5m", value_parser = duration::parse, value_name = "DURATION")]
    timeout: Duration,
}

/// What both kinds have in common.
pub(super) trait Reconciled:
    kube::Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static
{
    /// `GitRepository`.
    const KIND: &'static str;
    /// `spec.suspend`.
    fn is_suspended(&self) -> bool;
    /// `status.lastHandledReconcileAt`.
    fn handled(&self) -> Option<&str>;
    /// `status.observedGeneration`.
    fn observed(&self) -> Option<i64>;
    /// `status.conditions`.
    fn conditions(&self) -> &[Condition];
    /// The revision it has.
    fn revision(&self) -> String;
}

macro_rules! reconciled {
    ($type:ty, $kind:literal, $revision:expr) => {
        impl Reconciled for $type {
            const KIND: &'static str = $kind;
            fn is_suspended(&self) -> bool {
                self.spec.suspend == Some(true)
            }
            fn handled(&self) -> Option<&str> {
                self.status.as_ref()?.last_handled_reconcile_at.as_deref()
            }
            fn observed(&self) -> Option<i64> {
                self.status.as_ref()?.observed_generation
            }
            fn conditions(&self) -> &[Condition] {
                self.status
                    .as_ref()
                    .map(|status| status.conditions.as_slice())
                    .unwrap_or_default()
            }
            fn revision(&self) -> String {
                self.status.as_ref().and_then($revision).unwrap_or_default()
            }
        }
    };
}
reconciled!(GitRepository, "GitRepository", |status| status
    .artifact
    .as_ref()
    .map(|artifact| artifact.revision.clone()));
reconciled!(Kustomization, "Kustomization", |status| status
    .last_applied_revision
    .clone());

pub(super) async fn run(args: &ReconcileArgs) -> anyhow::Result<ExitCode> {
    let session = Session::connect(&args.cluster).await?;
    let object = session.kustomization(&args.name).await?;
    if args.with_source {
        let owner = Owner {
            namespace: session.namespace.clone(),
            name: args.name.clone(),
        };
        let (namespace, name) = controller::source_key(&object.spec, &owner.namespace);
        let api: Api<GitRepository> = Api::namespaced(session.client.clone(), &namespace);
        match ask(&api, &name, args.timeout).await? {
            Ok(revision) => output::write(&format!("✔ fetched revision {}\n", plain(&revision)))?,
            Err(message) => return failed("GitRepository", &name, &message),
        }
    }
    match ask(&session.kustomizations(), &args.name, args.timeout).await? {
        Ok(revision) => {
            output::write(&format!("✔ applied revision {}\n", plain(&revision)))?;
            Ok(ExitCode::SUCCESS)
        }
        Err(message) => failed("Kustomization", &args.name, &message),
    }
}

fn failed(kind: &str, name: &str, message: &str) -> anyhow::Result<ExitCode> {
    output::write(&format!("✗ {kind} {name}: {}\n", plain(message)))?;
    Ok(ExitCode::from(TROUBLE))
}

/// Asks for a reconciliation and waits for its outcome: the revision, or what the condition says.
pub(super) async fn ask<K: Reconciled>(
    api: &Api<K>,
    name: &str,
    timeout: Duration,
) -> anyhow::Result<Result<String, String>> {
    let object = api
        .get_opt(name)
        .await?
        .with_context(|| format!("there is no {} {name}", K::KIND))?;
    if object.is_suspended() {
        bail!("{} {name} is suspended: plumbline-sync resume {name}", K::KIND);
    }
    let now = Timestamp::now().to_string();
    let patch = json!({ "metadata": { "annotations": { REQUESTED_AT: now } } });
    let params = PatchParams {
        field_manager: Some(format!("{MANAGER}-cli")),
        ..PatchParams::default()
    };
    api.patch_metadata(name, &params, &Patch::Merge(&patch)).await?;
    wait(api, name, Some(&now), timeout).await
}

/// Waits until the object is ready or has failed, after the request `asked`.
pub(super) async fn wait<K: Reconciled>(
    api: &Api<K>,
    name: &str,
    asked: Option<&str>,
    timeout: Duration,
) -> anyhow::Result<Result<String, String>> {
    let done = |object: Option<&K>| object.is_none_or(|object| is_done(object, asked));
    let waited = tokio::time::timeout(timeout, await_condition(api.clone(), name, done)).await;
    let Ok(object) = waited else {
        let object = api.get_opt(name).await?;
        let says = object.as_ref().map(ready_message).unwrap_or_default();
        let waited = duration::format(timeout);
        bail!(
            "{} {name} is not done after {waited}: {says}; is the controller running?",
            K::KIND
        );
    };
    let object = object?.with_context(|| format!("the {} {name} was deleted", K::KIND))?;
    Ok(if conditions::is_true(object.conditions(), "Ready") {
        Ok(object.revision())
    } else {
        Err(ready_message(&object))
    })
}

fn ready_message<K: Reconciled>(object: &K) -> String {
    let ready = conditions::find(object.conditions(), "Ready");
    ready.map_or_else(
        || "nobody has looked at it yet".to_owned(),
        |ready| format!("{}: {}", ready.reason, ready.message),
    )
}

fn is_done<K: Reconciled>(object: &K, asked: Option<&str>) -> bool {
    let is_handled = asked.is_none_or(|asked| object.handled() == Some(asked));
    let is_current = object.observed() == object.meta().generation;
    let ready = conditions::find(object.conditions(), "Ready").map(|ready| ready.status.as_str());
    is_handled && is_current && matches!(ready, Some("True" | "False"))
}
