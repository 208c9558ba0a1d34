//! What the controller of Kustomizations works with: connections, caches, settings, memory, and the writes on the
//! Kustomization itself.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use futures::FutureExt as _;
use k8s_openapi::jiff::Timestamp;
use kube::{
    Api, Client, ResourceExt as _,
    api::{Patch, PatchParams},
    core::Resource as _,
    runtime::reflector::{ObjectRef, Store},
};
use plumbline_common::events::{self, Recorder};
use serde_json::json;

use crate::{
    api::{Kustomization, KustomizationSpec, KustomizationStatus, ResourceRef},
    build::Builder,
    cluster::{
        fields::MANAGER,
        identity::{self, ClusterId},
        kinds::KindsError,
        live::Owner,
        requests,
        target::TargetCluster,
    },
    controller::source_key,
    depends::{self, dependants::Dependants, gate::Gate, watch::Gates},
    drift,
    gather::LoadError,
    hand_over::Awaited,
    inventory::{self, Recorded},
    manifest::{ContentDigest, Desired, ParseCache},
    metrics::Metrics,
    object::ObjectId,
    remote::{Connection, RemoteClusters},
    returning::Earlier,
    source::{self, SourceKey, Sources},
    status,
    suspend::Suspension,
    vital::Place,
    wait,
    wishes::Wishes,
};

/// Bound on writing a status or a finalizer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// What the controller works with.
pub struct Context {
    /// The Kubernetes API as ourselves.
    pub client: Client,
    /// The cluster that Kustomizations are applied to that name no other one.
    pub home: Arc<TargetCluster>,
    /// The clusters that others name.
    pub remotes: RemoteClusters,
    /// What has been fetched.
    pub sources: Arc<Sources>,
    /// What fetches it.
    pub source: Arc<source::controller::Context>,
    /// Runs kustomize.
    pub builder: Arc<Builder>,
    /// What all Kustomizations want.
    pub wishes: Wishes,
    /// Watches on what some of them wait for.
    pub gates: Gates,
    /// Who calls whom when it is ready.
    pub dependants: Dependants,
    /// Where events go.
    pub recorder: Recorder,
    /// Durations.
    pub metrics: Metrics,
    /// The flags.
    pub settings: Settings,
    /// What is remembered of each Kustomization.
    pub memory: Mutex<HashMap<Owner, Memory>>,
    /// All Kustomizations, once the controller runs.
    pub store: OnceLock<Store<Kustomization>>,
}

/// The flags that matter here.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Requests in flight of one Kustomization.
    pub concurrency: usize,
    /// Spread of the intervals in percent.
    pub jitter: u8,
    /// Share of an inventory that may go without confirmation, in percent.
    pub budget: u8,
    /// Entries of an inventory that stand in the status; 0 means all.
    pub inventory_limit: usize,
    /// Whether references to other namespaces are refused.
    pub cross_namespace: CrossNamespace,
    /// ServiceAccount to act as where none is given; empty for our own.
    pub default_service_account: String,
    /// Field managers to take over.
    pub override_managers: Vec<String>,
    /// Where this controller runs.
    pub place: Place,
}

/// Whether a Kustomization may use a source of another namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrossNamespace {
    /// The default.
    Refused,
    /// As Flux's default.
    Allowed,
}

/// What is remembered of a Kustomization between looks.
#[derive(Default)]
pub struct Memory {
    /// The object this is about; another uid is another object.
    pub uid: Option<String>,
    /// The status as we last wrote it: newer than what the watch shows.
    pub status: Option<KustomizationStatus>,
    /// The inventory of that status, read.
    pub inventory: Option<Recorded>,
    /// What Git wants, and what it was loaded for.
    pub desired: Option<(LoadKey, Arc<Desired>)>,
    /// The last load that failed, or failed in part: what for, when, and why it failed as a whole.
    pub load_failed: Option<(LoadKey, Instant, Option<Arc<LoadError>>)>,
    /// Parsed files.
    pub cache: Arc<Mutex<ParseCache>>,
    /// Since when its source has been unknown.
    pub waiting_since: Option<Instant>,
    /// The last request to reconcile now that was seen.
    pub requested: Option<String>,
    /// What is known of what comes first.
    pub gate: Gate,
    /// Since when objects have been on their way between it and another one.
    pub moving_since: Option<Instant>,
    /// The resource version at the last look.
    pub version: Option<String>,
    /// What those see of it that depend on it.
    pub signature: Option<depends::Signature>,
    /// What is known of an earlier revision that is returned to.
    pub earlier: Earlier,
    /// The health of its objects.
    pub waiting: Option<wait::Waiting>,
    /// Objects that differ from Git and are left so.
    pub left: BTreeMap<ObjectId, drift::Left>,
    /// Its objects are gone and so is our finalizer: there is nothing to remember.
    pub finished: bool,
    /// When the API server's kinds were last asked for because some were unknown.
    pub kinds_asked_at: Option<Instant>,
    /// How often the API server's kinds had been asked for when objects were last parked.
    pub kinds_asked: Option<u64>,
    /// The connection to the cluster that `spec.kubeConfig` names.
    pub connection: Option<Arc<Connection>>,
}

