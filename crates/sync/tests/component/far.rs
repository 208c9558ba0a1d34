//! A second cluster, and what a Kustomization needs to be applied there.

use std::{path::PathBuf, sync::OnceLock};

use anyhow::{Context as _, anyhow};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret};
use kube::{
    Api, Client,
    api::{ObjectMeta, Patch, PatchParams, PostParams},
};
use plumbline_testkit::{AuditLog, ControlPlane, Requests, client, kubectl, wait_for};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::{AbortHandle, JoinSet},
};

use crate::bench::{Bench, LIMIT};

/// The name of the Secret with the kubeconfig.
pub(crate) const SECRET: &str = "far";

/// A namespace of another cluster, of the same name as the bench's.
pub(crate) struct Far {
    pub(crate) client: Client,
    cluster: PathBuf,
    namespace: String,
}

impl Far {
    /// On a control plane that all tests of this process share.
    pub(crate) async fn shared(bench: &Bench) -> anyhow::Result<Self> {
        static STARTED: OnceLock<Result<ControlPlane, String>> = OnceLock::new();
        let start = || ControlPlane::start_temporary().map_err(|error| format!("{error:#}"));
        let dir = tokio::task::spawn_blocking(move || match STARTED.get_or_init(start) {
            Ok(plane) => Ok(plane.dir().to_owned()),
            Err(error) => Err(anyhow!("a second control plane cannot be started: {error}")),
        });
        Self::in_cluster(dir.await??, bench).await
    }

    /// On a control plane that the test may take away.
    pub(crate) async fn on(plane: &ControlPlane, bench: &Bench) -> anyhow::Result<Self> {
        Self::in_cluster(plane.dir().to_owned(), bench).await
    }

    async fn in_cluster(cluster: PathBuf, bench: &Bench) -> anyhow::Result<Self> {
        let client = client(&cluster.join("admin.conf"), "plumbline-test").await?;
        let namespace = Namespace {
            metadata: ObjectMeta {
                name: Some(bench.namespace().to_owned()),
                ..ObjectMeta::default()
            },
            ..Namespace::default()
        };
        Api::<Namespace>::all(client.clone())
            .create(&PostParams::default(), &namespace)
            .await?;
        Ok(Self {
            client,
            cluster,
            namespace: bench.namespace().to_owned(),
        })
    }

    /// Whom requests of this test are made as, by which the audit log tells them apart.
    pub(crate) fn user(&self) -> String {
        format!("far-of-{}", self.namespace)
    }

    /// The kubeconfig of an administrator of another name.
    pub(crate) fn kubeconfig(&self) -> anyhow::Result<Value> {
        let mut config = self.admin()?;
        let who = config["users"][0]["user"].as_object_mut().context("no user")?;
        who.insert("as".into(), self.user().into());
        who.insert("as-groups".into(), json!(["system:masters"]));
        Ok(config)
    }

    /// The kubeconfig of whoever has this token.
    pub(crate) fn kubeconfig_of(&self, token: &str) -> anyhow::Result<Value> {
        let mut config = self.admin()?;
        config["users"][0]["user"] = json!({ "token": token });
        Ok(config)
    }

    fn admin(&self) -> anyhow::Result<Value> {
        let text = std::fs::read_to_string(self.cluster.join("admin.conf"))?;
        Ok(serde_yaml::from_str(&text)?)
    }

    /// Requests of this test's syncers since `log`.
    pub(crate) fn requests(&self, log: &AuditLog) -> anyhow::Result<Requests> {
        let mut requests = log.requests("plumbline-sync/")?;
        let user = self.user();
        requests.0.retain(|request| request.user == user);
        Ok(requests)
    }

    /// Applies manifests as the administrator.
    pub(crate) fn apply(&self, manifests: &str) -> anyhow::Result<()> {
        kubectl(
            &self.cluster,
            "",
            &["apply", "--server-side", "-f", "-"],
            manifests,
        )
        .map(drop)
    }

