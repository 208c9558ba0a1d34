//! The configuration files of the node's programs, as plain data.

use std::path::Path;

use serde_json::{Value, json};

use super::{PAUSE, cgroups, network};

/// containerd with everything of its own, so that it is beside one that the machine may have.
pub(super) fn containerd(node: &Path, plugins: &Path) -> String {
    let (node, plugins) = (node.display(), plugins.display());
    format!(
        r#"version = 2
root = "{node}/containerd"
state = "/run/plumbline/containerd"
[grpc]
  address = "{node}/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  # Profiles are the machine's, not the namespace's.
  disable_apparmor = true
  restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "{plugins}"
  conf_dir = "{node}/cni"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
  SystemdCgroup = false
"#
    )
}

/// Each pod has a link of its own to the node, so that all traffic between pods passes kube-proxy's rules.
pub(super) fn cni(node: &Path) -> Value {
    json!({
        "cniVersion": "0.4.0",
        "name": "plumbline",
        "plugins": [
            {
                "type": "ptp",
                "ipam": {
                    "type": "host-local",
                    "dataDir": node.join("addresses"),
                    "ranges": [[{"subnet": network::PODS}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ],
    })
}

/// kubelet reads JSON too.
pub(super) fn kubelet(dir: &Path) -> Value {
    let node = dir.join("node");
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": dir.join("pki/ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": cgroups::ROOT,
        "clusterDNS": [network::DNS],
        "clusterDomain": "cluster.local",
        "containerRuntimeEndpoint": format!("unix://{}/containerd.sock", node.display()),
        "enforceNodeAllocatable": [],
        "evictionHard": {
            "memory.available": "50Mi",
            "nodefs.available": "1%",
            "nodefs.inodesFree": "1%",
            "imagefs.available": "1%",
        },
        // Machines with control groups of version 1 serve for tests.
        "failCgroupV1": false,
        "failSwapOn": false,
        // Images come from archives: one that is collected would not come back.
        "imageGCHighThresholdPercent": 100,
        "podLogsDir": dir.join("logs/pods"),
        "resolvConf": node.join("resolv.conf"),
        "volumePluginDir": node.join("volume-plugins"),
    })
}
