//! Leader election by Lease: one active replica, the others warm.

use std::time::Duration;

use anyhow::Context as _;
use kube::Client;
use kube_lease_manager::{LeaseManager, LeaseManagerBuilder};
use tokio::{sync::watch, task::JoinHandle};

/// Where and as whom to compete.
#[derive(Clone, Debug)]
pub struct Election {
    /// Name of the Lease.
    pub lease: String,
    /// Namespace of the Lease.
    pub namespace: String,
    /// Unique name of this process: the Pod's name, or host name and pid.
    pub identity: String,
}

/// How long a dead leader's lease holds, in seconds; the peers' value.
const LEASE_SECONDS: u64 = 15;
/// How long before its end a leader renews, in seconds: also the clock skew that is tolerated.
const GRACE_SECONDS: u64 = 5;

/// A name for this process: `POD_NAME`, else host name and process id.
pub fn identity() -> String {
    std::env::var("POD_NAME").unwrap_or_else(|_| {
        let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "localhost".into());
        format!("{host}_{}", std::process::id())
    })
}

/// How often one that waits looks whether the lease was given away: client-go's number.
const LOOK: Duration = Duration::from_secs(2);
/// How long giving the lease away may take.
const RELEASE: Duration = Duration::from_secs(3);

/// That this process leads. Dropping it releases the lease in the background, which a process that ends does not see
/// through: [`Leadership::release`] does.
#[derive(Debug)]
pub struct Leadership {
    lease: String,
    leading: watch::Receiver<bool>,
    task: JoinHandle<kube_lease_manager::Result<LeaseManager>>,
}

impl Leadership {
    /// Waits until this process leads.
    pub async fn acquire(client: Client, election: Election) -> anyhow::Result<Self> {
        let lease = format!("{}/{}", election.namespace, election.lease);
        let mut manager = contend(&client, &election).await?;
        tracing::debug!(lease, identity = election.identity, "waiting for the lease");
        loop {
            match tokio::time::timeout(LOOK, manager.changed()).await {
                Ok(Ok(true)) => break,
                Ok(Ok(false)) => {}
                Ok(Err(error)) => {
                    tracing::debug!(%error, lease, "the lease cannot be had, and will be tried for again");
                    tokio::time::sleep(LOOK).await;
                }
                // A manager waits for the end of the lease that it knows: a new one sees that it was given away.
                Err(_) => match contend(&client, &election).await {
                    Ok(new) => manager = new,
                    Err(error) => tracing::debug!(%error, "the lease cannot be looked at now"),
                },
            }
        }
        let (mut leading, task) = manager.watch().await;
        wait_for(&mut leading, true)
            .await
            .context("the election task ended")?;
        tracing::info!(lease, identity = election.identity, "leading");
        Ok(Self { lease, leading, task })
    }

    /// Ends when leadership is lost, and only then: the process must exit then, because another one is acting.
    pub async fn lost(&mut self) -> anyhow::Error {
        // `Err` is the end of the election task: no leadership either.
        drop(wait_for(&mut self.leading, false).await);
        anyhow::anyhow!("lost the Lease {}: another replica leads now", self.lease)
    }

    /// Gives the lease away, so that another process need not wait for its end.
    pub async fn release(self) {
        drop(self.leading);
        // `Err`: its end will do it.
        drop(tokio::time::timeout(RELEASE, self.task).await);
    }
}

async fn contend(client: &Client, election: &Election) -> anyhow::Result<LeaseManager> {
    LeaseManagerBuilder::new(client.clone(), &election.lease)
        .with_namespace(&election.namespace)
        .with_identity(&election.identity)
        .with_field_manager(format!("plumbline-{}", election.identity))
        .with_duration(LEASE_SECONDS)
        .with_grace(GRACE_SECONDS)
        .build()
        .await
        .with_context(|| {
            format!(
                "cannot read or create the Lease {}/{}",
                election.namespace, election.lease
            )
        })
}

async fn wait_for(leading: &mut watch::Receiver<bool>, wanted: bool) -> Result<(), watch::error::RecvError> {
    leading.wait_for(|&now| now == wanted).await.map(drop)
}
