//! What we know of the objects we apply: the content we last applied, the fields we then owned, and what a watch has
//! shown since. From this alone it is decided, without a request, whether an object needs to be applied.

mod tracked;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt as _;
use serde_json::Value;

use self::tracked::{Applied, Corrections, FLAP_WINDOW, Failed, Seen, Tracked, left};
use super::{
    fields::{self, Writer},
    resource_version,
    wake::Look,
};
use crate::{
    api::{Kustomization, OWNER_NAME, OWNER_NAMESPACE, REVISION},
    manifest::{ContentDigest, POLICY_PREFIX},
    object::ObjectId,
};

/// Namespace and name of a Kustomization.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl Owner {
    /// Those of this Kustomization.
    pub fn of(object: &Kustomization) -> Self {
        Self {
            namespace: object.namespace().unwrap_or_default(),
            name: object.name_any(),
        }
    }
}

/// What an object needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Need {
    /// Nothing: it is as Git has it.
    Nothing,
    /// It has not been applied by this process yet.
    First,
    /// Git has other content than was applied.
    Changed,
    /// It was deleted behind our back.
    Missing,
    /// Fields of ours were changed or removed.
    Drifted(Box<Drift>),
    /// It differs from Git and is left so.
    Left,
    /// It drifted, but something changes it again and again: it waits until the window is over.
    Flapping(Duration),
    /// Applying this very content failed; it is tried again after this time.
    Failed(Failure, Duration),
}

/// What somebody did to fields of ours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drift {
    /// Who did, most likely.
    pub writer: Option<Writer>,
    /// The fields that are still ours, as `managedFields` has them.
    pub left: Value,
}

/// See [`Live::trace`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    owned: Option<ContentDigest>,
    writer: Option<Writer>,
}

/// Why applying an object failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The server's words.
    pub message: String,
    /// Failures in a row.
    pub count: u32,
}

/// All tracked objects.
#[derive(Debug, Default)]
pub struct Live(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    objects: HashMap<ObjectId, Tracked>,
    /// Shared by the objects of one owner.
    owners: HashSet<Arc<Owner>>,
    /// Shared by the objects that came with one revision.
    revisions: HashSet<Arc<str>>,
}

impl Known {
    fn entry(&mut self, id: &ObjectId) -> &mut Tracked {
        self.objects.entry(id.clone()).or_default()
    }

    fn share(&mut self, owner: Owner) -> Arc<Owner> {
        if let Some(known) = self.owners.get(&owner) {
            return Arc::clone(known);
        }
        let shared = Arc::new(owner);
        self.owners.insert(Arc::clone(&shared));
        shared
    }

    /// The revision that an object's annotation names.
    fn revision(&mut self, metadata: &ObjectMeta) -> Option<Arc<str>> {
        let text = metadata.annotations.as_ref()?.get(REVISION)?.as_str();
        if let Some(known) = self.revisions.get(text) {
            return Some(Arc::clone(known));
        }
        self.revisions.retain(|revision| Arc::strong_count(revision) > 1);
        let shared: Arc<str> = text.into();
        self.revisions.insert(Arc::clone(&shared));
        Some(shared)
    }
}

impl Live {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What an object needs whose wanted content has this digest.
    pub fn need(&self, id: &ObjectId, content: &ContentDigest, now: Instant) -> Need {
        self.lock()
            .objects
            .get(id)
            .map_or(Need::First, |tracked| tracked.need(content, now))
    }

    /// The Kustomization that the object belongs to as far as is known: who applied it, or whose labels it carries.
    pub fn owner(&self, id: &ObjectId) -> Option<Arc<Owner>> {
        self.lock().objects.get(id)?.owner.clone()
    }

    /// Whether the live object says that it is to be left alone: `reconcile: disabled` or `ssa: Ignore`.
    pub fn is_frozen(&self, id: &ObjectId) -> bool {
        let all = self.lock();
        let seen = all.objects.get(id).and_then(|tracked| tracked.seen.as_ref());
        seen.is_some_and(|seen| seen.present && seen.frozen)
    }

