//! Receivers become hooks. Every replica serves them; the one that leads writes their status.

use std::{sync::Arc, time::Duration};

use futures::StreamExt as _;
use k8s_openapi::{api::core::v1::Secret, jiff::Timestamp};
use kube::{
    Api, Client, ResourceExt as _,
    api::{Patch, PatchParams},
    core::Resource as _,
    runtime::controller::{self, Action},
};
use plumbline_common::{backoff, duration, shutdown::Stopping};
use tokio::sync::watch::Receiver as Watched;
use zeroize::Zeroizing;

use super::{
    hooks::{self, Hook, Hooks, Kind, Pace, Select, Target, Token},
    signature::Proof,
    status::{self, Refusal, Until},
};
use crate::{
    api::{REQUESTED_AT, Receiver, ReceiverResource, ReceiverSpec},
    cluster::{fields::MANAGER, watch},
    context::CrossNamespace,
    status::patch,
};

/// Between two calls of one Receiver that are passed on.
const APART: Duration = Duration::from_secs(1);
/// Between two events about requests that are refused.
const COMPLAINTS: Duration = Duration::from_mins(1);
/// Bound on a request to the API server.
const TIMEOUT: Duration = Duration::from_secs(30);

/// What the controller works with.
pub(super) struct Context {
    /// The Kubernetes API.
    pub(super) client: Client,
    /// Where hooks go.
    pub(super) hooks: Arc<Hooks>,
    /// Whether Receivers may name resources of other namespaces.
    pub(super) cross_namespace: CrossNamespace,
    /// Whether this replica leads.
    pub(super) leading: Watched<bool>,
    /// Spread of the intervals in percent.
    pub(super) jitter: u8,
}

/// An error that the condition of the object cannot carry.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The API server refused the status.
    #[error("the status of Receiver {0} cannot be written: {1}")]
    Status(String, kube::Error),
    /// The status cannot be expressed as JSON.
    #[error("the status cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// The API server did not answer in time.
    #[error("the API server did not answer within {} s", TIMEOUT.as_secs())]
    Timeout,
}

/// Runs until the process stops.
pub(super) async fn run(api: Api<Receiver>, selector: &str, context: Arc<Context>, stopping: Stopping) {
    let leads = futures::stream::unfold(context.leading.clone(), async |mut leading| {
        leading.changed().await.ok()?;
        Some(((), leading))
    });
    let hooks = Arc::clone(&context.hooks);
    watch::controller(api, selector)
        .with_config(controller::Config::default().concurrency(2))
        .graceful_shutdown_on(stopping.wait())
        .reconcile_all_on(leads)
        .run(reconcile, |_, error, _| error_policy(error), context)
        .for_each(async |result| match result {
            Err(controller::Error::ObjectNotFound(gone)) => {
                hooks.remove(&(gone.namespace.clone().unwrap_or_default(), gone.name.clone()));
            }
            Err(controller::Error::QueueError(error)) => {
                tracing::warn!(
                    %error,
                    "Receivers cannot be watched: does the cluster have their CRD (plumbline-sync crd)?"
                );
            }
            Ok(_) | Err(_) => {}
        })
        .await;
}

fn error_policy(error: &Error) -> Action {
    tracing::warn!(%error, "will be tried again");
    Action::requeue(Duration::from_secs(10))
}

async fn reconcile(object: Arc<Receiver>, context: Arc<Context>) -> Result<Action, Error> {
    let key = (object.namespace().unwrap_or_default(), object.name_any());
    if object.metadata.deletion_timestamp.is_some() {
        context.hooks.remove(&key);
        return Ok(Action::await_change());
    }
    let outcome = match hook(&object, &context).await {
        Ok((path, hook)) => {
            context.hooks.put(path.clone(), hook);
            Ok(path)
        }
        Err(refusal) => {
            context.hooks.remove(&key);
            Err(refusal)
        }
    };
    write(&object, &outcome, &context).await?;
    let interval = object.spec.interval.as_deref().unwrap_or("10m");
    let interval = duration::parse(interval)
        .unwrap_or(Duration::from_mins(10))
        .max(Duration::from_secs(10));
    let delay = match &outcome {
        Err(refusal) if refusal.until == Until::Changed => return Ok(Action::await_change()),
        Err(_) => interval.min(Duration::from_secs(30)),
        Ok(_) => interval,
    };
    Ok(Action::requeue(backoff::jitter(
        delay,
        context.jitter,
        rand::random(),
    )))
}

async fn hook(object: &Receiver, context: &Context) -> Result<(String, Hook), Refusal> {
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    let (proof, targets) = check(&object.spec, &namespace, context.cross_namespace)?;
    let token = token(&context.client, &namespace, &object.spec.secret_ref.name).await?;
    let path = hooks::path(&token, &name, &namespace);
    let hook = Hook {
        key: (namespace, name),
        regarding: object.object_ref(&()),
        proof,
        token: Token(token),
        events: object.spec.events.clone(),
        targets,
        suspended: object.spec.suspend == Some(true),
        pace: Pace::new(APART),
        complaints: Pace::new(COMPLAINTS),
    };
    Ok((path, hook))
}

