//! Objects that no watch tells of: their kind cannot be listed, or they are where the watch does not reach. Without a look at
//! them what is ours would be taken for somebody else's, and what is to be left alone would be overwritten.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use futures::{StreamExt as _, stream};
use plumbline_common::events;

use crate::{
    cluster::{
        live::{self, Need, Presence},
        requests::{self, RequestError},
        watch::Reach,
    },
    controller,
    observe::Observation,
    reconcile::Step,
};

/// When an object that could not be read is asked for again.
const AGAIN: Duration = Duration::from_secs(5);

impl Step<'_> {
    /// Asks for the metadata of every object that is to be applied for the first time and that no watch tells of. `listed` says
    /// of each kind where it could be listed. What could not be read this time is not applied.
    pub(crate) async fn ask_singly(
        &self,
        seen: &Observation,
        listed: &HashMap<(&String, &String), Option<Reach>>,
    ) -> Result<(), String> {
        let (context, cluster) = (self.context, &self.cluster);
        self.tell_unlisted(listed);
        let untold = seen.candidates.iter().zip(&seen.placed).filter(|(candidate, _)| {
            let id = &candidate.id;
            let reach = listed.get(&(&id.group, &id.kind)).and_then(Option::as_ref);
            candidate.need == Need::First && !reach.is_some_and(|reach| reach.shows(&id.namespace))
        });
        let untold: Vec<_> = untold.collect();
        if untold.is_empty() {
            return Ok(());
        }
        let client = self.client().map_err(|error| error.to_string())?;
        let retry = AGAIN.min(controller::retry_interval(&self.object.spec));
        stream::iter(untold)
            .for_each_concurrent(context.settings.concurrency, |(candidate, placed)| {
                let client = &client;
                async move {
                    // `Err`: the semaphore is never closed.
                    let _permit = cluster.in_flight.acquire().await;
                    let id = &candidate.id;
                    match requests::read(client, &placed.kind, id).await {
                        // As the watches, which show what has owner labels and nothing else.
                        Ok(Some(metadata)) if live::owner(&metadata).is_some() => {
                            drop(cluster.live.seen(id, &metadata, Presence::Present));
                        }
                        // Who may neither list nor read it can only try.
                        Ok(_) | Err(RequestError::Refused { code: 403, .. }) => {}
                        Err(error) => {
                            let message =
                                format!("it is not known whether it is there, so it is not applied: {error}");
                            let (digest, now) = (placed.content, Instant::now());
                            cluster.live.failed(id, digest, message, now, |_| retry);
                        }
                    }
                }
            })
            .await;
        Ok(())
    }

    /// What others change of objects of these kinds will not be noticed.
    fn tell_unlisted(&self, listed: &HashMap<(&String, &String), Option<Reach>>) {
        let unlisted = listed.iter().filter(|(_, reach)| reach.is_none());
        let mut kinds: Vec<String> = unlisted
            .map(|((group, kind), _)| match group.as_str() {
                "" => (*kind).clone(),
                group => format!("{kind}.{group}"),
            })
            .collect();
        if kinds.is_empty() {
            return;
        }
        kinds.sort();
        let message = format!(
            "{} cannot be listed: what is changed of these objects in the cluster is not noticed. Allow list and watch to have \
             it put right",
            kinds.join(", ")
        );
        tracing::warn!(
            name = self.owner.name,
            namespace = self.owner.namespace,
            "{message}"
        );
        let warning = events::Kind::Warning;
        self.context
            .tell(self.object, warning, "DriftNotWatched", message, "");
    }
}