    /// The object belongs to another Kustomization from now on.
    pub fn hand_over(&self, id: &ObjectId, to: &Owner) {
        let mut all = self.lock();
        let to = all.share(to.clone());
        if let Some(tracked) = all.objects.get_mut(id) {
            tracked.owner = Some(to);
            tracked.applied = None;
            tracked.left = None;
            tracked.failed = None;
            tracked.awaited = false;
        }
    }

    /// What is known of the object before an apply.
    pub fn before(&self, id: &ObjectId) -> Before {
        let all = self.lock();
        let Some(tracked) = all.objects.get(id) else {
            return Before::default();
        };
        let seen = tracked.seen.as_ref().filter(|seen| seen.present);
        let applied_version = tracked.applied.map(|applied| applied.resource_version);
        Before {
            owned: tracked.applied.is_some() || seen.is_some_and(|seen| seen.owned.is_some()),
            labelled: tracked.applied.is_some() || seen.is_some(),
            resource_version: seen
                .map(|seen| seen.resource_version)
                .max(applied_version)
                .unwrap_or_default(),
        }
    }

    /// An apply of the object begins: events about it are its own until it ends.
    pub fn begin(&self, id: &ObjectId, owner: &Owner) {
        let mut all = self.lock();
        let owner = all.share(owner.clone());
        let tracked = all.entry(id);
        tracked.in_flight = true;
        tracked.owner = Some(owner);
    }

    /// The apply ended well. Says whether what has been seen since contradicts it already.
    pub fn applied(
        &self,
        id: &ObjectId,
        content: ContentDigest,
        metadata: &ObjectMeta,
        now: Instant,
    ) -> bool {
        let mut all = self.lock();
        let revision = all.revision(metadata);
        let tracked = all.entry(id);
        tracked.in_flight = false;
        tracked.failed = None;
        tracked.left = None;
        tracked.revision = revision;
        tracked.applied = Some(Applied {
            content,
            resource_version: resource_version(metadata.resource_version.as_deref()),
            owned: fields::owned(metadata.managed_fields.as_deref().unwrap_or_default()),
            at: now,
        });
        tracked.contradicted()
    }

    /// The revision that brought this content, if it is what is applied.
    pub fn brought_by(&self, id: &ObjectId, content: &ContentDigest) -> Option<Arc<str>> {
        let all = self.lock();
        let tracked = all.objects.get(id)?;
        let applied = tracked.applied.map(|applied| applied.content);
        let known = applied.or(tracked.left.as_ref().map(|left| left.content));
        (known.as_ref() == Some(content))
            .then(|| tracked.revision.clone())
            .flatten()
    }

    /// Goes on where an earlier process stopped, when the object itself shows that it is as Git has it: it carries the
    /// digest of this very content, and we still own every field of `body`. Otherwise it has to be applied.
    pub fn resume(
        &self,
        id: &ObjectId,
        owner: &Owner,
        content: ContentDigest,
        body: &Value,
        now: Instant,
    ) -> bool {
        let mut all = self.lock();
        let Some(tracked) = all.objects.get_mut(id) else {
            return false;
        };
        let Some(left) = tracked.left.take() else {
            return false;
        };
        let present = tracked.seen.as_ref().filter(|seen| seen.present);
        let (Some(seen), true) = (
            present,
            left.content == content && tracked.owner.as_deref() == Some(owner),
        ) else {
            return false;
        };
        let covered =
            serde_json::from_str(&left.fields).is_ok_and(|fields: Value| fields::covers(&fields, body));
        if covered {
            tracked.applied = Some(Applied {
                content,
                resource_version: seen.resource_version,
                owned: seen.owned,
                at: now,
            });
        }
        covered
    }

    /// Forgets what earlier processes left on objects that nobody has looked at: they belong to others, or will be applied.
    pub fn drop_what_was_left(&self) {
        for tracked in self.lock().objects.values_mut() {
            tracked.left = None;
        }
    }

    /// The newest resource version of an object that is known; `None` when it is not there, or nothing is known.
    pub fn version(&self, id: &ObjectId) -> Option<u64> {
        let all = self.lock();
        let tracked = all.objects.get(id)?;
        let applied = tracked.applied.map(|applied| applied.resource_version);
        match &tracked.seen {
            Some(seen) if Some(seen.resource_version) > applied => {
                seen.present.then_some(seen.resource_version)
            }
            _ => applied,
        }
    }

