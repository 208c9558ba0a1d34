//! Waiting until objects are healthy. Nothing sits and waits: a look reads what changed since the last one, and the watches
//! bring the next one about.

mod awaited;

use std::{
    fmt::Write as _,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{StreamExt as _, stream};
use plumbline_common::conditions;

pub use self::awaited::Awaited;
use self::awaited::{Known, Which};
use crate::{
    api::{CustomHealthCheck, KustomizationSpec, KustomizationStatus},
    cluster::{kinds::Kind, live::Need, requests},
    context::{Error, Memory},
    controller,
    health::{Checks, Health},
    manifest::{ApplyPolicy, Desired},
    object::{Gvk, Identity, ObjectId},
    observe::Observation,
    reconcile::{GO_ON, IN_A_MOMENT, Step},
};

/// Objects that are named when they are not healthy; more are counted.
const NAMED: usize = 10;
/// An object that is not watched, because it is not ours, is read again after a fourth of the time it was waited for,
/// within these bounds.
const POLL: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(15));

/// What is remembered between looks.
#[derive(Debug)]
pub struct Waiting {
    /// What is waited for: a revision, a generation, a request.
    about: (String, i64, Option<String>),
    /// Since when, if it is not healthy.
    since: Option<Instant>,
    /// By what expressions objects were judged.
    checks: Vec<CustomHealthCheck>,
    known: Known,
}

/// How it stands with the objects that are waited for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// Nobody asked.
    #[default]
    NotAsked,
    /// Not everything is applied: there is no point in asking yet.
    Unchecked,
    /// All are healthy.
    Healthy,
    /// A CEL expression is no condition for what it was applied to: which, and what is wrong.
    Invalid(String),
    /// Some are on their way.
    Waiting {
        /// `spec.timeout`.
        timeout: Duration,
        /// When to look again if nothing happens.
        next: Duration,
    },
    /// One has failed, or the time is up: which, and what they say.
    Failed {
        /// For the condition.
        message: String,
        /// When to look again if nothing happens.
        next: Option<Duration>,
    },
}

impl Standing {
    /// Whether what Git no longer wants may go: what takes its place is there.
    pub fn allows_pruning(&self) -> bool {
        matches!(self, Self::NotAsked | Self::Healthy)
    }

    /// When to look again if nothing happens.
    pub fn next(&self) -> Option<Duration> {
        match self {
            Self::Waiting { next, .. } => Some(*next),
            Self::Failed { next, .. } => *next,
            _ => None,
        }
    }
}

/// Whether objects are waited for.
pub fn is_asked(spec: &KustomizationSpec) -> bool {
    spec.wait == Some(true) || !spec.health_checks.is_empty()
}

struct Target {
    id: ObjectId,
    /// `None`: it is not served.
    kind: Option<Arc<Kind>>,
    /// Whether the watches see it.
    watched: bool,
}

