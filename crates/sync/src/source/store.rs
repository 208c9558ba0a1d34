//! What has been fetched, in memory: the snapshots that Kustomizations read.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

use crate::{
    api,
    git::{IgnoreRules, Snapshot},
};

/// Namespace and name of a GitRepository.
pub type SourceKey = (String, String);

/// A fetched revision.
pub struct Artifact {
    /// As the status prints it.
    pub revision: String,
    /// Names all that the files depend on: revision, rules, directories, includes.
    pub digest: String,
    /// How it was verified, if it had to be.
    pub verified: Option<String>,
    /// The files.
    pub snapshot: Snapshot,
    /// `spec.ignore`.
    pub ignore: IgnoreRules,
    /// The sources whose files are in it, by whatever way.
    pub includes: BTreeSet<SourceKey>,
    /// What the status says of it.
    pub described: api::Artifact,
}

/// What is known of a GitRepository.
#[derive(Clone, Default)]
pub struct SourceState {
    /// What was last fetched.
    pub artifact: Option<Arc<Artifact>>,
    /// Why there is nothing newer, in the words of its Ready condition.
    pub problem: Option<String>,
    /// Whether it was asked since this process began, whatever came of it. Before, what an earlier process fetched may be old.
    pub asked: bool,
}

/// No source is waited for longer than this after the start, however long it takes to ask it.
const PATIENCE: Duration = Duration::from_mins(5);

/// All GitRepositories.
pub struct Sources {
    begun: Instant,
    states: Mutex<HashMap<SourceKey, SourceState>>,
    changed: mpsc::UnboundedSender<SourceKey>,
    subscribers: Mutex<Vec<mpsc::UnboundedSender<SourceKey>>>,
}

impl Sources {
    /// Nothing is known yet. `changed` receives the sources that have a new artifact.
    pub fn new(changed: mpsc::UnboundedSender<SourceKey>) -> Self {
        Self {
            begun: Instant::now(),
            states: Mutex::default(),
            changed,
            subscribers: Mutex::default(),
        }
    }

    /// Another one who hears of sources that have a new artifact.
    pub fn subscribe(&self) -> mpsc::UnboundedReceiver<SourceKey> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.subscribers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(sender);
        receiver
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SourceKey, SourceState>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of a source; `None` before it was first looked at.
    pub fn find(&self, key: &SourceKey) -> Option<SourceState> {
        self.lock().get(key).cloned()
    }

    /// A revision was fetched.
    pub fn publish(&self, key: &SourceKey, artifact: Arc<Artifact>) {
        self.put(key, artifact, true);
    }

    /// A revision is still there that an earlier process fetched.
    pub fn recall(&self, key: &SourceKey, artifact: Arc<Artifact>) {
        self.put(key, artifact, false);
    }

    fn put(&self, key: &SourceKey, artifact: Arc<Artifact>, asked: bool) {
        let mut states = self.lock();
        let state = states.entry(key.clone()).or_default();
        *state = SourceState {
            artifact: Some(artifact),
            problem: None,
            asked: asked || state.asked,
        };
        drop(states);
        self.tell(key);
    }

    /// It was asked, and has what is known.
    pub fn same(&self, key: &SourceKey) {
        let mut states = self.lock();
        let Some(state) = states.get_mut(key) else { return };
        let is_news = !std::mem::replace(&mut state.asked, true);
        drop(states);
        if is_news {
            self.tell(key);
        }
    }

    /// There is nothing newer, for this reason; what was fetched stays in use.
    pub fn fail(&self, key: &SourceKey, problem: String) {
        let news = {
            let mut states = self.lock();
            let state = states.entry(key.clone()).or_default();
            let is_first = !std::mem::replace(&mut state.asked, true);
            let news = state.artifact.is_none() && state.problem.as_ref() != Some(&problem);
            state.problem = Some(problem);
            news || is_first
        };
        if news {
            self.tell(key);
        }
    }

    /// Whether what a source has may be older than what its repository has: it was not yet asked since the start, and there is
    /// still time for it. One that fails has what it had.
    pub fn is_to_be_asked(&self, key: &SourceKey) -> bool {
        self.begun.elapsed() < PATIENCE && !self.lock().get(key).is_some_and(|state| state.asked)
    }

    /// The GitRepository is gone.
    pub fn remove(&self, key: &SourceKey) {
        if self.lock().remove(key).is_some() {
            self.tell(key);
        }
    }

    fn tell(&self, key: &SourceKey) {
        self.subscribers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|subscriber| subscriber.send(key.clone()).is_ok());
        // `Err`: the process is stopping.
        drop(self.changed.send(key.clone()));
    }
}
