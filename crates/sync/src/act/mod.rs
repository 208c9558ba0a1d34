//! The writes of a Kustomization's plan: server-side applies, concurrent within a stage, then deletions.

mod write;

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use futures::{StreamExt as _, stream};
use kube::Client;
use plumbline_common::backoff::Backoff;
use tokio::sync::Semaphore;

use self::write::write;
use crate::{
    atomic,
    bodies::Bodies,
    cluster::{
        fields::Writer,
        live::{Live, Need, Owner},
        requests::{self, RequestError},
        watch::Watches,
    },
    decide::{Candidate, Plan},
    force,
    ignored::Rules,
    manifest::{Desired, Overlay, finish, stamp},
    object::ObjectId,
    observe::{Observation, Placed},
    order::STAGES,
    wait::Awaited,
};

/// Failures to reach the API server in a row after which an apply gives up.
const UNREACHABLE: u32 = 8;
/// Delays after failures that may pass by themselves.
const SOON: Backoff = Backoff {
    base: Duration::from_secs(1),
    max: Duration::from_mins(5),
};

/// What writing needs.
pub struct Tools<'a> {
    /// The Kubernetes API, as the Kustomization's identity.
    pub client: &'a Client,
    /// Requests in flight, over all Kustomizations.
    pub in_flight: &'a Semaphore,
    /// Requests in flight of one Kustomization.
    pub concurrency: usize,
    /// What is known of objects.
    pub live: &'a Live,
    /// Watches on their kinds.
    pub watches: &'a Watches,
    /// Field managers to take over beside the usual ones.
    pub override_managers: &'a [String],
    /// The Kustomization.
    pub owner: &'a Owner,
    /// Its labels and annotations.
    pub overlay: &'a Overlay,
    /// `spec.force`.
    pub force: bool,
    /// The objects that are waited for: what the API server answers is judged at once.
    pub awaited: Option<&'a Awaited>,
    /// `spec.ignore`.
    pub ignored: &'a Rules,
    /// `spec.retryInterval`: when a refused object is tried again.
    pub retry: Duration,
    /// No apply begins after this.
    pub deadline: Instant,
    /// What is applied, as the status prints it.
    pub revision: &'a str,
}

/// What became of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It was made.
    Created,
    /// It was changed to what Git has.
    Configured,
    /// It was there before and is ours now.
    Adopted,
    /// Drift was corrected.
    Corrected(Box<Correction>),
    /// It was deleted behind our back and made again.
    Recreated,
    /// An immutable field changed: it was deleted and made anew, because that was asked for. What the API server had said.
    Replaced(String),
    /// The API server had it already just so.
    Unchanged,
    /// An earlier process applied it, and it shows that nothing happened since: no request was made.
    Resumed,
}

/// What was put right.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Correction {
    /// Who had changed it, most likely.
    pub writer: Option<Writer>,
    /// The fields that are ours again.
    pub fields: Vec<String>,
}

/// What was done.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Objects that were applied.
    pub applied: BTreeMap<ObjectId, Change>,
    /// Objects that could not be applied, by index of candidate.
    pub failed: Vec<(usize, RequestError)>,
    /// Objects that were not tried: the API server is away, or the time is up.
    pub untried: usize,
}

/// Applies the plan's objects.
pub async fn apply(
    tools: &Tools<'_>,
    plan: &Plan,
    seen: &Observation,
    desired: &Desired,
    bodies: &Bodies,
) -> Outcome {
    let mut outcome = Outcome::default();
    let mut missing_namespaces: HashSet<String> = HashSet::new();
    let unreachable = AtomicU32::new(0);
    for stage in STAGES {
        let due: Vec<usize> = plan
            .apply
            .iter()
            .filter(|(of, _)| *of == stage)
            .map(|(_, index)| *index)
            .collect();
        let mut results = stream::iter(due)
            .map(|index| {
                let (missing, unreachable) = (&missing_namespaces, &unreachable);
                async move {
                    (
                        index,
                        one(tools, index, seen, desired, bodies, missing, unreachable).await,
                    )
                }
            })
            .buffer_unordered(tools.concurrency);
        let mut failed = Vec::new();
        while let Some((index, result)) = results.next().await {
            match result {
                Some(Ok(Change::Resumed)) => {}
                Some(Ok(change)) => drop(outcome.applied.insert(seen.candidates[index].id.clone(), change)),
                Some(Err(error)) => failed.push((index, error)),
                None => outcome.untried += 1,
            }
        }
        drop(results);
        for (index, _) in &failed {
            let id = &seen.candidates[*index].id;
            if id.kind == "Namespace" && id.group.is_empty() {
                missing_namespaces.insert(id.name.clone());
            }
        }
        outcome.failed.extend(failed);
    }
    outcome.failed.sort_by_key(|(index, _)| *index);
    outcome
}

