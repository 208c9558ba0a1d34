//! What is done about objects that somebody changed or deleted behind our back: `plumbline.dev/drift` on a Kustomization.
//!
//! `Correct` (the default) applies Git again, which is the ordinary way. `Report` says what differs and leaves it; `Ignore`
//! leaves it. Either is about what others do: what Git changes is applied, and then whole. After a restart nothing is known
//! of how an object was left, so one of a revision that was applied before counts as left, not as new.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Instant,
};

use futures::{StreamExt as _, stream};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt as _;
use plumbline_common::{
    conditions::{self, Wanted},
    events,
};

use crate::{
    api::DRIFT,
    bodies::Bodies,
    cluster::{
        live::{Need, Trace},
        paths, requests,
    },
    context::{Error, Memory},
    inventory::Inventory,
    manifest::{Desired, Overlay, finish, stamp},
    metrics,
    object::ObjectId,
    observe::Observation,
    reconcile::Step,
    report::About,
    source::Artifact,
};

/// The condition that tells of it.
const DRIFTED: &str = "Drifted";
/// Objects that are written out in a condition or an event; more are counted.
const WRITTEN_OUT: usize = 20;

/// What is done about drift.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Git is applied again.
    Correct,
    /// It is told and left.
    Report,
    /// It is left.
    Ignore,
}

impl Mode {
    /// As the annotation says.
    pub fn of(annotations: &BTreeMap<String, String>) -> Result<Self, String> {
        let mode = annotations
            .get(DRIFT)
            .map(|text| text.trim().to_ascii_lowercase());
        match mode.as_deref() {
            None | Some("" | "correct") => Ok(Self::Correct),
            Some("report") => Ok(Self::Report),
            Some("ignore") => Ok(Self::Ignore),
            Some(other) => Err(format!(
                "the annotation {DRIFT}: {other:?} is none of Correct, Report and Ignore"
            )),
        }
    }
}

/// An object that differs from Git and is left so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// How it was when it was looked at; `None` when it is not there.
    trace: Option<Trace>,
    /// What differs, and by whom.
    message: String,
}

/// What is known before it is decided what to do.
pub(crate) struct Found<'a> {
    pub(crate) desired: &'a Desired,
    pub(crate) overlay: &'a Overlay,
    pub(crate) artifact: &'a Arc<Artifact>,
    pub(crate) inventory: &'a Inventory,
    /// Whether this very revision was applied before.
    pub(crate) is_old_revision: bool,
}

