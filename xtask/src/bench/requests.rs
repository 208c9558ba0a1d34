//! What the syncer asked the API server.

use std::{collections::BTreeMap, time::Duration};

use plumbline_testkit::AuditLog;

use super::syncer::USER_AGENT;

/// How long the audit log and the syncer's last events may lag behind.
const LAG: Duration = Duration::from_secs(2);

/// Requests by verb and resource, watches and leases aside.
pub(crate) struct Asked(BTreeMap<(String, String), usize>);

impl Asked {
    /// What was asked since `log` began, counted once nothing more comes.
    pub(crate) async fn read(log: &AuditLog) -> anyhow::Result<Self> {
        tokio::time::sleep(LAG).await;
        let requests = log.requests(USER_AGENT)?.without_watches_and_leases();
        Ok(Self(requests.by_verb_and_resource()))
    }

    /// How many there were.
    pub(crate) fn total(&self) -> usize {
        self.0.values().sum()
    }

    /// How many patched ConfigMaps.
    pub(crate) fn patches(&self) -> usize {
        let key = ("patch".to_owned(), "configmaps".to_owned());
        self.0.get(&key).copied().unwrap_or_default()
    }

    /// How many were neither for ConfigMaps, nor wrote a status or an event.
    pub(crate) fn surplus(&self) -> usize {
        let accounted =
            |resource: &str| matches!(resource, "configmaps" | "events") || resource.ends_with("/status");
        let surplus = self.0.iter().filter(|((_, resource), _)| !accounted(resource));
        surplus.map(|(_, count)| count).sum()
    }

    /// All but the patches of ConfigMaps, by verb and resource.
    pub(crate) fn others(&self) -> String {
        let others = self
            .0
            .iter()
            .filter(|((verb, resource), _)| (verb.as_str(), resource.as_str()) != ("patch", "configmaps"));
        let others: Vec<String> = others
            .map(|((verb, resource), count)| format!("{count} {verb} {resource}"))
            .collect();
        if others.is_empty() {
            "none".to_owned()
        } else {
            others.join(", ")
        }
    }
}
