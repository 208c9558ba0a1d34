//! What a look at a Kustomization does to be at the right cluster, and what it does with an inventory of another one.

use std::{fmt::Write as _, sync::Arc, time::Duration};

use kube::{Client, runtime::controller::Action};
use plumbline_common::{conditions, events};

use super::{Connection, State, connection::NOT_ACCEPTED};
use crate::{
    api::KustomizationStatus,
    cluster::{identity, live::Owner, target::TargetCluster},
    context::{Error, Memory},
    inventory::Inventory,
    manifest::Desired,
    object::ObjectId,
    reconcile::Step,
    shards,
};

/// How long a worker waits until it is known whether a cluster answers. After that the connection's task wakes us.
const AT_ONCE: Duration = Duration::from_millis(300);
/// When to look again if it does not.
const LATER: Duration = Duration::from_secs(5);
/// Objects that are named when they are left behind.
const NAMED: usize = 20;

/// What the cluster is needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To apply objects.
    Apply,
    /// To delete them, because the Kustomization goes.
    Delete,
}

/// Whether there is a cluster to go on with.
pub enum Reached {
    /// This one, and the status as it is by now.
    Cluster(Arc<TargetCluster>, KustomizationStatus),
    /// There is none now. The status says why.
    Not(Action),
}

impl Step<'_> {
    /// The same look, at another cluster.
    pub(crate) fn at(&self, cluster: Arc<TargetCluster>) -> Self {
        Step { cluster, ..*self }
    }

    /// A client of the identity that the Kustomization acts as.
    pub(crate) fn client(&self) -> Result<Client, Error> {
        let user = self.context.account(&self.object.spec, &self.owner.namespace);
        let client = self.cluster.client_as(user.as_deref());
        client.map_err(|error| Error::Impersonation(user.unwrap_or_default(), error))
    }

    /// What it wants is known; those that waited for it look again.
    pub(crate) fn set_wish(&self, artifact: &str, desired: &Arc<Desired>) -> Vec<Owner> {
        let wishes = &self.context.wishes;
        wishes.set(self.owner, &self.cluster.id, artifact, desired)
    }

    /// The status, which says from now on which cluster the inventory is about, where that would get lost.
    pub(crate) async fn noted(&self, memory: &mut Memory) -> Result<KustomizationStatus, Error> {
        let (old, spec, generation) = (self.status(memory), &self.object.spec, self.about.generation);
        let which = identity::of_inventory(&old, spec, generation);
        if !identity::is_to_be_noted(&old, spec, which.as_ref()) {
            return Ok(old);
        }
        let mut new = old.clone();
        if let Some(which) = which {
            identity::mark(&mut new.conditions, &which, spec, generation, self.about.now);
        }
        self.context
            .write_status(self.owner, memory, &old, new.clone())
            .await?;
        Ok(new)
    }

    /// The cluster that the Kustomization is applied to. From then on the status is about that one.
    pub(crate) async fn reach(
        &self,
        memory: &mut Memory,
        old: KustomizationStatus,
        purpose: Purpose,
    ) -> Result<Reached, Error> {
        let Some(reference) = &self.object.spec.kube_config else {
            self.change_connection(memory, None);
            return self.settle(memory, old, Arc::clone(&self.context.home)).await;
        };
        let user = self.context.account(&self.object.spec, &self.owner.namespace);
        let connection = match self.connection(reference, user.as_deref()).await {
            Ok(connection) => connection,
            Err((reason, message)) => return self.unreached(memory, &old, reason, &message, purpose).await,
        };
        self.change_connection(memory, Some(&connection));
        match connection.settled(AT_ONCE).await {
            State::Up(cluster) => self.settle(memory, old, cluster).await,
            // It is over in a moment, as a rule; what it wants is not known until then.
            State::Connecting => {
                self.is_stuck();
                Ok(Reached::Not(Action::requeue(LATER)))
            }
            State::Away(why) => {
                if *why == *NOT_ACCEPTED {
                    self.context.remotes.tokens.distrust(&self.owner.namespace);
                }
                let message = away(connection.server(), &why);
                self.unreached(memory, &old, "ReconciliationFailed", &message, purpose)
                    .await
            }
        }
    }

    /// What was known of another cluster counts no longer.
    pub(crate) fn change_connection(&self, memory: &mut Memory, now: Option<&Arc<Connection>>) {
        let same = match (&memory.connection, now) {
            (Some(before), Some(now)) => Arc::ptr_eq(before, now),
            (None, None) => true,
            _ => false,
        };
        if same {
            return;
        }
        match memory.connection.take() {
            Some(before) => before.leave(self.owner),
            None => self.context.home.forget_owner(self.owner),
        }
        if let Some(now) = now {
            now.join(self.owner);
        }
        memory.connection = now.cloned();
        memory.waiting = None;
        memory.left.clear();
        memory.kinds_asked = None;
        memory.kinds_asked_at = None;
    }

    /// Makes the status say that it is about this cluster. An inventory of another one is let go: its objects stay, and are
    /// never mistaken for objects of the same name here.
    async fn settle(
        &self,
        memory: &mut Memory,
        old: KustomizationStatus,
        cluster: Arc<TargetCluster>,
    ) -> Result<Reached, Error> {
        let (spec, generation) = (&self.object.spec, self.about.generation);
        let before = identity::of_inventory(&old, spec, generation);
        let has_entries = old.inventory.as_ref().is_some_and(|all| !all.entries.is_empty());
        let elsewhere = before.filter(|before| has_entries && !before.is(&cluster.id));
        let mut new = old.clone();
        let is_news = identity::mark(&mut new.conditions, &cluster.id, spec, generation, self.about.now);
        let Some(elsewhere) = elsewhere else {
            if !is_news {
                return Ok(Reached::Cluster(cluster, old));
            }
            self.context
                .write_status(self.owner, memory, &old, new.clone())
                .await?;
            return Ok(Reached::Cluster(cluster, new));
        };
        let known = memory.inventory.take();
        let recorded = match shards::read(&self.context.client, &old, known, &self.home()).await {
            Ok(recorded) => recorded,
            Err(message) => {
                let failed = self.not_ready(memory, &old, "ReconciliationFailed", &message, "");
                return failed.await.map(Reached::Not);
            }
        };
        let left = left_behind(recorded.entries.keys(), &elsewhere.name(), &cluster.id.name());
        tracing::warn!(
            name = self.owner.name,
            namespace = self.owner.namespace,
            left,
            "the cluster changed"
        );
        // First the event: should it stop here, it is told once more.
        self.context
            .tell(self.object, events::Kind::Warning, "ClusterChanged", left, "");
        let empty = recorded.with(Inventory::new());
        new.inventory.clone_from(&empty.written);
        // Nothing has been applied here.
        new.last_applied_revision = None;
        conditions::remove(&mut new.conditions, "Healthy");
        self.write_recorded(memory, (&recorded, &empty), &old, new.clone())
            .await?;
        memory.inventory = Some(empty);
        Ok(Reached::Cluster(cluster, new))
    }

    async fn unreached(
        &self,
        memory: &mut Memory,
        old: &KustomizationStatus,
        reason: &str,
        message: &str,
        purpose: Purpose,
    ) -> Result<Reached, Error> {
        self.is_stuck();
        let failed = match purpose {
            Purpose::Apply => self.not_ready(memory, old, reason, message, "").await,
            Purpose::Delete => {
                let message = self.how_to_let_go(old, message);
                self.not_ready(memory, old, "PruneFailed", &message, "").await
            }
        };
        failed.map(Reached::Not)
    }

    fn how_to_let_go(&self, old: &KustomizationStatus, why: &str) -> String {
        let count = old
            .inventory
            .as_ref()
            .map_or(0, |inventory| inventory.entries.len());
        format!(
            "{count} object(s) are still to be deleted, but {why}. It is tried again. If that cluster is gone for good, let go of \
             them: kubectl patch kustomization {} --namespace {} --type merge --patch \
             '{{\"spec\":{{\"deletionPolicy\":\"Orphan\"}}}}'",
            self.owner.name, self.owner.namespace
        )
    }

    /// Kinds cannot be asked for: the condition says why nothing happens, and elsewhere which cluster it is. At home it is tried
    /// again soon. `revision` is the one that should be applied.
    pub(crate) async fn undiscovered(
        &self,
        memory: &mut Memory,
        old: &KustomizationStatus,
        error: Error,
        (purpose, revision): (Purpose, &str),
    ) -> Result<Action, Error> {
        let Some(connection) = memory.connection.clone() else {
            if purpose == Purpose::Apply {
                self.not_ready(memory, old, "ReconciliationFailed", &error.to_string(), revision)
                    .await?;
            }
            return Err(error);
        };
        let message = away(connection.server(), &error.to_string());
        match self
            .unreached(memory, old, "ReconciliationFailed", &message, purpose)
            .await?
        {
            Reached::Not(action) => Ok(action),
            Reached::Cluster(..) => Err(error),
        }
    }
}

fn away(server: &str, why: &str) -> String {
    format!(
        "the cluster at {server} (spec.kubeConfig) cannot be reached: {why}. Nothing is changed there meanwhile, and none of its \
         objects counts as deleted"
    )
}

fn left_behind<'i>(ids: impl ExactSizeIterator<Item = &'i ObjectId>, from: &str, to: &str) -> String {
    let count = ids.len();
    let mut message = format!(
        "{count} object(s) stay in {from} and are no longer managed, because the Kustomization is applied to {to} now; delete by \
         hand what should go:"
    );
    for id in ids.take(NAMED) {
        message.push('\n');
        message.push_str(&id.to_string());
    }
    if count > NAMED {
        // Writing to a String cannot fail.
        let _ = write!(message, "\n… and {} more", count - NAMED);
    }
    message
}
