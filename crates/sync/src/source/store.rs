//! What has been fetched, in memory: the snapshots that Kustomizations read.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
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
}

/// All GitRepositories.
pub struct Sources {
    states: Mutex<HashMap<SourceKey, SourceState>>,
    changed: mpsc::UnboundedSender<SourceKey>,
    subscribers: Mutex<Vec<mpsc::UnboundedSender<SourceKey>>>,
}

impl Sources {
    /// Nothing is known yet. `changed` receives the sources that have a new artifact.
    pub fn new(changed: mpsc::UnboundedSender<SourceKey>) -> Self {
        Self {
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
        self.lock().insert(
            key.clone(),
            SourceState {
                artifact: Some(artifact),
                problem: None,
            },
        );
        self.tell(key);
    }

    /// There is nothing newer, for this reason; what was fetched stays in use.
    pub fn fail(&self, key: &SourceKey, problem: String) {
        let news = {
            let mut states = self.lock();
            let state = states.entry(key.clone()).or_default();
            let news = state.artifact.is_none() && state.problem.as_ref() != Some(&problem);
            state.problem = Some(problem);
            news
        };
        if news {
            self.tell(key);
        }
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
