//! The decision: what a workload's pods were started with, against what there is now. Pure.

use std::time::Duration;

use crate::{
    annotations::Cause,
    digest::Digest,
    source::SourceKey,
    stakater::{self, Sha1},
    state::{Baseline, Seen},
    workload::Workload,
};

/// The content of a source, as far as it is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Content {
    /// Our digest.
    pub digest: Digest,
    /// Stakater's.
    pub sha1: Sha1,
    /// The version at which this content was first seen, if that was seen happening.
    pub since: Option<u64>,
    /// The source was seen being created, it did not come with the first list.
    pub born: bool,
}

/// Whether a source is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// Not known: its kind cannot be read now. No decision is taken on it.
    Unknown,
    /// It is not there.
    Missing,
    /// It has this content.
    Present(Content),
}

/// A source that can roll the workload.
#[derive(Debug, Clone)]
pub struct Dependency {
    /// Which.
    pub source: SourceKey,
    /// What it is called in the state: with the keys that count, if not all do.
    pub entry: SourceKey,
    /// What is known of it.
    pub presence: Presence,
    /// Why it rolls the workload.
    pub cause: Cause,
}

/// What the flags say about decisions.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// `--reload-on-create`.
    pub on_create: bool,
    /// `--reload-on-delete`.
    pub on_delete: bool,
    /// `--rollout-stale-on-adopt`.
    pub roll_stale: bool,
    /// `--min-interval`: at least this long between two rollouts of a workload that flaps.
    pub flap: Flap,
}

/// When a workload counts as flapping: more than `limit` rollouts within `window`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flap {
    /// 0: never.
    pub limit: usize,
    /// The window.
    pub window: Duration,
}

/// All that a decision depends on.
#[derive(Debug)]
pub struct Observed<'a> {
    /// The workload.
    pub workload: &'a Workload,
    /// The sources that can roll it.
    pub dependencies: Vec<Dependency>,
    /// How long ago we rolled it, newest first.
    pub rolled: &'a [Duration],
}

/// One reason to roll.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The source.
    pub source: SourceKey,
    /// What it is now.
    pub seen: Seen,
    /// Stakater's hash of what it is now.
    pub sha1: Sha1,
}

/// Why only the state is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recorded {
    /// The workload had no state.
    Adopted,
    /// Sources came or went without anything having changed.
    Tracked,
    /// The owner has rolled it since the change.
    Absorbed,
    /// A suspended CronJob: its next run has the new content anyway.
    Suspended,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// Nothing differs.
    Nothing,
    /// Write the state only.
    Record {
        /// The new state.
        baseline: Baseline,
        /// Why.
        why: Recorded,
        /// Sources that Stakater's hash tells were changed and never rolled.
        stale: Vec<SourceKey>,
    },
    /// Roll the workload.
    Roll {
        /// The new state.
        baseline: Baseline,
        /// What changed.
        changes: Vec<Change>,
    },
    /// It would have to be rolled, and flaps.
    Hold {
        /// How long to wait.
        wait: Duration,
        /// What changed.
        changes: Vec<Change>,
    },
}

/// Absent from the state: record. Equal: nothing. Different: roll.
pub fn decide(observed: &Observed<'_>, settings: &Settings) -> Plan {
    let workload = observed.workload;
    let known = workload.baseline.as_ref();
    let mut next = Baseline::default();
    let mut changes = Vec::new();
    for dependency in &observed.dependencies {
        let before = known
            .and_then(|baseline| baseline.sources.get(&dependency.entry))
            .copied();
        let (now, rolls) = compare(before, dependency.presence, known.is_some(), settings);
        if let Some(seen) = now {
            next.sources.insert(dependency.entry.clone(), seen);
            if rolls {
                changes.push(change(dependency, seen));
            }
        }
    }
    if let Some(merged) = known.and_then(|baseline| baseline.merged) {
        let unknown = |dependency: &Dependency| dependency.presence == Presence::Unknown;
        let now = next.merge();
        if observed.dependencies.iter().any(unknown) || now == merged {
            return Plan::Nothing;
        }
        if now.names == merged.names {
            changes = latest(&observed.dependencies, &next);
        }
    }
    let mut stale = Vec::new();
    if known.is_none() {
        stale = stale_sources(workload, &observed.dependencies);
        if settings.roll_stale {
            let is_stale = |dependency: &&Dependency| stale.contains(&dependency.source);
            for dependency in observed.dependencies.iter().filter(is_stale) {
                if let Some(seen) = next.sources.get(&dependency.entry) {
                    changes.push(change(dependency, *seen));
                }
            }
        }
    }
    if changes.is_empty() {
        let forgotten = |baseline: &Baseline| {
            // A dropped reference is forgotten with the next write: it alone is not worth one.
            baseline.merged.is_none()
                && next
                    .sources
                    .iter()
                    .all(|(source, seen)| baseline.sources.get(source) == Some(seen))
        };
        return match known {
            Some(baseline) if forgotten(baseline) => Plan::Nothing,
            Some(_) => Plan::Record {
                baseline: next,
                why: Recorded::Tracked,
                stale,
            },
            None => Plan::Record {
                baseline: next,
                why: Recorded::Adopted,
                stale,
            },
        };
    }
    if workload.suspended {
        return Plan::Record {
            baseline: next,
            why: Recorded::Suspended,
            stale,
        };
    }
    if absorbed(observed, &changes) {
        return Plan::Record {
            baseline: next,
            why: Recorded::Absorbed,
            stale,
        };
    }
    if let Some(wait) = flapping(observed.rolled, settings.flap) {
        return Plan::Hold { wait, changes };
    }
    Plan::Roll {
        baseline: next,
        changes,
    }
}

