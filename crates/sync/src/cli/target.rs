//! The cluster that a Kustomization is applied to, for a look that changes nothing.

use std::time::Duration;

use anyhow::{Context as _, bail};

use super::{desk::Desk, output};
use crate::{
    api::Kustomization,
    cluster::{
        identity::{self, ClusterId},
        live::Owner,
    },
    inventory::{Inventory, Recorded},
    reconcile::Step,
    remote::State,
};

/// How long a remote cluster is waited for.
const LIMIT: Duration = Duration::from_secs(15);

/// Whose rights count on a remote cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rights {
    /// Those of the account that the controller would act as.
    Account,
    /// Those of the user of the kubeconfig.
    Kubeconfig,
}

impl Desk {
    /// A look at `object`, at the cluster that it is applied to.
    pub(super) async fn step_there<'a>(
        &'a self,
        object: &'a Kustomization,
        owner: &'a Owner,
        rights: Rights,
    ) -> anyhow::Result<Step<'a>> {
        let step = self.step(object, owner);
        let Some(reference) = &object.spec.kube_config else {
            return Ok(step);
        };
        if let Some((reason, message)) = step.refusal() {
            bail!("{reason}: {message}");
        }
        let user = match rights {
            Rights::Account => self.parts.context.account(&object.spec, &owner.namespace),
            Rights::Kubeconfig => None,
        };
        let connection = match step.connection(reference, user.as_deref()).await {
            Ok(connection) => connection,
            Err((reason, message)) => bail!("{reason}: {message}"),
        };
        let state = connection.settled(LIMIT).await;
        let server = connection.server().to_owned();
        self.keep(connection);
        let cluster = match state {
            State::Up(cluster) => cluster,
            State::Away(why) => bail!("the cluster at {server} (spec.kubeConfig) cannot be reached: {why}"),
            State::Connecting => bail!(
                "the cluster at {server} (spec.kubeConfig) does not answer within {} s",
                LIMIT.as_secs()
            ),
        };
        if cluster.kinds.asked().await == 0 {
            let asked = cluster.kinds.refresh_since(0).await;
            asked.with_context(|| format!("the cluster at {server} does not say which kinds it serves"))?;
        }
        Ok(step.at(cluster))
    }
}

/// The cluster that the inventory of a Kustomization is about, where that is not its own.
pub(super) fn remote(object: &Kustomization) -> Option<String> {
    let status = object.status.clone().unwrap_or_default();
    let generation = object.metadata.generation.unwrap_or_default();
    match identity::of_inventory(&status, &object.spec, generation) {
        Some(ClusterId::Home) => None,
        Some(which) => Some(which.name()),
        None => Some("another cluster (spec.kubeConfig)".into()),
    }
}

/// The inventory, unless it is about another cluster than the look.
pub(super) fn of_this_cluster(step: &Step<'_>, recorded: Recorded) -> Recorded {
    let status = step.object.status.clone().unwrap_or_default();
    let which = identity::of_inventory(&status, &step.object.spec, step.about.generation);
    match which.filter(|which| !which.is(&step.cluster.id)) {
        Some(which) if !recorded.entries.is_empty() => {
            output::note(&format!(
                "the inventory of {} is about {}: its {} object(s) stay there and are no longer managed",
                step.owner.name,
                which.name(),
                recorded.entries.len()
            ));
            recorded.with(Inventory::new())
        }
        _ => recorded,
    }
}
