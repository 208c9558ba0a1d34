//! What the API server says to an object, asked by dry runs.

use std::collections::{BTreeMap, HashMap, HashSet};

use futures::{StreamExt as _, stream};
use kube::Client;
use serde::Serialize;
use serde_json::Value;
use zeroize::Zeroizing;

use super::{
    diff::{self, Field},
    output::plain,
};
use crate::{
    api::DIGEST,
    bodies::Bodies,
    cluster::{
        fields,
        kinds::Kind,
        live::{self, Live, Owner, Presence},
        requests::{self, RequestError},
        target::TargetCluster,
    },
    context::Context,
    decide::Candidate,
    drift::Mode,
    manifest::{ApplyPolicy, Desired, finish, parse_digest},
    object::{Gvk, ObjectId},
    observe::Placed,
    planning::Planned,
    prune,
    vital::Vital,
};

/// Requests in flight.
const CONCURRENCY: usize = 16;

/// What an apply would do with an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Action {
    /// It would be made.
    Create,
    /// Fields would change.
    Change,
    /// Only who owns it would change.
    TakeOver,
    /// It differs from Git, and is left so: `plumbline.dev/drift`.
    Leave,
    /// Nothing.
    Unchanged,
    /// It would be deleted.
    Delete,
    /// It would stay, and no longer be ours.
    Release,
    /// It would be deleted, but deletions are held back.
    Hold,
    /// It waits for its kind or its namespace.
    Wait,
    /// The API server refuses it.
    Refuse,
}

/// What an apply would do with an object, and why.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Change {
    pub(super) action: Action,
    /// `Deployment/demo/podinfo`.
    pub(super) object: String,
    /// File and line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) at: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) fields: Vec<Field>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) message: Option<String>,
}

impl Change {
    pub(super) fn new(action: Action, object: &impl ToString) -> Self {
        Self {
            action,
            object: object.to_string(),
            at: None,
            fields: Vec::new(),
            message: None,
        }
    }

    pub(super) fn saying(self, message: impl Into<String>) -> Self {
        Self {
            message: Some(message.into()),
            ..self
        }
    }
}

/// Objects as they are in the cluster; an error where one cannot be read.
pub(super) type Found = HashMap<ObjectId, Result<Value, RequestError>>;

/// Reads the objects and tells `live` of them, as the watches would.
pub(super) async fn read(client: &Client, live: &Live, planned: &Planned) -> Found {
    let objects: Vec<(ObjectId, Kind)> = planned
        .seen
        .candidates
        .iter()
        .zip(&planned.seen.placed)
        .map(|(candidate, placed)| (candidate.id.clone(), (*placed.kind).clone()))
        .collect();
    let mut reads = stream::iter(objects)
        .map(|(id, kind)| async move {
            let read = requests::read_object(client, &kind, &id).await;
            (id, read)
        })
        .buffer_unordered(CONCURRENCY);
    let mut found = Found::new();
    while let Some((id, read)) = reads.next().await {
        match read {
            Ok(Some(object)) => {
                let metadata = serde_json::from_value(object["metadata"].clone()).unwrap_or_default();
                // The watches see what has owner labels.
                if live::owner(&metadata).is_some() {
                    live.seen(&id, &metadata, Presence::Present);
                }
                found.insert(id, Ok(object));
            }
            Ok(None) => {}
            Err(error) => drop(found.insert(id, Err(error))),
        }
    }
    found
}

/// What is asked about.
pub(super) struct Question<'a> {
    pub(super) context: &'a Context,
    pub(super) cluster: &'a TargetCluster,
    pub(super) client: &'a Client,
    pub(super) owner: &'a Owner,
    pub(super) vital: &'a Vital<'a>,
    pub(super) planned: &'a Planned,
    pub(super) desired: &'a Desired,
    pub(super) bodies: &'a Bodies,
    pub(super) found: &'a Found,
    /// What is done about drift.
    pub(super) drift: Mode,
    /// Whether this revision was applied before.
    pub(super) is_old_revision: bool,
    /// Values of Secrets that are put in for variables.
    pub(super) secrets: &'a [Zeroizing<String>],
}

