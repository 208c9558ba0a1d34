//! The control plane, the repository and the objects of a measurement.

use std::fs;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client,
    api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams},
    runtime::wait::await_condition,
};
use plumbline_testkit::{ControlPlane, git::Repository};
use serde_json::{Value, json};

use super::{Scale, process::crds};

/// Namespace of the GitRepository and the Kustomizations.
pub(crate) const NAMESPACE: &str = "flux-system";
/// The key of every ConfigMap whose value changes.
pub(crate) const KEY: &str = "value";
/// What it holds in the first commit.
pub(crate) const VALUE: &str = "as in Git";
/// How long anything may take: a machine with other work is slow, but not that slow.
const PATIENCE: std::time::Duration = std::time::Duration::from_mins(5);
const REPOSITORY: &str = "bench";

/// Where the measurements take place.
pub(crate) struct Stage {
    pub(crate) plane: ControlPlane,
    pub(crate) repository: Repository,
}

impl Stage {
    /// A stage on which all manifests that are going to be applied are committed.
    pub(crate) fn set_up(scale: &Scale) -> anyhow::Result<Self> {
        let stage = Self::start()?;
        for round in 0..scale.rounds {
            write(&stage.repository, &small(round), scale.small)?;
        }
        write(&stage.repository, LARGE, scale.large)?;
        stage.repository.commit("everything")?;
        Ok(stage)
    }

    /// Starts a control plane with our CRDs; the repository is empty.
    pub(crate) fn start() -> anyhow::Result<Self> {
        let plane = ControlPlane::start_temporary()?;
        let work = plane.dir().join(ControlPlane::WORK);
        fs::create_dir_all(&work).with_context(|| format!("cannot create {}", work.display()))?;
        let kubectl =
            |arguments: &[&str], input: &str| plumbline_testkit::kubectl(plane.dir(), "", arguments, input);
        kubectl(
            &["apply", "--server-side", "-f", "-"],
            &crds("plumbline-sync", &["--allow-file-urls"])?,
        )?;
        kubectl(
            &[
                "wait",
                "--for=condition=Established",
                "crd",
                "--all",
                "--timeout=30s",
            ],
            "",
        )?;
        kubectl(&["create", "namespace", NAMESPACE], "")?;
        let repository = Repository::init(&work)?;
        Ok(Self { plane, repository })
    }

    /// Makes the GitRepository. Its interval lets the syncer poll during a minute in which nothing changes.
    pub(crate) async fn follow_repository(&self, client: &Client) -> anyhow::Result<()> {
        let object = json!({
            "apiVersion": "source.toolkit.fluxcd.io/v1", "kind": "GitRepository",
            "metadata": {"name": REPOSITORY, "namespace": NAMESPACE},
            "spec": {
                "url": format!("file://{}", self.repository.path().display()),
                "interval": "20s", "ref": {"branch": "main"},
            },
        });
        git_repositories(client)
            .create(
                &kube::api::PostParams::default(),
                &serde_json::from_value(object)?,
            )
            .await?;
        Ok(())
    }
}

/// The large Kustomization, its path and its namespace.
pub(crate) const LARGE: &str = "large";

/// A small Kustomization, its path and its namespace.
pub(crate) fn small(round: usize) -> String {
    format!("small-{round}")
}

/// Name of a ConfigMap.
pub(crate) fn name(index: usize) -> String {
    format!("settings-{index:05}")
}

/// A ConfigMap as Git has it.
pub(crate) fn config_map(namespace: &str, index: usize) -> Value {
    config_map_with(namespace, index, VALUE)
}

/// A ConfigMap with another value.
pub(crate) fn config_map_with(namespace: &str, index: usize, value: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name(index), "namespace": namespace},
        "data": {KEY: value, "index": index.to_string(), "greeting": "Hello, world"},
    })
}

/// The file of a ConfigMap. JSON is YAML.
pub(crate) fn path(namespace: &str, index: usize) -> String {
    format!("{namespace}/{}.yaml", name(index))
}

fn write(repository: &Repository, namespace: &str, count: usize) -> anyhow::Result<()> {
    (0..count).try_for_each(|index| {
        let object = config_map(namespace, index);
        repository.write(&path(namespace, index), object.to_string())
    })
}

/// The GitRepositories of our namespace.
pub(crate) fn git_repositories(client: &Client) -> Api<DynamicObject> {
    api(client, "source.toolkit.fluxcd.io", "GitRepository")
}

/// The Kustomizations of our namespace.
pub(crate) fn kustomizations(client: &Client) -> Api<DynamicObject> {
    api(client, "kustomize.toolkit.fluxcd.io", "Kustomization")
}

fn api(client: &Client, group: &str, kind: &str) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", kind));
    Api::namespaced_with(client.clone(), NAMESPACE, &resource)
}

/// Waits until the source has been fetched.
pub(crate) async fn fetched(client: &Client) -> anyhow::Result<()> {
    let ready = |object: Option<&DynamicObject>| object.is_some_and(|object| is_ready(&object.data));
    within(await_condition(git_repositories(client), REPOSITORY, ready)).await
}

/// Makes the namespace and the Kustomization `name`, and waits until it has been applied.
pub(crate) async fn apply(client: &Client, name: &str) -> anyhow::Result<()> {
    let object = json!({
        "apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "sourceRef": {"kind": "GitRepository", "name": REPOSITORY},
            "path": name, "prune": true, "interval": "20s", "timeout": "5m",
        },
    });
    let api = kustomizations(client);
    api.create(
        &kube::api::PostParams::default(),
        &serde_json::from_value(object)?,
    )
    .await?;
    let ready = |object: Option<&DynamicObject>| object.is_some_and(|object| is_ready(&object.data));
    within(await_condition(api, name, ready)).await
}

/// Deletes the Kustomization `name`, and waits until its objects are gone with it.
pub(crate) async fn delete(client: &Client, name: &str) -> anyhow::Result<()> {
    let api = kustomizations(client);
    api.delete(name, &DeleteParams::default()).await?;
    gone(client, name).await
}

/// Waits until there is no Kustomization `name`.
pub(crate) async fn gone(client: &Client, name: &str) -> anyhow::Result<()> {
    let is_gone = |object: Option<&DynamicObject>| object.is_none();
    within(await_condition(kustomizations(client), name, is_gone)).await
}

/// Makes a namespace.
pub(crate) async fn namespace(client: &Client, name: &str) -> anyhow::Result<()> {
    let object = serde_json::from_value(json!({"metadata": {"name": name}}))?;
    Api::<Namespace>::all(client.clone())
        .create(&kube::api::PostParams::default(), &object)
        .await?;
    Ok(())
}

/// Asks for a look at the repository, as `flux reconcile source git` and webhooks do.
pub(crate) async fn look(client: &Client, when: &str) -> anyhow::Result<()> {
    let asked = json!({"metadata": {"annotations": {"reconcile.fluxcd.io/requestedAt": when}}});
    git_repositories(client)
        .patch(REPOSITORY, &PatchParams::default(), &Patch::Merge(&asked))
        .await?;
    Ok(())
}

fn is_ready(object: &Value) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    let mut conditions = conditions.into_iter().flatten();
    conditions.any(|one| one["type"] == "Ready" && one["status"] == "True")
}

async fn within<T>(wait: impl Future<Output = Result<T, kube::runtime::wait::Error>>) -> anyhow::Result<()> {
    tokio::time::timeout(PATIENCE, wait)
        .await
        .with_context(|| format!("not within {PATIENCE:?}"))??;
    Ok(())
}
