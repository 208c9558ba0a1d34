//! The command line of each component, as plain data.

use std::{path::Path, process::Command};

use crate::{binaries::Binaries, node::network};

/// Who can reach the API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Programs on this machine.
    Loopback,
    /// Pods on the node too.
    Node,
}

impl Reach {
    /// Where the API server listens.
    pub(crate) const fn address(self) -> &'static str {
        match self {
            Self::Loopback => "127.0.0.1",
            Self::Node => network::HOST,
        }
    }

    /// Addresses of Services, and the first of them, which is the API server's own.
    pub(crate) const fn services(self) -> (&'static str, &'static str) {
        match self {
            Self::Loopback => ("10.96.0.0/16", "10.96.0.1"),
            Self::Node => (network::SERVICES, network::KUBERNETES),
        }
    }
}

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

pub(crate) fn apiserver(binaries: &Binaries, dir: &Path, ports: Ports, reach: Reach) -> Command {
    let file = |name: &str| dir.join(name).display().to_string();
    let mut command = Command::new(&binaries.kube_apiserver);
    command
        .arg(format!("--etcd-servers=http://127.0.0.1:{}", ports.etcd))
        .arg(format!("--secure-port={}", ports.apiserver))
        .arg(format!("--bind-address={}", reach.address()))
        .arg(format!("--advertise-address={}", reach.address()))
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
        .arg(format!("--service-cluster-ip-range={}", reach.services().0))
        .arg("--allow-privileged=true")
        .arg("--profiling=false")
        .arg(format!("--audit-policy-file={}", file("pki/audit-policy.yaml")))
        .arg(format!("--audit-log-path={}", file("audit.log")))
        // Every event is in the file before its request ends, and the file is never rotated away (MiB).
        .args(["--audit-log-mode=blocking", "--audit-log-maxsize=100000"]);
    match reach {
        // A loopback advertise address is refused without it.
        Reach::Loopback => command.args(["--endpoint-reconciler-type=none", "--authorization-mode=RBAC"]),
        Reach::Node => command
            .arg("--authorization-mode=Node,RBAC")
            .arg(format!(
                "--kubelet-client-certificate={}",
                file("pki/kubelet-client.crt")
            ))
            .arg(format!("--kubelet-client-key={}", file("pki/kubelet-client.key")))
            // The node's name means nothing to this machine.
            .arg("--kubelet-preferred-address-types=InternalIP"),
    };
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
