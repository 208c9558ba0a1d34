//! The queue of workloads to look at: one entry each, debounced, never running twice at once. Pure: the clock is given.

use std::{
    collections::{BTreeSet, HashMap},
    time::{Duration, Instant},
};

use crate::workload::WorkloadKey;

/// How long changes are collected before a workload is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Debounce {
    /// Until nothing came for this long.
    pub quiet: Duration,
    /// But never longer than this.
    pub longest: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    first: Instant,
    due: Instant,
    why: Why,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    // It collects changes.
    Changed,
    // It waits for a time: news of the workload itself end that.
    Later,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Again {
    No,
    Debounced,
    Now,
}

/// Workloads that wait, and workloads that are being looked at.
#[derive(Debug)]
pub struct Queue {
    debounce: Debounce,
    waiting: HashMap<WorkloadKey, Entry>,
    // The same, in the order in which they become due.
    order: BTreeSet<(Instant, WorkloadKey)>,
    running: HashMap<WorkloadKey, Again>,
}

impl Queue {
    /// An empty queue.
    pub fn new(debounce: Debounce) -> Self {
        Self {
            debounce,
            waiting: HashMap::new(),
            order: BTreeSet::new(),
            running: HashMap::new(),
        }
    }

    /// A source changed: look when it has become quiet.
    pub fn changed(&mut self, key: WorkloadKey, now: Instant) {
        if let Some(again) = self.running.get_mut(&key) {
            if *again == Again::No {
                *again = Again::Debounced;
            }
            return;
        }
        let first = self.waiting.get(&key).map_or(now, |entry| entry.first);
        // Never later than promised, never earlier than what was asked for before.
        let due = (now + self.debounce.quiet).min(first + self.debounce.longest);
        let due = self.waiting.get(&key).map_or(due, |entry| due.max(entry.due));
        let why = Why::Changed;
        self.put(key, Entry { first, due, why });
    }

    /// The workload itself is new or was changed: look at once.
    pub fn now(&mut self, key: WorkloadKey, now: Instant) {
        if let Some(again) = self.running.get_mut(&key) {
            *again = Again::Now;
            return;
        }
        let collects = |entry: &Entry| entry.why == Why::Changed;
        if !self.waiting.get(&key).is_some_and(collects) {
            let (first, due, why) = (now, now, Why::Later);
            self.put(key, Entry { first, due, why });
        }
    }

    /// Look at this time at the latest.
    pub fn at(&mut self, key: WorkloadKey, due: Instant) {
        let entry = self.waiting.get(&key).copied();
        let first = entry.map_or(due, |entry| entry.first);
        let due = entry.map_or(due, |entry| entry.due.min(due));
        let why = entry.map_or(Why::Later, |entry| entry.why);
        self.put(key, Entry { first, due, why });
    }

    /// Takes a workload that is due, and tells since when it was. It counts as running until [`Queue::done`].
    pub fn take(&mut self, now: Instant) -> Option<(WorkloadKey, Instant)> {
        let (due, key) = self.ready().find(|(due, _)| *due <= now)?.clone();
        self.order.remove(&(due, key.clone()));
        self.waiting.remove(&key);
        self.running.insert(key.clone(), Again::No);
        Some((key, due))
    }

    /// A workload was looked at. What came in between is looked at again.
    pub fn done(&mut self, key: &WorkloadKey, now: Instant) {
        match self.running.remove(key) {
            Some(Again::Debounced) => self.changed(key.clone(), now),
            Some(Again::Now) => self.now(key.clone(), now),
            Some(Again::No) | None => {}
        }
    }

    /// When the next workload becomes due.
    pub fn next(&self) -> Option<Instant> {
        self.ready().next().map(|(due, _)| *due)
    }

    /// How many wait.
    pub fn depth(&self) -> usize {
        self.waiting.len()
    }

    /// Whether this workload waits or runs.
    pub fn pending(&self, key: &WorkloadKey) -> bool {
        self.waiting.contains_key(key) || self.running.contains_key(key)
    }

    // In order, without those that run: a retry may wait for the end of the attempt that asked for it.
    fn ready(&self) -> impl Iterator<Item = &(Instant, WorkloadKey)> {
        self.order
            .iter()
            .filter(|(_, key)| !self.running.contains_key(key))
    }

