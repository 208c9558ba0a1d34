//! A test's own corner of a shared control plane.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
    time::Duration,
};

use anyhow::{Context as _, anyhow, bail};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::{
    Api, Client, Config,
    api::{ObjectMeta, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use tempfile::TempDir;

use crate::{audit::AuditLog, control_plane::ControlPlane, pipe::answer, wait::wait_for};

/// Names the directory of a running control plane to use instead of starting one.
pub const CLUSTER_VARIABLE: &str = "PLUMBLINE_TEST_CLUSTER";
/// Set when all programs of the workspace have just been built: a test that starts several need not ask Cargo, which would
/// build them once more with the features of each alone.
pub const BUILT_VARIABLE: &str = "PLUMBLINE_PROGRAMS_BUILT";

/// A namespace of its own, a client, a directory of its own.
///
/// The control plane is the one in the directory that `PLUMBLINE_TEST_CLUSTER` names; without it one is
/// started for this process, shared by all its worlds, and ends with the process. Names of cluster-scoped
/// objects should contain [`World::namespace`], because other tests run beside this one.
pub struct World {
    cluster: PathBuf,
    client: Client,
    namespace: String,
    dir: TempDir,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World")
            .field("cluster", &self.cluster)
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}

impl World {
    /// A new world. Fails when there is no control plane and none can be started: a test must never skip.
    pub async fn new() -> anyhow::Result<Self> {
        let cluster = tokio::task::spawn_blocking(shared_cluster)
            .await
            .context("starting the control plane panicked")??;
        Self::in_cluster(cluster).await
    }

    /// A new world on a control plane of its own, which the test may take away.
    pub async fn on(plane: &ControlPlane) -> anyhow::Result<Self> {
        Self::in_cluster(plane.dir().to_owned()).await
    }

    async fn in_cluster(cluster: PathBuf) -> anyhow::Result<Self> {
        let client = client(&cluster.join("admin.conf"), "plumbline-test").await?;
        let namespaces: Api<Namespace> = Api::all(client.clone());
        let wanted = Namespace {
            metadata: ObjectMeta {
                generate_name: Some("test-".into()),
                ..ObjectMeta::default()
            },
            ..Namespace::default()
        };
        let created = namespaces.create(&PostParams::default(), &wanted).await;
        let namespace = created
            .with_context(|| {
                format!(
                    "cannot create a namespace in the cluster of {}",
                    cluster.display()
                )
            })?
            .metadata
            .name
            .context("the API server named no namespace")?;
        // Pods need it, and it shows that controllers run.
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), &namespace);
        wait_for(
            "the namespace's ServiceAccount",
            Duration::from_secs(30),
            async || accounts.get("default").await,
        )
        .await?;
        Ok(Self {
            cluster,
            client,
            namespace,
            dir: tempfile::tempdir().context("cannot create a temporary directory")?,
        })
    }

    /// An administrator's client; its user agent is `plumbline-test`.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// As [`World::client`] under another user agent, by which [`AuditLog::requests`] tells it apart.
    pub async fn client_as(&self, user_agent: &str) -> anyhow::Result<Client> {
        client(&self.kubeconfig(), user_agent).await
    }

    /// Name of the namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// An administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.cluster.join("admin.conf")
    }

    /// A directory that is removed with this value.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The shared API server's log, of all tests that use it.
    pub fn audit_log(&self) -> AuditLog {
        AuditLog::new(self.cluster.join("audit.log"))
    }

    /// Runs the real kubectl in this namespace; returns its standard output, or an error with its complaint.
    pub fn kubectl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        self.kubectl_with(arguments, "")
    }

    /// As [`World::kubectl`], with something to read (`-f -`).
    pub fn kubectl_with(&self, arguments: &[&str], input: &str) -> anyhow::Result<String> {
        kubectl(&self.cluster, &self.namespace, arguments, input)
    }
}

/// Runs the kubectl of the cluster in `cluster`, with `input` as its standard input. An empty `namespace` leaves
/// the choice to `arguments` and to the objects themselves.
pub fn kubectl(cluster: &Path, namespace: &str, arguments: &[&str], input: &str) -> anyhow::Result<String> {
    let mut command = Command::new(cluster.join("bin").join("kubectl"));
    command.arg("--kubeconfig").arg(cluster.join("admin.conf"));
    if !namespace.is_empty() {
        command.args(["--namespace", namespace]);
    }
    answer(command.args(arguments), input.as_bytes())
}

/// A client for `kubeconfig` that calls itself `user_agent`.
pub async fn client(kubeconfig: &Path, user_agent: &str) -> anyhow::Result<Client> {
    // `Err` carries the provider that is installed already, which is the same one.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let read = Kubeconfig::read_from(kubeconfig)
        .with_context(|| format!("cannot read the kubeconfig {}", kubeconfig.display()))?;
    let mut config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default())
        .await
        .with_context(|| format!("the kubeconfig {} cannot be used", kubeconfig.display()))?;
    let value = user_agent
        .parse()
        .with_context(|| format!("{user_agent:?} is no user agent"))?;
    config.headers.push((http::header::USER_AGENT, value));
    // A test wants to see what the server said.
    config.default_retry = false;
    Client::try_from(config).context("cannot create a client")
}

fn shared_cluster() -> anyhow::Result<PathBuf> {
    static STARTED: OnceLock<Result<ControlPlane, String>> = OnceLock::new();
    if let Some(dir) = std::env::var_os(CLUSTER_VARIABLE).filter(|dir| !dir.is_empty()) {
        let dir = PathBuf::from(dir);
        if !dir.join("admin.conf").is_file() {
            bail!(
                "{CLUSTER_VARIABLE} is {}, where no cluster runs: start one with `cargo xtask cluster up --dir {}`, \
                 or unset the variable",
                dir.display(),
                dir.display()
            );
        }
        return Ok(dir);
    }
    match STARTED.get_or_init(|| ControlPlane::start_temporary().map_err(|error| format!("{error:#}"))) {
        Ok(plane) => Ok(plane.dir().to_owned()),
        Err(error) => Err(anyhow!(
            "this test needs a control plane, and none could be started: {error}"
        )),
    }
}
