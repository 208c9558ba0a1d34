//! Act for workloads whose template belongs to an operator: their pods are evicted, one after the other, and come back with
//! the new content. PodDisruptionBudgets decide whether a pod may go.

use std::time::Duration;

use k8s_openapi::{api::core::v1::Pod, jiff::Timestamp};
use kube::{
    Api, ResourceExt,
    api::{EvictParams, ListParams},
};

use crate::{act::Writer, error::Error, kinds::Progress, workload::Workload};

/// Between two evictions.
pub(crate) const PAUSE: Duration = Duration::from_secs(1);
/// How long one eviction is tried.
const PATIENCE: Duration = Duration::from_secs(3);
/// After an eviction was refused.
pub(crate) const REFUSED_PAUSE: Duration = Duration::from_secs(5);

/// What became of an attempt.
#[derive(Debug)]
pub(crate) enum Eviction {
    /// No old pod is left.
    Done,
    /// This pod goes.
    Evicted(String),
    /// One is going, or the workload is not well enough to lose another.
    Waiting,
    /// A budget forbids it now.
    Refused { pod: String, why: String },
}

/// Evicts the next pod that was started before the change.
pub(crate) async fn next(writer: &Writer, workload: &Workload) -> Result<Eviction, Error> {
    let failed = |verb| {
        move |source| Error::Api {
            verb,
            workload: workload.key.clone(),
            source: Box::new(source),
        }
    };
    let since = workload.evicting.as_deref().and_then(|text| text.parse().ok());
    let (Some(since), Some(selector)) = (since, &workload.selector) else {
        return Ok(Eviction::Done);
    };
    // A pod's age is known to the second: whichever is started from now on is told from those before.
    let since: Timestamp = since;
    if Timestamp::now().as_second() <= since.as_second() {
        return Ok(Eviction::Waiting);
    }
    let api: Api<Pod> = Api::namespaced(writer.client(), &workload.key.namespace);
    let pods = api
        .list(&ListParams::default().labels(selector))
        .await
        .map_err(failed("list the pods of"))?;
    let old: Vec<_> = pods.items.iter().filter(|pod| is_old(pod, since)).collect();
    let Some(pod) = next_of(&old, workload.progress) else {
        return Ok(if old.is_empty() {
            Eviction::Done
        } else {
            Eviction::Waiting
        });
    };
    let (name, parameters) = (pod.name_any(), EvictParams::default());
    let evicted = api.evict(&name, &parameters);
    // The client repeats what a budget refuses: other workloads are not to wait for that.
    let Ok(evicted) = tokio::time::timeout(PATIENCE, evicted).await else {
        return Ok(Eviction::Refused {
            pod: pod.name_any(),
            why: format!("it was refused for {} s", PATIENCE.as_secs()),
        });
    };
    match evicted {
        Ok(_) => Ok(Eviction::Evicted(pod.name_any())),
        Err(kube::Error::Api(status)) if status.code == 429 => Ok(Eviction::Refused {
            pod: pod.name_any(),
            why: status.message.clone(),
        }),
        // Gone by itself.
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(Eviction::Waiting),
        Err(error) => Err(failed("evict a pod of")(error)),
    }
}

// Finished ones run nothing.
fn is_old(pod: &Pod, since: Timestamp) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let created = pod.metadata.creation_timestamp.as_ref();
    created.is_none_or(|created| created.0 <= since) && !matches!(phase, Some("Succeeded" | "Failed"))
}

// One that is not ready loses nothing; a ready one goes when all others are well.
fn next_of<'a>(old: &[&'a Pod], progress: Progress) -> Option<&'a Pod> {
    if old.iter().any(|pod| pod.metadata.deletion_timestamp.is_some()) {
        return None;
    }
    let ready = |pod: &Pod| {
        let conditions = pod
            .status
            .iter()
            .flat_map(|status| status.conditions.iter().flatten());
        let mut conditions = conditions.filter(|one| one.type_ == "Ready");
        conditions.any(|one| one.status == "True")
    };
    old.iter()
        .find(|pod| !ready(pod))
        .or_else(|| old.first().filter(|_| progress == Progress::Done))
        .copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(name: &str, created: &str, ready: &str) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": name, "creationTimestamp": created},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]},
        }))
        .unwrap()
    }

    #[test]
    fn only_pods_from_before_the_change_are_old() {
        let since = "2026-11-23T12:00:00Z".parse().unwrap();
        assert!(is_old(&pod("a", "2026-11-23T11:59:59Z", "True"), since));
        assert!(!is_old(&pod("a", "2026-11-23T12:00:01Z", "True"), since));
        let mut done = pod("a", "2026-11-23T11:59:59Z", "False");
        done.status.as_mut().unwrap().phase = Some("Succeeded".into());
        assert!(!is_old(&done, since));
    }

    #[test]
    fn a_pod_goes_when_the_others_are_well() {
        let (well, sick) = (
            pod("well", "2026-11-23T11:00:00Z", "True"),
            pod("sick", "2026-11-23T11:00:00Z", "False"),
        );
        let name = |pod: Option<&Pod>| pod.map(ResourceExt::name_any);
        assert_eq!(name(next_of(&[&well], Progress::Done)), Some("well".into()));
        assert_eq!(name(next_of(&[&well], Progress::Running)), None);
        assert_eq!(
            name(next_of(&[&well, &sick], Progress::Running)),
            Some("sick".into())
        );
        let mut going = pod("going", "2026-11-23T11:00:00Z", "True");
        going.metadata.deletion_timestamp = going.metadata.creation_timestamp.clone();
        assert_eq!(name(next_of(&[&well, &going], Progress::Done)), None);
    }
}