    fn put(&mut self, key: WorkloadKey, entry: Entry) {
        if let Some(before) = self.waiting.insert(key.clone(), entry) {
            self.order.remove(&(before.due, key.clone()));
        }
        self.order.insert((entry.due, key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::WorkloadKind;

    fn key(name: &str) -> WorkloadKey {
        WorkloadKey {
            namespace: "shop".into(),
            kind: WorkloadKind::Deployment,
            name: name.into(),
        }
    }

    fn queue() -> (Queue, Instant) {
        let debounce = Debounce {
            quiet: Duration::from_secs(1),
            longest: Duration::from_secs(10),
        };
        (Queue::new(debounce), Instant::now())
    }

    fn take(queue: &mut Queue, now: Instant) -> Option<WorkloadKey> {
        queue.take(now).map(|(key, _)| key)
    }

    fn seconds(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    #[test]
    fn a_change_waits_until_it_is_quiet() {
        let (mut queue, start) = queue();
        queue.changed(key("a"), start);
        assert_eq!(take(&mut queue, start + seconds(0.9)), None);
        queue.changed(key("a"), start + seconds(0.9));
        assert_eq!(take(&mut queue, start + seconds(1.5)), None);
        assert_eq!(take(&mut queue, start + seconds(1.9)), Some(key("a")));
        assert_eq!(take(&mut queue, start + seconds(9.0)), None);
    }

    #[test]
    fn noise_does_not_put_it_off_for_ever() {
        let (mut queue, start) = queue();
        for tenth in 0..99 {
            queue.changed(key("a"), start + seconds(f64::from(tenth) / 10.0));
            assert_eq!(take(&mut queue, start + seconds(f64::from(tenth) / 10.0)), None);
        }
        assert_eq!(queue.next(), Some(start + seconds(10.0)));
        assert_eq!(take(&mut queue, start + seconds(10.0)), Some(key("a")));
    }

    #[test]
    fn without_debounce_a_change_is_due_at_once() {
        let mut queue = Queue::new(Debounce {
            quiet: Duration::ZERO,
            longest: Duration::ZERO,
        });
        let now = Instant::now();
        queue.changed(key("a"), now);
        assert_eq!(take(&mut queue, now), Some(key("a")));
    }

    #[test]
    fn what_comes_while_it_runs_is_looked_at_again() {
        let (mut queue, start) = queue();
        queue.now(key("a"), start);
        assert_eq!(take(&mut queue, start), Some(key("a")));
        queue.changed(key("a"), start);
        assert_eq!(take(&mut queue, start + seconds(5.0)), None);
        queue.done(&key("a"), start + seconds(6.0));
        assert_eq!(queue.next(), Some(start + seconds(7.0)));
        assert_eq!(take(&mut queue, start + seconds(7.0)), Some(key("a")));
        queue.done(&key("a"), start + seconds(8.0));
        assert_eq!(queue.next(), None);
        assert!(!queue.pending(&key("a")));
    }

    #[test]
    fn a_new_workload_does_not_wait_and_does_not_hurry_a_change() {
        let (mut queue, start) = queue();
        queue.changed(key("a"), start);
        queue.now(key("a"), start);
        assert_eq!(queue.next(), Some(start + seconds(1.0)));
        queue.now(key("b"), start);
        assert_eq!(take(&mut queue, start), Some(key("b")));
    }

    #[test]
    fn news_of_the_workload_itself_end_its_waiting() {
        let (mut queue, start) = queue();
        queue.at(key("a"), start + seconds(600.0));
        queue.now(key("a"), start);
        assert_eq!(take(&mut queue, start), Some(key("a")));
    }

    #[test]
    fn a_retry_is_due_when_it_was_asked_for() {
        let (mut queue, start) = queue();
        queue.now(key("a"), start);
        take(&mut queue, start);
        queue.at(key("a"), start + seconds(4.0));
        queue.done(&key("a"), start);
        assert_eq!(queue.depth(), 1);
        assert_eq!(take(&mut queue, start + seconds(3.9)), None);
        assert_eq!(take(&mut queue, start + seconds(4.0)), Some(key("a")));
    }
}