    /// Whether its owner is to look whenever the object changes in any way.
    pub fn await_status(&self, id: &ObjectId, awaited: bool) {
        if let Some(tracked) = self.lock().objects.get_mut(id) {
            tracked.awaited = awaited;
        }
    }

    /// The object is as Git has it although we did not apply it just so: what it is now is what is to stay.
    pub fn accept(&self, id: &ObjectId, content: ContentDigest, now: Instant) {
        let mut all = self.lock();
        let Some(tracked) = all.objects.get_mut(id) else {
            return;
        };
        if let Some(seen) = tracked.seen.as_ref().filter(|seen| seen.present) {
            tracked.applied = Some(Applied {
                content,
                resource_version: seen.resource_version,
                owned: seen.owned,
                at: now,
            });
        }
    }

    /// The object is not as Git has it, and is to stay so for now: whatever is done to it from now on is noticed.
    pub fn mistrust(&self, id: &ObjectId, content: ContentDigest, now: Instant) {
        if let Some(tracked) = self.lock().objects.get_mut(id)
            && tracked.applied.is_none()
        {
            tracked.applied = Some(Applied {
                content,
                resource_version: 0,
                // No digest of anything: it contradicts all that is seen.
                owned: Some(ContentDigest::default()),
                at: now,
            });
        }
    }

    /// By what an object can be told to be as it was when it was looked at, without its status; `None` when it is gone.
    pub fn trace(&self, id: &ObjectId) -> Option<Trace> {
        let all = self.lock();
        let seen = all.objects.get(id)?.seen.as_ref().filter(|seen| seen.present)?;
        Some(Trace {
            owned: seen.owned,
            writer: seen.drift.as_ref().and_then(|drift| drift.writer.clone()),
        })
    }

    /// Who else last wrote the object, as far as a watch showed something that is not ours.
    pub fn writer(&self, id: &ObjectId) -> Option<Writer> {
        let all = self.lock();
        all.objects.get(id)?.seen.as_ref()?.drift.as_ref()?.writer.clone()
    }

    /// Counts a correction of drift, for [`Need::Flapping`].
    pub fn corrected(&self, id: &ObjectId, now: Instant) {
        if let Some(tracked) = self.lock().objects.get_mut(id) {
            let corrections = tracked
                .corrections
                .get_or_insert_with(|| Box::new(Corrections { since: now, count: 0 }));
            if now.duration_since(corrections.since) > FLAP_WINDOW {
                **corrections = Corrections { since: now, count: 0 };
            }
            corrections.count += 1;
        }
    }

    /// The apply failed. `retry_after` gives the delay from the number of failures in a row.
    pub fn failed(
        &self,
        id: &ObjectId,
        content: ContentDigest,
        message: String,
        now: Instant,
        retry_after: impl FnOnce(u32) -> Duration,
    ) {
        let mut all = self.lock();
        let tracked = all.entry(id);
        tracked.in_flight = false;
        let count = match &tracked.failed {
            Some(failed) if failed.content == content => failed.failure.count + 1,
            _ => 1,
        };
        tracked.failed = Some(Box::new(Failed {
            content,
            failure: Failure { message, count },
            until: now + retry_after(count),
        }));
    }

    /// Forgets earlier failures of an owner's objects, so that they are tried again now.
    pub fn retry_now(&self, owner: &Owner) {
        for tracked in self.lock().objects.values_mut() {
            if tracked.owner.as_deref() == Some(owner) {
                tracked.failed = None;
                tracked.corrections = None;
            }
        }
    }

    /// The object is no longer ours to watch over.
    pub fn forget(&self, id: &ObjectId) {
        self.lock().objects.remove(id);
    }

    /// The Kustomization is gone.
    pub fn forget_owner(&self, owner: &Owner) {
        let mut all = self.lock();
        all.objects
            .retain(|_, tracked| tracked.owner.as_deref() != Some(owner));
        all.owners.remove(owner);
    }

