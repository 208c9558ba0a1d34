//! Namespaces and kinds that Git dropped, with objects in them that stay.

use anyhow::Context as _;
use kube::api::DeleteParams;
use plumbline_testkit::wait_for;
use serde_json::json;

use crate::{
    bench::{APP, Bench, LIMIT, entries, manifest},
    cascade::is_gone,
};

fn space(name: &str) -> String {
    format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n")
}

/// Whether a cluster-scoped object is there and stays.
fn stays(bench: &Bench, object: &str) -> anyhow::Result<()> {
    let time = bench
        .world
        .kubectl(&["get", object, "-o", "jsonpath={.metadata.deletionTimestamp}"])?;
    anyhow::ensure!(time.is_empty(), "{object} is being deleted since {time}");
    Ok(())
}

async fn goes(bench: &Bench, object: &str) -> anyhow::Result<()> {
    wait_for(&format!("{object} to go"), LIMIT, async || {
        match stays(bench, object) {
            Ok(()) => Err("it stays".to_owned()),
            Err(_) => Ok(()),
        }
    })
    .await
}

#[tokio::test]
async fn a_namespace_and_a_kind_stay_as_long_as_others_have_something_in_them() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let ns = bench.namespace();
    let group = format!("{ns}.example.org");
    let at = |suffix: &str| format!("{ns}-{suffix}");
    let crd = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": format!("widgets.{group}") },
        "spec": {
            "group": group, "scope": "Namespaced", "names": { "plural": "widgets", "kind": "Widget" },
            "versions": [{ "name": "v1", "served": true, "storage": true, "schema": { "openAPIV3Schema": { "type": "object" } } }],
        },
    });
    let widget = json!({
        "apiVersion": format!("{group}/v1"), "kind": "Widget", "metadata": { "name": "w", "namespace": ns },
    });
    let write = |path: &str, text: String| bench.repository.write(path, text);
    for name in ["theirs", "opted", "own", "late"] {
        write(&format!("one/{name}.yaml"), space(&at(name)))?;
    }
    write("one/crd.yaml", crd.to_string())?;
    write(
        "one/opted-map.yaml",
        manifest(&at("opted"), "x", "1").replace(
            "metadata:",
            "metadata:\n  annotations: {kustomize.toolkit.fluxcd.io/prune: disabled}",
        ),
    )?;
    write("one/own-map.yaml", manifest(&at("own"), "x", "1"))?;
    write("one/stays.yaml", bench.manifest("stays", "1"))?;
    write("two/map.yaml", manifest(&at("theirs"), "x", "1"))?;
    write("two/late.yaml", manifest(&at("late"), "x", "1"))?;
    write("two/widget.yaml", widget.to_string())?;
    write("two/stays.yaml", bench.manifest("stays-too", "1"))?;
    let first = bench.commit()?;
    bench.source(json!({})).await?;
    bench.kustomization("one", json!({ "path": "./one" })).await?;
    bench
        .kustomization("two", json!({ "path": "./two", "retryInterval": "1s" }))
        .await?;
    let _syncer = bench.start(&["--deletion-budget-percentage=100"])?;
    bench.applied_by("one", &first).await?;
    bench.applied_by("two", &first).await?;

    for gone in ["theirs", "own", "opted", "opted-map", "crd"] {
        bench.repository.remove(&format!("one/{gone}.yaml"))?;
    }
    let second = bench.push().await?;
    let message = bench.fails_by("one", &second, "ReconciliationFailed").await?;
    let crd = format!("crd/widgets.{group}");
    let because = |object: String, what: String| {
        let expected =
            format!("{object}: is no longer in Git, and is not deleted, because {what} would go with it");
        assert!(message.contains(&expected), "{expected}\n{message}");
    };
    because(
        format!("Namespace/{}", at("theirs")),
        format!("1 object(s) of the Kustomization {ns}/two"),
    );
    because(
        format!("CustomResourceDefinition/widgets.{group}"),
        format!("1 object(s) of the Kustomization {ns}/two"),
    );
    because(
        format!("Namespace/{}", at("own")),
        format!("ConfigMap/{}/x", at("own")),
    );
    let event = format!("Namespace/{} kept: something is in it that stays", at("opted"));
    bench.event("Kustomization", "Progressing", &event).await?;
    for name in ["theirs", "opted", "own"] {
        stays(&bench, &format!("namespace/{}", at(name)))?;
    }
    stays(&bench, &crd)?;

    // Theirs go, and somebody lets go of the other one.
    let own = format!("namespace/{}", at("own"));
    bench
        .world
        .kubectl(&["annotate", &own, "kustomize.toolkit.fluxcd.io/prune=disabled"])?;
    bench.repository.remove("two/map.yaml")?;
    bench.repository.remove("two/widget.yaml")?;
    let third = bench.push().await?;
    bench.applied_by("two", &third).await?;
    bench.applied_by("one", &third).await?;
    goes(&bench, &format!("namespace/{}", at("theirs"))).await?;
    goes(&bench, &crd).await?;
    stays(&bench, &own)?;

    // A Kustomization that ends does not wait for others, and takes nothing of theirs.
    bench
        .kustomizations()
        .delete("one", &DeleteParams::default())
        .await?;
    is_gone(&bench, "one").await?;
    stays(&bench, &format!("namespace/{}", at("late")))?;
    let event = format!(
        "Namespace/{} kept: another Kustomization has objects in it",
        at("late")
    );
    bench
        .event("Kustomization", "ReconciliationSucceeded", &event)
        .await?;
    bench.until_value("stays", None).await?;
    assert_eq!(bench.value("stays-too").await?.as_deref(), Some("1"));
    Ok(())
}

