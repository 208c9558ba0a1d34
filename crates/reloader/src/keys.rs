//! Every annotation key the reloader reads or writes, in one place.
//!
//! The keys of the [`Keys`] structure are Stakater's and can be renamed by flags, as there; the constants cannot.

/// Where our own annotations live.
pub const PREFIX: &str = "reloader.plumbline.dev/";
/// On the workload: the digest of every source its pods were started with. Not in the template: writing it restarts nothing.
pub const SOURCES: &str = "reloader.plumbline.dev/sources";
/// On the workload: when, why and how often it was last rolled by us, as JSON.
pub const LAST_TRIGGER: &str = "reloader.plumbline.dev/last-trigger";
/// In the pod template: the digest of all sources together. Changing it is what rolls the workload.
pub const CONFIG_HASH: &str = "reloader.plumbline.dev/config-hash";
/// In the pod template: Stakater's record of the last source, as JSON.
pub const LAST_RELOADED_FROM: &str = "reloader.stakater.com/last-reloaded-from";
/// On the workload: since when its pods are being evicted.
pub const EVICTING: &str = "reloader.plumbline.dev/evicting";
/// On a workload: workloads of the same namespace that are rolled before it, as `deployment/db`.
pub const AFTER: &str = "reloader.plumbline.dev/after";
/// On a workload, `true`: it is rolled first, and the others wait until it is well.
pub const CANARY: &str = "reloader.plumbline.dev/canary";
/// On a workload: when it may be rolled.
pub const WINDOW: &str = "reloader.plumbline.dev/window";
/// On a workload: `template` or `evict`.
pub const STRATEGY: &str = "reloader.plumbline.dev/strategy";
/// On a workload: `object` or `keys`.
pub const GRANULARITY: &str = "reloader.plumbline.dev/granularity";
/// On a workload: sources of other namespaces, as `cm/infra/ca`.
pub const FOREIGN: &str = "reloader.plumbline.dev/foreign-sources";
/// On a ConfigMap or Secret: the namespaces whose workloads it may roll, or `*`.
pub const SHARED_WITH: &str = "reloader.plumbline.dev/shared-with";
/// On an Argo Rollout: `restart` or anything else.
pub const ROLLOUT_STRATEGY: &str = "reloader.stakater.com/rollout-strategy";
/// On a workload: ConfigMaps that never roll it, whatever else says so.
pub const CONFIGMAP_EXCLUDE: &str = "configmaps.exclude.reloader.stakater.com/reload";
/// On a workload: Secrets that never roll it.
pub const SECRET_EXCLUDE: &str = "secrets.exclude.reloader.stakater.com/reload";
/// On a workload: SecretProviderClasses that never roll it.
pub const CLASS_EXCLUDE: &str = "secretproviderclasses.exclude.reloader.stakater.com/reload";
/// On a workload: named SecretProviderClasses.
pub const CLASS_NAMED: &str = "secretproviderclass.reloader.stakater.com/reload";
/// On a workload: every referenced SecretProviderClass.
pub const CLASS_AUTO: &str = "secretproviderclass.reloader.stakater.com/auto";

/// The annotation keys that Stakater lets a flag rename.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    /// `--auto-annotation`.
    pub auto: String,
    /// `--configmap-auto-annotation`.
    pub configmap_auto: String,
    /// `--secret-auto-annotation`.
    pub secret_auto: String,
    /// `--configmap-annotation`.
    pub configmap: String,
    /// `--secret-annotation`.
    pub secret: String,
    /// `--auto-search-annotation`.
    pub search: String,
    /// `--search-match-annotation`.
    pub search_match: String,
    /// `--ignore-annotation`.
    pub ignore: String,
    /// `--pause-deployment-annotation`.
    pub pause_period: String,
    /// `--pause-deployment-time-annotation`.
    pub paused_at: String,
}

impl Default for Keys {
    fn default() -> Self {
        Self {
            auto: "reloader.stakater.com/auto".into(),
            configmap_auto: "configmap.reloader.stakater.com/auto".into(),
            secret_auto: "secret.reloader.stakater.com/auto".into(),
            configmap: "configmap.reloader.stakater.com/reload".into(),
            secret: "secret.reloader.stakater.com/reload".into(),
            search: "reloader.stakater.com/search".into(),
            search_match: "reloader.stakater.com/match".into(),
            ignore: "reloader.stakater.com/ignore".into(),
            pause_period: "deployment.reloader.stakater.com/pause-period".into(),
            paused_at: "deployment.reloader.stakater.com/paused-at".into(),
        }
    }
}
