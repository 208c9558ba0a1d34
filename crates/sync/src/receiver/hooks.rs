//! The hooks that are served: what proves a request, and what it is about.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::ObjectReference;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::signature::Proof;

/// Namespace and name of a Receiver.
pub(super) type ReceiverKey = (String, String);

/// One Receiver, ready to be called.
#[derive(Debug)]
pub(super) struct Hook {
    /// Whose it is.
    pub(super) key: ReceiverKey,
    /// For events about it.
    pub(super) regarding: ObjectReference,
    pub(super) proof: Proof,
    pub(super) token: Token,
    /// Events that count; all if empty.
    pub(super) events: Vec<String>,
    /// What is looked at.
    pub(super) targets: Vec<Target>,
    pub(super) suspended: bool,
    /// Of requests that are believed.
    pub(super) pace: Pace,
    /// Of what is told about those that are not.
    pub(super) complaints: Pace,
}

/// The token, which nothing prints.
pub(super) struct Token(pub(super) Zeroizing<Vec<u8>>);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[token]")
    }
}

/// A kind that a hook can be about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    GitRepository,
    Kustomization,
}

/// What a hook is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) kind: Kind,
    pub(super) namespace: String,
    pub(super) select: Select,
}

/// Which objects of a kind and namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Select {
    Name(String),
    Labels(BTreeMap<String, String>),
}

/// The path of a Receiver, by Flux's rule: nobody who does not know the token can guess it.
pub(super) fn path(token: &[u8], name: &str, namespace: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(token);
    hash.update(name);
    hash.update(namespace);
    let mut path = "/hook/".to_owned();
    for byte in hash.finalize() {
        // Writing to a String cannot fail.
        let _ = write!(path, "{byte:02x}");
    }
    path
}

/// All hooks, by path.
#[derive(Debug, Default)]
pub(super) struct Hooks(RwLock<HashMap<String, Arc<Hook>>>);

impl Hooks {
    pub(super) fn find(&self, path: &str) -> Option<Arc<Hook>> {
        let hooks = self.0.read().unwrap_or_else(PoisonError::into_inner);
        hooks.get(path).cloned()
    }

    /// Serves a Receiver at this path, and at no other.
    pub(super) fn put(&self, path: String, hook: Hook) {
        let mut hooks = self.0.write().unwrap_or_else(PoisonError::into_inner);
        hooks.retain(|_, known| known.key != hook.key);
        hooks.insert(path, Arc::new(hook));
    }

    /// Serves it no longer.
    pub(super) fn remove(&self, key: &ReceiverKey) {
        let mut hooks = self.0.write().unwrap_or_else(PoisonError::into_inner);
        hooks.retain(|_, known| known.key != *key);
    }
}

/// At most one thing at a time and one in so long; what comes in between becomes one more at the end.
#[derive(Debug)]
pub(super) struct Pace {
    apart: Duration,
    next: Mutex<Option<Instant>>,
}

/// When something may be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Now,
    /// After this time, by who asked.
    Later(Duration),
    /// Somebody else does it in a moment.
    Taken,
}

impl Pace {
    pub(super) fn new(apart: Duration) -> Self {
        Self {
            apart,
            next: Mutex::new(None),
        }
    }

    pub(super) fn turn(&self, now: Instant) -> Turn {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        match *next {
            // Its turn was given away already.
            Some(next) if next > now + self.apart => Turn::Taken,
            Some(begin) if begin > now => {
                *next = Some(begin + self.apart);
                Turn::Later(begin - now)
            }
            _ => {
                *next = Some(now + self.apart);
                Turn::Now
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_is_the_one_that_flux_gives_out() {
        // printf token1receiver1default | sha256sum
        assert_eq!(
            path(b"token1", "receiver1", "default"),
            "/hook/a4318c35de3ec5472b13dfa88cf1097105480d74abe7baf8b094ed633d1f3dfc"
        );
    }

    #[test]
    fn a_burst_is_one_now_and_one_at_its_end() {
        let pace = Pace::new(Duration::from_secs(1));
        let begin = Instant::now();
        let at = |millis| pace.turn(begin + Duration::from_millis(millis));
        assert_eq!(at(0), Turn::Now);
        assert_eq!(at(100), Turn::Later(Duration::from_millis(900)));
        for millis in [100, 200, 999] {
            assert_eq!(at(millis), Turn::Taken);
        }
        // The one at the end has begun: what is pushed from now on needs another.
        assert_eq!(at(1200), Turn::Later(Duration::from_millis(800)));
        assert_eq!(at(1300), Turn::Taken);
        assert_eq!(at(10_000), Turn::Now);
    }
}