/// What a team has: a Namespace, and in it a source and a Kustomization with a ConfigMap.
fn write_team(bench: &Bench, team: &str) -> anyhow::Result<()> {
    let labels = json!({ "of": bench.namespace() });
    let objects = [
        json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": team } }),
        json!({
            "apiVersion": "source.toolkit.fluxcd.io/v1", "kind": "GitRepository",
            "metadata": { "name": "team", "namespace": team, "labels": labels },
            "spec": { "url": bench.server.url(), "interval": "1h", "ref": { "branch": "main" } },
        }),
        json!({
            "apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization",
            "metadata": { "name": "team", "namespace": team, "labels": labels },
            "spec": {
                "sourceRef": { "kind": "GitRepository", "name": "team" }, "interval": "1h", "retryInterval": "5s",
                "prune": true, "path": format!("./{team}"),
            },
        }),
    ];
    for (index, object) in objects.iter().enumerate() {
        let path = format!("deploy/{team}/{index}.yaml");
        bench.repository.write(&path, object.to_string())?;
    }
    let map = manifest(team, "map", "1");
    bench.repository.write(&format!("{team}/map.yaml"), map)
}

#[tokio::test]
async fn a_namespace_goes_after_the_kustomization_in_it() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let ns = bench.namespace();
    let (team, crew, ours) = (format!("{ns}-team"), format!("{ns}-crew"), format!("of={ns}"));
    write_team(&bench, &team)?;
    write_team(&bench, &crew)?;
    bench.write_config_map("stays", "1")?;
    let first = bench.commit()?;
    bench.app().await?;
    bench
        .world
        .kubectl(&["label", "gitrepository/app", "kustomization/app", &ours])?;
    let selector = format!("--watch-label-selector={ours}");
    let _syncer = bench.start(&["--watch-all-namespaces=true", &selector])?;
    bench.applied(&first).await?;
    for namespace in [&team, &crew] {
        wait_for("the team's ConfigMap", LIMIT, async || {
            let get = ["get", "configmap", "map", "-n", namespace, "-o", "name"];
            let read = bench.world.kubectl(&get);
            read.map(drop).map_err(|error| error.to_string())
        })
        .await?;
    }

    let log = bench.world.audit_log().since_now()?;
    // Git drops one of them, and somebody deletes what has the other.
    bench.repository.remove(&format!("deploy/{team}"))?;
    let second = bench.push().await?;
    let object = bench.applied(&second).await?;
    assert_eq!(entries(&object).len(), 4, "{:?}", entries(&object));
    bench
        .kustomizations()
        .delete(APP, &DeleteParams::default())
        .await?;
    is_gone(&bench, APP).await?;
    for namespace in [&team, &crew] {
        goes(&bench, &format!("namespace/{namespace}")).await?;
        let requests = bench.requests(&log)?.0;
        let at = |verb: &str, resource: &str, name: &str| {
            let mut all = requests.iter().rev();
            let found = all.find(|it| {
                (it.verb.as_str(), it.resource.as_str(), it.name.as_str()) == (verb, resource, name)
                    && (it.namespace == *namespace || it.namespace.is_empty())
            });
            found
                .map(|it| it.received.clone())
                .with_context(|| format!("{verb} {resource} {name}"))
        };
        // Its finalizer goes last of all that is done for it.
        let ended = at("patch", "kustomizations", "team")?;
        assert!(ended < at("delete", "namespaces", namespace)?, "{namespace}");
    }
    bench.until_value("stays", None).await
}
