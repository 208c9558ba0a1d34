//! Whether a rollout of ours was taken back at once, as the owner of an operator's workload does. Pure.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;

use crate::{kinds::WorkloadKind, state::Seen, workload::Workload};

/// What is taken back later was taken back by somebody who knows of it.
const AT_ONCE: Duration = Duration::from_mins(2);

/// What to tell of a workload whose template does not hold what we have just put there. The state still says that it was
/// rolled, so nothing is repeated; but pods may go on with older content.
pub fn told(workload: &Workload, now: Timestamp) -> Option<String> {
    let last = workload.last_trigger.as_ref()?;
    let since: Timestamp = last.at.parse().ok()?;
    let age = Duration::try_from(now.duration_since(since)).unwrap_or_default();
    let by_template = match workload.key.kind {
        WorkloadKind::Deployment | WorkloadKind::StatefulSet | WorkloadKind::DaemonSet => {
            workload.selector.is_none()
        }
        WorkloadKind::Rollout => !workload.restart,
        WorkloadKind::CronJob | WorkloadKind::Job => false,
    };
    // The last variable of a deleted source is taken away by ourselves.
    let deleted = |seen: &Seen| *seen == Seen::Absent;
    let deleted = workload
        .baseline
        .iter()
        .any(|known| known.sources.values().any(deleted));
    let live = &workload.live;
    let stands = live.config_hash.is_some()
        || live.last_reloaded_from_ours
        || live.variables.iter().any(|variable| variable.ours);
    (by_template && !stands && !deleted && age < AT_ONCE).then(|| {
        format!(
            "Somebody has taken back the change of the pod template that rolled it for {}: its pods may run with older \
             content. If an operator owns the template, annotate what it makes this from with {}: evict",
            last.sources.join(", "),
            crate::keys::STRATEGY
        )
    })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::apps::v1::Deployment;
    use serde_json::json;

    use super::*;
    use crate::{keys, owned::MANAGER, workload::Reading};

    const AT: &str = "2026-11-23T12:00:00Z";

    fn workload(hash: Option<&str>, annotations: &[(&str, &str)]) -> Workload {
        let last = json!({"count": 1, "at": AT, "sources": ["cm/app"]}).to_string();
        let mut all = serde_json::Map::new();
        all.insert(keys::LAST_TRIGGER.into(), last.into());
        for (key, value) in annotations {
            all.insert((*key).into(), (*value).into());
        }
        let ours = json!({"f:spec": {"f:template": {"f:metadata": {"f:annotations":
            {format!("f:{}", keys::CONFIG_HASH): {}}}}}});
        let object: Deployment = serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "shop", "uid": "u1", "annotations": all, "managedFields":
                [{"manager": MANAGER, "operation": "Apply", "fieldsType": "FieldsV1", "fieldsV1": ours}]},
            "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": {
                "metadata": {"annotations": hash.map(|hash| json!({ keys::CONFIG_HASH: hash }))},
                "spec": {"containers": [{"name": "a"}]}}},
        }))
        .unwrap();
        Workload::read(&object, &Reading::default()).unwrap()
    }

    #[test]
    fn what_is_gone_at_once_is_told() {
        let at: Timestamp = AT.parse().unwrap();
        let soon = at + Duration::from_secs(5);
        assert!(told(&workload(None, &[]), soon).unwrap().contains("cm/app"));
        assert_eq!(told(&workload(Some("x"), &[]), soon), None, "it stands");
        assert_eq!(told(&workload(None, &[]), at + Duration::from_mins(3)), None);
        let evict = (keys::STRATEGY, "evict");
        assert_eq!(told(&workload(None, &[evict]), soon), None);
        let mut gone = workload(None, &[]);
        let app = "cm/app".parse().unwrap();
        gone.baseline
            .get_or_insert_default()
            .sources
            .insert(app, Seen::Absent);
        assert_eq!(told(&gone, soon), None, "by ourselves");
    }
}
