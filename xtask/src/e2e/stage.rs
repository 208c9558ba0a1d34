//! The node with Git server and charts, and how one acts on them: as people do, with git, kubectl, helm and kubeseal.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, anyhow, ensure};
use k8s_openapi::{
    api::{apps::v1::Deployment, core::v1::Pod},
    jiff::Timestamp,
};
use kube::{
    Api, Client,
    api::{DynamicObject, ListParams, LogParams, Patch, PatchParams},
    core::{ApiResource, GroupVersionKind},
};
use plumbline_testkit::{Node, Tool, answer, git::Repository, target_dir, wait_for};
use serde_json::json;
use xshell::Shell;

use super::{
    PATIENCE,
    charts::{CHARTS, Chart, SYNC},
    estate::{self, APP, NAMESPACE, REPLICAS, Values},
};
use crate::{
    demo::timeline::Timeline,
    image::{self, Built, Profile},
};

/// The URL within the cluster: the syncer has to ask the cluster's DNS.
const URL: &str = "http://git.git.svc.cluster.local/estate.git";

pub(super) struct Stage {
    pub(super) node: Node,
    pub(super) client: Client,
    pub(super) repository: Repository,
    pub(super) helm: PathBuf,
    kubeseal: PathBuf,
    /// Where to push: the Service's address, because this machine does not ask the cluster's DNS.
    remote: String,
}

impl Stage {
    /// Starts the node and the Git server; gives the node its images.
    pub(super) async fn set_up(
        timeline: &mut Timeline,
        dir: &Path,
        profile: Profile,
        built: &[Built],
    ) -> anyhow::Result<Self> {
        let sh = Shell::new()?;
        let helm = Tool::Helm.path()?;
        let images = estate::images(&sh)?;
        let since =
            timeline.action("starting a control plane and a node (containerd, kubelet, kube-proxy, CoreDNS)");
        let node = Node::start(dir)?;
        timeline.effect("the node is ready, and the cluster's DNS answers", since);
        let since = timeline.action("giving the node its images");
        for one in built {
            node.import(&one.archive)?;
        }
        for image in images {
            let name = image.reference().replace(['/', ':'], "-");
            let archive = target_dir().join("images").join(format!("{name}.tar"));
            image.write(&archive)?;
            node.import(&archive)?;
        }
        timeline.effect("imported", since);
        let work = node.plane().dir().join("work");
        let repository = Repository::init(&work)?;
        let client = plumbline_testkit::client(&node.plane().kubeconfig(), "plumbline-e2e").await?;
        let mut stage = Self {
            node,
            client,
            repository,
            helm,
            kubeseal: image::program(profile, "kubeseal"),
            remote: String::new(),
        };
        let since = timeline.action("starting a Git server in the cluster");
        stage.start_git().await?;
        timeline.effect("it serves", since);
        Ok(stage)
    }

    async fn start_git(&mut self) -> anyhow::Result<()> {
        self.kubectl(
            &["apply", "--server-side", "-f", "-"],
            &estate::git_server().to_string(),
        )?;
        self.rolled_out("git", "git")?;
        let address = self.kubectl(
            &[
                "get",
                "service",
                "git",
                "-n",
                "git",
                "-o",
                "jsonpath={.spec.clusterIP}",
            ],
            "",
        )?;
        self.remote = format!("http://{address}/estate.git");
        let look = async || {
            self.repository
                .git(&["ls-remote", &self.remote])
                .map_err(|error| format!("{error:#}"))
        };
        wait_for("the Git server's Service", PATIENCE, look)
            .await
            .map(drop)
    }

    /// Runs kubectl as an administrator.
    pub(super) fn kubectl(&self, arguments: &[&str], input: &str) -> anyhow::Result<String> {
        self.node.kubectl(arguments, input)
    }

    /// Waits until a Deployment has rolled out.
    pub(super) fn rolled_out(&self, namespace: &str, name: &str) -> anyhow::Result<()> {
        let (object, limit) = (
            format!("deployment/{name}"),
            format!("--timeout={}s", PATIENCE.as_secs()),
        );
        self.kubectl(&["rollout", "status", &object, "-n", namespace, &limit], "")
            .map(drop)
    }

    /// `kubectl create secret … --dry-run=client -o yaml | kubeseal -o yaml`, which asks the controller in the cluster for
    /// its certificate.
    pub(super) fn seal(&self, password: &str) -> anyhow::Result<String> {
        let literal = format!("--from-literal=PASSWORD={password}");
        let secret = self.kubectl(
            &[
                "create",
                "secret",
                "generic",
                estate::SECRET,
                "-n",
                NAMESPACE,
                &literal,
                "--dry-run=client",
                "-o",
                "yaml",
            ],
            "",
        )?;
        let mut kubeseal = Command::new(&self.kubeseal);
        kubeseal
            .args(["-o", "yaml"])
            .env("KUBECONFIG", self.node.plane().kubeconfig());
        answer(&mut kubeseal, secret.as_bytes())
    }

    /// Commits the work tree and pushes it to the Git server; has the syncer look, as a webhook would.
    pub(super) async fn push(&self, message: &str) -> anyhow::Result<String> {
        let commit = self.repository.commit(message)?;
        self.repository
            .git(&["push", "--quiet", "--force", &self.remote, "main"])?;
        self.ask(SYNC).await?;
        Ok(commit)
    }

