//! Pure: which cluster an inventory is about. It stands in the status beside the inventory, as the condition
//! `RemoteCluster`, and is written together with it: an inventory is never taken for that of another cluster.

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Condition, jiff::Timestamp};
use plumbline_common::conditions::{self, Wanted};

use crate::api::{KustomizationSpec, KustomizationStatus};

/// The condition that says it.
pub const REMOTE_CLUSTER: &str = "RemoteCluster";

/// Which cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClusterId {
    /// The one of the Kustomization itself.
    Home,
    /// Another one.
    Remote {
        /// UID of its namespace `kube-system`; `None` where that may not be read.
        uid: Option<String>,
        /// The URL it was reached by.
        server: String,
    },
}

impl ClusterId {
    /// Whether it is the same cluster. What tells clusters apart for sure is the UID; one cluster may have several URLs, and a
    /// URL may lead to a new cluster.
    pub fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Home, Self::Home) => true,
            (
                Self::Remote { uid, server },
                Self::Remote {
                    uid: its,
                    server: its_server,
                },
            ) => match (uid, its) {
                (Some(uid), Some(its)) => uid == its,
                _ => server == its_server,
            },
            _ => false,
        }
    }

    /// As messages name it.
    pub fn name(&self) -> String {
        match self {
            Self::Home => "the cluster of the Kustomization".to_owned(),
            Self::Remote {
                uid: Some(uid),
                server,
            } => format!("the cluster at {server} ({uid})"),
            Self::Remote { uid: None, server } => format!("the cluster at {server}"),
        }
    }
}

/// What the condition says.
fn said(condition: &Condition) -> ClusterId {
    let read = || {
        let (uid, rest) = condition.message.strip_prefix("cluster ")?.split_once(" at ")?;
        let server = rest.split([' ', ',']).next()?;
        Some(ClusterId::Remote {
            uid: Some(uid.to_owned()).filter(|uid| uid != UNKNOWN),
            server: server.to_owned(),
        })
    };
    if condition.status != "True" {
        return ClusterId::Home;
    }
    // Somebody wrote it anew: it is about no cluster that we know.
    read().unwrap_or_else(|| ClusterId::Remote {
        uid: None,
        server: String::new(),
    })
}

const UNKNOWN: &str = "unknown";

/// The cluster that the inventory of a status is about; `None` when it has none, or one of Flux's, which is about the
/// cluster that the spec names.
pub fn of_inventory(
    status: &KustomizationStatus,
    spec: &KustomizationSpec,
    generation: i64,
) -> Option<ClusterId> {
    if let Some(condition) = conditions::find(&status.conditions, REMOTE_CLUSTER) {
        return Some(said(condition));
    }
    let is_empty = status
        .inventory
        .as_ref()
        .is_none_or(|inventory| inventory.entries.is_empty());
    // Where nothing has changed since it was written it is where the spec says.
    let is_of_spec = is_empty || status.observed_generation == Some(generation);
    (spec.kube_config.is_none() || !is_of_spec).then_some(ClusterId::Home)
}

/// Whether the condition has to be written before anything else is: what tells where the inventory is would get lost.
pub fn is_to_be_noted(
    status: &KustomizationStatus,
    spec: &KustomizationSpec,
    which: Option<&ClusterId>,
) -> bool {
    spec.kube_config.is_some()
        && which == Some(&ClusterId::Home)
        && conditions::find(&status.conditions, REMOTE_CLUSTER).is_none()
}

