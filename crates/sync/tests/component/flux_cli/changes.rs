//! Commands that make and delete objects, and those that build and compare a directory.

use plumbline_testkit::git::{Access, GitServer, SshServer};
use serde_json::{Value, json};

use super::{Flux, applied, file};
use crate::bench::{APP, Bench};

#[tokio::test(flavor = "multi_thread")]
async fn what_flux_creates_is_applied_and_what_it_deletes_is_pruned() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let flux = Flux::on(&bench).await?;
    bench.write_config_map("a", "1")?;
    let revision = bench.commit()?;
    let _syncer = bench.start(&[])?;

    let url = format!("--url={}", bench.server.url());
    let source = [
        "create",
        "source",
        "git",
        APP,
        "--branch=main",
        "--interval=1h",
        &url,
    ];
    flux.run(&source)?.ok(&[&format!("fetched revision: {revision}")]);
    let kustomization = [
        "create",
        "kustomization",
        APP,
        "--source=GitRepository/app",
        "--path=./deploy",
        "--prune=true",
        "--wait=true",
        "--interval=1h",
    ];
    flux.run(&kustomization)?
        .ok(&[&format!("applied revision {revision}")]);
    assert_eq!(bench.value("a").await?.as_deref(), Some("1"));

    // What it exports is what it made, and is taken back as it is.
    let mut exported = String::new();
    for what in [&["source", "git"][..], &["kustomization"]] {
        let made = flux.run(&[&["export"], what, &[APP]].concat())?;
        made.ok(&["---"]);
        exported.push_str(&made.out);
    }
    let printed = flux.run(&[&kustomization[..], &["--export"]].concat())?;
    assert_eq!(
        spec(&printed.out)?,
        spec(exported.rsplit("---").next().unwrap_or_default())?
    );
    bench.world.kubectl_with(
        &["apply", "--server-side", "--force-conflicts", "-f", "-"],
        &exported,
    )?;

    flux.run(&["delete", "kustomization", APP, "--silent"])?
        .ok(&["kustomization deleted"]);
    bench.until_value("a", None).await?;
    flux.run(&["delete", "source", "git", APP, "--silent"])?
        .ok(&["source git deleted"]);
    assert!(bench.sources().get_opt(APP).await?.is_none());
    Ok(())
}

fn spec(yaml: &str) -> anyhow::Result<Value> {
    let value: Value = serde_yaml::from_str(yaml.trim_start_matches("---"))?;
    Ok(value["spec"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_credentials_that_flux_makes_let_us_in() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let flux = Flux::on(&bench).await?;
    bench.write_config_map("a", "1")?;
    let revision = bench.commit()?;
    let fetched = format!("fetched revision: {revision}");
    let _syncer = bench.start(&[])?;
    let dir = bench.world.dir();

    // https with a name, a password and an authority of its own.
    let closed = GitServer::https_for(&bench.repository, Access::Basic("ada", "hunter2"))?;
    let url = format!("--url={}", closed.url());
    let ca = file(dir, "ca.pem", closed.ca().unwrap_or_default())?;
    let secret = [
        "create",
        "secret",
        "git",
        "basic",
        "--username=ada",
        "--password=hunter2",
        &url,
        "--ca-crt-file",
        &ca,
    ];
    flux.run(&secret)?.ok(&["git secret 'basic' created"]);
    let source = [
        "create",
        "source",
        "git",
        "basic",
        "--branch=main",
        "--secret-ref=basic",
        &url,
    ];
    flux.run(&source)?.ok(&[&fetched]);

    // ssh: it asks the server for its key, on a port that is not the usual one.
    let ssh = SshServer::start(&bench.repository, dir)?;
    let url = format!("--url={}", ssh.url());
    let key = file(dir, "identity", &ssh.identity()?)?;
    let secret = ["create", "secret", "git", "ssh", &url, "--private-key-file", &key];
    flux.run(&secret)?.ok(&["git secret 'ssh' created"]);
    let source = [
        "create",
        "source",
        "git",
        "ssh",
        "--branch=main",
        "--secret-ref=ssh",
        &url,
    ];
    flux.run(&source)?.ok(&[&fetched]);

    // A locked key, and everything by one command.
    let locked = file(dir, "locked", &ssh.locked_identity()?)?;
    let source = [
        "create",
        "source",
        "git",
        "locked",
        "--branch=main",
        "--silent",
        "--private-key-file",
        &locked,
        "--password=open sesame",
        &url,
    ];
    flux.run(&source)?.ok(&["authentication configured", &fetched]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn flux_build_and_diff_agree_with_what_is_applied() -> anyhow::Result<()> {
    let (bench, _syncer, _) = applied().await?;
    let flux = Flux::on(&bench).await?;
    let ns = bench.namespace();
    bench
        .set_spec(APP, json!({ "commonMetadata": { "labels": { "team": "one" } } }))
        .await?;
    flux.run(&["reconcile", "kustomization", APP])?.ok(&[]);

    let built = flux.run(&["build", "kustomization", APP, "--path=./deploy"])?;
    built.ok(&[
        "kind: ConfigMap",
        "team: one",
        "kustomize.toolkit.fluxcd.io/name: app",
    ]);
    let diff = [
        "diff",
        "kustomization",
        APP,
        "--path=./deploy",
        "--progress-bar=false",
    ];
    let said = flux.run(&diff)?;
    said.ok(&[]);
    assert!(
        said.out.trim().is_empty(),
        "it sees drift where there is none: {}",
        said.all()
    );

    // A change, a new object and one that is gone.
    bench.write_config_map("a", "2")?;
    bench.write_config_map("b", "1")?;
    flux.run(&diff)?.ended(
        1,
        &[
            &format!("ConfigMap/{ns}/a drifted"),
            &format!("ConfigMap/{ns}/b created"),
            "at least one change",
        ],
    );
    bench.repository.remove("deploy/a.yaml")?;
    let said = flux.run(&diff)?;
    said.ended(1, &[&format!("ConfigMap/{ns}/a deleted")]);
    assert_eq!(
        bench.value("a").await?.as_deref(),
        Some("1"),
        "a diff changed something"
    );

    // A field that Git drops: flux compares as Flux's field manager, which does not own it.
    bench.repository.write(
        "deploy/a.yaml",
        format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: a, namespace: {ns}}}\n"),
    )?;
    bench.repository.remove("deploy/b.yaml")?;
    flux.run(&diff)?.ok(&[]);
    let (code, plan, _) = crate::command_line::command(&bench, &["plan", "./deploy", "-k", APP])?;
    assert!(
        code == 2 && plan.contains(".data: - {\"key\":\"1\"}"),
        "our own says it: {plan}"
    );
    Ok(())
}