impl Step<'_> {
    /// What is waited for; `None` when nothing is.
    pub(crate) fn awaited(&self) -> Option<Awaited> {
        let spec = &self.object.spec;
        if !is_asked(spec) {
            return None;
        }
        // What cannot be read was refused before anything was applied.
        let checks = Checks::parse(&spec.health_check_exprs).unwrap_or_default();
        let which = if spec.wait == Some(true) {
            Which::All
        } else {
            Which::These(self.named().into_iter().map(|target| target.id).collect())
        };
        Some(Awaited::new(which, checks, self.about.now))
    }

    /// How it stands with the objects that are waited for. `acted`: something has just been written.
    pub(crate) async fn standing(
        &self,
        memory: &mut Memory,
        seen: &Observation,
        desired: &Desired,
        revision: &str,
        (awaited, acted): (Awaited, bool),
    ) -> Result<Standing, Error> {
        let about = (
            revision.to_owned(),
            self.about.generation,
            self.about.requested.map(str::to_owned),
        );
        let mut waiting = match memory.waiting.take() {
            Some(waiting) if waiting.about == about => waiting,
            // What was read is still known: it counts by its resource version.
            old => Waiting {
                about,
                since: None,
                checks: self.object.spec.health_check_exprs.clone(),
                known: old
                    .filter(|old| old.checks == self.object.spec.health_check_exprs)
                    .map(|old| old.known)
                    .unwrap_or_default(),
            },
        };
        if acted {
            waiting.since = None;
        }
        let (checks, shown) = awaited.into_parts();
        waiting.known.extend(shown);
        let targets = self.targets(seen, desired, &checks);
        let invalid = self.read(&mut waiting, &targets, &checks).await?;
        let standing = match invalid {
            Some(message) => Standing::Invalid(message),
            None => self.judge(&mut waiting, &targets),
        };
        memory.waiting = Some(waiting);
        Ok(standing)
    }

    /// `spec.wait` means every object, and then `spec.healthChecks` is not looked at: Flux's rule.
    fn targets(&self, seen: &Observation, desired: &Desired, checks: &Checks) -> Vec<Target> {
        let spec = &self.object.spec;
        if spec.wait == Some(true) {
            let all = seen.candidates.iter().zip(&seen.placed);
            return all
                .filter(|(candidate, _)| awaited::has_health(checks, &candidate.id))
                // What was done and went is as well as it can be.
                .filter(|(candidate, placed)| {
                    let wanted = desired.objects.get(placed.index);
                    candidate.need != Need::Left || wanted.is_none_or(|wanted| !wanted.expires)
                })
                .map(|(candidate, placed)| Target {
                    id: candidate.id.clone(),
                    kind: Some(Arc::clone(&placed.kind)),
                    // What is only made when it is missing does not carry our labels when it was there.
                    watched: desired
                        .objects
                        .get(placed.index)
                        .is_some_and(|wanted| wanted.policy != ApplyPolicy::IfNotPresent),
                })
                .collect();
        }
        self.named()
    }

    /// The objects of `spec.healthChecks`.
    fn named(&self) -> Vec<Target> {
        let checks = self.object.spec.health_checks.iter().map(|check| {
            let api_version = check.api_version.as_deref().unwrap_or_default();
            let gvk = Gvk::parse(api_version, &check.kind);
            let kinds = &self.cluster.kinds;
            let kind = if gvk.version.is_empty() {
                kinds.find_any_version(gvk.group, gvk.kind)
            } else {
                kinds.find(gvk)
            };
            let namespaced = kind.as_ref().is_none_or(|kind| kind.namespaced);
            let namespace = check.namespace.clone().filter(|n| !n.is_empty());
            let id = ObjectId::from(Identity {
                namespace: if namespaced {
                    namespace.unwrap_or_else(|| self.owner.namespace.clone())
                } else {
                    String::new()
                },
                group: gvk.group.to_owned(),
                kind: check.kind.clone(),
                name: check.name.clone(),
            });
            Target {
                watched: self
                    .cluster
                    .live
                    .owner(&id)
                    .is_some_and(|owner| *owner == *self.owner),
                kind: kind.map(Arc::new),
                id,
            }
        });
        checks.collect()
    }

    /// Reads those that changed since they were last read. Says what is wrong with an expression, if anything is.
    async fn read(
        &self,
        waiting: &mut Waiting,
        targets: &[Target],
        checks: &Checks,
    ) -> Result<Option<String>, Error> {
        let live = &self.cluster.live;
        // First this, then a look at what is known: what happens in between brings us back.
        for target in targets {
            let known = waiting.known.get(&target.id);
            if known.is_some_and(|(_, health)| *health != Health::Current) {
                live.await_status(&target.id, true);
            }
        }
        let stale = targets.iter().filter_map(|target| {
            let kind = target.kind.as_ref()?;
            let known = waiting.known.get(&target.id);
            let fresh = target.watched
                && known.is_some_and(|(version, _)| live.version(&target.id).is_some_and(|v| v <= *version));
            (!fresh).then(|| (target.id.clone(), Arc::clone(kind)))
        });
        let stale: Vec<_> = stale.collect();
        let mut invalid = None;
        if stale.is_empty() {
            return Ok(invalid);
        }
        let client = self.client()?;
        let mut reads = stream::iter(stale)
            .map(|(id, kind)| {
                let client = &client;
                async move {
                    // Before it is read, so that what happens meanwhile brings us back.
                    live.await_status(&id, true);
                    // `Err`: the semaphore is never closed.
                    let _permit = self.cluster.in_flight.acquire().await;
                    let read = requests::read_object(client, &kind, &id).await;
                    (id, read)
                }
            })
            .buffer_unordered(self.context.settings.concurrency);
        while let Some((id, read)) = reads.next().await {
            let known = match read {
                Ok(Some(object)) => {
                    let version = object["metadata"]["resourceVersion"].as_str();
                    let version = crate::cluster::resource_version(version);
                    let health = checks.of(&object, self.about.now).unwrap_or_else(|error| {
                        let message = format!("{id}: {error}");
                        // Read again at the next look, so that it is said again.
                        invalid.get_or_insert(message.clone());
                        Health::InProgress(message)
                    });
                    let version = if invalid.is_some() { 0 } else { version };
                    (version, health)
                }
                Ok(None) => (0, Health::InProgress("it does not exist".into())),
                Err(error) => (0, Health::InProgress(format!("it cannot be read: {error}"))),
            };
            live.await_status(&id, known.1 != Health::Current);
            waiting.known.insert(id, known);
        }
        Ok(invalid)
    }

    fn judge(&self, waiting: &mut Waiting, targets: &[Target]) -> Standing {
        let unserved = Health::InProgress("the API server does not serve its kind".into());
        let mut failed = Vec::new();
        let mut on_their_way = Vec::new();
        let mut unwatched = false;
        for target in targets {
            let health = match (&target.kind, waiting.known.get(&target.id)) {
                (Some(_), Some((_, health))) => health,
                _ => &unserved,
            };
            match health {
                Health::Current => continue,
                Health::InProgress(why) => on_their_way.push((&target.id, why)),
                Health::Failed(why) => failed.push((&target.id, why)),
            }
            // What could not be read is asked for again: no event announces that it can be.
            let unread = waiting
                .known
                .get(&target.id)
                .is_none_or(|(version, _)| *version == 0);
            unwatched |= !target.watched || target.kind.is_none() || unread;
        }
        if failed.is_empty() && on_their_way.is_empty() {
            waiting.since = None;
            return Standing::Healthy;
        }
        let waited = waiting.since.get_or_insert(self.begun).elapsed();
        let poll = unwatched.then(|| (waited / 4).clamp(POLL.0, POLL.1));
        let timeout = controller::timeout(&self.object.spec);
        let left = timeout.checked_sub(waited).filter(|left| !left.is_zero());
        match left {
            Some(left) if failed.is_empty() => Standing::Waiting {
                timeout,
                next: poll.map_or(left, |poll| poll.min(left)),
            },
            _ => {
                let timed_out = failed.is_empty().then_some(timeout);
                failed.append(&mut on_their_way);
                Standing::Failed {
                    message: failure(timed_out, &failed, &waiting.about.0),
                    next: poll,
                }
            }
        }
    }
}