    /// Makes a namespace where pods that ask for more than the restricted profile allows are refused.
    pub(super) fn restricted_namespace(&self, name: &str) -> anyhow::Result<()> {
        let namespace = estate::restricted_namespace(name);
        self.kubectl(&["apply", "--server-side", "-f", "-"], &namespace)
            .map(drop)
    }

    /// Has a release's syncer look now, if there is something that it follows.
    pub(super) async fn ask(&self, release: Chart) -> anyhow::Result<()> {
        let group = "source.toolkit.fluxcd.io";
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", "GitRepository"));
        let repositories: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), release.namespace, &resource);
        let now = Timestamp::now().to_string();
        let asked = json!({"metadata": {"annotations": {"reconcile.fluxcd.io/requestedAt": now}}});
        match repositories
            .patch(release.name, &PatchParams::default(), &Patch::Merge(&asked))
            .await
        {
            // Before the chart is there.
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            other => Ok(other.map(drop)?),
        }
    }

    /// Waits until exactly the wanted pods run, all ready and all printing `values`.
    pub(super) async fn shows(&self, values: Values) -> anyhow::Result<()> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), NAMESPACE);
        let selector = ListParams::default().labels(&format!("app={APP}"));
        wait_for("the pods to run with the values", PATIENCE, async || {
            let found = pods.list(&selector).await.map_err(|error| error.to_string())?;
            let states: Vec<_> = found.items.iter().map(state).collect();
            if found.items.len() != REPLICAS || states.iter().any(|state| state != "ready") {
                return Err(format!("{} pods: {}", states.len(), states.join(", ")));
            }
            for pod in &found.items {
                let name = pod.metadata.name.as_deref().unwrap_or_default();
                let log = pods.logs(name, &LogParams::default()).await;
                let log = log.map_err(|error| error.to_string())?;
                if !values
                    .lines()
                    .iter()
                    .all(|line| log.lines().any(|found| found == line))
                {
                    return Err(format!("{name} prints {log:?}"));
                }
            }
            Ok(())
        })
        .await
    }

    /// How often the application has been rolled out.
    pub(super) async fn rollouts(&self) -> anyhow::Result<u32> {
        let deployments: Api<Deployment> = Api::namespaced(self.client.clone(), NAMESPACE);
        let notes = deployments
            .get(APP)
            .await?
            .metadata
            .annotations
            .unwrap_or_default();
        let revision = notes.get("deployment.kubernetes.io/revision");
        Ok(revision.context("the Deployment has no revision")?.parse()?)
    }

    /// Fails unless there have been `expected` rollouts, now and a while later.
    pub(super) async fn rolled(&self, expected: u32) -> anyhow::Result<()> {
        tokio::time::sleep(Duration::from_secs(3)).await;
        let rollouts = self.rollouts().await?;
        ensure!(
            rollouts == expected,
            "the Deployment has been rolled out {rollouts} times instead of {expected}"
        );
        Ok(())
    }

    /// Adds what the pods do and say to an error.
    pub(super) fn explain(&self, error: anyhow::Error) -> anyhow::Error {
        let mut told = self.node.pods();
        for chart in CHARTS {
            let object = format!("deployment/{}", chart.object);
            let log = self
                .kubectl(&["logs", &object, "-n", chart.namespace, "--tail=25"], "")
                .unwrap_or_else(|error| format!("{error:#}"));
            told = format!("{told}\nthe end of {}'s log:\n{log}\n", chart.name);
        }
        let sources = ["gitrepositories,kustomizations,sealedsecrets", "-A", "-o", "wide"];
        let sources = [&["get"], &sources[..]].concat();
        told += &self.kubectl(&sources, "").unwrap_or_default();
        error.context(anyhow!("{told}\nthis did not happen"))
    }

    pub(super) fn stop(self) {
        self.node.stop();
    }

    /// Leaves the cluster to the user.
    pub(super) fn leave_running(self) -> anyhow::Result<()> {
        let dir = self.node.plane().dir().to_owned();
        println!("\nEverything is still running. To look around:");
        println!("  export KUBECONFIG={}", self.node.plane().kubeconfig().display());
        println!("  {}/bin/kubectl get pods -A", dir.display());
        println!(
            "  git clone {} (and push to it; pods know it as {URL})",
            self.remote
        );
        println!("To end it: cargo xtask cluster down --dir {}\n", dir.display());
        self.node.leave_running()
    }
}

/// What a pod does, in a few words.
fn state(pod: &Pod) -> String {
    if pod.metadata.deletion_timestamp.is_some() {
        return "ending".to_owned();
    }
    let Some(status) = &pod.status else {
        return "unknown".to_owned();
    };
    let ready = status
        .conditions
        .iter()
        .flatten()
        .any(|one| one.type_ == "Ready" && one.status == "True");
    if ready {
        return "ready".to_owned();
    }
    let waiting = status.container_statuses.iter().flatten().find_map(|container| {
        let waiting = container.state.as_ref()?.waiting.as_ref()?;
        Some(format!(
            "{}: {}",
            waiting.reason.as_deref().unwrap_or_default(),
            waiting.message.as_deref().unwrap_or_default()
        ))
    });
    waiting
        .or_else(|| status.phase.clone())
        .unwrap_or_else(|| "unknown".to_owned())
}
