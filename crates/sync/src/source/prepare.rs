//! What a look at a repository needs of the cluster, and the look itself, away from the threads that serve.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use k8s_openapi::jiff::Timestamp;
use kube::{ResourceExt as _, runtime::reflector::ObjectRef};

use super::{
    Artifact, SourceKey,
    controller::{Context, Error, Memory},
    error::FetchError,
    fetch::{Fetched, Included, Look},
    rewind::{Base, Guard},
    settings,
    verify::Span,
};
use crate::api::{self, GitRepository, GitRepositoryInclude, GitRepositoryStatus};

/// What is wanted of a look.
pub(super) struct Wish<'a> {
    /// What the server said before this is too old.
    pub(super) since: Instant,
    /// The status as it is.
    pub(super) status: &'a GitRepositoryStatus,
    /// The annotations of ours.
    pub(super) notes: &'a BTreeMap<String, String>,
}

/// Looks.
pub(super) async fn look(
    object: &GitRepository,
    key: &SourceKey,
    memory: &mut Memory,
    wish: &Wish<'_>,
    context: &Context,
) -> Result<Result<Fetched, FetchError>, Error> {
    if let Err(error) = settings::refuse(&object.spec) {
        return Ok(Err(error));
    }
    let look = match prepare(object, key, memory, wish, context).await {
        Ok(look) => look,
        Err(error) => return Ok(Err(error)),
    };
    let known = context.sources.find(key).and_then(|state| state.artifact);
    let since = wish.since;
    let metrics = context.metrics.clone();
    Ok(tokio::task::spawn_blocking(move || {
        let fetched = look.fetch(known, since);
        metrics.poll(match &fetched {
            Ok(fetched) if fetched.listed < since => "shared",
            Ok(fetched) if fetched.shared => "shared",
            Ok(_) => "asked",
            Err(_) => "failed",
        });
        fetched
    })
    .await?)
}

/// Fetches a source once, for the command line, and publishes it. The error is what its Ready condition would say.
pub async fn fetch_once(object: &GitRepository, context: &Context) -> Result<Arc<Artifact>, String> {
    let key = (object.namespace().unwrap_or_default(), object.name_any());
    let status = object.status.clone().unwrap_or_default();
    let wish = Wish {
        since: Instant::now(),
        status: &status,
        notes: object.annotations(),
    };
    let fetched = look(object, &key, &mut Memory::default(), &wish, context).await;
    let Fetched { artifact, .. } = fetched
        .map_err(|error| error.to_string())?
        .map_err(|error| error.to_string())?;
    context.sources.publish(&key, Arc::clone(&artifact));
    Ok(artifact)
}

async fn prepare(
    object: &GitRepository,
    key: &SourceKey,
    memory: &mut Memory,
    wish: &Wish<'_>,
    context: &Context,
) -> Result<Look, FetchError> {
    let span = Span::of(&object.spec, wish.notes)?;
    // Who is trusted is asked at every look: a key that was taken out must not count any longer.
    let settings = if let Some(settings) = &memory.settings
        && settings.verification.is_none()
    {
        settings.clone()
    } else {
        let reach = settings::Reach {
            file_urls: context.file_urls,
            policy: &context.policy,
        };
        let settings = settings::read(&context.client, &key.0, &object.spec, span, reach).await?;
        memory.settings.insert(settings).clone()
    };
    let mut includes = Vec::new();
    for include in &object.spec.include {
        let wanted = (key.0.clone(), include.repository.name.clone());
        let missing = |problem, reason| FetchError::Include {
            name: include.repository.name.clone(),
            problem,
            reason,
        };
        let state = context.sources.find(&wanted).ok_or_else(|| {
            missing(
                "does not exist in this namespace, or was not fetched yet",
                "NotFound",
            )
        })?;
        let artifact = state.artifact.ok_or_else(|| {
            missing(
                "has nothing that could be included: look at its status",
                "NoArtifact",
            )
        })?;
        includes.push(Included {
            include: include.clone(),
            key: wanted,
            artifact,
        });
    }
    Ok(Look {
        mirrors: context.mirrors.clone(),
        settings,
        file_urls: context.file_urls,
        key: key.clone(),
        spec: object.spec.clone(),
        includes,
        base: Base::of(wish.status.artifact.as_ref(), &object.spec.url),
        guard: Guard::of(wish.notes, context.rewinds)?,
        held: memory.held.clone(),
        now: Timestamp::now(),
    })
}

/// What the included sources have right now.
pub(super) fn include_digests(
    object: &GitRepository,
    key: &SourceKey,
    context: &Context,
) -> Vec<Option<String>> {
    let digest = |include: &GitRepositoryInclude| {
        let included = (key.0.clone(), include.repository.name.clone());
        Some(context.sources.find(&included)?.artifact?.digest.clone())
    };
    object.spec.include.iter().map(digest).collect()
}

/// What the status says of the included sources.
pub(super) fn included_artifacts(
    object: &GitRepository,
    key: &SourceKey,
    context: &Context,
) -> Vec<api::Artifact> {
    object
        .spec
        .include
        .iter()
        .filter_map(|include| {
            let included = (key.0.clone(), include.repository.name.clone());
            let artifact = context.sources.find(&included)?.artifact?;
            Some(artifact.described.clone())
        })
        .collect()
}

/// An earlier revision of a source with all else as it is now: from the mirror, or fetched by its commit where the mirror has
/// been made anew since. The error is for a condition.
pub async fn revisit(context: &Context, key: &SourceKey, revision: &str) -> Result<Arc<Artifact>, String> {
    let missing = || format!("GitRepository {}/{} does not exist", key.0, key.1);
    let store = context.store.get().ok_or_else(missing)?;
    let object = store
        .get(&ObjectRef::new(&key.1).within(&key.0))
        .ok_or_else(missing)?;
    let status = object.status.clone().unwrap_or_default();
    let wish = Wish {
        since: Instant::now(),
        status: &status,
        notes: object.annotations(),
    };
    let look = prepare(&object, key, &mut Memory::default(), &wish, context).await;
    let (look, revision) = (look.map_err(|error| error.to_string())?, revision.to_owned());
    let found = tokio::task::spawn_blocking(move || look.revisit(&revision)).await;
    let found = found.map_err(|error| error.to_string())?;
    found.map(Arc::new).map_err(|error| error.to_string())
}

/// After a restart: what the status names is used at once, if it is still on disk.
pub(super) async fn recall(
    object: &GitRepository,
    key: &SourceKey,
    status: &GitRepositoryStatus,
    context: &Context,
) -> Result<(), Error> {
    let Some(described) = status.artifact.clone() else {
        return Ok(());
    };
    let notes = object.annotations();
    let wish = Wish {
        since: Instant::now(),
        status,
        notes,
    };
    let Ok(look) = prepare(object, key, &mut Memory::default(), &wish, context).await else {
        return Ok(());
    };
    let recalled = tokio::task::spawn_blocking(move || look.recall(&described)).await?;
    if let Ok(Some(artifact)) = recalled {
        context.sources.recall(key, Arc::clone(&artifact));
    }
    Ok(())
}
