//! Which object is worked on next. Pure: the caller brings the clock.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use crate::observe::Key;

/// Why an object is in the queue, and so how soon it comes up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// Somebody changed something and waits.
    Change,
    /// The first look at everything after a start.
    Backlog,
}

/// Keys to work on, each at most once at a time, changes before the backlog of a start.
#[derive(Debug, Default)]
pub struct Queue {
    changes: VecDeque<Key>,
    backlog: VecDeque<Key>,
    waiting: BTreeMap<Key, Urgency>,
    working: BTreeSet<Key>,
    again: BTreeSet<Key>,
    later: BTreeSet<(Instant, Key)>,
}

impl Queue {
    /// Adds `key`; one that is being worked on comes up again afterwards.
    pub fn add(&mut self, key: Key, urgency: Urgency) {
        if self.working.contains(&key) {
            self.again.insert(key);
            return;
        }
        match (self.waiting.get(&key), urgency) {
            // What waits in the backlog moves ahead; its old place is skipped later.
            (None | Some(Urgency::Backlog), Urgency::Change) => self.changes.push_back(key.clone()),
            (None, Urgency::Backlog) => self.backlog.push_back(key.clone()),
            (Some(_), _) => return,
        }
        self.waiting.insert(key, urgency);
    }

    /// Adds `key` when `at` has come.
    pub fn add_at(&mut self, key: Key, at: Instant) {
        self.later.insert((at, key));
    }

    /// The next key to work on at `now`.
    pub fn next(&mut self, now: Instant) -> Option<Key> {
        while self.later.first().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, key)) = self.later.pop_first() {
                self.add(key, Urgency::Change);
            }
        }
        loop {
            let key = self.changes.pop_front().or_else(|| self.backlog.pop_front())?;
            if self.waiting.remove(&key).is_some() {
                self.working.insert(key.clone());
                return Some(key);
            }
        }
    }

    /// Says that the work on `key` has ended.
    pub fn done(&mut self, key: &Key) {
        self.working.remove(key);
        if self.again.remove(key) {
            self.add(key.clone(), Urgency::Change);
        }
    }

    /// When the next delayed key comes up.
    pub fn deadline(&self) -> Option<Instant> {
        self.later.first().map(|(at, _)| *at)
    }

    /// Whether nothing waits and nothing is worked on.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.working.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn key(name: &str) -> Key {
        Key {
            namespace: "ns".to_owned(),
            name: name.to_owned(),
        }
    }

    #[test]
    fn changes_overtake_the_backlog() {
        let mut queue = Queue::default();
        let now = Instant::now();
        for name in ["a", "b", "c"] {
            queue.add(key(name), Urgency::Backlog);
        }
        queue.add(key("c"), Urgency::Change);
        queue.add(key("new"), Urgency::Change);
        let order: Vec<String> = std::iter::from_fn(|| queue.next(now))
            .map(|key| key.name)
            .collect();
        assert_eq!(order, ["c", "new", "a", "b"]);
    }

    #[test]
    fn a_key_is_worked_on_once_at_a_time() {
        let mut queue = Queue::default();
        let now = Instant::now();
        queue.add(key("a"), Urgency::Change);
        assert_eq!(queue.next(now), Some(key("a")));
        queue.add(key("a"), Urgency::Change);
        queue.add(key("a"), Urgency::Change);
        assert_eq!(queue.next(now), None);
        queue.done(&key("a"));
        assert_eq!(queue.next(now), Some(key("a")));
        queue.done(&key("a"));
        assert_eq!(queue.next(now), None);
        assert!(queue.is_idle());
    }

    #[test]
    fn delayed_keys_come_up_in_time() {
        let mut queue = Queue::default();
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        queue.add_at(key("a"), later);
        assert_eq!(queue.next(now), None);
        assert_eq!(queue.deadline(), Some(later));
        assert_eq!(queue.next(later), Some(key("a")));
        assert_eq!(queue.deadline(), None);
    }
}
