//! Starts the binary in a namespace of its own, with a repository of its own, and looks at what it does.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::Context as _;
use k8s_openapi::api::core::v1::{ConfigMap, Event};
use kube::{
    Api,
    api::{DynamicObject, ListParams, Patch, PatchParams, PostParams},
    core::{ApiResource, GroupVersionKind},
};
use plumbline_sync::api::{GitRepository, Kustomization, UrlSchemes, crds_yaml};
use plumbline_testkit::{
    AuditLog, ControlPlane, Leash, Requests, World,
    git::{GitServer, Repository},
    wait_for,
};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::faults::FaultyServer;

/// How long anything may take on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_mins(1);
/// The name of the GitRepository and the Kustomization of most tests.
pub(crate) const APP: &str = "app";
/// Rules for everything that can be done with ConfigMaps, and nothing else.
pub(crate) const EVERYTHING: &str = "
- {apiGroups: [''], resources: [configmaps], verbs: ['*']}";

/// The ServiceAccount `tenant` with these rules in its namespace.
pub(crate) fn tenant(rules: &str) -> String {
    format!(
        "
apiVersion: v1
kind: ServiceAccount
metadata: {{name: tenant}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {{name: tenant}}
rules:{rules}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: tenant}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: tenant}}
subjects:
- {{kind: ServiceAccount, name: tenant}}
"
    )
}

/// A namespace, a repository behind an HTTP server, and a user whose requests are told apart.
pub(crate) struct Bench {
    pub(crate) world: World,
    pub(crate) repository: Repository,
    pub(crate) server: GitServer,
    kubeconfig: PathBuf,
    leash: Leash,
}

/// A running syncer; dropping it kills it.
pub(crate) struct Syncer {
    child: Child,
    log: PathBuf,
}

impl Drop for Syncer {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Syncer {
    /// kill -9.
    pub(crate) fn kill(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }

    /// SIGTERM, and its end.
    pub(crate) fn stop(&mut self) -> anyhow::Result<ExitStatus> {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status()?;
        anyhow::ensure!(sent.success(), "kill -TERM {pid}");
        Ok(self.child.wait()?)
    }

    /// Whether it still runs.
    pub(crate) fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The most memory it ever used, in MiB.
    pub(crate) fn peak_memory(&self) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status
            .lines()
            .find(|line| line.starts_with("VmHWM:"))
            .context("no VmHWM")?;
        let kib: u64 = line.split_whitespace().nth(1).context("no figure")?.parse()?;
        Ok(kib / 1024)
    }
}

impl Bench {
    pub(crate) async fn new() -> anyhow::Result<Self> {
        static CRDS: OnceCell<()> = OnceCell::const_new();
        let world = World::new().await?;
        CRDS.get_or_try_init(async || crds(&world)).await?;
        Self::in_world(world)
    }

    /// On a control plane of its own.
    pub(crate) async fn on(plane: &ControlPlane) -> anyhow::Result<Self> {
        let world = World::on(plane).await?;
        crds(&world)?;
        Self::in_world(world)
    }

    fn in_world(world: World) -> anyhow::Result<Self> {
        std::fs::create_dir(world.dir().join("tmp"))?;
        let repository = Repository::init(world.dir())?;
        let server = GitServer::http(&repository)?;
        let kubeconfig = impersonating(&world.kubeconfig(), world.dir(), &user(world.namespace()))?;
        Ok(Self {
            world,
            repository,
            server,
            kubeconfig,
            leash: Leash::new()?,
        })
    }

    pub(crate) fn namespace(&self) -> &str {
        self.world.namespace()
    }

    /// A proxy in front of the API server, through which syncers go that start from now on.
    pub(crate) async fn behind_faults(&mut self) -> anyhow::Result<FaultyServer> {
        let server = FaultyServer::start(&self.world.kubeconfig()).await?;
        self.kubeconfig = server.kubeconfig(self.world.dir(), &user(self.namespace()))?;
        Ok(server)
    }

