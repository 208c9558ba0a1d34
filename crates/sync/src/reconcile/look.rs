//! What is to be done: the kinds and objects of the cluster are asked for where they are not known.

use std::{collections::HashSet, time::Instant};

use super::Step;
use crate::{
    api::KustomizationStatus,
    cluster::live::Need,
    context::{Error, Memory},
    controller,
    manifest::Desired,
    observe::{self, Observation},
    planning::Planned,
    shards,
    source::Artifact,
};

impl Step<'_> {
    /// Asks for the API server's kinds where some are unknown and may have come since they were last asked for.
    pub(super) async fn learn_kinds(&self, memory: &mut Memory, desired: &Desired) -> Result<(), Error> {
        let kinds = &self.cluster.kinds;
        if observe::unknown_kinds(desired, kinds).is_empty() {
            memory.kinds_asked = None;
            return Ok(());
        }
        self.ask_for_kinds(memory).await
    }

    /// The same, when it is known that some are unknown.
    pub(crate) async fn ask_for_kinds(&self, memory: &mut Memory) -> Result<(), Error> {
        let kinds = &self.cluster.kinds;
        let asked = kinds.asked().await;
        let known = memory.kinds_asked.unwrap_or_default();
        let news = self.cluster.kinds_news.load(std::sync::atomic::Ordering::Relaxed);
        // Kinds that come with an APIService announce themselves by nothing: they are asked for at the retry interval.
        let retry = controller::retry_interval(&self.object.spec);
        let long_ago = memory.kinds_asked_at.is_none_or(|at| at.elapsed() >= retry);
        if asked == 0 || known < news || long_ago || memory.requested.as_deref() != self.about.requested {
            kinds.refresh_since(asked).await?;
            memory.kinds_asked_at = Some(Instant::now());
        }
        memory.kinds_asked = Some(news);
        Ok(())
    }

    /// What is to be done, as far as is known without changing anything. The error is about the inventory.
    pub(super) async fn look(
        &self,
        memory: &mut Memory,
        old: &KustomizationStatus,
        artifact: &Artifact,
        desired: &Desired,
    ) -> Result<Planned, String> {
        let known = memory.inventory.take();
        let before = shards::read(&self.context.client, old, known, &self.home()).await?;
        let planned = self.plan(before, artifact, desired).await;
        if self.watch(&planned.seen).await? {
            return Ok(self.plan(planned.recorded, artifact, desired).await);
        }
        Ok(planned)
    }

    /// Before an object of a kind is first applied, the watch on its kind must have listed what is there: that tells objects
    /// that are ours from objects that are adopted, that belong to others, or that are to be left alone. Says whether that
    /// may have told something.
    async fn watch(&self, seen: &Observation) -> Result<bool, String> {
        let mut waits = Vec::new();
        let mut asked = HashSet::new();
        for (candidate, placed) in seen.candidates.iter().zip(&seen.placed) {
            let key = (&candidate.id.group, &candidate.id.kind);
            if candidate.need == Need::First && asked.insert(key) {
                let listed = self.cluster.watches.ensure(&placed.kind);
                waits.push(async move { (key, listed.await) });
            }
        }
        let told = !waits.is_empty();
        let listed = futures::future::join_all(waits).await.into_iter().collect();
        self.ask_singly(seen, &listed).await?;
        Ok(told)
    }
}
