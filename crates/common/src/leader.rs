//! Leader election by Lease: one active replica, the others warm.

use anyhow::Context as _;
use kube::Client;
use kube_lease_manager::LeaseManagerBuilder;
use tokio::sync::watch;

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

/// Waits until this process leads. The returned future ends when leadership is lost, and only then:
/// the process must exit then, because another one is acting. Dropping the future releases the lease.
pub async fn acquire(
    client: Client,
    election: Election,
) -> anyhow::Result<impl Future<Output = anyhow::Error> + Send + use<>> {
    let lease = format!("{}/{}", election.namespace, election.lease);
    let manager = LeaseManagerBuilder::new(client, &election.lease)
        .with_namespace(&election.namespace)
        .with_identity(&election.identity)
        .with_field_manager(format!("plumbline-{}", election.identity))
        .with_duration(LEASE_SECONDS)
        .with_grace(GRACE_SECONDS)
        .build()
        .await
        .with_context(|| format!("cannot read or create the Lease {lease}"))?;
    let (mut leading, task) = manager.watch().await;
    tracing::debug!(lease, identity = election.identity, "waiting for the lease");
    wait_for(&mut leading, true)
        .await
        .context("the election task ended")?;
    tracing::info!(lease, identity = election.identity, "leading");
    Ok(async move {
        // `Err` is the end of the election task: no leadership either.
        drop(wait_for(&mut leading, false).await);
        drop(task);
        anyhow::anyhow!("lost the Lease {lease}: another replica leads now")
    })
}

async fn wait_for(leading: &mut watch::Receiver<bool>, wanted: bool) -> Result<(), watch::error::RecvError> {
    leading.wait_for(|&now| now == wanted).await.map(drop)
}