/// Makes the conditions say which cluster the inventory is about; returns whether that is news. A Kustomization of its own
/// cluster needs none, unless the spec names another one.
pub fn mark(
    conditions: &mut Vec<Condition>,
    which: &ClusterId,
    spec: &KustomizationSpec,
    generation: i64,
    now: Timestamp,
) -> bool {
    let (status, reason, message) = match which {
        ClusterId::Home if spec.kube_config.is_none() => {
            return conditions::remove(conditions, REMOTE_CLUSTER);
        }
        ClusterId::Home => (
            "False",
            "InventoryOfOwnCluster",
            "the inventory is about the cluster of this Kustomization".to_owned(),
        ),
        ClusterId::Remote { uid, server } => (
            "True",
            "InventoryOfRemoteCluster",
            format!(
                "cluster {} at {server}, which the inventory is about",
                uid.as_deref().unwrap_or(UNKNOWN)
            ),
        ),
    };
    let wanted = Wanted {
        type_: REMOTE_CLUSTER,
        status,
        reason,
        message: &message,
    };
    conditions::set(conditions, &wanted, generation, now)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::api::{KubeConfigReference, ResourceInventory, ResourceRef};

    fn remote(uid: Option<&str>, server: &str) -> ClusterId {
        ClusterId::Remote {
            uid: uid.map(str::to_owned),
            server: server.into(),
        }
    }

    fn spec(with: bool) -> KustomizationSpec {
        KustomizationSpec {
            kube_config: with.then(KubeConfigReference::default),
            ..KustomizationSpec::default()
        }
    }

    fn status(observed: i64, entries: usize) -> KustomizationStatus {
        KustomizationStatus {
            observed_generation: Some(observed),
            inventory: Some(Arc::new(ResourceInventory {
                entries: vec![ResourceRef::default(); entries],
            })),
            ..KustomizationStatus::default()
        }
    }

    #[test]
    fn a_cluster_is_told_by_its_uid_and_without_one_by_its_url() {
        let (a, b) = ("https://a:6443", "https://b:6443");
        for (one, other, same) in [
            (ClusterId::Home, ClusterId::Home, true),
            (ClusterId::Home, remote(Some("1"), a), false),
            (remote(Some("1"), a), remote(Some("1"), b), true),
            (remote(Some("1"), a), remote(Some("2"), a), false),
            (remote(Some("1"), a), remote(None, a), true),
            (remote(None, a), remote(None, a), true),
            (remote(Some("1"), a), remote(None, b), false),
        ] {
            assert_eq!(one.is(&other), same, "{one:?} {other:?}");
            assert_eq!(other.is(&one), same, "{other:?} {one:?}");
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let now = Timestamp::UNIX_EPOCH;
        for which in [
            ClusterId::Home,
            remote(Some("6a1f"), "https://[fd12::1]:6443"),
            remote(None, "https://example.com"),
        ] {
            let mut status = status(1, 1);
            mark(&mut status.conditions, &which, &spec(true), 1, now);
            assert_eq!(of_inventory(&status, &spec(true), 9), Some(which.clone()));
            assert_eq!(of_inventory(&status, &spec(false), 9), Some(which));
        }
        let mut status = status(1, 1);
        mark(
            &mut status.conditions,
            &remote(None, "https://a"),
            &spec(true),
            1,
            now,
        );
        status.conditions[0].message = "nonsense".into();
        let read = of_inventory(&status, &spec(true), 1).unwrap();
        assert!(!read.is(&remote(None, "https://a")) && !read.is(&ClusterId::Home));
        mark(&mut status.conditions, &ClusterId::Home, &spec(false), 1, now);
        assert!(status.conditions.is_empty(), "at home nothing is said");
    }

    #[test]
    fn without_a_mark_the_inventory_is_where_the_spec_said_when_it_was_written() {
        let home = Some(ClusterId::Home);
        assert_eq!(of_inventory(&status(1, 1), &spec(false), 1), home);
        assert_eq!(of_inventory(&status(1, 1), &spec(true), 1), None, "Flux's");
        assert_eq!(
            of_inventory(&status(1, 1), &spec(true), 2),
            home,
            "it was added since"
        );
        assert_eq!(
            of_inventory(&status(1, 0), &spec(true), 2),
            None,
            "there is nothing to mistake"
        );
        assert!(is_to_be_noted(&status(1, 1), &spec(true), home.as_ref()));
        assert!(!is_to_be_noted(&status(1, 1), &spec(false), home.as_ref()));
        assert!(!is_to_be_noted(&status(1, 1), &spec(true), None));
    }
}