impl Memory {
    /// The cluster that was last applied to, if it is connected.
    pub fn cluster(&self, home: &Arc<TargetCluster>) -> Option<Arc<TargetCluster>> {
        match &self.connection {
            Some(connection) => connection.cluster(),
            None => Some(Arc::clone(home)),
        }
    }
}

/// What a set of manifests was loaded for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadKey {
    /// Revision of the source.
    pub revision: String,
    /// `spec.path`.
    pub path: String,
    /// Digest of the variables that are put in.
    pub variables: Option<ContentDigest>,
    /// Digest of the transformations by kustomize.
    pub transformations: Option<ContentDigest>,
    /// All else that its files depend on.
    pub artifact: String,
}

/// An error that the condition of the object cannot carry, because it could not be written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server did not take what we write on the Kustomization itself.
    #[error("the Kustomization {0} cannot be updated: {1}")]
    Write(String, kube::Error),
    /// It did not answer.
    #[error("the Kustomization {0} cannot be updated: the API server does not answer")]
    WriteTimeout(String),
    /// The kinds could not be asked for.
    #[error("the kinds of the API server cannot be discovered: {0}")]
    Discovery(#[from] KindsError),
    /// The status cannot be expressed as JSON.
    #[error("the status cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// A client for a ServiceAccount cannot be made.
    #[error("cannot act as {0}: {1:#}")]
    Impersonation(String, anyhow::Error),
    /// The blocking part panicked.
    #[error("loading ended abnormally: {0}")]
    Join(#[from] tokio::task::JoinError),
}

impl Context {
    /// Takes out what is remembered of a Kustomization; nothing of another one that had its name.
    pub fn recall(&self, owner: &Owner, uid: Option<String>) -> Memory {
        let mut all = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        match all.remove(owner) {
            Some(memory) if memory.uid == uid => memory,
            other => {
                if let Some(connection) = other.and_then(|other| other.connection) {
                    connection.leave(owner);
                }
                Memory {
                    uid,
                    ..Memory::default()
                }
            }
        }
    }

    /// Puts it back.
    pub fn remember(&self, owner: &Owner, memory: Memory) {
        self.memory
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(owner.clone(), memory);
    }

    /// The Kustomization is gone.
    pub fn forget(&self, owner: &Owner) {
        let mut all = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let memory = all.remove(owner);
        drop(all);
        if let Some(connection) = memory.and_then(|memory| memory.connection) {
            connection.leave(owner);
        }
        self.home.forget_owner(owner);
        self.gates.leave(owner);
        self.dependants.set(owner, HashSet::new());
        self.wake_all(self.wishes.forget(owner));
        self.metrics
            .forget("Kustomization", &owner.name, &owner.namespace);
    }

    /// Whether a Kustomization exists that has the object of this cluster in its inventory.
    pub fn claims(&self, owner: &Owner, which: &ClusterId, id: &ObjectId) -> bool {
        let Some(object) = self.find(owner) else {
            return false;
        };
        let generation = object.metadata.generation.unwrap_or_default();
        let its = object
            .status
            .as_ref()
            .and_then(|status| identity::of_inventory(status, &object.spec, generation));
        // One of Flux's inventories may be about any cluster but ours.
        if !its.map_or(*which != ClusterId::Home, |its| its.is(which)) {
            return false;
        }
        let id = inventory::encode(id);
        let inventory = object
            .status
            .as_ref()
            .and_then(|status| status.inventory.as_ref());
        // What is in a shard is not looked up: its labels name it, and that is enough to keep hands off.
        let is_shard = |entry: &ResourceRef| entry.id.contains(inventory::SHARD_PREFIX);
        inventory.is_some_and(|inventory| {
            let mut entries = inventory.entries.iter();
            entries.any(|entry| entry.id == id || is_shard(entry))
        })
    }

    /// All Kustomizations, as the watch shows them.
    pub fn all(&self) -> Vec<Arc<Kustomization>> {
        self.store.get().map(Store::state).unwrap_or_default()
    }

    /// A Kustomization, as the watch shows it.
    pub fn find(&self, owner: &Owner) -> Option<Arc<Kustomization>> {
        let reference = ObjectRef::new(&owner.name).within(&owner.namespace);
        self.store.get()?.get(&reference)
    }

    /// Wakes the Kustomizations that take variables from a ConfigMap or Secret, or are applied to the cluster that it names.
    pub fn wake_users_of(&self, kind: &str, namespace: &str, name: &str) {
        self.wake_those(|object| {
            let build = object.spec.post_build.iter();
            let mut from = build.flat_map(|build| &build.substitute_from);
            let cluster = object.spec.kube_config.as_ref();
            let secret = cluster.and_then(|cluster| cluster.secret_ref.as_ref());
            let map = cluster.and_then(|cluster| cluster.config_map_ref.as_ref());
            object.namespace().as_deref() == Some(namespace)
                && (from.any(|from| from.kind == kind && from.name == name)
                    || (kind == "Secret" && secret.is_some_and(|secret| secret.name == name))
                    || (kind == "ConfigMap" && map.is_some_and(|map| map.name == name)))
        });
    }

    /// Whether a Kustomization that has an object no longer wants it, or has not yet looked at what its source has now.
    pub fn leaves(&self, owner: &Owner, id: &ObjectId) -> bool {
        let Some(object) = self.find(owner) else {
            return true;
        };
        if object.spec.suspend == Some(true) || self.wishes.is_empty() {
            return false;
        }
        let source = self.sources.find(&source_key(&object.spec, &owner.namespace));
        let artifact = source.and_then(|source| source.artifact);
        object.metadata.deletion_timestamp.is_some()
            || self.wishes.wants(owner, id) == Some(false)
            || artifact.is_some_and(|artifact| !self.wishes.has_looked(owner, &artifact.digest))
    }

    /// Asks a Kustomization to look again.
    pub fn wake(&self, owner: &Owner) {
        self.home.watches.wake(owner);
    }

    /// Asks these Kustomizations to look again.
    pub fn wake_all(&self, owners: Vec<Owner>) {
        for owner in owners {
            self.wake(&owner);
        }
    }

    /// Another Kustomization that has not looked yet at what its source has now, and may want what `owner` no longer does.
    pub fn unread(&self, owner: &Owner) -> Option<Awaited> {
        let all = self.all();
        all.iter().find_map(|object| {
            let other = Owner::of(object);
            let idle = object.spec.suspend == Some(true) || object.metadata.deletion_timestamp.is_some();
            if other == *owner || idle {
                return None;
            }
            let key = source_key(&object.spec, &other.namespace);
            if self.is_to_be_asked(&key) {
                return Some(Awaited::Source(other, key));
            }
            let artifact = self.sources.find(&key)?.artifact?;
            (!self.wishes.has_looked(&other, &artifact.digest)).then_some(Awaited::Look(other))
        })
    }

    /// Whether a source exists that is still to be asked for the first time since the start.
    fn is_to_be_asked(&self, key: &SourceKey) -> bool {
        if !self.sources.is_to_be_asked(key) {
            return false;
        }
        // Before the watch has shown all of them any name may be one.
        let Some(store) = self.source.store.get() else {
            return true;
        };
        if store.wait_until_ready().now_or_never().is_none() {
            return true;
        }
        let found = store.get(&ObjectRef::new(&key.1).within(&key.0));
        found.is_some_and(|source| {
            let suspension = Suspension::of(source.spec.suspend, &source.metadata, Timestamp::now());
            source.metadata.deletion_timestamp.is_none() && !suspension.is_active()
        })
    }

    /// Wakes those that depend on a Kustomization.
    pub fn wake_dependants(&self, owner: &Owner) {
        self.wake_all(self.dependants.of(owner));
    }

    /// Wakes those that say in an expression when a Kustomization is ready: they see all of it.
    pub fn wake_those_with_expressions(&self, owner: &Owner) {
        let mut dependants = self.dependants.of(owner);
        dependants.retain(|dependant| {
            self.find(dependant)
                .is_some_and(|object| depends::has_expression_about(&object, owner))
        });
        self.wake_all(dependants);
    }

    fn wake_those(&self, which: impl Fn(&Kustomization) -> bool) {
        for object in self.all() {
            if which(&object) {
                self.wake(&Owner::of(&object));
            }
        }
    }

    /// The account that a Kustomization is applied as; `None` for whoever the cluster is reached as.
    pub fn account(&self, spec: &KustomizationSpec, namespace: &str) -> Option<String> {
        let account = spec.service_account_name.as_deref().unwrap_or_default();
        let account = if account.is_empty() {
            self.settings.default_service_account.as_str()
        } else {
            account
        };
        (!account.is_empty()).then(|| format!("system:serviceaccount:{namespace}:{account}"))
    }

    /// Writes what changed of a status.
    pub async fn write_status(
        &self,
        owner: &Owner,
        memory: &mut Memory,
        old: &KustomizationStatus,
        new: KustomizationStatus,
    ) -> Result<(), Error> {
        // The inventory is by far the largest field: it goes straight from its type to the wire, and only when it changed.
        let shorn = |status: &KustomizationStatus| KustomizationStatus {
            inventory: None,
            ..status.clone()
        };
        let changed = status::Changed {
            fields: status::changes(&shorn(old), &shorn(&new))?,
            inventory: new
                .inventory
                .as_deref()
                .filter(|new| old.inventory.as_deref() != Some(*new)),
        };
        if !changed.fields.is_empty() || changed.inventory.is_some() {
            let patch = status::Patch { status: changed };
            bounded(owner, self.patch_status(owner, &patch)).await?;
        }
        memory.status = Some(new);
        Ok(())
    }

    /// Patches a status and asks for no more than metadata in return: the whole object may be a megabyte.
    async fn patch_status(&self, owner: &Owner, patch: &status::Patch<'_>) -> Result<(), kube::Error> {
        let url = Kustomization::url_path(&(), Some(&owner.namespace));
        let params = PatchParams {
            field_manager: Some(MANAGER.into()),
            ..PatchParams::default()
        };
        let mut request = kube::core::Request::new(url)
            .patch_subresource("status", &owner.name, &params, &Patch::Merge(patch))
            .map_err(kube::Error::BuildRequest)?;
        let accept = http::HeaderValue::from_static(requests::METADATA);
        request.headers_mut().insert(http::header::ACCEPT, accept);
        self.client.request_text(request).await.map(drop)
    }

    /// Adds or removes our finalizer; refused by the API server if the object changed meanwhile.
    pub async fn write_finalizers(
        &self,
        object: &Kustomization,
        finalizers: Vec<String>,
    ) -> Result<(), Error> {
        let owner = Owner::of(object);
        let api: Api<Kustomization> = Api::namespaced(self.client.clone(), &owner.namespace);
        let patch = json!({ "metadata": {
            "finalizers": finalizers,
            "resourceVersion": object.metadata.resource_version,
        } });
        let params = PatchParams {
            field_manager: Some(MANAGER.into()),
            ..PatchParams::default()
        };
        bounded(
            &owner,
            api.patch_metadata(&owner.name, &params, &Patch::Merge(&patch)),
        )
        .await
    }

    /// Records an event about a Kustomization.
    pub fn tell(
        &self,
        object: &Kustomization,
        kind: events::Kind,
        reason: &str,
        message: String,
        revision: &str,
    ) {
        let mut annotations = BTreeMap::new();
        if !revision.is_empty() {
            annotations.insert(
                "kustomize.toolkit.fluxcd.io/revision".to_owned(),
                revision.to_owned(),
            );
        }
        if reason == "ReconciliationSucceeded" {
            // Flux's mark for those who tell Git hosts of it.
            annotations.insert(
                "kustomize.toolkit.fluxcd.io/commit_status".to_owned(),
                "update".to_owned(),
            );
        }
        let regarding = object.object_ref(&());
        self.recorder.record(events::Note {
            regarding,
            kind,
            reason: reason.to_owned(),
            message,
            annotations,
        });
    }
}

/// Within the time that a write may take; an object that is gone is not written.
pub(crate) async fn bounded<T>(
    owner: &Owner,
    write: impl Future<Output = Result<T, kube::Error>>,
) -> Result<(), Error> {
    let name = || format!("{}/{}", owner.namespace, owner.name);
    match tokio::time::timeout(WRITE_TIMEOUT, write).await {
        Ok(Ok(_)) => Ok(()),
        // Deleted meanwhile: there is nobody left to tell.
        Ok(Err(kube::Error::Api(status))) if status.code == 404 => Ok(()),
        Ok(Err(error)) => Err(Error::Write(name(), error)),
        Err(_) => Err(Error::WriteTimeout(name())),
    }
}