    /// Starts the binary for this namespace.
    pub(crate) fn start(&self, arguments: &[&str]) -> anyhow::Result<Syncer> {
        self.start_named("syncer-0", arguments)
    }

    /// Starts a replica with a Pod's name. Each name has a storage directory of its own, which outlives the process.
    pub(crate) fn start_named(&self, pod: &str, arguments: &[&str]) -> anyhow::Result<Syncer> {
        let log = self.world.dir().join(format!("{pod}.log"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_plumbline-sync"));
        for (flag, value) in [("--metrics-addr", "0"), ("--log-level", "debug")] {
            if !arguments.iter().any(|it| it.starts_with(flag)) {
                command.arg(format!("{flag}={value}"));
            }
        }
        if !arguments
            .iter()
            .any(|it| it.starts_with("--watch-all-namespaces"))
        {
            command.arg("--watch-all-namespaces=false");
        }
        command
            .arg("--health-addr=0")
            .arg("--log-encoding=console")
            .arg(format!("--runtime-namespace={}", self.namespace()))
            .arg(format!(
                "--storage-path={}",
                self.world.dir().join(format!("storage-{pod}")).display()
            ))
            .args(arguments)
            .env("KUBECONFIG", &self.kubeconfig)
            .env("POD_NAME", pod)
            .env("TMPDIR", self.world.dir().join("tmp"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::options().create(true).append(true).open(&log)?);
        Ok(Syncer {
            child: self.leash.spawn(&mut command)?,
            log,
        })
    }

    /// Requests of this test's syncers since `log`, without watches and leases.
    pub(crate) fn requests(&self, log: &AuditLog) -> anyhow::Result<Requests> {
        let mut requests = log.requests("plumbline-sync/")?;
        let user = user(self.namespace());
        requests.0.retain(|request| request.user == user);
        Ok(requests.without_watches_and_leases())
    }

    pub(crate) fn sources(&self) -> Api<GitRepository> {
        Api::namespaced(self.world.client(), self.namespace())
    }

    pub(crate) fn kustomizations(&self) -> Api<Kustomization> {
        Api::namespaced(self.world.client(), self.namespace())
    }

    pub(crate) fn config_maps(&self) -> Api<ConfigMap> {
        Api::namespaced(self.world.client(), self.namespace())
    }

    /// A resource of any kind in this namespace.
    pub(crate) fn api(&self, group: &str, version: &str, kind: &str) -> Api<DynamicObject> {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        Api::namespaced_with(self.world.client(), self.namespace(), &resource)
    }

    /// Creates the GitRepository `app`; `spec` is merged over a branch `main` that is only looked at when asked.
    pub(crate) async fn source(&self, spec: Value) -> anyhow::Result<()> {
        self.source_named(APP, spec).await
    }

    pub(crate) async fn source_named(&self, name: &str, spec: Value) -> anyhow::Result<()> {
        let mut whole = json!({ "url": self.server.url(), "interval": "1h", "ref": { "branch": "main" } });
        overlay(&mut whole, spec);
        let object = serde_json::from_value(json!({
            "apiVersion": "source.toolkit.fluxcd.io/v1", "kind": "GitRepository",
            "metadata": { "name": name }, "spec": whole,
        }))?;
        self.sources().create(&PostParams::default(), &object).await?;
        Ok(())
    }

    /// Creates a Kustomization of the source `app`; `spec` is merged over one that prunes.
    pub(crate) async fn kustomization(&self, name: &str, spec: Value) -> anyhow::Result<()> {
        let mut whole = json!({
            "sourceRef": { "kind": "GitRepository", "name": APP }, "interval": "1h", "retryInterval": "5s",
            "prune": true, "path": "./deploy",
        });
        overlay(&mut whole, spec);
        let object = serde_json::from_value(json!({
            "apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization",
            "metadata": { "name": name }, "spec": whole,
        }))?;
        self.kustomizations()
            .create(&PostParams::default(), &object)
            .await?;
        Ok(())
    }

    /// Source and Kustomization `app`, both with defaults.
    pub(crate) async fn app(&self) -> anyhow::Result<()> {
        self.source(json!({})).await?;
        self.kustomization(APP, json!({})).await
    }

    /// Writes a ConfigMap's manifest to `deploy/<name>.yaml`.
    pub(crate) fn write_config_map(&self, name: &str, value: &str) -> anyhow::Result<()> {
        self.repository
            .write(&format!("deploy/{name}.yaml"), self.manifest(name, value))
    }

    /// The manifest of a ConfigMap of this namespace.
    pub(crate) fn manifest(&self, name: &str, value: &str) -> String {
        manifest(self.namespace(), name, value)
    }

    /// Commits everything and returns the revision as the status prints it.
    pub(crate) fn commit(&self) -> anyhow::Result<String> {
        Ok(format!("main@sha1:{}", self.repository.commit("change")?))
    }

    /// Commits everything, and has the source look. Returns the revision.
    pub(crate) async fn push(&self) -> anyhow::Result<String> {
        let revision = self.commit()?;
        self.request_source().await?;
        Ok(revision)
    }

    pub(crate) async fn request_source(&self) -> anyhow::Result<()> {
        let patch = requested();
        self.sources()
            .patch(APP, &PatchParams::default(), &Patch::Merge(&patch))
            .await?;
        Ok(())
    }

    /// As `flux reconcile kustomization`; returns the value that was written.
    pub(crate) async fn request(&self, name: &str) -> anyhow::Result<String> {
        let patch = requested();
        self.kustomizations()
            .patch(name, &PatchParams::default(), &Patch::Merge(&patch))
            .await?;
        let value = &patch["metadata"]["annotations"]["reconcile.fluxcd.io/requestedAt"];
        Ok(value.as_str().context("no text")?.to_owned())
    }

    pub(crate) async fn set_spec(&self, name: &str, spec: Value) -> anyhow::Result<()> {
        let patch = json!({ "spec": spec });
        self.kustomizations()
            .patch(name, &PatchParams::default(), &Patch::Merge(&patch))
            .await?;
        Ok(())
    }

    /// Waits until the Kustomization is as `check` wants it.
    pub(crate) async fn until(
        &self,
        name: &str,
        what: &str,
        check: impl Fn(&Kustomization) -> bool,
    ) -> anyhow::Result<Kustomization> {
        let api = self.kustomizations();
        let waited = wait_for(what, LIMIT, async || {
            let object = api.get(name).await.map_err(|error| error.to_string())?;
            if check(&object) {
                Ok(object)
            } else {
                Err(format!("{:#?}", object.status))
            }
        });
        waited.await.with_context(|| self.logs())
    }

    /// Waits until the Kustomization `app` has applied this revision.
    pub(crate) async fn applied(&self, revision: &str) -> anyhow::Result<Kustomization> {
        self.applied_by(APP, revision).await
    }

    pub(crate) async fn applied_by(&self, name: &str, revision: &str) -> anyhow::Result<Kustomization> {
        self.until(name, &format!("{name} at {revision}"), |object| {
            last_applied(object) == revision && ready(object).0 == "True"
        })
        .await
    }

    /// Waits until the Kustomization `app` is not ready for this reason, at this revision; returns the message.
    pub(crate) async fn fails(&self, revision: &str, reason: &str) -> anyhow::Result<String> {
        self.fails_by(APP, revision, reason).await
    }

    pub(crate) async fn fails_by(&self, name: &str, revision: &str, reason: &str) -> anyhow::Result<String> {
        let object = self
            .until(name, &format!("{name} to fail with {reason}"), |object| {
                let status = object.status.clone().unwrap_or_default();
                let (value, why, _) = ready(object);
                value == "False"
                    && why == reason
                    && status.last_attempted_revision.unwrap_or_default() == revision
            })
            .await?;
        Ok(ready(&object).2)
    }

    /// Waits until the GitRepository `app` has this Ready status and reason; returns the message.
    pub(crate) async fn source_is(&self, value: &str, reason: &str) -> anyhow::Result<String> {
        self.source_named_is(APP, value, reason).await
    }

    pub(crate) async fn source_named_is(
        &self,
        name: &str,
        value: &str,
        reason: &str,
    ) -> anyhow::Result<String> {
        let api = self.sources();
        let what = format!("source {name}: {value} {reason}");
        let waited = wait_for(&what, LIMIT, async || {
            let object = api.get(name).await.map_err(|error| error.to_string())?;
            let status = object.status.unwrap_or_default();
            match status.conditions.iter().find(|c| c.type_ == "Ready") {
                Some(c)
                    if c.status == value
                        && c.reason == reason
                        && status.observed_generation == object.metadata.generation =>
                {
                    Ok(c.message.clone())
                }
                _ => Err(format!("{status:#?}")),
            }
        });
        waited.await.with_context(|| self.logs())
    }

    /// Waits until a GitRepository has fetched this revision.
    pub(crate) async fn source_has(&self, name: &str, revision: &str) -> anyhow::Result<()> {
        let api = self.sources();
        let what = format!("source {name} at {revision}");
        let waited = wait_for(&what, LIMIT, async || {
            let object = api.get(name).await.map_err(|error| error.to_string())?;
            let artifact = object.status.and_then(|status| status.artifact);
            match artifact.map(|artifact| artifact.revision) {
                Some(now) if now == revision => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
        waited.await.with_context(|| self.logs())
    }

    /// The value of a ConfigMap of this namespace; `None` when it does not exist.
    pub(crate) async fn value(&self, name: &str) -> anyhow::Result<Option<String>> {
        let found = self.config_maps().get_opt(name).await?;
        Ok(found.map(|it| it.data.unwrap_or_default().remove("key").unwrap_or_default()))
    }

    /// Waits until a ConfigMap of this namespace has this value (`None`: does not exist).
    pub(crate) async fn until_value(&self, name: &str, value: Option<&str>) -> anyhow::Result<()> {
        let what = format!("ConfigMap {name} to be {value:?}");
        let waited = wait_for(&what, LIMIT, async || match self.value(name).await {
            Ok(seen) if seen.as_deref() == value => Ok(()),
            Ok(seen) => Err(format!("{seen:?}")),
            Err(error) => Err(error.to_string()),
        });
        waited.await.with_context(|| self.logs())
    }

    /// Waits until nothing is asked of the API server for three seconds.
    pub(crate) async fn idle(&self) -> anyhow::Result<()> {
        wait_for("three seconds without a request", LIMIT, async || {
            let ask = async || {
                let log = self.world.audit_log().since_now()?;
                tokio::time::sleep(Duration::from_secs(3)).await;
                Ok::<_, anyhow::Error>(self.requests(&log)?.by_verb_and_resource())
            };
            match ask().await {
                Ok(requests) if requests.is_empty() => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await
    }

    /// Waits for an event about a Kustomization or GitRepository of this namespace; returns its message.
    pub(crate) async fn event(&self, kind: &str, reason: &str, part: &str) -> anyhow::Result<String> {
        let api: Api<Event> = Api::namespaced(self.world.client(), self.namespace());
        wait_for(
            &format!("an event {reason} of a {kind} with {part:?}"),
            LIMIT,
            async || {
                let events = api
                    .list(&ListParams::default())
                    .await
                    .map_err(|error| error.to_string())?;
                let told = events.items.iter().find(|event| {
                    event.involved_object.kind.as_deref() == Some(kind)
                        && event.reason.as_deref() == Some(reason)
                        && event.message.as_deref().unwrap_or_default().contains(part)
                });
                let all = || {
                    let lines = events
                        .items
                        .iter()
                        .map(|e| format!("{:?}: {:?}", e.reason, e.message));
                    lines.collect::<Vec<_>>().join("\n")
                };
                told.map(|event| event.message.clone().unwrap_or_default())
                    .ok_or_else(all)
            },
        )
        .await
    }

    /// The ends of the syncers' logs, for the error of a test that fails.
    fn logs(&self) -> String {
        let mut all = String::new();
        for entry in std::fs::read_dir(self.world.dir())
            .into_iter()
            .flatten()
            .flatten()
        {
            if entry.path().extension().is_some_and(|it| it == "log") {
                let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
                let lines: Vec<_> = text.lines().collect();
                let tail = lines.get(lines.len().saturating_sub(15)..).unwrap_or_default();
                all = format!("{all}\n{}:\n{}", entry.path().display(), tail.join("\n"));
            }
        }
        all
    }
}

fn user(namespace: &str) -> String {
    format!("syncer-of-{namespace}")
}

fn requested() -> Value {
    let now = k8s_openapi::jiff::Timestamp::now().to_string();
    json!({ "metadata": { "annotations": { "reconcile.fluxcd.io/requestedAt": now } } })
}

/// Merges `over` into the top level of `into`; null removes.
fn overlay(into: &mut Value, over: Value) {
    if let (Value::Object(into), Value::Object(over)) = (into, over) {
        for (key, value) in over {
            if value.is_null() {
                into.remove(&key);
            } else {
                into.insert(key, value);
            }
        }
    }
}

/// Installs the CRDs.
fn crds(world: &World) -> anyhow::Result<()> {
    let yaml = crds_yaml(UrlSchemes::WithFile)?;
    world.kubectl_with(&["apply", "--server-side", "--force-conflicts", "-f", "-"], &yaml)?;
    world.kubectl(&[
        "wait",
        "--for=condition=Established",
        "--timeout=60s",
        "crd/gitrepositories.source.toolkit.fluxcd.io",
        "crd/kustomizations.kustomize.toolkit.fluxcd.io",
        "crd/receivers.notification.toolkit.fluxcd.io",
    ])?;
    Ok(())
}

/// A kubeconfig that acts as another user with all rights, by which the audit log tells it apart.
pub(crate) fn impersonating(admin: &Path, dir: &Path, user: &str) -> anyhow::Result<PathBuf> {
    let mut config: Value = serde_yaml::from_str(&std::fs::read_to_string(admin)?)?;
    let who = config["users"][0]["user"].as_object_mut().context("no user")?;
    who.insert("as".into(), user.into());
    who.insert("as-groups".into(), json!(["system:masters"]));
    let path = dir.join("syncer.conf");
    std::fs::write(&path, serde_json::to_string(&config)?)?;
    Ok(path)
}

/// The manifest of a ConfigMap.
pub(crate) fn manifest(namespace: &str, name: &str, value: &str) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\n  namespace: {namespace}\ndata:\n  key: {value:?}\n"
    )
}

/// Status, reason and message of the condition Ready.
pub(crate) fn ready(object: &Kustomization) -> (String, String, String) {
    let conditions = object.status.iter().flat_map(|status| &status.conditions);
    conditions
        .filter(|c| c.type_ == "Ready")
        .map(|c| (c.status.clone(), c.reason.clone(), c.message.clone()))
        .next()
        .unwrap_or_default()
}

pub(crate) fn last_applied(object: &Kustomization) -> &str {
    let status = object.status.as_ref();
    status
        .and_then(|status| status.last_applied_revision.as_deref())
        .unwrap_or_default()
}

/// The inventory, as it is written.
pub(crate) fn entries(object: &Kustomization) -> Vec<(String, String)> {
    let inventory = object.status.iter().flat_map(|status| &status.inventory);
    inventory
        .flat_map(|inventory| &inventory.entries)
        .map(|entry| (entry.id.clone(), entry.v.clone()))
        .collect()
}

/// Patches of objects of one kind.
pub(crate) fn patches(requests: &Requests, resource: &str) -> usize {
    requests
        .0
        .iter()
        .filter(|request| request.verb == "patch" && request.resource == resource)
        .count()
}
