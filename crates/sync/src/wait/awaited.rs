//! What writes show of the objects that are waited for: an answer that shows an object need not be asked for again.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, PoisonError},
};

use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use crate::{
    cluster::resource_version,
    health::{self, Checks, Health},
    object::ObjectId,
};

/// Health of objects, and the resource version it was read at.
pub(super) type Known = HashMap<ObjectId, (u64, Health)>;

/// Which objects are waited for.
#[derive(Debug)]
pub(super) enum Which {
    /// All that have a health: `spec.wait`.
    All,
    /// These: `spec.healthChecks`.
    These(HashSet<ObjectId>),
}

/// The objects that are waited for, and what is learned of them while they are written.
#[derive(Debug)]
pub struct Awaited {
    which: Which,
    checks: Checks,
    now: Timestamp,
    known: Mutex<Known>,
}

impl Awaited {
    /// Judged by `checks` as of `now`.
    pub(super) fn new(which: Which, checks: Checks, now: Timestamp) -> Self {
        Self {
            which,
            checks,
            now,
            known: Mutex::default(),
        }
    }

    /// Whether the object is waited for.
    pub fn includes(&self, id: &ObjectId) -> bool {
        match &self.which {
            Which::All => has_health(&self.checks, id),
            Which::These(ids) => ids.contains(id),
        }
    }

    /// The object is like this.
    pub fn shown(&self, id: &ObjectId, object: &Value) {
        let version = resource_version(object["metadata"]["resourceVersion"].as_str());
        // An expression that does not fit is told of when the object is read.
        if let Ok(health) = self.checks.of(object, self.now) {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.insert(id.clone(), (version, health));
        }
    }

    /// How they are judged, and what is known of them.
    pub(super) fn into_parts(self) -> (Checks, Known) {
        let known = self.known.into_inner().unwrap_or_else(PoisonError::into_inner);
        (self.checks, known)
    }
}

/// Whether the object can be anything but healthy.
pub(super) fn has_health(checks: &Checks, id: &ObjectId) -> bool {
    checks.has(&id.group, &id.kind) || !health::is_always_current(&id.group, &id.kind)
}
