//! What is known of one object, and what it needs by that.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{Drift, Failure, Need, Owner};
use crate::{
    api::DIGEST,
    cluster::fields,
    manifest::{ContentDigest, parse_digest},
};

/// Corrections of one object within [`FLAP_WINDOW`] before it is left alone for a while.
pub(super) const FLAP_LIMIT: u32 = 10;
/// The time within which corrections count.
pub(super) const FLAP_WINDOW: Duration = Duration::from_mins(1);

/// There is one of these for every applied object of the cluster: what is rare stands in boxes.
#[derive(Debug, Default)]
pub(super) struct Tracked {
    pub(super) owner: Option<Arc<Owner>>,
    pub(super) applied: Option<Applied>,
    pub(super) seen: Option<Seen>,
    pub(super) in_flight: bool,
    /// Its owner wants to know of every change.
    pub(super) awaited: bool,
    pub(super) failed: Option<Box<Failed>>,
    pub(super) corrections: Option<Box<Corrections>>,
    /// The revision that brought what is applied.
    pub(super) revision: Option<Arc<str>>,
    /// What an earlier process left, until it is looked at.
    pub(super) left: Option<Box<Left>>,
}

/// What an object itself says of the apply of an earlier process.
#[derive(Debug)]
pub(super) struct Left {
    /// [`DIGEST`]: what was applied.
    pub(super) content: ContentDigest,
    /// The fields that we own now.
    pub(super) fields: Box<str>,
}

#[derive(Debug)]
pub(super) struct Failed {
    pub(super) content: ContentDigest,
    pub(super) failure: Failure,
    pub(super) until: Instant,
}

#[derive(Debug)]
pub(super) struct Corrections {
    pub(super) since: Instant,
    pub(super) count: u32,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Applied {
    pub(super) content: ContentDigest,
    pub(super) resource_version: u64,
    pub(super) owned: Option<ContentDigest>,
    pub(super) at: Instant,
}

#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) resource_version: u64,
    pub(super) present: bool,
    pub(super) owned: Option<ContentDigest>,
    /// Its labels or annotations say that it is to be left alone.
    pub(super) frozen: bool,
    /// What was done to it, where that is not what we did.
    pub(super) drift: Option<Box<Drift>>,
}

impl Tracked {
    pub(super) fn contradicted(&self) -> bool {
        match (&self.applied, &self.seen) {
            (Some(applied), Some(seen)) if seen.resource_version > applied.resource_version => {
                !seen.present || seen.owned != applied.owned
            }
            _ => false,
        }
    }

    pub(super) fn need(&self, content: &ContentDigest, now: Instant) -> Need {
        if let Some(failed) = &self.failed
            && failed.content == *content
            && failed.until > now
        {
            return Need::Failed(failed.failure.clone(), failed.until.duration_since(now));
        }
        let Some(applied) = &self.applied else {
            return Need::First;
        };
        if applied.content != *content {
            return Need::Changed;
        }
        if !self.contradicted() {
            return Need::Nothing;
        }
        if let Some(corrections) = &self.corrections
            && corrections.count >= FLAP_LIMIT
            && let Some(left) = FLAP_WINDOW.checked_sub(now.duration_since(corrections.since))
        {
            return Need::Flapping(left);
        }
        match &self.seen {
            Some(seen) if seen.present => Need::Drifted(seen.drift.clone().unwrap_or_default()),
            _ => Need::Missing,
        }
    }
}

/// What an object says of the apply of an earlier process.
pub(super) fn left(metadata: &ObjectMeta) -> Option<Left> {
    let digest = metadata.annotations.as_ref()?.get(DIGEST)?;
    Some(Left {
        content: parse_digest(digest)?,
        fields: fields::ours_as_text(metadata.managed_fields.as_deref().unwrap_or_default())?,
    })
}