    /// Deletes an object of the namespace as the administrator.
    pub(crate) fn delete(&self, kind: &str, name: &str) -> anyhow::Result<String> {
        kubectl(&self.cluster, &self.namespace, &["delete", kind, name], "")
    }

    pub(crate) fn audit_log(&self) -> AuditLog {
        AuditLog::new(self.cluster.join("audit.log"))
    }

    pub(crate) fn config_maps(&self) -> Api<ConfigMap> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub(crate) async fn value(&self, name: &str) -> anyhow::Result<Option<String>> {
        let found = self.config_maps().get_opt(name).await?;
        Ok(found.map(|it| it.data.unwrap_or_default().remove("key").unwrap_or_default()))
    }

    pub(crate) async fn until_value(&self, name: &str, value: Option<&str>) -> anyhow::Result<()> {
        let what = format!("ConfigMap {name} of the far cluster to be {value:?}");
        wait_for(&what, LIMIT, async || match self.value(name).await {
            Ok(seen) if seen.as_deref() == value => Ok(()),
            Ok(seen) => Err(format!("{seen:?}")),
            Err(error) => Err(error.to_string()),
        })
        .await
    }

    /// Changes a ConfigMap behind the syncer's back.
    pub(crate) async fn edit(&self, name: &str, data: Value) -> anyhow::Result<()> {
        let edit = json!({ "data": data });
        self.config_maps()
            .patch(name, &PatchParams::default(), &Patch::Merge(&edit))
            .await?;
        Ok(())
    }
}

/// A way to a server that can be blocked: connections stay, and nothing passes.
pub(crate) struct Way {
    pub(crate) port: u16,
    open: watch::Sender<bool>,
    task: AbortHandle,
}

impl Way {
    pub(crate) async fn to(address: String) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let (open, is_open) = watch::channel(true);
        let task = tokio::spawn(async move {
            let mut ways = JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                let (address, is_open) = (address.clone(), is_open.clone());
                ways.spawn(async move {
                    let Ok(far) = TcpStream::connect(address).await else {
                        return;
                    };
                    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
                    tokio::join!(
                        pass(near_in, far_out, is_open.clone()),
                        pass(far_in, near_out, is_open)
                    );
                });
            }
        });
        Ok(Self {
            port,
            open,
            task: task.abort_handle(),
        })
    }

    pub(crate) fn block(&self) {
        self.open.send_replace(false);
    }

    pub(crate) fn free(&self) {
        self.open.send_replace(true);
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut is_open: watch::Receiver<bool>) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(bytes @ 1..) = from.read(&mut buffer).await {
        let waited = is_open.wait_for(|open| *open).await.map(drop);
        if waited.is_err() || to.write_all(&buffer[..bytes]).await.is_err() {
            return;
        }
    }
}

/// Writes the Secret with a kubeconfig, of which changes are noticed at once.
pub(crate) async fn give(bench: &Bench, kubeconfig: &Value) -> anyhow::Result<()> {
    give_as(bench, "value", &serde_json::to_string(kubeconfig)?).await
}

pub(crate) async fn give_as(bench: &Bench, key: &str, text: &str) -> anyhow::Result<()> {
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": { "name": SECRET, "labels": { "reconcile.fluxcd.io/watch": "Enabled" } },
        "stringData": { key: text },
    });
    let api: Api<Secret> = Api::namespaced(bench.world.client(), bench.namespace());
    // Whole: a key of before must not stay.
    if api.get_opt(SECRET).await?.is_some() {
        let replace = json!({ "data": null, "stringData": { key: text } });
        api.patch(SECRET, &PatchParams::default(), &Patch::Merge(&replace))
            .await?;
        return Ok(());
    }
    api.create(&PostParams::default(), &serde_json::from_value(secret)?)
        .await?;
    Ok(())
}

/// The field of a spec that names the Secret.
pub(crate) fn there() -> Value {
    json!({ "secretRef": { "name": SECRET } })
}
