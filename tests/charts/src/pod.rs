//! A controller that runs outside of the cluster as the Deployment of its release says: its arguments, its environment, its
//! ServiceAccount and nothing else.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, bail};
use plumbline_testkit::{Leash, kubectl};
use plumbline_together::program;
use serde_json::{Value, json};

use crate::Chart;

/// A running controller; it ends with this value.
#[derive(Debug)]
pub struct Pod {
    child: Child,
    _leash: Leash,
    /// The user that the API server knows it as.
    pub user: String,
    /// Where it serves its API, if it has one: `127.0.0.1:PORT`.
    pub address: String,
    /// Its output.
    pub log: std::path::PathBuf,
}

impl Pod {
    /// Starts the controller of the Deployment `name` on the cluster in `cluster`, with files in `dir`.
    pub fn start(
        chart: Chart,
        cluster: &Path,
        namespace: &str,
        name: &str,
        dir: &Path,
    ) -> anyhow::Result<Self> {
        let binary = program(chart.program())?;
        let deployment = kubectl(cluster, namespace, &["get", "deployment", name, "-o", "json"], "")?;
        let deployment: Value = serde_json::from_str(&deployment)?;
        let spec = &deployment["spec"]["template"]["spec"];
        let account = spec["serviceAccountName"].as_str().context("no ServiceAccount")?;
        let container = &spec["containers"][0];

        fs::create_dir_all(dir)?;
        let kubeconfig = dir.join("kubeconfig");
        let token = kubectl(cluster, namespace, &["create", "token", account], "")?;
        fs::write(&kubeconfig, as_account(cluster, token.trim())?)?;
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();

        let mut command = Command::new(binary);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", dir).env("KUBECONFIG", &kubeconfig);
        for variable in container["env"].as_array().into_iter().flatten() {
            let variable_name = variable["name"].as_str().context("a variable without a name")?;
            let value = match variable
                .pointer("/valueFrom/fieldRef/fieldPath")
                .and_then(Value::as_str)
            {
                Some("metadata.namespace") => namespace,
                Some("metadata.name") => name,
                Some(other) => bail!("a Pod's field {other}"),
                None => variable["value"].as_str().unwrap_or_default(),
            };
            command.env(variable_name, value);
        }
        for argument in container["args"].as_array().into_iter().flatten() {
            let argument = argument.as_str().context("an argument that is no text")?;
            command.arg(outside(argument, dir, &address));
        }
        match chart {
            Chart::Sync => command.args(["--metrics-addr=0", "--health-addr=0"]),
            Chart::Reloader => command.arg("--listen-address=0"),
            Chart::SealedSecrets => command.arg("--key-size=2048"),
        };
        let log = dir.join("log");
        let output = fs::File::create(&log)?;
        command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        let leash = Leash::new()?;
        Ok(Self {
            child: leash.spawn(&mut command)?,
            _leash: leash,
            user: format!("system:serviceaccount:{namespace}:{account}"),
            address,
            log,
        })
    }

    /// Fails when it has ended by itself.
    pub fn check_alive(&mut self) -> anyhow::Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("it ended ({status}): {}", fs::read_to_string(&self.log)?);
        }
        Ok(())
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        // An error means that it has ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// What cannot be outside of a Pod as it is inside: directories and ports.
fn outside(argument: &str, dir: &Path, address: &str) -> String {
    match argument.split_once('=') {
        Some(("--storage-path", _)) => format!("--storage-path={}", dir.join("data").display()),
        Some(("--listen-addr", _)) => format!("--listen-addr={address}"),
        Some(("--listen-metrics-addr", _)) => "--listen-metrics-addr=0".to_owned(),
        _ => argument.to_owned(),
    }
}

/// The administrator's kubeconfig, for somebody who has a token and nothing else.
fn as_account(cluster: &Path, token: &str) -> anyhow::Result<String> {
    let text = fs::read_to_string(cluster.join("admin.conf"))?;
    let mut kubeconfig: Value = serde_yaml::from_str(&text)?;
    let user = kubeconfig
        .pointer_mut("/users/0/user")
        .context("the kubeconfig has no user")?;
    *user = json!({ "token": token });
    Ok(kubeconfig.to_string())
}
