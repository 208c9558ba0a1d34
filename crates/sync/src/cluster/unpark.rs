//! Wakes the Kustomizations that wait for a kind, whenever a CRD changed.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::sync::mpsc;

use super::{live::Owner, target::TargetCluster};

/// When Kustomizations with unknown kinds look again after a CRD changed: it is served a little later than it is there.
const AFTER_CRD: [Duration; 4] = [
    Duration::from_millis(50),
    Duration::from_millis(300),
    Duration::from_secs(1),
    Duration::from_secs(5),
];

/// Runs as long as `changed` may bring something.
pub async fn unpark(
    cluster: Arc<TargetCluster>,
    mut changed: mpsc::UnboundedReceiver<()>,
    wake: mpsc::UnboundedSender<Owner>,
) {
    while changed.recv().await.is_some() {
        for delay in AFTER_CRD {
            tokio::time::sleep(delay).await;
            while changed.try_recv().is_ok() {}
            cluster.kinds_news.fetch_add(1, Ordering::Relaxed);
            let parked = cluster.parked();
            if parked.is_empty() {
                break;
            }
            for owner in parked {
                // `Err`: the process is stopping.
                drop(wake.send(owner));
            }
        }
    }
}
