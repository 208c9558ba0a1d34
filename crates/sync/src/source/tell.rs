//! Events and the status of a GitRepository.

use std::{collections::BTreeMap, time::Duration};

use kube::{
    Api, ResourceExt as _,
    api::{Patch, PatchParams},
    core::Resource as _,
};
use plumbline_common::{conditions, events};

use super::{
    SourceKey,
    controller::{Context, Error},
    error::FetchError,
    fetch::Fetched,
};
use crate::{
    api::{GitRepository, GitRepositoryStatus},
    cluster::fields::MANAGER,
    status,
};

/// Bound on writing a status.
const STATUS_TIMEOUT: Duration = Duration::from_secs(30);
/// Where Flux's events say what they are about.
const REVISION: &str = "source.toolkit.fluxcd.io/revision";
const DIGEST: &str = "source.toolkit.fluxcd.io/digest";

/// Tells what a look came to, if that is news.
pub(super) fn outcome(
    object: &GitRepository,
    old: &GitRepositoryStatus,
    outcome: &Result<Fetched, FetchError>,
    context: &Context,
) {
    let name = object.name_any();
    let ready = conditions::find(&old.conditions, "Ready");
    let artifact = match outcome {
        Ok(fetched) => &fetched.artifact,
        Err(error) => {
            let message = error.to_string();
            let known = ready.is_some_and(|ready| ready.message == message);
            // What waits for a human is told once; what may pass is counted by the event.
            if !(known && error.waits_for_someone()) {
                tracing::warn!(name, error = message, "the source cannot be fetched");
                record(
                    object,
                    events::Kind::Warning,
                    error.reason(),
                    message,
                    BTreeMap::new(),
                    context,
                );
            }
            return;
        }
    };
    let about = BTreeMap::from([
        (REVISION.to_owned(), artifact.revision.clone()),
        (DIGEST.to_owned(), artifact.digest.clone()),
    ]);
    let is_new = old
        .artifact
        .as_ref()
        .is_none_or(|old| old.revision != artifact.revision);
    if is_new {
        let info = artifact.snapshot.info();
        let subject = info.map(|info| info.subject).unwrap_or_default();
        let revision = artifact.revision.as_str();
        tracing::info!(name, revision, "new revision");
        let message = format!("stored artifact for commit '{subject}' ({revision})");
        record(
            object,
            events::Kind::Normal,
            "NewArtifact",
            message,
            about,
            context,
        );
    } else if ready.is_some_and(|ready| ready.status == "False") {
        tracing::info!(name, "the source can be fetched again");
        let message = format!("stored artifact for revision '{}'", artifact.revision);
        record(object, events::Kind::Normal, "Succeeded", message, about, context);
    }
}

/// Tells something in order.
pub(super) fn note(object: &GitRepository, reason: &str, message: String, context: &Context) {
    record(
        object,
        events::Kind::Normal,
        reason,
        message,
        BTreeMap::new(),
        context,
    );
}

fn record(
    object: &GitRepository,
    kind: events::Kind,
    reason: &str,
    message: String,
    annotations: BTreeMap<String, String>,
    context: &Context,
) {
    context.recorder.record(events::Note {
        regarding: object.object_ref(&()),
        kind,
        reason: reason.to_owned(),
        message,
        annotations,
    });
}

/// Writes what changed of a status, and lets Kustomizations know why there is nothing newer.
pub(super) async fn write(
    object: &GitRepository,
    key: &SourceKey,
    old: &GitRepositoryStatus,
    new: &GitRepositoryStatus,
    context: &Context,
) -> Result<(), Error> {
    if let Some(condition) = conditions::find(&new.conditions, "Ready").filter(|c| c.status != "True") {
        context.sources.fail(key, condition.message.clone());
    }
    let Some(patch) = status::patch(old, new)? else {
        return Ok(());
    };
    let api: Api<GitRepository> = Api::namespaced(context.client.clone(), &key.0);
    let params = PatchParams {
        field_manager: Some(MANAGER.into()),
        ..PatchParams::default()
    };
    let name = object.name_any();
    match tokio::time::timeout(
        STATUS_TIMEOUT,
        api.patch_status(&name, &params, &Patch::Merge(&patch)),
    )
    .await
    {
        Ok(Ok(_)) => Ok(()),
        // Deleted meanwhile.
        Ok(Err(kube::Error::Api(status))) if status.code == 404 => Ok(()),
        Ok(Err(error)) => Err(Error::Status(format!("{}/{name}", key.0), error)),
        Err(_) => Err(Error::Timeout),
    }
}