/// Asks the API server about each object of a plan that is new, as if it were applied. What it refuses is remembered like
/// a failure to apply it.
pub async fn rehearse(
    tools: &Tools<'_>,
    plan: &Plan,
    seen: &Observation,
    desired: &Desired,
    bodies: &Bodies,
) -> Vec<(usize, RequestError)> {
    let namespaces = &atomic::namespaces(plan, seen);
    let mut results = stream::iter(atomic::news(plan, seen))
        .map(|index| async move {
            let error = rehearse_one(tools, index, seen, desired, bodies).await.err()?;
            let (candidate, placed) = (&seen.candidates[index], &seen.placed[index]);
            if matches!(error, RequestError::NamespaceMissing(_))
                && namespaces.contains(&candidate.id.namespace)
            {
                return None;
            }
            Some((
                index,
                note_failure(tools, candidate, placed, hidden(desired, error)),
            ))
        })
        .buffer_unordered(tools.concurrency);
    let mut refused = Vec::new();
    while let Some(result) = results.next().await {
        refused.extend(result);
    }
    refused.sort_by_key(|(index, _)| *index);
    refused
}

async fn rehearse_one(
    tools: &Tools<'_>,
    index: usize,
    seen: &Observation,
    desired: &Desired,
    bodies: &Bodies,
) -> Result<(), RequestError> {
    let (id, kind) = (&seen.candidates[index].id, seen.placed[index].kind.as_ref());
    let Some(wanted) = desired.objects.get(seen.placed[index].index) else {
        return Ok(());
    };
    // `Err`: the semaphore is never closed.
    let _permit = tools.in_flight.acquire().await;
    let body = bodies.get(&wanted.origin).await;
    let body = body.map_err(|message| RequestError::Refused { code: 0, message })?;
    let body = finish(body, &id.namespace, tools.overlay);
    match requests::rehearse(tools.client, kind, id, &body).await {
        Err(refused) if force::is_immutable(&refused) => {
            force::prove(tools, kind, id, wanted, &body, refused)
                .await
                .map(drop)
        }
        rehearsed => rehearsed,
    }
}

async fn one(
    tools: &Tools<'_>,
    index: usize,
    seen: &Observation,
    desired: &Desired,
    bodies: &Bodies,
    missing_namespaces: &HashSet<String>,
    unreachable: &AtomicU32,
) -> Option<Result<Change, RequestError>> {
    let (candidate, placed) = (&seen.candidates[index], &seen.placed[index]);
    let wanted = desired.objects.get(placed.index)?;
    if missing_namespaces.contains(&candidate.id.namespace) {
        let message = format!(
            "waits for the Namespace {:?}, which could not be applied",
            candidate.id.namespace
        );
        return Some(Err(note_failure(
            tools,
            candidate,
            placed,
            RequestError::NamespaceMissing(message),
        )));
    }
    // `Err`: the semaphore is never closed.
    let permit = tools.in_flight.acquire().await.ok()?;
    if unreachable.load(Ordering::Relaxed) >= UNREACHABLE || Instant::now() > tools.deadline {
        return None;
    }
    let result = match bodies.get(&wanted.origin).await {
        Ok(body) => {
            let mut body = finish(body, &candidate.id.namespace, tools.overlay);
            let known = tools.live.brought_by(&candidate.id, &placed.content);
            stamp(
                &mut body,
                known.as_deref().unwrap_or(tools.revision),
                &placed.content,
            );
            write(tools, candidate, placed, wanted, &body).await
        }
        Err(message) => Err(RequestError::Refused { code: 0, message }),
    };
    drop(permit);
    match result.map_err(|error| hidden(desired, error)) {
        Ok(Change::Replaced(why)) => Some(Ok(Change::Replaced(said(desired, &why)))),
        Ok(change) => {
            unreachable.store(0, Ordering::Relaxed);
            Some(Ok(change))
        }
        Err(error) => {
            if matches!(error, RequestError::Unavailable(_)) {
                unreachable.fetch_add(1, Ordering::Relaxed);
            } else {
                unreachable.store(0, Ordering::Relaxed);
            }
            Some(Err(note_failure(tools, candidate, placed, error)))
        }
    }
}

/// The API server quotes what it refuses: values that were put in from Secrets are left out.
fn hidden(desired: &Desired, error: RequestError) -> RequestError {
    error.reworded(|message| said(desired, message))
}

fn said(desired: &Desired, message: &str) -> String {
    match &desired.variables {
        Some(variables) => variables.hide(message),
        None => message.to_owned(),
    }
}

fn note_failure(
    tools: &Tools<'_>,
    candidate: &Candidate,
    placed: &Placed,
    error: RequestError,
) -> RequestError {
    let retry = tools.retry;
    tools.live.failed(
        &candidate.id,
        placed.content,
        error.to_string(),
        Instant::now(),
        |failures| match error {
            RequestError::Refused { .. } => retry,
            _ => SOON.delay(failures).min(retry),
        },
    );
    error
}

/// Kinds of which an object could not be applied. Objects of these kinds are not deleted: what looks removed may have
/// been renamed, and its successor is not there.
pub fn troubled_kinds(
    outcome: &Outcome,
    seen: &Observation,
    desired: &Desired,
) -> BTreeSet<(String, String)> {
    let failed = outcome
        .failed
        .iter()
        .map(|(index, _)| &seen.candidates[*index].id);
    let failed = failed.map(|id| (id.group.clone(), id.kind.clone()));
    let standing = seen
        .candidates
        .iter()
        .filter(|c| matches!(c.need, Need::Failed(..)));
    let standing = standing.map(|c| (c.id.group.clone(), c.id.kind.clone()));
    let parked = seen.parked.iter().filter_map(|index| desired.objects.get(*index));
    let parked = parked.map(|object| (object.id.group.clone(), object.id.kind.clone()));
    failed.chain(standing).chain(parked).collect()
}