impl Step<'_> {
    /// Takes out of `seen` what is not to be corrected; returns what differs, in words.
    pub(crate) async fn leave_drift(
        &self,
        memory: &mut Memory,
        seen: &mut Observation,
        found: &Found<'_>,
    ) -> Result<Vec<String>, Error> {
        let mode = Mode::of(self.object.annotations()).unwrap_or(Mode::Correct);
        let (name, namespace) = (&self.owner.name, &self.owner.namespace);
        if mode == Mode::Correct {
            memory.left.clear();
            self.context.metrics.drifted(name, namespace, 0);
            return Ok(Vec::new());
        }
        self.watch_unknown(seen, found).await;
        let left: Vec<usize> = (0..seen.candidates.len())
            .filter(|index| is_left(seen, *index, found))
            .collect();
        if mode == Mode::Ignore {
            memory.left.clear();
            self.context.metrics.drifted(name, namespace, 0);
            for index in left {
                seen.candidates[index].need = Need::Left;
            }
            return Ok(Vec::new());
        }
        let now = self.compare(memory, seen, &left, found).await?;
        let news: Vec<&String> = now
            .iter()
            .filter(|(id, left)| {
                memory
                    .left
                    .get(*id)
                    .is_none_or(|known| known.message != left.message)
            })
            .map(|(_, left)| &left.message)
            .collect();
        if !news.is_empty() {
            self.context
                .metrics
                .drift(name, namespace, metrics::Drift::Reported, news.len() as u64);
            let message = lines(&news);
            tracing::info!(name, namespace, drift = message, "drift is left");
            let revision = &found.artifact.revision;
            self.context.tell(
                self.object,
                events::Kind::Warning,
                "DriftDetected",
                message,
                revision,
            );
        }
        memory.left = now;
        self.context.metrics.drifted(name, namespace, memory.left.len());
        Ok(memory.left.values().map(|left| left.message.clone()).collect())
    }

    /// Objects are only left where it is known what there is: the watches on their kinds have to run.
    async fn watch_unknown(&self, seen: &Observation, found: &Found<'_>) {
        let mut kinds = HashSet::new();
        let mut waits = Vec::new();
        for (candidate, placed) in seen.candidates.iter().zip(&seen.placed) {
            let unknown = candidate.need == Need::First && found.inventory.contains_key(&candidate.id);
            let resource = &placed.kind.resource;
            if found.is_old_revision && unknown && kinds.insert((&resource.group, &resource.kind)) {
                waits.push(self.cluster.watches.ensure(&placed.kind));
            }
        }
        drop(futures::future::join_all(waits).await);
    }

    /// Finds out what differs of the objects that are left, and asks only where something changed since the last time.
    async fn compare(
        &self,
        memory: &Memory,
        seen: &mut Observation,
        left: &[usize],
        found: &Found<'_>,
    ) -> Result<BTreeMap<ObjectId, Left>, Error> {
        let (context, cluster) = (self.context, &self.cluster);
        let client = self.client()?;
        let bodies = Bodies::new(found.artifact.snapshot.clone(), found.desired);
        let (observed, bodies, client) = (&*seen, &bodies, &client);
        let results: Vec<(usize, Option<Left>)> = stream::iter(left.to_vec())
            .map(|index| async move {
                let id = &observed.candidates[index].id;
                let trace = cluster.live.trace(id);
                let known = memory.left.get(id).filter(|known| known.trace == trace);
                if let Some(known) = known {
                    return (index, Some(known.clone()));
                }
                // `Err`: the semaphore is never closed.
                let _permit = cluster.in_flight.acquire().await.ok();
                let differs = self.differs(client, observed, index, found, bodies).await;
                (index, differs.map(|message| Left { trace, message }))
            })
            .buffer_unordered(context.settings.concurrency)
            .collect()
            .await;
        let mut now = BTreeMap::new();
        for (index, left) in results {
            let candidate = &mut seen.candidates[index];
            if let Some(left) = left {
                let applied = seen.placed[index].content;
                cluster.live.mistrust(&candidate.id, applied, Instant::now());
                now.insert(candidate.id.clone(), left);
                candidate.need = Need::Left;
            } else {
                let applied = seen.placed[index].content;
                cluster.live.accept(&candidate.id, applied, Instant::now());
                candidate.need = Need::Nothing;
            }
        }
        Ok(now)
    }

    /// What differs from Git; `None` when nothing does.
    async fn differs(
        &self,
        client: &kube::Client,
        seen: &Observation,
        index: usize,
        found: &Found<'_>,
        bodies: &Bodies,
    ) -> Option<String> {
        let (id, placed) = (&seen.candidates[index].id, &seen.placed[index]);
        let origin = &found.desired.objects.get(placed.index)?.origin;
        let unknown = |error: String| Some(format!("{id} cannot be compared with Git: {error}"));
        let mut body = match bodies.get(origin).await {
            Ok(body) => finish(body, &id.namespace, found.overlay),
            Err(error) => return unknown(error),
        };
        let live = &self.cluster.live;
        let revision = live.brought_by(id, &placed.content);
        let revision = revision.as_deref().unwrap_or(&found.artifact.revision);
        stamp(&mut body, revision, &placed.content);
        // What an earlier process left just so need not be asked for.
        if seen.candidates[index].need == Need::First
            && live.resume(id, self.owner, placed.content, &body, Instant::now())
        {
            return None;
        }
        let there = match requests::read_object(client, &placed.kind, id).await {
            Ok(Some(there)) => there,
            Ok(None) => return Some(format!("{id} was deleted")),
            Err(error) => return unknown(error.to_string()),
        };
        let wanted = match requests::dry_run(client, &placed.kind, id, &body).await {
            Ok(wanted) => wanted,
            Err(error) => return unknown(error.to_string()),
        };
        let fields = paths::different(&there, &wanted);
        if fields.is_empty() {
            return None;
        }
        let mut message = format!("{id} differs from Git in {}", fields.join(", "));
        if let Some(writer) = live.writer(id) {
            message = format!("{message}; last changed by {writer}");
        }
        Some(message)
    }
}

/// Whether what an object needs is only to be corrected.
fn is_left(seen: &Observation, index: usize, found: &Found<'_>) -> bool {
    let candidate = &seen.candidates[index];
    match candidate.need {
        Need::Drifted(_) | Need::Missing => true,
        // Not yet applied by this process, and applied before it: nobody knows whether it is as it was left.
        Need::First => found.is_old_revision && found.inventory.contains_key(&candidate.id),
        _ => false,
    }
}

fn lines(messages: &[&String]) -> String {
    let mut lines: Vec<String> = messages
        .iter()
        .take(WRITTEN_OUT)
        .map(|line| (*line).clone())
        .collect();
    if messages.len() > WRITTEN_OUT {
        lines.push(format!("… and {} more", messages.len() - WRITTEN_OUT));
    }
    lines.join("\n")
}

/// Makes the conditions say what is left.
pub(crate) fn mark(conditions: &mut Vec<Condition>, left: &[String], about: About<'_>) {
    if left.is_empty() {
        conditions::remove(conditions, DRIFTED);
        return;
    }
    let messages: Vec<&String> = left.iter().collect();
    let message = lines(&messages);
    let wanted = Wanted {
        type_: DRIFTED,
        status: "True",
        reason: "DriftDetected",
        message: &message,
    };
    conditions::set(conditions, &wanted, about.generation, about.now);
}