/// How long the status may still say that this is being applied, while objects get healthy: as a rule they are in a moment,
/// and the status is written once.
pub(crate) fn almost_healthy(
    memory: &Memory,
    old: &KustomizationStatus,
    new: &KustomizationStatus,
    standing: &Standing,
) -> Option<Duration> {
    let is_applying = |status: &KustomizationStatus| {
        conditions::find(&status.conditions, "Ready").is_some_and(|ready| ready.status == "Unknown")
    };
    let is_said = is_applying(old)
        && old.observed_generation == new.observed_generation
        && old.last_attempted_revision == new.last_attempted_revision
        && old.last_handled_reconcile_at == new.last_handled_reconcile_at;
    if !is_said || !is_applying(new) || !matches!(standing, Standing::Waiting { .. }) {
        return None;
    }
    let waited = memory.waiting.as_ref()?.since?.elapsed();
    let left = IN_A_MOMENT.checked_sub(waited)? + GO_ON;
    Some(standing.next().map_or(left, |next| left.min(next)))
}

fn failure(timed_out: Option<Duration>, unhealthy: &[(&ObjectId, &String)], revision: &str) -> String {
    let mut message = match timed_out {
        Some(timeout) => format!(
            "health check failed after {}: not healthy in time (spec.timeout)",
            plumbline_common::duration::format(timeout)
        ),
        None => "health check failed".to_owned(),
    };
    // Writing to a String cannot fail.
    let _ = write!(message, " at revision {revision}:");
    for (id, why) in unhealthy.iter().take(NAMED) {
        let _ = write!(message, "\n{id}: {why}");
    }
    if unhealthy.len() > NAMED {
        let _ = write!(message, "\n… and {} more", unhealthy.len() - NAMED);
    }
    message
}