/// Pure: what a spec asks for, as far as it is served.
fn check(
    spec: &ReceiverSpec,
    namespace: &str,
    cross_namespace: CrossNamespace,
) -> Result<(Proof, Vec<Target>), Refusal> {
    let refuse = |reason, message: String| Refusal {
        reason,
        message,
        until: Until::Changed,
    };
    let proof = Proof::of(&spec.kind).ok_or_else(|| {
        refuse(
            "UnsupportedField",
            format!(
                "spec.type {:?} is not served: use github (also for Gitea and Forgejo), gitlab, bitbucket, generic-hmac or generic",
                spec.kind
            ),
        )
    })?;
    if spec.resource_filter.is_some() {
        let message = "spec.resourceFilter is not served: name the resources, or choose them by matchLabels";
        return Err(refuse("UnsupportedField", message.to_owned()));
    }
    if !spec.events.is_empty() && !proof.names_events() {
        tracing::debug!(
            kind = spec.kind,
            "requests of this type do not say what has happened: spec.events is not looked at"
        );
    }
    if let Some(Err(error)) = spec.interval.as_deref().map(duration::parse) {
        return Err(refuse("InvalidField", format!("spec.interval: {error}")));
    }
    let targets = spec
        .resources
        .iter()
        .map(|resource| target(resource, namespace, cross_namespace));
    Ok((
        proof,
        targets
            .collect::<Result<_, _>>()
            .map_err(|(reason, message)| refuse(reason, message))?,
    ))
}

fn target(
    resource: &ReceiverResource,
    namespace: &str,
    cross_namespace: CrossNamespace,
) -> Result<Target, (&'static str, String)> {
    let kind = match resource.kind.as_str() {
        "GitRepository" => Kind::GitRepository,
        "Kustomization" => Kind::Kustomization,
        other => {
            let message = format!(
                "spec.resources: kind {other:?} is not served: name GitRepositories or Kustomizations"
            );
            return Err(("UnsupportedField", message));
        }
    };
    let of = resource
        .namespace
        .clone()
        .filter(|of| !of.is_empty())
        .unwrap_or_else(|| namespace.to_owned());
    if of != namespace && cross_namespace == CrossNamespace::Refused {
        let message = format!(
            "spec.resources: {} {of}/{} is in another namespace, which is not allowed (--no-cross-namespace-refs=false \
             allows it)",
            resource.kind, resource.name
        );
        return Err(("AccessDenied", message));
    }
    let select = match (resource.name.as_str(), resource.match_labels.is_empty()) {
        ("*", true) => {
            let message = "spec.resources: the name '*' needs matchLabels".to_owned();
            return Err(("InvalidField", message));
        }
        ("*", false) => Select::Labels(resource.match_labels.clone()),
        (name, _) => Select::Name(name.to_owned()),
    };
    Ok(Target {
        kind,
        namespace: of,
        select,
    })
}

async fn token(client: &Client, namespace: &str, name: &str) -> Result<Zeroizing<Vec<u8>>, Refusal> {
    let refuse = |message: String| Refusal {
        reason: "TokenNotFound",
        message,
        until: Until::LookedAt,
    };
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let secret = match tokio::time::timeout(TIMEOUT, secrets.get_opt(name)).await {
        Ok(Ok(Some(secret))) => secret,
        Ok(Ok(None)) => {
            return Err(refuse(format!(
                "the Secret {name:?} of spec.secretRef does not exist: create it with an entry 'token'"
            )));
        }
        Ok(Err(error)) => {
            return Err(refuse(format!(
                "the Secret {name:?} of spec.secretRef cannot be read: {error}"
            )));
        }
        Err(_) => {
            return Err(refuse(format!(
                "the Secret {name:?} of spec.secretRef cannot be read: {}",
                Error::Timeout
            )));
        }
    };
    let token = secret
        .data
        .unwrap_or_default()
        .remove("token")
        .map(|token| token.0)
        .unwrap_or_default();
    if token.is_empty() {
        return Err(refuse(format!(
            "the Secret {name:?} of spec.secretRef has no entry 'token'"
        )));
    }
    Ok(Zeroizing::new(token))
}

async fn write(object: &Receiver, outcome: &Result<String, Refusal>, context: &Context) -> Result<(), Error> {
    if !*context.leading.borrow() {
        return Ok(());
    }
    let old = object.status.clone().unwrap_or_default();
    let generation = object.metadata.generation.unwrap_or_default();
    let requested = object.annotations().get(REQUESTED_AT).map(String::as_str);
    let new = status::after(&old, outcome, generation, requested, Timestamp::now());
    let Some(patch) = patch(&old, &new)? else {
        return Ok(());
    };
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    let api: Api<Receiver> = Api::namespaced(context.client.clone(), &namespace);
    let params = PatchParams {
        field_manager: Some(MANAGER.into()),
        ..PatchParams::default()
    };
    let patch = Patch::Merge(&patch);
    let write = api.patch_status(&name, &params, &patch);
    match tokio::time::timeout(TIMEOUT, write).await {
        Ok(Ok(_)) => Ok(()),
        // Deleted meanwhile.
        Ok(Err(kube::Error::Api(status))) if status.code == 404 => Ok(()),
        Ok(Err(error)) => Err(Error::Status(format!("{namespace}/{name}"), error)),
        Err(_) => Err(Error::Timeout),
    }
}

#[cfg(test)]
#[path = "controller_tests.rs"]
mod tests;
