//! Pure: the order in which objects are applied; deletion goes the other way round.

use crate::object::Gvk;

/// A step of an apply. Objects of one stage are applied concurrently; a stage begins when the one before has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// What other objects live in or are made of: namespaces, CRDs, classes.
    Definitions,
    /// Identity and limits: service accounts, roles, quotas.
    Access,
    /// What workloads read and are reached by: configuration, storage, services.
    Configuration,
    /// Workloads, and every kind that is not named here.
    Workloads,
    /// What can stand in the way of applying anything: webhooks and aggregated APIs.
    Gates,
}

/// All stages in order.
pub const STAGES: [Stage; 5] = [
    Stage::Definitions,
    Stage::Access,
    Stage::Configuration,
    Stage::Workloads,
    Stage::Gates,
];

/// The stage of a kind. Kinds that end in `Class` are definitions whatever their group, as in Flux.
pub fn stage(gvk: Gvk<'_>) -> Stage {
    match (gvk.group, gvk.kind) {
        ("", "Namespace")
        | ("apiextensions.k8s.io", "CustomResourceDefinition")
        | ("rbac.authorization.k8s.io", "ClusterRole") => Stage::Definitions,
        (_, kind) if kind.ends_with("Class") => Stage::Definitions,
        ("", "ServiceAccount" | "ResourceQuota" | "LimitRange") | ("rbac.authorization.k8s.io", _) => {
            Stage::Access
        }
        (
            "",
            "ConfigMap" | "Secret" | "Service" | "PersistentVolume" | "PersistentVolumeClaim" | "Endpoints",
        ) => Stage::Configuration,
        ("admissionregistration.k8s.io" | "apiregistration.k8s.io", _) => Stage::Gates,
        _ => Stage::Workloads,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_need_comes_first() {
        let stage = |version, kind| stage(Gvk::parse(version, kind));
        assert_eq!(stage("v1", "Namespace"), Stage::Definitions);
        assert_eq!(
            stage("gateway.networking.k8s.io/v1", "GatewayClass"),
            Stage::Definitions
        );
        assert!(
            stage("rbac.authorization.k8s.io/v1", "ClusterRole")
                < stage("rbac.authorization.k8s.io/v1", "RoleBinding")
        );
        assert!(stage("v1", "ConfigMap") < stage("apps/v1", "Deployment"));
        assert_eq!(stage("monitoring.coreos.com/v1", "Prometheus"), Stage::Workloads);
        assert!(
            stage("apps/v1", "Deployment")
                < stage(
                    "admissionregistration.k8s.io/v1",
                    "ValidatingWebhookConfiguration"
                )
        );
    }
}
