//! The unsealer as the process that is measured.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::{Child, Command},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use plumbline_testkit::{ControlPlane, Leash, target_dir, wait_for};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// How its user agent begins, by which its requests are found in the audit log.
pub(crate) const USER_AGENT: &str = "plumbline-unsealer/";
/// Where its keys are.
pub(crate) const KEY_NAMESPACE: &str = "kube-system";
/// How long it may take to be ready: it makes a key of 4096 bits at first.
const PATIENCE: Duration = Duration::from_mins(1);
/// Clock ticks a second in `/proc/PID/stat`, on every platform of Linux.
const TICKS: f64 = 100.0;

/// A running unsealer for all namespaces; it ends with this value, or with this process.
pub(crate) struct Unsealer {
    process: Child,
    begin: Instant,
    api: String,
    metrics: String,
    _leash: Leash,
}

impl Unsealer {
    pub(crate) fn start(plane: &ControlPlane) -> anyhow::Result<Self> {
        let leash = Leash::new()?;
        let log = plane.dir().join("logs").join("plumbline-unsealer.log");
        let file = File::options().create(true).append(true).open(&log);
        let file = file.with_context(|| format!("cannot write {}", log.display()))?;
        let (api, metrics) = (free_address()?, free_address()?);
        let begin = Instant::now();
        let process = leash.spawn(
            Command::new(program("plumbline-unsealer"))
                .env_clear()
                .env("POD_NAMESPACE", KEY_NAMESPACE)
                .arg("--kubeconfig")
                .arg(plane.kubeconfig())
                .args(["--log-level=WARN", "--listen-addr", &api])
                .args(["--listen-metrics-addr", &metrics])
                .stdout(file.try_clone()?)
                .stderr(file),
        )?;
        Ok(Self {
            process,
            begin,
            api,
            metrics,
            _leash: leash,
        })
    }

    /// When the process was started.
    pub(crate) fn begin(&self) -> Instant {
        self.begin
    }

    /// Waits until it is ready; how long that took since the start.
    pub(crate) async fn ready(&self) -> anyhow::Result<Duration> {
        wait_for("plumbline-unsealer to be ready", PATIENCE, async || {
            match get(&self.metrics, "/readyz").await {
                Ok(answer) if answer.starts_with("HTTP/1.1 200") => Ok(self.begin.elapsed()),
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

    /// CPU time so far, in seconds.
    pub(crate) fn cpu(&self) -> anyhow::Result<f64> {
        let stat = self.proc("stat")?;
        // The name of the program, in parentheses, may contain anything.
        let (_, fields) = stat.rsplit_once(')').context("/proc/PID/stat is malformed")?;
        let ticks: Option<f64> = fields
            .split_whitespace()
            .skip(11)
            .take(2)
            .map(|ticks| ticks.parse::<f64>().ok())
            .sum();
        Ok(ticks.context("/proc/PID/stat is malformed")? / TICKS)
    }

    /// The most memory it has used so far, in MiB.
    pub(crate) fn peak(&self) -> anyhow::Result<f64> {
        let status = self.proc("status")?;
        let kib = status.lines().find_map(|text| text.strip_prefix("VmHWM:"));
        let kib = kib.and_then(|text| text.split_whitespace().next());
        let kib: f64 = kib.context("/proc/PID/status has no VmHWM")?.parse()?;
        Ok(kib / 1024.0)
    }

    fn proc(&self, file: &str) -> anyhow::Result<String> {
        let path = format!("/proc/{}/{file}", self.process.id());
        fs::read_to_string(&path).with_context(|| format!("{path}: has plumbline-unsealer ended?"))
    }
}

impl Drop for Unsealer {
    fn drop(&mut self) {
        // An error means that it has ended already.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// The CRD that it prints.
pub(crate) fn crd() -> anyhow::Result<String> {
    let output = Command::new(program("plumbline-unsealer"))
        .arg("crd")
        .output()
        .context("cannot run plumbline-unsealer")?;
    ensure!(output.status.success(), "plumbline-unsealer crd failed");
    Ok(String::from_utf8(output.stdout)?)
}

/// One of its two programs.
pub(crate) fn program(name: &str) -> PathBuf {
    target_dir().join("release").join(name)
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
