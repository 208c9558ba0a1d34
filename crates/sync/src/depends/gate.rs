//! Waiting for what comes first. Nothing polls: Kustomizations call those that depend on them, and an object of another kind
//! is watched as long as somebody waits for it.
//!
//! Kustomizations have to be ready at every look. Objects of other kinds have to be ready before something new is applied: a
//! revision, a change of the spec, or what was asked for. A Deployment that rolls later on holds no correction of drift up.

use std::time::{Duration, Instant};

use kube::runtime::controller::Action;
use plumbline_common::conditions;

use super::{
    Unmet,
    object::{self, Reference},
    unmet,
    watch::{Key, Sight},
};
use crate::{
    api::KustomizationStatus,
    cluster::{identity::ClusterId, live::Owner, requests, resource_version, target::Waits},
    context::{Error, Memory},
    controller,
    object::{Identity, ObjectId},
    reconcile::{GO_ON, Step},
    report,
};

/// How long dependencies may be unready before the status says so.
const IN_A_MOMENT: Duration = Duration::from_secs(3);
/// An object that cannot be watched is read again after a fourth of the time it was waited for, within these bounds.
const POLL: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(15));

/// What is remembered of the objects that come first.
#[derive(Debug, Default)]
pub struct Gate {
    /// Since when it has waited, for whatever.
    since: Option<Instant>,
    /// For what all objects of other kinds were ready: revision, generation, request.
    open: Option<(String, i64, Option<String>)>,
    /// The object, and the revision, whose wait was told: what it says of itself changes all the time.
    told: Option<(ObjectId, String)>,
}

/// An object of another kind that is not ready.
struct Waiting {
    unmet: Unmet,
    id: ObjectId,
    /// When to look again if nobody calls.
    poll: Option<Duration>,
}

