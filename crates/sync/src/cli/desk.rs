//! Where a Kustomization is looked at without touching it: the controller's own parts, fed once and never started.

use std::{
    fs,
    future::Future,
    path::Path,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use anyhow::{Context as _, anyhow, bail};
use k8s_openapi::jiff::Timestamp;
use kube::{
    Api, ResourceExt as _,
    api::ListParams,
    runtime::{reflector, watcher::Event},
};
use plumbline_common::events::Recorder;
use prometheus_client::registry::Registry;
use tempfile::TempDir;

use super::{
    TargetArgs,
    session::Session,
    target,
    worktree::{self, WorkTree},
};
use crate::{
    api::{GitRepository, GitRepositoryRef, GitRepositorySpec, Kustomization, REQUESTED_AT},
    cluster::live::Owner,
    config::ControllerArgs,
    context::Memory,
    git::{self, Mirrors},
    inventory::Recorded,
    manifest::Desired,
    metrics::Metrics,
    planning::Planned,
    reconcile::Step,
    remote::Connection,
    report::About,
    run::{self, Parts},
    shards,
    source::{self, Artifact},
};

/// Includes inside of includes that are fetched.
const INCLUDE_DEPTH: u32 = 8;

/// The controller's parts, with the rights of whoever types the command.
pub(super) struct Desk {
    pub(super) session: Session,
    pub(super) parts: Parts,
    worktree: Option<WorkTree>,
    reference: Option<String>,
    connections: Mutex<Vec<Arc<Connection>>>,
    _storage: TempDir,
}

/// What Git wants of a Kustomization.
pub(super) struct Wants {
    pub(super) artifact: Arc<Artifact>,
    pub(super) desired: Arc<Desired>,
}

impl Desk {
    pub(super) async fn set_up(
        session: Session,
        mut flags: ControllerArgs,
        target: &TargetArgs,
    ) -> anyhow::Result<Self> {
        let is_local = target.kustomization.is_some() || target.file.is_some();
        let worktree = if is_local {
            let path = target.target.as_deref().unwrap_or(".").to_owned();
            let taken = tokio::task::spawn_blocking(move || WorkTree::take(Path::new(&path)));
            flags.allow_file_urls = true;
            Some(taken.await??)
        } else {
            None
        };
        git::sweep();
        let storage = tempfile::tempdir().context("cannot create a temporary directory")?;
        flags.storage_path = storage.path().to_owned();
        // Nothing is told: the sender of events is never started.
        let (recorder, _) = Recorder::new(session.client.clone(), "plumbline-sync");
        let parts = run::parts(
            &flags,
            &session.client,
            session.config.clone(),
            Mirrors::new(storage.path())?,
            recorder,
            Metrics::new(&mut Registry::default()),
        )?;
        parts
            .context
            .home
            .kinds
            .refresh_since(0)
            .await
            .context("the API server does not say which kinds it serves")?;
        let desk = Self {
            session,
            parts,
            worktree,
            reference: target.reference.clone(),
            connections: Mutex::default(),
            _storage: storage,
        };
        desk.read_kustomizations().await?;
        Ok(desk)
    }

    /// All Kustomizations that may be read: two that want the same object are told apart by them.
    async fn read_kustomizations(&self) -> anyhow::Result<()> {
        let everywhere: Api<Kustomization> = Api::all(self.session.client.clone());
        let list = match everywhere.list(&ListParams::default()).await {
            Ok(list) => list,
            Err(kube::Error::Api(status)) if status.code == 403 => {
                self.session.kustomizations().list(&ListParams::default()).await?
            }
            Err(error) => return Err(error).context("the Kustomizations cannot be listed"),
        };
        let (store, mut writer) = reflector::store();
        writer.apply_watcher_event(&Event::Init);
        for object in list.items {
            writer.apply_watcher_event(&Event::InitApply(object));
        }
        writer.apply_watcher_event(&Event::InitDone);
        // `Err`: it is set already, which only a second call could do.
        drop(self.parts.context.store.set(store));
        Ok(())
    }

    /// The Kustomizations that are meant.
    pub(super) async fn targets(&self, target: &TargetArgs) -> anyhow::Result<Vec<Kustomization>> {
        let mut all = if let Some(file) = &target.file {
            vec![self.read_file(file)?]
        } else if let Some(name) = target.kustomization.as_ref().or(target.target.as_ref()) {
            if name.starts_with(['.', '/']) {
                bail!("{name:?} is a directory: say with -k NAME or -f FILE which Kustomization it is for");
            }
            vec![self.session.kustomization(name).await?]
        } else {
            self.session.all().await?
        };
        if all.is_empty() {
            bail!(
                "there is no Kustomization in the namespace {}",
                self.session.namespace
            );
        }
        if let Some(path) = self.worktree.as_ref().and_then(|tree| tree.path.clone()) {
            for object in &mut all {
                object.spec.path = Some(path.clone());
            }
        }
        Ok(all)
    }

    fn read_file(&self, file: &Path) -> anyhow::Result<Kustomization> {
        let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        let mut object: Kustomization = serde_yaml::from_str(&text)
            .with_context(|| format!("{} holds no Kustomization", file.display()))?;
        let namespace = object
            .metadata
            .namespace
            .get_or_insert_with(|| self.session.namespace.clone());
        let owner = Owner {
            namespace: namespace.clone(),
            name: object.name_any(),
        };
        // What is in the cluster already has an inventory.
        if let Some(live) = self.parts.context.find(&owner) {
            object.status.clone_from(&live.status);
            object.metadata.uid.clone_from(&live.metadata.uid);
        }
        Ok(object)
    }

    /// Looks at this commit or reference of the sources, instead of the one they follow.
    pub(super) fn look_at(&mut self, reference: Option<String>) {
        self.reference = reference;
    }

    /// A look at `object` that never becomes a reconciliation.
    pub(super) fn step<'a>(&'a self, object: &'a Kustomization, owner: &'a Owner) -> Step<'a> {
        Step {
            context: &self.parts.context,
            cluster: Arc::clone(&self.parts.context.home),
            object,
            owner,
            about: About {
                generation: object.metadata.generation.unwrap_or_default(),
                now: Timestamp::now(),
                requested: object.annotations().get(REQUESTED_AT).map(String::as_str),
            },
            begun: Instant::now(),
        }
    }

    /// Plans with the whole inventory.
    pub(super) async fn plan(&self, step: &Step<'_>, wants: &Wants) -> anyhow::Result<Planned> {
        let recorded = self.inventory(step).await?;
        Ok(step.plan(recorded, &wants.artifact, &wants.desired).await)
    }

    /// The inventory, with the part of it that is not in the status.
    pub(super) async fn inventory(&self, step: &Step<'_>) -> anyhow::Result<Recorded> {
        let status = step.object.status.clone().unwrap_or_default();
        let home = step.home();
        let read = shards::read(&self.session.client, &status, None, &home);
        let recorded = read.await.map_err(|message| anyhow!(message))?;
        Ok(target::of_this_cluster(step, recorded))
    }

    /// Keeps a connection open as long as the command runs.
    pub(super) fn keep(&self, connection: Arc<Connection>) {
        let mut open = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        open.push(connection);
    }

    /// Fetches and loads what Git wants. The error is what the Kustomization's condition would say.
    pub(super) async fn wants(&self, step: &Step<'_>) -> anyhow::Result<Wants> {
        if let Some((reason, message)) = step.refusal() {
            bail!("{reason}: {message}");
        }
        let (namespace, name) = step.source_key();
        let found = self.session.source(&namespace, &name).await?;
        let source = match (&self.worktree, found) {
            (None, None) => bail!("ArtifactFailed: GitRepository {namespace}/{name} does not exist"),
            (None, Some(source)) => self.at_reference(source),
            (Some(worktree), found) => from_worktree(worktree, found, &namespace, &name),
        };
        let artifact = self.fetch(source, INCLUDE_DEPTH).await?;
        let variables = step
            .variables()
            .await
            .map_err(|message| anyhow!("BuildFailed: {message}"))?;
        let mut memory = Memory::default();
        let desired = step
            .desired(&mut memory, &artifact, variables)
            .await?
            .map_err(|error| anyhow!("ArtifactFailed: {error}"))?;
        Ok(Wants { artifact, desired })
    }

    fn at_reference(&self, mut source: GitRepository) -> GitRepository {
        if let Some(name) = &self.reference {
            // A commit is written as such; everything else is the name of a reference.
            let is_commit = name.len() >= 40 && name.chars().all(|c| c.is_ascii_hexdigit());
            source.spec.reference = Some(GitRepositoryRef {
                name: (!is_commit).then(|| name.clone()),
                commit: is_commit.then(|| name.clone()),
                ..GitRepositoryRef::default()
            });
        }
        source
    }

    fn fetch(
        &self,
        source: GitRepository,
        depth: u32,
    ) -> Pin<Box<dyn Future<Output = anyhow::Result<Arc<Artifact>>> + '_>> {
        Box::pin(async move {
            let namespace = source.namespace().unwrap_or_default();
            for include in &source.spec.include {
                let name = &include.repository.name;
                let known = self
                    .parts
                    .context
                    .sources
                    .find(&(namespace.clone(), name.clone()));
                if depth > 0
                    && known.is_none()
                    && let Some(inner) = self.session.source(&namespace, name).await?
                {
                    self.fetch(inner, depth - 1).await?;
                }
            }
            let name = source.name_any();
            source::controller::fetch_once(&source, &self.parts.source)
                .await
                .map_err(|message| anyhow!("GitRepository {namespace}/{name} cannot be fetched: {message}"))
        })
    }
}

/// The source as it would be with the working tree pushed: its rules and includes, other files.
fn from_worktree(
    worktree: &WorkTree,
    found: Option<GitRepository>,
    namespace: &str,
    name: &str,
) -> GitRepository {
    let mut source = found.unwrap_or_else(|| {
        let spec = GitRepositorySpec {
            interval: "1h".into(),
            ..GitRepositorySpec::default()
        };
        let mut new = GitRepository::new(name, spec);
        new.metadata.namespace = Some(namespace.to_owned());
        new
    });
    source.spec = GitRepositorySpec {
        url: worktree.url(),
        reference: Some(GitRepositoryRef {
            branch: Some(worktree::BRANCH.to_owned()),
            ..GitRepositoryRef::default()
        }),
        secret_ref: None,
        proxy_secret_ref: None,
        verify: None,
        provider: None,
        service_account_name: None,
        recurse_submodules: None,
        ..source.spec
    };
    source
}
