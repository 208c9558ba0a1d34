//! What is committed to Git, and the images that it takes: plain data.

use std::path::Path;

use anyhow::Context as _;
use plumbline_testkit::{Image, node_program};
use serde_json::{Value, json};
use xshell::{Shell, cmd};

/// Namespace of the application.
pub(super) const NAMESPACE: &str = "shop";
/// The Deployment.
pub(super) const APP: &str = "web";
/// Its pods, when all is well.
pub(super) const REPLICAS: usize = 2;
/// Its ConfigMap.
pub(super) const CONFIG_MAP: &str = "foo-configmap";
/// Its Secret.
pub(super) const SECRET: &str = "foo-secret";

const SHOW: &str = "plumbline.dev/test/show:1";
const GIT: &str = "plumbline.dev/test/git:1";

/// What the application prints: variables from its ConfigMap and its Secret.
#[derive(Clone, Copy, Debug)]
pub(super) struct Values {
    pub(super) greeting: &'static str,
    pub(super) password: &'static str,
}

impl Values {
    /// The lines in its log.
    pub(super) fn lines(self) -> [String; 2] {
        [
            format!("GREETING={}", self.greeting),
            format!("PASSWORD={}", self.password),
        ]
    }
}

pub(super) fn restricted_namespace(name: &str) -> String {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {
        "name": name, "labels": {"pod-security.kubernetes.io/enforce": "restricted"},
    }})
    .to_string()
}

pub(super) fn config_map(greeting: &str) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {CONFIG_MAP}\n  namespace: {NAMESPACE}\ndata:\n  GREETING: {greeting}\n"
    )
}

/// The seed's annotation, and the same for the Secret.
pub(super) fn deployment() -> String {
    format!(
        r#"apiVersion: apps/v1
kind: Deployment
metadata:
  name: {APP}
  namespace: {NAMESPACE}
  annotations:
    configmap.reloader.stakater.com/reload: "{CONFIG_MAP}"
    secret.reloader.stakater.com/reload: "{SECRET}"
spec:
  replicas: {REPLICAS}
  selector: {{matchLabels: {{app: {APP}}}}}
  template:
    metadata: {{labels: {{app: {APP}}}}}
    spec:
      terminationGracePeriodSeconds: 1
      securityContext: {{runAsNonRoot: true, seccompProfile: {{type: RuntimeDefault}}}}
      containers:
        - name: show
          image: {SHOW}
          imagePullPolicy: Never
          args: [GREETING, PASSWORD]
          envFrom:
            - configMapRef: {{name: {CONFIG_MAP}}}
            - secretRef: {{name: {SECRET}}}
          readinessProbe: {{httpGet: {{path: /, port: 8080}}, periodSeconds: 1}}
          securityContext:
            allowPrivilegeEscalation: false
            readOnlyRootFilesystem: true
            capabilities: {{drop: [ALL]}}
"#
    )
}

/// A Git server in the cluster: the repositories are gone with its pod.
pub(super) fn git_server() -> Value {
    let labels = json!({"app": "git"});
    json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "git"}},
        {
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "git", "namespace": "git"},
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": {
                    "securityContext": {"fsGroup": 65532},
                    "terminationGracePeriodSeconds": 1,
                    "containers": [{
                        "name": "git", "image": GIT, "imagePullPolicy": "Never",
                        "args": ["/srv", "estate.git"],
                        "volumeMounts": [{"name": "srv", "mountPath": "/srv"}],
                        "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1},
                    }],
                    "volumes": [{"name": "srv", "emptyDir": {}}],
                }},
            },
        },
        {
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "git", "namespace": "git"},
            "spec": {"selector": labels, "ports": [{"port": 80, "targetPort": 8080}]},
        },
    ]})
}

/// The images of both.
pub(super) fn images(sh: &Shell) -> anyhow::Result<[Image; 2]> {
    let mut show = Image::new(SHOW);
    show.program("/show", &node_program("show")?)?
        .entrypoint(&["/show"]);
    let mut git = Image::new(GIT);
    let exec_path = cmd!(sh, "git --exec-path")
        .quiet()
        .read()
        .context("git is not installed")?;
    let installed = cmd!(sh, "sh -c 'command -v git'").quiet().read()?;
    git.program("/usr/bin/git", Path::new(&installed))?;
    let backend = format!("{exec_path}/git-http-backend");
    git.program(&backend, Path::new(&backend))?;
    git.program("/gitserver", &node_program("gitserver")?)?;
    git.environment("HOME", "/tmp").entrypoint(&["/gitserver"]);
    Ok([show, git])
}
