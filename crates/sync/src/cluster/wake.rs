//! Calls Kustomizations to look at their objects.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::mpsc;

use super::live::Owner;

/// How long news of a status may wait for more of the same: a workload's controller writes several times in a row, and each
/// look reads the object.
const MOMENT: Duration = Duration::from_millis(100);

/// How soon a Kustomization has to look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// Something is not as Git has it.
    Now(Arc<Owner>),
    /// Something that is waited for has changed.
    Soon(Arc<Owner>),
}

/// Where the calls go.
#[derive(Clone, Debug)]
pub(super) struct Wake {
    calls: mpsc::UnboundedSender<Owner>,
    /// Those that are called in a moment.
    soon: Arc<Mutex<HashSet<Arc<Owner>>>>,
}

impl Wake {
    pub(super) fn new(calls: mpsc::UnboundedSender<Owner>) -> Self {
        Self {
            calls,
            soon: Arc::default(),
        }
    }

    pub(super) fn call(&self, look: Look) {
        match look {
            Look::Now(owner) => self.now(&owner),
            Look::Soon(owner) => self.soon(owner),
        }
    }

    pub(super) fn now(&self, owner: &Owner) {
        // `Err`: the process is stopping.
        drop(self.calls.send(owner.clone()));
    }

    fn soon(&self, owner: Arc<Owner>) {
        let mut soon = self.soon.lock().unwrap_or_else(PoisonError::into_inner);
        if soon.insert(Arc::clone(&owner)) {
            let wake = self.clone();
            tokio::spawn(async move {
                tokio::time::sleep(MOMENT).await;
                // First this: what happens from now on is another call.
                let mut soon = wake.soon.lock().unwrap_or_else(PoisonError::into_inner);
                soon.remove(&owner);
                drop(soon);
                wake.now(&owner);
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_happens_together_is_one_call() {
        let (calls, mut called) = mpsc::unbounded_channel();
        let wake = Wake::new(calls);
        let owner = Arc::new(Owner {
            namespace: "apps".into(),
            name: "one".into(),
        });
        for _ in 0..3 {
            wake.call(Look::Soon(Arc::clone(&owner)));
        }
        assert!(called.try_recv().is_err(), "it waits for more");
        wake.call(Look::Now(Arc::clone(&owner)));
        assert_eq!(called.try_recv().ok().as_ref(), Some(owner.as_ref()));
        assert_eq!(called.recv().await.as_ref(), Some(owner.as_ref()));
        tokio::time::sleep(MOMENT * 2).await;
        assert!(called.try_recv().is_err(), "three were one");
        wake.call(Look::Soon(Arc::clone(&owner)));
        assert_eq!(called.recv().await.as_ref(), Some(owner.as_ref()));
    }
}
