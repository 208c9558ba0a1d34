//! Whether a workload that is to be rolled may be rolled now, or has to wait for the clock or for others. Pure.

use std::{
    collections::{BTreeSet, HashSet},
    time::Duration,
};

use k8s_openapi::jiff::Timestamp;

use crate::{
    annotations::Problem,
    config::Cap,
    decide::{Change, Observed, Plan, Settings, decide},
    index::Index,
    kinds::Progress,
    state::Seen,
    workload::{Workload, WorkloadKey},
};

/// A rollout that takes longer does not hold others back any more: a Deployment's default deadline.
const ROLLOUT_LIMIT: Duration = Duration::from_mins(10);
/// Longer chains of `after` are not followed.
const CHAIN: usize = 64;

/// What a workload waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gate {
    /// Nothing: it may be rolled.
    Open,
    /// As many rollouts are in progress as may be.
    Full,
    /// Its window opens in so long.
    Window(Duration),
    /// Others of its own choice, or a canary, come first.
    Before(BTreeSet<WorkloadKey>),
    /// A rollout for the same content has failed.
    Halted(WorkloadKey),
    /// Workloads are to come after one another in a circle: their order is ignored, which is to be told.
    Circle(Vec<WorkloadKey>),
    /// The annotation with its windows cannot be read.
    Unreadable(Problem),
}

/// What a rollout depends on beside its own workload.
#[derive(Debug)]
pub struct Fan<'a> {
    /// All workloads and sources.
    pub index: &'a Index,
    /// Whose rollout is being written.
    pub rolling: &'a HashSet<WorkloadKey>,
    /// How decisions are taken.
    pub settings: &'a Settings,
    /// How many at the same time.
    pub cap: Cap,
    /// `--halt-on-failure`.
    pub halt: bool,
    /// Now.
    pub now: Timestamp,
}

impl Fan<'_> {
    /// Whether a workload may be rolled for these changes.
    pub fn gate(&self, workload: &Workload, changes: &[Change]) -> Gate {
        match workload
            .options
            .as_ref()
            .and_then(|options| options.windows.as_ref())
        {
            Some(Err(problem)) => return Gate::Unreadable(problem.clone()),
            Some(Ok(windows)) => {
                let wait = windows.until_open(self.now);
                if !wait.is_zero() {
                    return Gate::Window(wait);
                }
            }
            None => {}
        }
        if let Some(failed) = self.failed(workload, changes) {
            return Gate::Halted(failed);
        }
        let circle = self.circle(workload);
        let mut before = self.canaries(workload, changes);
        if circle.is_none() {
            before.extend(self.unfinished(workload));
        }
        if !before.is_empty() {
            return Gate::Before(before);
        }
        if self.full(workload) {
            return Gate::Full;
        }
        circle.map_or(Gate::Open, Gate::Circle)
    }

    // A canary's failure always halts those that wait for it.
    fn failed(&self, workload: &Workload, changes: &[Change]) -> Option<WorkloadKey> {
        let namespace = &workload.key.namespace;
        let failed = changes.iter().flat_map(|change| {
            let others = self.index.failed(namespace, &change.source);
            others.filter(|other| {
                let counts = self.halt || other.opts(|options| options.canary);
                let known = other.baseline.as_ref();
                let same = known.is_some_and(|known| known.sources.get(&change.source) == Some(&change.seen));
                let ours = other.last_trigger.as_ref();
                let ours = ours.is_some_and(|last| last.sources.contains(&change.source.to_string()));
                counts && same && ours && other.key != workload.key
            })
        });
        failed.map(|other| other.key.clone()).min()
    }

    // Canaries for the same change that have not been rolled, or are not done.
    fn canaries(&self, workload: &Workload, changes: &[Change]) -> BTreeSet<WorkloadKey> {
        if workload.opts(|options| options.canary) {
            return BTreeSet::new();
        }
        let namespace = &workload.key.namespace;
        let unfinished = changes.iter().flat_map(|change| {
            let others = self.index.canaries(namespace, &change.source);
            others.filter(|other| {
                let known = other.baseline.as_ref();
                let known = known.and_then(|known| known.sources.get(&change.source));
                let behind =
                    known.is_some_and(|seen| matches!(seen, Seen::Content(_)) && *seen != change.seen);
                behind || self.in_progress(other)
            })
        });
        unfinished.map(|other| other.key.clone()).collect()
    }

    // Of those it comes after: the ones that are to be rolled themselves or are being rolled.
    fn unfinished(&self, workload: &Workload) -> BTreeSet<WorkloadKey> {
        let others = self.predecessors(workload);
        others
            .filter(|other| self.in_progress(other) || other.progress == Progress::Failed || self.due(other))
            .map(|other| other.key.clone())
            .collect()
    }

    fn predecessors<'a>(&'a self, workload: &'a Workload) -> impl Iterator<Item = &'a Workload> {
        let after = workload.options.iter().flat_map(|options| &options.after);
        after.filter_map(|(kind, name)| {
            self.index.workload(&WorkloadKey {
                namespace: workload.key.namespace.clone(),
                kind: *kind,
                name: name.clone(),
            })
        })
    }

    fn due(&self, workload: &Workload) -> bool {
        let observed = Observed {
            workload,
            dependencies: self.index.dependencies(workload),
            rolled: &[],
        };
        matches!(decide(&observed, self.settings), Plan::Roll { .. })
    }

    fn in_progress(&self, workload: &Workload) -> bool {
        self.rolling.contains(&workload.key)
            || workload.evicting.is_some()
            || (workload.progress == Progress::Running && self.recent(workload))
    }

    fn recent(&self, workload: &Workload) -> bool {
        let last = workload.last_trigger.as_ref();
        let since = last.and_then(|last| last.at.parse::<Timestamp>().ok());
        since.is_some_and(|since| {
            Duration::try_from(self.now.duration_since(since)).unwrap_or_default() < ROLLOUT_LIMIT
        })
    }

    // A way along `after` that leads back to the workload.
    fn circle(&self, workload: &Workload) -> Option<Vec<WorkloadKey>> {
        let mut ways = vec![vec![workload.key.clone()]];
        let mut seen = HashSet::new();
        while let Some(way) = ways.pop() {
            let last = way.last().and_then(|key| self.index.workload(key))?;
            for next in self.predecessors(last) {
                if next.key == workload.key {
                    return Some(way);
                }
                if way.len() < CHAIN && seen.insert(next.key.clone()) {
                    let mut longer = way.clone();
                    longer.push(next.key.clone());
                    ways.push(longer);
                }
            }
        }
        None
    }

    fn full(&self, workload: &Workload) -> bool {
        if self.cap == Cap::default() {
            return false;
        }
        let running = self.index.running().filter(|other| self.recent(other));
        let keys: HashSet<&WorkloadKey> = running.map(|other| &other.key).chain(self.rolling).collect();
        let others = || keys.iter().filter(|key| ***key != workload.key);
        let here = others().filter(|key| key.namespace == workload.key.namespace);
        (self.cap.overall != 0 && others().count() >= self.cap.overall)
            || (self.cap.per_namespace != 0 && here.count() >= self.cap.per_namespace)
    }
}

#[cfg(test)]
#[path = "gate_tests.rs"]
mod tests;
