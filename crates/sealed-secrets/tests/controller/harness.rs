//! The real program against a real API server, in a namespace of its own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Event, Secret};
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use plumbline_sealed_secrets::api::SealedSecret;
use plumbline_sealed_secrets::crypto::cert::Certificate;
use plumbline_sealed_secrets::crypto::seal;
use plumbline_sealed_secrets::scope::Scope;
use plumbline_testkit::{World, wait_for};
use rand::rngs::SysRng;
use serde_json::{Value, json};

pub const PATIENCE: Duration = Duration::from_secs(30);

/// A namespace with the CRD.
pub struct Place {
    pub world: World,
}

impl Place {
    pub async fn new() -> Self {
        let world = World::new().await.unwrap();
        install_crd(&world);
        Self { world }
    }

    pub fn namespace(&self) -> &str {
        self.world.namespace()
    }

    pub fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.world.client(), self.namespace())
    }

    pub fn sealed(&self) -> Api<SealedSecret> {
        Api::namespaced(self.world.client(), self.namespace())
    }

    /// Starts the controller for this namespace alone, as an administrator, with small keys.
    pub async fn start(&self, flags: &[&str]) -> Unsealer {
        Unsealer::start(&self.world, &self.world.kubeconfig(), "127.0.0.1", flags).await
    }

    /// Creates or replaces a SealedSecret.
    pub async fn apply(&self, object: Value) -> SealedSecret {
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let parameters = PatchParams::apply("test").force();
        self.sealed()
            .patch(&name, &parameters, &Patch::Apply(object))
            .await
            .unwrap()
    }

    pub async fn create_secret(&self, object: Value) -> Secret {
        self.secrets()
            .create(&PostParams::default(), &serde_json::from_value(object).unwrap())
            .await
            .unwrap()
    }

    /// Waits until the Secret is there and `holds`.
    pub async fn secret(&self, name: &str, holds: impl Fn(&Secret) -> bool) -> Secret {
        let secrets = self.secrets();
        wait_for("the Secret", PATIENCE, async || {
            match secrets.get_opt(name).await {
                Ok(Some(secret)) if holds(&secret) => Ok(secret),
                // Values in these tests are not secret.
                other => Err(format!("{other:?}")),
            }
        })
        .await
        .unwrap()
    }

    /// Waits until the condition Synced is `status`; its message.
    pub async fn synced(&self, name: &str, status: &str) -> String {
        self.status(name, |object| {
            condition(object).is_some_and(|(found, _)| found == status)
        })
        .await
    }

    /// Waits until the status `holds`; the message of the condition Synced.
    pub async fn status(&self, name: &str, holds: impl Fn(&SealedSecret) -> bool) -> String {
        let sealed = self.sealed();
        wait_for("the status", PATIENCE, async || match sealed.get(name).await {
            Ok(object)
                if holds(&object)
                    && object
                        .status
                        .as_ref()
                        .and_then(|status| status.observed_generation)
                        == object.metadata.generation =>
            {
                Ok(condition(&object).map(|(_, message)| message).unwrap_or_default())
            }
            other => Err(format!("{:?}", other.map(|object| object.status))),
        })
        .await
        .unwrap()
    }

    /// Waits for an Event about `name` with this reason; its message.
    pub async fn event(&self, name: &str, reason: &str) -> Event {
        let events: Api<Event> = Api::namespaced(self.world.client(), self.namespace());
        let about = ListParams::default().fields(&format!("involvedObject.name={name},reason={reason}"));
        wait_for("the Event", PATIENCE, async || {
            let mut found = events
                .list(&about)
                .await
                .map_err(|error| error.to_string())?
                .items;
            found.pop().ok_or_else(|| "no such Event".to_owned())
        })
        .await
        .unwrap()
    }
}

fn condition(object: &SealedSecret) -> Option<(String, String)> {
    let first = object.status.as_ref()?.conditions.first()?;
    assert_eq!(first.type_, "Synced", "columns read the first condition");
    Some((first.status.clone(), first.message.clone().unwrap_or_default()))
}

fn install_crd(world: &World) {
    let crd = Command::new(env!("CARGO_BIN_EXE_plumbline-unsealer"))
        .arg("crd")
        .output()
        .unwrap();
    assert!(crd.status.success());
    let crd = String::from_utf8(crd.stdout).unwrap();
    world
        .kubectl_with(&["apply", "--server-side", "--force-conflicts", "-f", "-"], &crd)
        .unwrap();
    world
        .kubectl(&[
            "wait",
            "--for=condition=Established",
            "--timeout=30s",
            "crd/sealedsecrets.bitnami.com",
        ])
        .unwrap();
}

/// A running controller; ended when dropped.
pub struct Unsealer {
    child: Child,
    pub address: String,
    pub metrics: String,
    namespace: String,
    client: Client,
    log: PathBuf,
}

impl Unsealer {
    pub async fn start(world: &World, kubeconfig: &Path, host: &str, flags: &[&str]) -> Self {
        let mut unsealer = Self::spawn(world, kubeconfig, host, flags);
        unsealer.ready().await;
        unsealer
    }

