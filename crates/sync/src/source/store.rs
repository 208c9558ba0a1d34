//! What has been fetched, in memory: the snapshots that Kustomizations read.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::mpsc;

use crate::git::{IgnoreRules, Snapshot};

/// Namespace and name of a GitRepository.
pub type SourceKey = (String, String);

/// A fetched revision.
pub struct Artifact {
    /// As the status prints it.
    pub revision: String,
    /// The commit's files.
    pub snapshot: Snapshot,
    /// `spec.ignore`.
    pub ignore: IgnoreRules,
    /// The text of `spec.ignore`, which with the revision tells whether anything changed.
    pub ignore_text: Option<String>,
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
}

impl Sources {
    /// Nothing is known yet. `changed` receives the sources that have a new artifact.
    pub fn new(changed: mpsc::UnboundedSender<SourceKey>) -> Self {
        Self {
            states: Mutex::default(),
            changed,
        }
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
        // `Err`: the process is stopping.
        drop(self.changed.send(key.clone()));
    }
}