impl Question<'_> {
    /// The verdicts on everything that would be applied, in Git's order.
    pub(super) async fn applies(&self) -> Vec<Change> {
        let indices: Vec<usize> = self.planned.plan.apply.iter().map(|(_, index)| *index).collect();
        let namespaces: HashSet<&str> = self
            .planned
            .seen
            .candidates
            .iter()
            .filter(|candidate| candidate.id.kind == "Namespace" && candidate.id.group.is_empty())
            .map(|candidate| candidate.id.name.as_str())
            .collect();
        let namespaces = &namespaces;
        let mut verdicts = stream::iter(indices)
            .map(|index| async move { (index, self.apply(index, namespaces).await) })
            .buffer_unordered(CONCURRENCY);
        let mut all = BTreeMap::new();
        while let Some((index, change)) = verdicts.next().await {
            all.insert(index, change);
        }
        all.into_values().collect()
    }

    async fn apply(&self, index: usize, namespaces: &HashSet<&str>) -> Change {
        let seen = &self.planned.seen;
        let (candidate, placed) = (&seen.candidates[index], &seen.placed[index]);
        let wanted = &self.desired.objects[placed.index];
        let change = |action| Change {
            at: Some(wanted.origin.to_string()),
            ..Change::new(action, &candidate.id)
        };
        let live = match self.found.get(&candidate.id) {
            Some(Err(error)) => return change(Action::Refuse).saying(format!("cannot be read: {error}")),
            Some(Ok(live)) => Some(live),
            None => None,
        };
        if wanted.policy == ApplyPolicy::IfNotPresent && live.is_some() {
            return change(Action::Unchanged);
        }
        let body = match self.bodies.get(&wanted.origin).await {
            Ok(body) => finish(body, &candidate.id.namespace, &self.planned.overlay),
            Err(message) => return change(Action::Refuse).saying(message),
        };
        let is_left = self.is_left(candidate, placed, live);
        if is_left && live.is_none() {
            return change(Action::Leave).saying("it was deleted, and plumbline.dev/drift leaves it so");
        }
        let answer = requests::dry_run(self.client, &placed.kind, &candidate.id, &body).await;
        match (answer, live) {
            (Ok(_), None) => change(Action::Create),
            (Ok(answer), Some(live)) if is_left => {
                let change = self.compare(candidate, placed, wanted.policy, live, &answer, change);
                match change.action {
                    Action::Change => Change {
                        action: Action::Leave,
                        ..change.saying("it differs from Git, and plumbline.dev/drift leaves it so")
                    },
                    _ => change,
                }
            }
            (Ok(answer), Some(live)) => self.compare(candidate, placed, wanted.policy, live, &answer, change),
            (Err(RequestError::NamespaceMissing(_)), _)
                if namespaces.contains(candidate.id.namespace.as_str()) =>
            {
                change(Action::Create)
                    .saying("its namespace comes with it, so the API server could not check it yet")
            }
            (Err(error), _) => change(Action::Refuse).saying(plain(&error.to_string())),
        }
    }

    /// Whether what an object needs is only to be corrected, and is not: what Git changes is applied in every mode.
    fn is_left(&self, candidate: &Candidate, placed: &Placed, live: Option<&Value>) -> bool {
        if self.drift == Mode::Correct || !self.planned.inventory.contains_key(&candidate.id) {
            return false;
        }
        // Secrets say nothing of what was applied.
        let applied = live.and_then(|live| parse_digest(live["metadata"]["annotations"][DIGEST].as_str()?));
        applied.map_or(self.is_old_revision, |applied| applied == placed.content)
    }

    fn compare(
        &self,
        candidate: &Candidate,
        placed: &Placed,
        policy: ApplyPolicy,
        live: &Value,
        answer: &Value,
        change: impl Fn(Action) -> Change,
    ) -> Change {
        let mut found = diff::fields(live, answer);
        let entries = serde_json::from_value::<Vec<_>>(live["metadata"]["managedFields"].clone());
        let is_ours = entries.is_ok_and(|entries| fields::owned(&entries).is_some());
        if !is_ours && policy == ApplyPolicy::Override {
            found.extend(diff::taken_away(answer, &self.context.settings.override_managers));
        }
        for field in &mut found {
            field.hide(self.secrets);
        }
        let action = match (found.is_empty(), is_ours) {
            (false, _) => Action::Change,
            (true, false) => Action::TakeOver,
            (true, true) => Action::Unchanged,
        };
        let known = self.cluster.live.before(&candidate.id);
        let message = (!is_ours && !known.labelled).then(|| {
            format!(
                "{} is there already and is adopted: it would never be deleted",
                placed.kind.resource.kind
            )
        });
        Change {
            fields: found,
            message,
            ..change(action)
        }
    }

    /// What would become of the objects that Git no longer wants.
    pub(super) async fn deletions(&self) -> Vec<Change> {
        let plan = &self.planned.plan;
        let mut all: Vec<Change> = Vec::new();
        if plan.held.is_some() {
            all.extend(plan.kept.iter().map(|id| Change::new(Action::Hold, id)));
        }
        let mut verdicts = stream::iter(plan.delete.clone())
            .map(|id| async move { self.deletion(&id).await })
            .buffered(CONCURRENCY);
        while let Some(change) = verdicts.next().await {
            all.extend(change);
        }
        all
    }

    /// `None`: it is gone already.
    async fn deletion(&self, id: &ObjectId) -> Option<Change> {
        if let Some(reason) = self.vital.reason_to_keep(id) {
            return Some(Change::new(Action::Release, id).saying(reason));
        }
        let version = self
            .planned
            .inventory
            .get(id)
            .map(AsRef::as_ref)
            .unwrap_or_default();
        let gvk = Gvk {
            group: &id.group,
            version,
            kind: &id.kind,
        };
        let kinds = &self.cluster.kinds;
        let Some(kind) = kinds
            .find(gvk)
            .or_else(|| kinds.find_any_version(&id.group, &id.kind))
        else {
            let message = "the API server does not serve its kind any more";
            return Some(Change::new(Action::Wait, id).saying(message));
        };
        match requests::read(self.client, &kind, id).await {
            Ok(None) => None,
            Ok(Some(metadata)) => Some(match prune::reason_to_keep(&metadata, self.owner) {
                Some(reason) => Change::new(Action::Release, id).saying(reason),
                None if let Some(occupied) = self.planned.plan.occupied.get(id) => {
                    Change::new(Action::Hold, id).saying(occupied.to_string())
                }
                None => match requests::dry_delete(self.client, &kind, id, &metadata).await {
                    Ok(()) => Change::new(Action::Delete, id),
                    Err(error) => Change::new(Action::Refuse, id)
                        .saying(format!("cannot be deleted: {}", plain(&error.to_string()))),
                },
            }),
            Err(error) => Some(Change::new(Action::Refuse, id).saying(format!("cannot be read: {error}"))),
        }
    }
}