    /// Starts without waiting.
    pub fn spawn(world: &World, kubeconfig: &Path, host: &str, flags: &[&str]) -> Self {
        let address = format!("{host}:{}", free_port(host));
        let metrics = format!("127.0.0.1:{}", free_port("127.0.0.1"));
        let log = world
            .dir()
            .join(format!("unsealer-{}.log", address.replace(':', "-")));
        let child = Command::new(env!("CARGO_BIN_EXE_plumbline-unsealer"))
            .env_clear()
            .env("POD_NAMESPACE", world.namespace())
            .args([
                "--all-namespaces=false",
                "--key-size=2048",
                "--rate-limit=1000",
                "--rate-limit-burst=1000",
            ])
            .arg("--kubeconfig")
            .arg(kubeconfig)
            .args(["--listen-addr", &address, "--listen-metrics-addr", &metrics])
            .args(flags)
            .stdin(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Self {
            child,
            address,
            metrics,
            namespace: world.namespace().to_owned(),
            client: world.client(),
            log,
        }
    }

    pub async fn ready(&mut self) {
        let waited = wait_for("the controller to be ready", PATIENCE, async || {
            match http(&self.metrics, "GET", "/readyz", "").await {
                (200, _) => Ok(()),
                (code, _) => Err(format!("{code}: {}", self.log())),
            }
        });
        waited.await.unwrap();
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// The value of the series that starts with `name`, all of them added up.
    pub async fn metric(&self, name: &str) -> f64 {
        let (code, text) = http(&self.metrics, "GET", "/metrics", "").await;
        assert_eq!(code, 200);
        text.lines()
            .filter(|line| line.starts_with(name))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }

    pub async fn certificate(&self) -> Certificate {
        let (code, pem) = http(&self.address, "GET", "/v1/cert.pem", "").await;
        assert_eq!(code, 200);
        Certificate::from_pem(pem.as_bytes()).unwrap()
    }

    /// A SealedSecret of this controller's namespace.
    pub async fn seal(&self, name: &str, scope: Scope, items: &[(&str, &str)]) -> Value {
        let certificate = self.certificate().await;
        let label = scope.label(&self.namespace, name);
        let items: BTreeMap<&str, String> = items
            .iter()
            .map(|(key, value)| {
                (
                    *key,
                    seal(&mut SysRng, &certificate.public_key, &label, value.as_bytes()).unwrap(),
                )
            })
            .collect();
        let mut annotations = BTreeMap::new();
        scope.annotate(&mut annotations);
        json!({
            "apiVersion": "bitnami.com/v1alpha1",
            "kind": "SealedSecret",
            "metadata": {"name": name, "namespace": self.namespace, "annotations": annotations},
            "spec": {"encryptedData": items},
        })
    }

    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        nix::sys::signal::kill(pid, signal).unwrap();
    }

    /// Ends it as a node failure would.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Ends it as Kubernetes does, and checks that it went well.
    pub fn stop(mut self) {
        self.signal(nix::sys::signal::Signal::SIGTERM);
        let status = self.child.wait().unwrap();
        let log = self.log();
        assert!(status.success(), "{status}: {log}");
        assert!(
            !log.contains("did not stop"),
            "a part of it does not listen: {log}"
        );
    }

    /// Names of the active key Secrets.
    pub async fn keys(&self) -> Vec<String> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let active = ListParams::default().labels("sealedsecrets.bitnami.com/sealed-secrets-key=active");
        let keys = secrets.list(&active).await.unwrap().items;
        keys.into_iter().filter_map(|key| key.metadata.name).collect()
    }
}

impl Drop for Unsealer {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn free_port(host: &str) -> u16 {
    std::net::TcpListener::bind((host, 0))
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// A bare HTTP/1.1 exchange; code 0 when nobody answers.
pub async fn http(address: &str, method: &str, path: &str, body: &str) -> (u16, String) {
    http_with(address, method, path, body.as_bytes(), "").await
}

/// [`http`] with further header lines.
pub async fn http_with(address: &str, method: &str, path: &str, body: &[u8], headers: &str) -> (u16, String) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let Ok(mut stream) = tokio::net::TcpStream::connect(address).await else {
        return (0, String::new());
    };
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n",
        body.len()
    );
    let mut answer = Vec::new();
    drop(stream.write_all(head.as_bytes()).await);
    drop(stream.write_all(body).await);
    drop(stream.read_to_end(&mut answer).await);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let code = answer
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .unwrap_or(0);
    let body = answer
        .split_once("\r\n\r\n")
        .map(|(_, body)| body.to_owned())
        .unwrap_or_default();
    (code, body)
}

/// An item of a Secret, as text.
pub fn item<'a>(secret: &'a Secret, key: &str) -> Option<&'a str> {
    std::str::from_utf8(&secret.data.as_ref()?.get(key)?.0).ok()
}