// Of too many sources the state does not tell which one it was: the one that was seen changing last.
fn latest(dependencies: &[Dependency], next: &Baseline) -> Vec<Change> {
    let since = |dependency: &&Dependency| match dependency.presence {
        Presence::Present(content) => content.since,
        Presence::Missing | Presence::Unknown => None,
    };
    let latest = dependencies.iter().max_by_key(since);
    let seen = latest.and_then(|latest| Some((latest, *next.sources.get(&latest.entry)?)));
    seen.map(|(latest, seen)| change(latest, seen))
        .into_iter()
        .collect()
}

// What to remember of a source, and whether it has to roll the workload.
fn compare(before: Option<Seen>, now: Presence, adopted: bool, settings: &Settings) -> (Option<Seen>, bool) {
    match (before, now) {
        (before, Presence::Unknown) => (before, false),
        (None, Presence::Missing) => (settings.on_create.then_some(Seen::Absent), false),
        (None, Presence::Present(content)) => {
            let created = adopted && settings.on_create && content.born;
            (Some(Seen::Content(content.digest)), created)
        }
        (Some(Seen::Absent), Presence::Missing) => (Some(Seen::Absent), false),
        (Some(Seen::Absent), Presence::Present(content)) => (Some(Seen::Content(content.digest)), true),
        // Kept: when it comes back with the same content, nothing has changed.
        (Some(Seen::Content(digest)), Presence::Missing) if !settings.on_delete => {
            (Some(Seen::Content(digest)), false)
        }
        (Some(Seen::Content(_)), Presence::Missing) => (Some(Seen::Absent), true),
        (Some(Seen::Content(digest)), Presence::Present(content)) => {
            (Some(Seen::Content(content.digest)), digest != content.digest)
        }
    }
}

fn change(dependency: &Dependency, seen: Seen) -> Change {
    let sha1 = match dependency.presence {
        Presence::Present(content) => content.sha1,
        Presence::Missing | Presence::Unknown => Sha1::of_deleted(),
    };
    Change {
        source: dependency.source.clone(),
        seen,
        sha1,
    }
}

// The owner's template is newer than every change: its pods were started with them.
fn absorbed(observed: &Observed<'_>, changes: &[Change]) -> bool {
    let Some(template) = observed.workload.template_since else {
        return false;
    };
    changes.iter().all(|change| {
        let dependency = observed
            .dependencies
            .iter()
            .find(|dependency| dependency.source == change.source);
        match dependency.map(|dependency| dependency.presence) {
            Some(Presence::Present(Content {
                since: Some(since), ..
            })) => since < template,
            _ => false,
        }
    })
}

fn flapping(rolled: &[Duration], flap: Flap) -> Option<Duration> {
    if flap.limit == 0 {
        return None;
    }
    let within = rolled.iter().filter(|ago| **ago < flap.window).count();
    if within < flap.limit {
        return None;
    }
    // Free again as soon as the oldest that counts leaves the window.
    let oldest = rolled.get(flap.limit - 1)?;
    Some(flap.window.saturating_sub(*oldest))
}

/// Sources whose hash, as Stakater left it in the template, is not that of their content: changed while nobody looked.
pub fn stale_sources(workload: &Workload, dependencies: &[Dependency]) -> Vec<SourceKey> {
    let last: Option<stakater::LastReloadedFrom> = (!workload.live.last_reloaded_from_ours)
        .then_some(workload.live.last_reloaded_from.as_ref())
        .flatten()
        .and_then(|text| serde_json::from_str(text).ok());
    let hash_of = |dependency: &Dependency| match dependency.presence {
        Presence::Present(content) => Some(content.sha1.to_string()),
        Presence::Missing | Presence::Unknown => None,
    };
    let mut stale = Vec::new();
    for dependency in dependencies {
        let Some(hash) = hash_of(dependency) else { continue };
        let name = stakater::variable(&dependency.source);
        let variables: Vec<_> = workload
            .live
            .variables
            .iter()
            .filter(|variable| variable.name == name)
            .collect();
        // Two sources can share a variable: it belongs to whichever was last.
        let shared = dependencies.iter().any(|other| {
            other.source != dependency.source
                && stakater::variable(&other.source) == name
                && hash_of(other).is_some_and(|hash| variables.iter().any(|variable| variable.value == hash))
        });
        // Only 40 digits are a hash we can compare.
        let by_variable = !shared
            && variables.iter().any(|variable| variable.value.len() == 40)
            && !variables.iter().any(|variable| variable.value == hash);
        let by_annotation = last.as_ref().is_some_and(|last| {
            last.source().as_ref() == Some(&dependency.source) && last.hash.len() == 40 && last.hash != hash
        });
        if by_variable || by_annotation {
            stale.push(dependency.source.clone());
        }
    }
    stale
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
