//! One team's own syncer: Roles in its namespace only, a private repository by ssh, a directory that kustomize builds.

use std::{fs, path::Path};

use anyhow::{Context as _, ensure};
use plumbline_testkit::{
    git::{Repository, SshServer},
    wait_for,
};
use serde_json::json;

use super::{PATIENCE, charts::Chart, stage::Stage};
use crate::demo::timeline::Timeline;

const TEAM: Chart = Chart {
    name: "team",
    directory: "sync",
    namespace: "team",
    object: "team-sync",
    program: "plumbline-sync",
    values: &[
        "--set",
        "watchAllNamespaces=false,tenant.create=true,crds.install=false,git.path=deploy,git.secretName=deploy-key",
    ],
};

/// Runs after the other syncer is gone: that one works in every namespace.
pub(super) async fn tell(stage: &Stage, timeline: &mut Timeline) -> anyhow::Result<()> {
    let work = stage.node.plane().dir().join("work");
    let repository = Repository::init(&work.join("team"))?;
    let write = |name: &str, text: &str| repository.write(&format!("deploy/{name}"), text);
    write("kustomization.yaml", &kustomization("one"))?;
    repository.commit("What the team has")?;
    let server = SshServer::start_at(&repository, &work, stage.node.machine()?)?;
    prepare(stage, &server, &work)?;

    let since = timeline.action(
        "helm install of a team's syncer: Roles only, a repository by ssh, a directory for kustomize",
    );
    let url = format!("git.url={}", server.url());
    stage.helm("install", TEAM, &["--set", &url])?;
    generated(stage, "one").await?;
    timeline.effect("what kustomize made of the repository is there", since);

    let since = timeline.action("git push: another value, and a ClusterRole, which the team may not have");
    write("kustomization.yaml", &kustomization("two"))?;
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "everything"},
        "rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]});
    write("role.yaml", &role.to_string())?;
    repository.commit("More than the team may have")?;
    stage.ask(TEAM).await?;
    generated(stage, "two").await?;
    let told = refused(stage).await?;
    timeline.effect(
        "the value is there, the role is not, and the condition says so",
        since,
    );
    Timeline::quote(&told);
    let found = stage.kubectl(
        &[
            "get",
            "clusterrole",
            // With the prefix that kustomize gives it.
            "team-everything",
            "--ignore-not-found",
            "-o",
            "name",
        ],
        "",
    )?;
    ensure!(found.is_empty(), "the team's syncer made a ClusterRole");

    let since = timeline.action("helm uninstall of it");
    stage.run_helm(TEAM, &["uninstall", TEAM.name, "--wait"])?;
    timeline.effect("gone", since);
    let maps = stage.kubectl(&["get", "configmaps", "-n", TEAM.namespace, "-o", "name"], "")?;
    ensure!(
        maps.contains("team-settings-"),
        "what it had applied is gone too: {maps}"
    );
    Ok(())
}

/// The namespace, and the Secret with the key that the Git server lets in.
fn prepare(stage: &Stage, server: &SshServer, work: &Path) -> anyhow::Result<()> {
    stage.restricted_namespace(TEAM.namespace)?;
    let file = |name: &str, text: String| -> anyhow::Result<String> {
        let path = work.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(format!("--from-file={name}={}", path.display()))
    };
    let identity = file("identity", server.identity()?)?;
    let known_hosts = file("known_hosts", server.known_hosts()?)?;
    let create = ["create", "secret", "generic", "deploy-key", "-n", TEAM.namespace];
    stage
        .kubectl(&[&create[..], &[&identity, &known_hosts]].concat(), "")
        .map(drop)
}

/// A generated ConfigMap and whatever else is in the directory by now.
fn kustomization(value: &str) -> String {
    let more = if value == "one" {
        ""
    } else {
        "resources: [role.yaml]\n"
    };
    format!(
        "namespace: team\nnamePrefix: team-\n{more}configMapGenerator:\n  - name: settings\n    literals: [value={value}]\n"
    )
}

/// Waits for the ConfigMap, whose name ends in a hash of what is in it.
async fn generated(stage: &Stage, value: &str) -> anyhow::Result<()> {
    let format = "jsonpath={range .items[*]}{.metadata.name}={.data.value}{\"\\n\"}{end}";
    wait_for(&format!("the ConfigMap with {value}"), PATIENCE, async || {
        let found = stage
            .kubectl(&["get", "configmaps", "-n", TEAM.namespace, "-o", format], "")
            .map_err(|error| format!("{error:#}"))?;
        let is_it = |line: &str| line.starts_with("team-settings-") && line.ends_with(&format!("={value}"));
        if found.lines().any(is_it) {
            Ok(())
        } else {
            Err(found)
        }
    })
    .await
}

/// Waits until the Kustomization tells of the object that the team may not have; returns what it says.
async fn refused(stage: &Stage) -> anyhow::Result<String> {
    let message = "jsonpath={.status.conditions[?(@.type==\"Ready\")].message}";
    wait_for("the condition to tell of the ClusterRole", PATIENCE, async || {
        let found = stage
            .kubectl(
                &[
                    "get",
                    "kustomization",
                    TEAM.name,
                    "-n",
                    TEAM.namespace,
                    "-o",
                    message,
                ],
                "",
            )
            .map_err(|error| format!("{error:#}"))?;
        if found.contains("ClusterRole") && found.contains("forbidden") {
            Ok(found)
        } else {
            Err(found)
        }
    })
    .await
}
