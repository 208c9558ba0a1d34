//! Commands that only read: tables, trees, where an object comes from, events, debugging.

use std::process::Stdio;

use kube::api::{DeleteParams, PostParams};
use plumbline_testkit::wait_for;
use serde_json::{Value, json};

use super::{Flux, applied, short};
use crate::bench::{APP, LIMIT};

/// What `flux` knows and we do not install.
const ABSENT: [&str; 3] = ["HelmRelease", "OCIRepository", "ImagePolicy"];

#[tokio::test(flavor = "multi_thread")]
async fn flux_get_and_stats_show_what_there_is_without_the_kinds_of_others() -> anyhow::Result<()> {
    let (bench, _syncer, revision) = applied().await?;
    let flux = Flux::on(&bench).await?;
    let ns = bench.namespace();

    let table = flux.run(&["get", "sources", "git"])?;
    table.ok(&["NAME", "REVISION", "SUSPENDED", "READY", "MESSAGE"]);
    assert_eq!(
        table.rows()[0][..4],
        [APP, &short(&revision), "False", "True"],
        "{}",
        table.all()
    );
    table.ok(&["stored artifact for revision"]);
    let table = flux.run(&["get", "kustomizations"])?;
    assert_eq!(
        table.rows()[0][..4],
        [APP, &short(&revision), "False", "True"],
        "{}",
        table.all()
    );
    table.ok(&[&format!("Applied revision: {}", short(&revision))]);

    // Of kinds that nobody installed no word is said; asked for one of them by name, it says what is missing.
    let all = flux.run(&["get", "all"])?;
    all.ok(&["gitrepository/app", "kustomization/app"]);
    assert!(all.err.is_empty(), "{}", all.all());
    flux.run(&["get", "sources", "all"])?.ok(&["gitrepository/app"]);
    flux.run(&["get", "helmreleases"])?
        .ended(1, &["helm.toolkit.fluxcd.io/v2: no matches"]);

    bench
        .kustomization("broken", json!({ "path": "./nothing" }))
        .await?;
    bench.fails_by("broken", &revision, "ArtifactFailed").await?;
    let table = flux.run(&["get", "kustomizations", "--status-selector", "ready=false"])?;
    assert_eq!(
        (table.rows().len(), table.rows()[0][0]),
        (1, "broken"),
        "{}",
        table.all()
    );
    flux.run(&["suspend", "source", "git", APP])?.ok(&[]);
    let stats = flux.run(&["stats"])?;
    let rows = stats.rows();
    let row = |kind: &str| {
        rows.iter()
            .find(|row| row[0] == kind)
            .map(|row| row[1..4].to_vec())
    };
    assert_eq!(row("GitRepository"), Some(vec!["0", "0", "1"]), "{}", stats.all());
    assert_eq!(row("Kustomization"), Some(vec!["2", "1", "0"]), "{}", stats.all());
    for kind in ABSENT {
        let found = row(kind);
        assert!(found.is_none_or(|row| row == ["0", "0", "0"]), "{}", stats.all());
    }

    // It is told what changes.
    let mut command = flux.command(&["get", "kustomizations", "--watch"]);
    let log = bench.world.dir().join("watch");
    let mut watching = command
        .stdout(std::fs::File::create(&log)?)
        .stderr(Stdio::null())
        .spawn()?;
    bench
        .kustomizations()
        .delete("broken", &DeleteParams::default())
        .await?;
    let object = json!({
        "apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization", "metadata": { "name": "late", "namespace": ns },
        "spec": { "sourceRef": { "kind": "GitRepository", "name": APP }, "interval": "1h", "prune": true, "path": "./deploy", "suspend": true },
    });
    bench
        .kustomizations()
        .create(&PostParams::default(), &serde_json::from_value(object)?)
        .await?;
    let seen = wait_for("flux to print it", LIMIT, async || {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        if text.contains("late") { Ok(()) } else { Err(text) }
    });
    let seen = seen.await;
    watching.kill()?;
    watching.wait()?;
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn flux_finds_out_where_an_object_comes_from_and_what_happened() -> anyhow::Result<()> {
    let (bench, _syncer, first) = applied().await?;
    let flux = Flux::on(&bench).await?;
    let ns = bench.namespace();

    let trace = flux.run(&["trace", "configmap", "a"])?;
    trace.ok(&[
        "Object:          ConfigMap/a",
        "Status:          Managed by Flux",
        "Kustomization:   app",
        "Path:            ./deploy",
        &format!("Revision:        {first}"),
        "GitRepository:   app",
        &format!("URL:             {}", bench.server.url()),
        "Branch:          main",
        "Status:          Last reconciled at",
        "stored artifact for revision",
    ]);
    flux.run(&["trace", "a", "--kind=ConfigMap", "--api-version=v1"])?
        .ok(&["Kustomization:   app"]);
    bench
        .world
        .kubectl_with(&["create", "-f", "-"], &bench.manifest("foreign", "1"))?;
    let foreign = flux.run(&["trace", "configmap", "foreign"])?;
    foreign.ok(&["object not managed by Flux"]);

    // One Kustomization that brings another.
    bench
        .repository
        .write("nested/c.yaml", bench.manifest("c", "1"))?;
    bench.repository.write("deploy/nested.yaml", format!(
        "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {{name: nested, namespace: {ns}}}\nspec:\n  \
         sourceRef: {{kind: GitRepository, name: {APP}}}\n  interval: 1h\n  prune: true\n  path: ./nested\n"
    ))?;
    let second = bench.push().await?;
    bench.applied(&second).await?;
    bench.applied_by("nested", &second).await?;
    let tree = flux.run(&["tree", "kustomization", APP])?;
    tree.ok(&[
        &format!("Kustomization/{ns}/app"),
        &format!("├── ConfigMap/{ns}/a"),
        &format!("└── Kustomization/{ns}/nested"),
        &format!("    └── ConfigMap/{ns}/c"),
    ]);
    let compact = flux.run(&["tree", "kustomization", APP, "--compact"])?;
    assert!(
        !compact.out.contains("ConfigMap") && compact.out.contains("nested"),
        "{}",
        compact.all()
    );

    bench
        .event("Kustomization", "ReconciliationSucceeded", &second)
        .await?;
    bench.event("GitRepository", "NewArtifact", "").await?;
    let events = flux.run(&["events", "--for", "Kustomization/app"])?;
    events.ok(&[
        "LAST SEEN",
        "ReconciliationSucceeded",
        "Kustomization/app",
        "NewArtifact",
        "GitRepository/app",
    ]);
    assert!(!events.out.contains("Kustomization/nested"), "{}", events.all());
    flux.run(&["events", "--types=Normal"])?
        .ok(&["Kustomization/nested"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn flux_debug_shows_status_variables_and_history() -> anyhow::Result<()> {
    let (bench, _syncer, first) = applied().await?;
    let flux = Flux::on(&bench).await?;
    bench.world.kubectl(&[
        "create",
        "configmap",
        "vars",
        "--from-literal=region=north",
        "--from-literal=tier=low",
    ])?;
    let build = json!({ "substitute": { "tier": "high" }, "substituteFrom": [{ "kind": "ConfigMap", "name": "vars" }] });
    bench.set_spec(APP, json!({ "postBuild": build })).await?;
    bench.write_config_map("a", "${region}-${tier}")?;
    let second = bench.push().await?;
    bench.applied(&second).await?;
    bench.until_value("a", Some("north-high")).await?;

    flux.run(&["debug", "kustomization", APP, "--show-vars"])?
        .ok(&["region=north\ntier=high\n"]);
    let status = flux.run(&["debug", "kustomization", APP, "--show-status"])?;
    status.ok(&[]);
    let status: Value = serde_yaml::from_str(&status.out)?;
    assert_eq!(status["lastAppliedRevision"], second.as_str());
    assert_eq!(status["inventory"]["entries"].as_array().map(Vec::len), Some(1));
    let history = flux.run(&["debug", "kustomization", APP, "--show-history"])?;
    history.ok(&[
        "lastReconciledStatus: ReconciliationSucceeded",
        "totalReconciliations",
    ]);
    let history: Value = serde_yaml::from_str(&history.out)?;
    let revisions: Vec<_> = history
        .as_array()
        .into_iter()
        .flatten()
        .map(|it| &it["metadata"]["revision"])
        .collect();
    assert!(
        revisions.contains(&&json!(first)) && revisions[0] == &json!(second),
        "{history}"
    );
    Ok(())
}
