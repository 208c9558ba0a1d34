//! The unsealer as the process that is measured.

use std::{process::Command, time::Duration};

use anyhow::Context as _;
use plumbline_testkit::{ControlPlane, wait_for};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::process::{Process, program};

/// How its user agent begins, by which its requests are found in the audit log.
pub(crate) const USER_AGENT: &str = "plumbline-unsealer/";
/// Where its keys are.
pub(crate) const KEY_NAMESPACE: &str = "kube-system";
/// How long it may take to be ready: it makes a key of 4096 bits at first.
const PATIENCE: Duration = Duration::from_mins(1);

/// A running unsealer for all namespaces; it ends with this value, or with this process.
pub(crate) struct Unsealer {
    pub(crate) process: Process,
    api: String,
    metrics: String,
}

impl Unsealer {
    pub(crate) fn start(plane: &ControlPlane) -> anyhow::Result<Self> {
        let (api, metrics) = (free_address()?, free_address()?);
        let mut command = Command::new(program("plumbline-unsealer"));
        command
            .env_clear()
            .env("POD_NAMESPACE", KEY_NAMESPACE)
            .arg("--kubeconfig")
            .arg(plane.kubeconfig())
            .args(["--log-level=WARN", "--listen-addr", &api])
            .args(["--listen-metrics-addr", &metrics]);
        let process = Process::start(plane, "plumbline-unsealer", &mut command)?;
        Ok(Self {
            process,
            api,
            metrics,
        })
    }

    /// Waits until it is ready; how long that took since the start.
    pub(crate) async fn ready(&self) -> anyhow::Result<Duration> {
        wait_for("plumbline-unsealer to be ready", PATIENCE, async || {
            match get(&self.metrics, "/readyz").await {
                Ok(answer) if answer.starts_with("HTTP/1.1 200") => Ok(self.process.begin().elapsed()),
                Ok(answer) => Err(answer),
                Err(error) => Err(format!("{error:#}")),
            }
        })
        .await
    }

    /// Where kubeseal finds its certificate.
    pub(crate) fn certificate_url(&self) -> String {
        format!("http://{}/v1/cert.pem", self.api)
    }

    /// RSA operations with a private key so far.
    pub(crate) async fn operations(&self) -> anyhow::Result<f64> {
        let metrics = get(&self.metrics, "/metrics").await?;
        let name = "sealed_secrets_controller_private_key_operations_total ";
        let value = metrics.lines().find_map(|line| line.strip_prefix(name));
        Ok(value
            .context("it does not count RSA operations")?
            .trim()
            .parse()?)
    }
}

fn free_address() -> anyhow::Result<String> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").context("no free port on 127.0.0.1")?;
    Ok(listener.local_addr()?.to_string())
}

async fn get(address: &str, path: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}
