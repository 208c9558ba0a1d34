//! The unsealer beside the others, and the `kubeseal` that seals for it.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;

use plumbline_testkit::{answer, wait_for};

use crate::{Estate, PATIENCE, program};

/// A running `plumbline-unsealer`; it ends with its [`Estate`].
#[derive(Debug)]
pub struct Unsealer {
    kubeseal: PathBuf,
    certificate: String,
}

impl Unsealer {
    /// Starts it for every namespace; returns once it gives its certificate away.
    pub async fn start(estate: &Estate) -> anyhow::Result<Self> {
        let unsealer = program("plumbline-unsealer")?;
        estate.install_crds(Command::new(&unsealer).arg("crd"))?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let listen = format!("127.0.0.1:{port}");
        let mut command = Command::new(&unsealer);
        command
            .env_clear()
            .env("POD_NAMESPACE", "kube-system")
            .args(["--key-size=2048", "--listen-metrics-addr=0"])
            .args(["--listen-addr", &listen])
            .arg("--kubeconfig")
            .arg(estate.plane.kubeconfig());
        estate.plane.start_program("plumbline-unsealer", &mut command)?;
        let started = Self {
            kubeseal: unsealer.with_file_name("kubeseal"),
            certificate: format!("http://{listen}/v1/cert.pem"),
        };
        wait_for("the certificate", PATIENCE, async || {
            estate.plane.check_alive().map_err(|error| format!("{error:#}"))?;
            started
                .kubeseal(&["--fetch-cert"], "")
                .map(drop)
                .map_err(|error| format!("{error:#}"))
        })
        .await?;
        Ok(started)
    }

    /// What `kubeseal` makes of `input` with `arguments` and the certificate of the unsealer.
    pub fn kubeseal(&self, arguments: &[&str], input: &str) -> anyhow::Result<String> {
        let mut command = Command::new(&self.kubeseal);
        command
            .env_clear()
            .args(arguments)
            .args(["--cert", &self.certificate]);
        answer(&mut command, input.as_bytes())
    }

    /// `kubectl create secret generic NAME --from-literal=… --dry-run=client -o yaml | kubeseal -o yaml`
    pub fn seal(
        &self,
        estate: &Estate,
        namespace: &str,
        name: &str,
        literals: &[&str],
    ) -> anyhow::Result<String> {
        let literals: Vec<_> = literals
            .iter()
            .map(|literal| format!("--from-literal={literal}"))
            .collect();
        let mut create = vec!["--namespace", namespace, "create", "secret", "generic", name];
        create.extend(literals.iter().map(String::as_str));
        create.extend(["--dry-run=client", "-o", "yaml"]);
        let secret = estate.kubectl(&create, "")?;
        self.kubeseal(&["-o", "yaml"], &secret)
    }
}