    /// A watch shows an object. Returns the owner that has to look at it, and how soon.
    pub fn seen(&self, id: &ObjectId, metadata: &ObjectMeta, present: Presence) -> Option<Look> {
        let entries = metadata.managed_fields.as_deref().unwrap_or_default();
        let owned = fields::owned(entries);
        let mut all = self.lock();
        let labelled = owner(metadata).map(|owner| all.share(owner));
        let left = owned.and_then(|_| left(metadata));
        let revision = left.as_ref().and_then(|_| all.revision(metadata));
        let tracked = all.entry(id);
        if tracked.owner.is_none() {
            tracked.owner = labelled;
        }
        if tracked.applied.is_none() && !tracked.in_flight {
            tracked.left = left.map(Box::new);
            tracked.revision = revision;
        }
        let frozen = present == Presence::Present && is_frozen(metadata);
        let thawed = !frozen && tracked.seen.as_ref().is_some_and(|seen| seen.frozen);
        let contradicts_nothing = tracked.applied.is_none_or(|applied| applied.owned == owned);
        tracked.seen = Some(Seen {
            resource_version: resource_version(metadata.resource_version.as_deref()),
            present: present == Presence::Present,
            owned,
            frozen,
            drift: (!contradicts_nothing).then(|| {
                Box::new(Drift {
                    writer: fields::last_other_writer(entries),
                    left: fields::our_fields(entries).cloned().unwrap_or_default(),
                })
            }),
        });
        if tracked.applied.is_none() && present == Presence::Gone {
            return all.objects.remove(id).and(None);
        }
        if tracked.in_flight {
            return None;
        }
        let its = tracked.owner.clone();
        if thawed || tracked.contradicted() {
            return its.map(Look::Now);
        }
        its.filter(|_| tracked.awaited).map(Look::Soon)
    }

    /// A watch began anew and listed everything of a kind: what it did not list, and was applied before, is gone.
    pub fn listed(
        &self,
        group: &str,
        kind: &str,
        since: Instant,
        listed: &dyn Fn(&ObjectId) -> bool,
    ) -> HashSet<Arc<Owner>> {
        let mut owners = HashSet::new();
        for (id, tracked) in &mut self.lock().objects {
            let Some(applied) = tracked.applied else { continue };
            if id.group == group && id.kind == kind && applied.at < since && !tracked.in_flight && !listed(id)
            {
                let resource_version = applied.resource_version + 1;
                tracked.seen = Some(Seen {
                    resource_version,
                    present: false,
                    owned: None,
                    frozen: false,
                    drift: None,
                });
                owners.extend(tracked.owner.clone());
            }
        }
        owners
    }
}

/// What is known of an object before an apply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Before {
    /// It had an Apply entry of ours.
    pub owned: bool,
    /// It had owner labels: Flux's, or ours.
    pub labelled: bool,
    /// The newest resource version that was seen; 0 when none was.
    pub resource_version: u64,
}

/// Whether a watched object is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It is.
    Present,
    /// It was deleted, or lost the owner's labels.
    Gone,
}

/// Whether a label or annotation of a live object says that it is to be left alone.
fn is_frozen(metadata: &ObjectMeta) -> bool {
    let says = |key: &str, value: &str| says(metadata, key, value);
    says("reconcile", "disabled") || says("ssa", "Ignore")
}

/// Whether a label or annotation of ours on a live object has this value, in whatever case.
pub fn says(metadata: &ObjectMeta, key: &str, value: &str) -> bool {
    let key = format!("{POLICY_PREFIX}{key}");
    [&metadata.labels, &metadata.annotations]
        .into_iter()
        .flatten()
        .any(|map| map.get(&key).is_some_and(|text| text.eq_ignore_ascii_case(value)))
}

/// The Kustomization that an object's labels name.
pub fn owner(metadata: &ObjectMeta) -> Option<Owner> {
    let labels = metadata.labels.as_ref()?;
    Some(Owner {
        namespace: labels.get(OWNER_NAMESPACE)?.clone(),
        name: labels.get(OWNER_NAME)?.clone(),
    })
}

#[cfg(test)]
mod tests;
