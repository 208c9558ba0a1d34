//! The command line of each component, as plain data.

use std::{path::Path, process::Command};

use crate::binaries::Binaries;

/// Ports on the loopback interface.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ports {
    pub(crate) etcd: u16,
    pub(crate) etcd_peer: u16,
    pub(crate) apiserver: u16,
}

impl Ports {
    /// Three ports that are free now. Another process may take one before it is used: the caller tries again.
    pub(crate) fn free() -> std::io::Result<Self> {
        let listen = || std::net::TcpListener::bind(("127.0.0.1", 0));
        // All three are held at once, so that they differ.
        let (etcd, peer, apiserver) = (listen()?, listen()?, listen()?);
        Ok(Self {
            etcd: etcd.local_addr()?.port(),
            etcd_peer: peer.local_addr()?.port(),
            apiserver: apiserver.local_addr()?.port(),
        })
    }
}

pub(crate) fn etcd(binaries: &Binaries, dir: &Path, ports: Ports) -> Command {
    let (client, peer) = (
        format!("http://127.0.0.1:{}", ports.etcd),
        format!("http://127.0.0.1:{}", ports.etcd_peer),
    );
    let mut command = Command::new(&binaries.etcd);
    command
        .arg(format!("--data-dir={}", dir.join("etcd").display()))
        .arg("--unsafe-no-fsync")
        .arg(format!("--listen-client-urls={client}"))
        .arg(format!("--advertise-client-urls={client}"))
        .arg(format!("--listen-peer-urls={peer}"))
        .arg(format!("--initial-advertise-peer-urls={peer}"))
        .arg(format!("--initial-cluster=default={peer}"));
    command
}

pub(crate) fn apiserver(binaries: &Binaries, dir: &Path, ports: Ports) -> Command {
    let file = |name: &str| dir.join(name).display().to_string();
    let mut command = Command::new(&binaries.kube_apiserver);
    command
        .arg(format!("--etcd-servers=http://127.0.0.1:{}", ports.etcd))
        .arg(format!("--secure-port={}", ports.apiserver))
        .args(["--bind-address=127.0.0.1", "--advertise-address=127.0.0.1"])
        // A loopback advertise address is refused without it.
        .arg("--endpoint-reconciler-type=none")
        .arg(format!("--cert-dir={}", file("pki")))
        .arg(format!("--tls-cert-file={}", file("pki/apiserver.crt")))
        .arg(format!("--tls-private-key-file={}", file("pki/apiserver.key")))
        .arg(format!("--client-ca-file={}", file("pki/ca.crt")))
        .arg(format!("--service-account-key-file={}", file("pki/tokens.pub")))
        .arg(format!(
            "--service-account-signing-key-file={}",
            file("pki/tokens.key")
        ))
        .arg("--service-account-issuer=https://kubernetes.default.svc.cluster.local")
        .arg("--service-cluster-ip-range=10.96.0.0/16")
        .args(["--authorization-mode=RBAC", "--allow-privileged=true"])
        .arg("--profiling=false")
        .arg(format!("--audit-policy-file={}", file("pki/audit-policy.yaml")))
        .arg(format!("--audit-log-path={}", file("audit.log")))
        // Every event is in the file before its request ends, and the file is never rotated away (MiB).
        .args(["--audit-log-mode=blocking", "--audit-log-maxsize=100000"]);
    command
}

pub(crate) fn controller_manager(binaries: &Binaries, dir: &Path) -> Command {
    let file = |name: &str| dir.join(name).display().to_string();
    let mut command = Command::new(&binaries.kube_controller_manager);
    command
        .arg(format!("--kubeconfig={}", file("pki/controller-manager.conf")))
        .arg(format!(
            "--service-account-private-key-file={}",
            file("pki/tokens.key")
        ))
        .arg(format!("--root-ca-file={}", file("pki/ca.crt")))
        .args(["--use-service-account-credentials", "--leader-elect=false"])
        // It serves nothing that a test would ask.
        .args(["--secure-port=0", "--profiling=false"])
        // Deleting a test's namespace must not wait for the client's own rate limit.
        .args(["--kube-api-qps=200", "--kube-api-burst=400"]);
    command
}

/// One line a request, without bodies. Watches are logged when they start: they may never end.
pub(crate) const AUDIT_POLICY: &str = "\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
  omitManagedFields: true
";
