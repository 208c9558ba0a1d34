//! What the unsealer costs, on a real API server. Prints figures; judges nothing.
//!
//! `cargo build --release -p plumbline-sealed-secrets`, then
//! `cargo run -p plumbline-sealed-secrets --example measure target/release/plumbline-unsealer`.
#![allow(clippy::print_stdout, reason = "a program for people at a terminal")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{ListParams, PostParams};
use plumbline_sealed_secrets::api::SealedSecret;
use plumbline_sealed_secrets::crypto::cert::Certificate;
use plumbline_sealed_secrets::crypto::{PublicKey, seal};
use plumbline_testkit::{World, wait_for};
use rand::rngs::SysRng;
use serde_json::json;

const OBJECTS: usize = 500;
const PATIENCE: Duration = Duration::from_mins(2);

struct Running {
    child: Child,
    metrics: u16,
    begin: Instant,
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Running {
    fn start(world: &World, binary: &Path) -> anyhow::Result<Self> {
        let port =
            || Ok::<_, anyhow::Error>(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port());
        let (api, metrics) = (port()?, port()?);
        let child = Command::new(binary)
            .env_clear()
            .env("POD_NAMESPACE", world.namespace())
            .args(["--all-namespaces=false", "--log-level=WARN", "--kubeconfig"])
            .arg(world.kubeconfig())
            .args([
                format!("--listen-addr=127.0.0.1:{api}"),
                format!("--listen-metrics-addr=127.0.0.1:{metrics}"),
            ])
            .stderr(Stdio::null())
            .spawn()
            .context("build the binaries first: cargo build --release -p plumbline-sealed-secrets")?;
        Ok(Self {
            child,
            metrics,
            begin: Instant::now(),
        })
    }

    async fn ready(&self) -> anyhow::Result<Duration> {
        wait_for("readiness", PATIENCE, async || match self.get("/readyz").await {
            Ok(text) if text.starts_with("HTTP/1.1 200") => Ok(self.begin.elapsed()),
            other => Err(format!("{other:?}")),
        })
        .await
    }

    async fn get(&self, path: &str) -> anyhow::Result<String> {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", self.metrics)).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }

    async fn opened(&self) -> anyhow::Result<String> {
        let metrics = self.get("/metrics").await?;
        let line = metrics
            .lines()
            .find(|line| line.starts_with("sealed_secrets_controller_unseal_requests_total"));
        Ok(line
            .and_then(|line| line.rsplit(' ').next())
            .unwrap_or("?")
            .to_owned())
    }

    /// Resident memory in MiB, and CPU seconds so far.
    fn usage(&self) -> anyhow::Result<String> {
        let pid = self.child.id();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let field = |name: &str| -> f64 {
            let line = status
                .lines()
                .find(|line| line.starts_with(name))
                .unwrap_or_default();
            line.split_whitespace()
                .nth(1)
                .and_then(|number| number.parse::<f64>().ok())
                .unwrap_or_default()
                / 1024.0
        };
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let after = stat.rsplit(')').next().unwrap_or_default();
        let ticks: f64 = after
            .split_whitespace()
            .skip(11)
            .take(2)
            .filter_map(|n| n.parse::<f64>().ok())
            .sum();
        Ok(format!(
            "{:.1} MiB resident, {:.1} MiB peak, {:.2} s CPU",
            field("VmRSS"),
            field("VmHWM"),
            ticks / 100.0
        ))
    }
}

fn sealed(key: &PublicKey, namespace: &str, name: &str) -> anyhow::Result<SealedSecret> {
    let label = format!("{namespace}/{name}").into_bytes();
    let item = |n: usize| {
        anyhow::Ok((
            format!("item{n}"),
            seal(&mut SysRng, key, &label, b"value of an item")?,
        ))
    };
    let items = (0..3).map(item).collect::<anyhow::Result<BTreeMap<_, _>>>()?;
    Ok(serde_json::from_value(json!({
        "apiVersion": "bitnami.com/v1alpha1", "kind": "SealedSecret",
        "metadata": {"name": name, "namespace": namespace}, "spec": {"encryptedData": items},
    }))?)
}

async fn create<K>(api: &Api<K>, objects: Vec<K>) -> anyhow::Result<()>
where
    K: Clone + serde::Serialize + serde::de::DeserializeOwned + std::fmt::Debug + Send + Sync + 'static,
{
    let mut pending = futures::stream::iter(objects)
        .map(|object| async move { api.create(&PostParams::default(), &object).await.map(drop) })
        .buffer_unordered(16);
    while let Some(created) = pending.next().await {
        created?;
    }
    Ok(())
}

#[tokio::main]
#[expect(
    clippy::too_many_lines,
    reason = "a list of measurements, read from top to bottom"
)]
async fn main() -> anyhow::Result<()> {
    plumbline_common::client::install_crypto_provider();
    let binary = std::env::args_os()
        .nth(1)
        .context("name the plumbline-unsealer to measure")?;
    let binary = PathBuf::from(binary);
    let world = World::new().await?;
    let crd = Command::new(&binary).arg("crd").output()?;
    world.kubectl_with(
        &["apply", "--server-side", "--force-conflicts", "-f", "-"],
        &String::from_utf8(crd.stdout)?,
    )?;
    world.kubectl(&[
        "wait",
        "--for=condition=Established",
        "--timeout=30s",
        "crd/sealedsecrets.bitnami.com",
    ])?;
    let secrets: Api<Secret> = Api::namespaced(world.client(), world.namespace());
    let sealed_secrets: Api<SealedSecret> = Api::namespaced(world.client(), world.namespace());

    let first = Running::start(&world, &binary)?;
    println!(
        "first start with a new 4096-bit key: ready after {:?}; idle {}",
        first.ready().await?,
        first.usage()?
    );
    let labelled = ListParams::default().labels("sealedsecrets.bitnami.com/sealed-secrets-key=active");
    let keys = secrets.list(&labelled).await?.items;
    let pem = keys
        .first()
        .and_then(|key| key.data.as_ref()?.get("tls.crt"))
        .context("no key")?
        .0
        .clone();
    let key = Certificate::from_pem(&pem)?.public_key;

    let mut latencies = Vec::new();
    for n in 0..50 {
        let name = format!("latency{n}");
        let object = sealed(&key, world.namespace(), &name)?;
        let begin = Instant::now();
        sealed_secrets.create(&PostParams::default(), &object).await?;
        while secrets.get_metadata_opt(&name).await?.is_none() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        latencies.push(begin.elapsed());
    }
    latencies.sort();
    println!(
        "one SealedSecret of 3 items → Secret (50 times, polled): p50 {:?}, p99 {:?}",
        latencies.get(25),
        latencies.get(49)
    );
    drop(first);

    let objects = (0..OBJECTS)
        .map(|n| sealed(&key, world.namespace(), &format!("cold{n}")))
        .collect::<anyhow::Result<_>>()?;
    create(&sealed_secrets, objects).await?;
    let log = world.audit_log().since_now()?;
    let cold = Running::start(&world, &binary)?;
    wait_for("all Secrets", PATIENCE, async || {
        let synced = sealed_secrets
            .list(&ListParams::default())
            .await
            .map_err(|error| error.to_string())?
            .items;
        let synced = synced.iter().filter(|object| object.status.is_some()).count();
        if synced == OBJECTS + 50 {
            Ok(())
        } else {
            Err(format!("{synced} synced"))
        }
    })
    .await?;
    println!(
        "cold, {OBJECTS} objects of 3 items: {:?} from start to the last status; {}",
        cold.begin.elapsed(),
        cold.usage()?
    );
    tokio::time::sleep(Duration::from_secs(3)).await;
    let requests = log
        .requests("plumbline-unsealer")?
        .without_watches_and_leases()
        .in_namespace(world.namespace());
    println!(
        "  requests: {:?}; opened {}",
        requests.by_verb_and_resource(),
        cold.opened().await?
    );
    drop(cold);

    let log = world.audit_log().since_now()?;
    let warm = Running::start(&world, &binary)?;
    println!("restart, nothing changed: ready after {:?}", warm.ready().await?);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let requests = log
        .requests("plumbline-unsealer")?
        .without_watches_and_leases()
        .in_namespace(world.namespace());
    println!(
        "  requests: {:?}; opened {}; {}",
        requests.by_verb_and_resource(),
        warm.opened().await?,
        warm.usage()?
    );
    drop(warm);

    let foreign = |n: usize| -> anyhow::Result<Secret> {
        Ok(serde_json::from_value(json!({
            "metadata": {"name": format!("foreign{n}"), "namespace": world.namespace()},
            "stringData": {"filler": "x".repeat(10 << 10)},
        }))?)
    };
    create(&secrets, (0..10_000).map(foreign).collect::<anyhow::Result<_>>()?).await?;
    let crowded = Running::start(&world, &binary)?;
    println!(
        "10,000 foreign Secrets of 10 KiB: ready after {:?}",
        crowded.ready().await?
    );
    tokio::time::sleep(Duration::from_secs(3)).await;
    println!("  {}; opened {}", crowded.usage()?, crowded.opened().await?);
    Ok(())
}