impl Step<'_> {
    /// What to do when it has to wait for others; `None` when it has not.
    pub(crate) async fn dependencies(
        &self,
        memory: &mut Memory,
        old: &KustomizationStatus,
        revision: &str,
    ) -> Result<Option<Action>, Error> {
        let find = |owner: &Owner| self.context.find(owner);
        let (unmet, object, poll) = if let Some(unmet) = unmet(self.object, revision, &find) {
            (unmet, None, None)
        } else if let Some(waiting) = self.objects(memory, old, revision).await? {
            (waiting.unmet, Some(waiting.id), waiting.poll)
        } else {
            memory.gate.since = None;
            return Ok(None);
        };
        let (reason, message) = match unmet {
            Unmet::NotReady(message) => {
                // Those it waits for were woken by the same commit: what is over in a moment is not worth a status.
                let since = *memory.gate.since.get_or_insert(self.begun);
                if let Some(left) = IN_A_MOMENT.checked_sub(since.elapsed()) {
                    let next = poll.map_or(left + GO_ON, |poll| poll.min(left + GO_ON));
                    return Ok(Some(Action::requeue(next)));
                }
                ("DependencyNotReady", message)
            }
            Unmet::Cycle(message) => ("DependencyNotReady", message),
            Unmet::Invalid(message) => ("InvalidCELExpression", message),
        };
        let mut new = report::not_ready(old, reason, &message, self.about);
        new.last_attempted_revision = Some(revision.to_owned());
        let about = object.map(|id| (id, revision.to_owned()));
        if about.is_none() || memory.gate.told != about {
            self.tell_failure(old, &new, revision);
            memory.gate.told = about;
        }
        self.context.write_status(self.owner, memory, old, new).await?;
        let retry = controller::retry_interval(&self.object.spec);
        Ok(Some(Action::requeue(poll.map_or(retry, |poll| poll.min(retry)))))
    }

    /// The first object of another kind that is not ready, which is then watched.
    async fn objects(
        &self,
        memory: &mut Memory,
        old: &KustomizationStatus,
        revision: &str,
    ) -> Result<Option<Waiting>, Error> {
        let references = object::references(self.object, &self.owner.namespace);
        let about = (
            revision.to_owned(),
            self.about.generation,
            self.about.requested.map(str::to_owned),
        );
        let is_open = || memory.gate.open.as_ref() == Some(&about) || self.stands(old, revision);
        if references.is_empty() || is_open() {
            self.context.gates.leave(self.owner);
            return Ok(None);
        }
        for reference in &references {
            if let Some(waiting) = self.wait_for(memory, reference).await? {
                return Ok(Some(waiting));
            }
        }
        self.context.gates.leave(self.owner);
        self.context.home.park(self.owner, Waits::ForNothing);
        memory.gate.open = Some(about);
        memory.gate.told = None;
        Ok(None)
    }

    /// Whether all of this was applied already, maybe by an earlier process: then there is nothing new to hold back.
    fn stands(&self, old: &KustomizationStatus, revision: &str) -> bool {
        conditions::is_true(&old.conditions, "Ready")
            && old.last_applied_revision.as_deref() == Some(revision)
            && old.observed_generation == Some(self.about.generation)
            && self
                .about
                .requested
                .is_none_or(|requested| old.last_handled_reconcile_at.as_deref() == Some(requested))
    }

    async fn wait_for(
        &self,
        memory: &mut Memory,
        reference: &Reference<'_>,
    ) -> Result<Option<Waiting>, Error> {
        let (context, gvk) = (self.context, reference.gvk);
        // What comes first is on our own cluster, wherever the Kustomization is applied.
        let home = &context.home;
        if home.kinds.find(gvk).is_none() {
            if self.cluster.id == ClusterId::Home {
                self.ask_for_kinds(memory).await?;
            } else {
                let asked = home.kinds.asked().await;
                home.kinds.refresh_since(asked).await.map_err(Error::Discovery)?;
            }
        }
        let kind = home.kinds.find(gvk);
        let namespaced = kind.as_ref().is_none_or(|kind| kind.namespaced);
        let id = ObjectId::from(Identity {
            namespace: if namespaced { reference.namespace } else { "" }.to_owned(),
            group: gvk.group.to_owned(),
            kind: gvk.kind.to_owned(),
            name: reference.name.to_owned(),
        });
        let Some(kind) = kind else {
            context.gates.leave(self.owner);
            home.park(self.owner, Waits::ForKinds);
            return Ok(Some(Waiting {
                unmet: Unmet::NotReady(format!(
                    "dependency '{id}' is not ready: the API server does not serve {}, Kind={}: install its CRD, or \
                     correct spec.dependsOn[{}]",
                    gvk.api_version(),
                    gvk.kind,
                    reference.index
                )),
                id,
                poll: None,
            }));
        };
        if context.wishes.wants(self.owner, &id) == Some(true) {
            return Ok(Some(Waiting {
                unmet: Unmet::Cycle(format!(
                    "dependency '{id}' is an object of this Kustomization itself, which is applied only after it: take it \
                     out of spec.dependsOn"
                )),
                id,
                poll: None,
            }));
        }
        let account = context.account(&self.object.spec, &self.owner.namespace);
        let client = home
            .client_as(account.as_deref())
            .map_err(|error| Error::Impersonation(account.clone().unwrap_or_default(), error))?;
        let read = {
            // `Err`: the semaphore is never closed.
            let _permit = home.in_flight.acquire().await;
            requests::read_object(&client, &kind, &id).await
        };
        let (unmet, version) = match read {
            Ok(found) => {
                let version = found
                    .as_ref()
                    .and_then(|found| found["metadata"]["resourceVersion"].as_str());
                let version = resource_version(version);
                match reference.unmet(self.object, &id, found, self.about.now) {
                    Some(unmet) => (unmet, Some(version)),
                    None => return Ok(None),
                }
            }
            Err(error) => (
                Unmet::NotReady(format!("dependency '{id}' cannot be read: {error}")),
                None,
            ),
        };
        let waited = memory.gate.since.map_or(Duration::ZERO, |since| since.elapsed());
        let poll = (waited / 4).clamp(POLL.0, POLL.1);
        let poll = match version {
            // Who may not read may not watch: it is asked for until that changes.
            None => Some(poll),
            Some(version) => {
                let key = Key {
                    account,
                    id: id.clone(),
                };
                match context.gates.wait(self.owner, version, &key, (&client, &kind)) {
                    Sight::Blind => Some(poll),
                    sight => sight.is_news(version).then_some(POLL.0),
                }
            }
        };
        Ok(Some(Waiting { unmet, id, poll }))
    }
}
