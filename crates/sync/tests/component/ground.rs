//! Git has the controller itself: its kinds, its namespace, its Deployment, the Kustomization and its source.

use anyhow::Context as _;
use k8s_openapi::{
    api::core::v1::Namespace, apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{Api, api::DeleteParams};
use plumbline_sync::api::{UrlSchemes, crds_yaml};
use plumbline_testkit::{ControlPlane, wait_for};
use serde_json::json;

use crate::bench::{APP, Bench, LIMIT, entries, ready};

const POD: &str = "plumbline-sync-5d9c7b8f6-abcde";

/// What `flux bootstrap` commits, so to speak.
fn write_itself(bench: &Bench, interval: &str) -> anyhow::Result<()> {
    let ns = bench.namespace();
    bench
        .repository
        .write("deploy/crds.yaml", crds_yaml(UrlSchemes::WithFile)?)?;
    let objects = [
        json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": ns } }),
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": { "name": "plumbline-sync", "namespace": ns },
            "spec": {
                "replicas": 0, "selector": { "matchLabels": { "app": "sync" } },
                "template": {
                    "metadata": { "labels": { "app": "sync" } },
                    "spec": { "containers": [{ "name": "sync", "image": "x" }] },
                },
            },
        }),
        json!({
            "apiVersion": "source.toolkit.fluxcd.io/v1", "kind": "GitRepository",
            "metadata": { "name": APP, "namespace": ns },
            "spec": { "url": bench.server.url(), "interval": "1h", "ref": { "branch": "main" } },
        }),
        json!({
            "apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization",
            "metadata": { "name": APP, "namespace": ns },
            "spec": {
                "sourceRef": { "kind": "GitRepository", "name": APP }, "interval": interval, "retryInterval": "5s",
                "prune": true, "path": "./deploy",
            },
        }),
    ];
    for (index, object) in objects.iter().enumerate() {
        bench
            .repository
            .write(&format!("deploy/itself-{index}.yaml"), object.to_string())?;
    }
    Ok(())
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one story, told in order")]
async fn what_everything_stands_on_is_managed_and_never_deleted() -> anyhow::Result<()> {
    let plane = tokio::task::spawn_blocking(ControlPlane::start_temporary).await??;
    let bench = Bench::on(&plane).await?;
    let ns = bench.namespace();
    write_itself(&bench, "1h")?;
    bench.write_config_map("a", "1")?;
    let first = bench.commit()?;
    bench.app().await?;
    bench.world.kubectl_with(
        &["apply", "--server-side", "-f", "-"],
        &std::fs::read_to_string(bench.repository.work_tree().join("deploy/itself-1.yaml"))?,
    )?;
    // Flux had them before: else they would stay because they were there.
    let labels = [
        format!("kustomize.toolkit.fluxcd.io/name={APP}"),
        format!("kustomize.toolkit.fluxcd.io/namespace={ns}"),
    ];
    let crds = [
        "gitrepositories.source.toolkit.fluxcd.io",
        "kustomizations.kustomize.toolkit.fluxcd.io",
        "receivers.notification.toolkit.fluxcd.io",
    ];
    let ground: Vec<String> = crds
        .iter()
        .map(|crd| format!("crd/{crd}"))
        .chain([
            format!("namespace/{ns}"),
            "deployment/plumbline-sync".into(),
            format!("gitrepository/{APP}"),
            format!("kustomization/{APP}"),
        ])
        .collect();
    for object in &ground {
        bench
            .world
            .kubectl(&["label", "--overwrite", object, &labels[0], &labels[1]])?;
    }
    let mut syncer = bench.start_named(POD, &[])?;
    let object = bench.applied(&first).await?;
    assert_eq!(entries(&object).len(), 8, "{:?}", entries(&object));

    // It manages itself, and does not go round in circles: what it took over of itself, it looks at once more.
    bench.idle().await?;
    let log = bench.world.audit_log().since_now()?;
    tokio::time::sleep(std::time::Duration::from_secs(4)).await;
    let requests = bench.requests(&log)?;
    assert_eq!(requests.count(), 0, "{:?}", requests.by_verb_and_resource());
    write_itself(&bench, "2h")?;
    let second = bench.push().await?;
    let object = bench.applied(&second).await?;
    assert_eq!(object.spec.interval, "2h");

    // Git drops all of it.
    bench.repository.remove("deploy")?;
    bench.write_config_map("b", "1")?;
    let third = bench.push().await?;
    let object = bench.applied(&third).await?;
    assert_eq!(bench.value("a").await?, None);
    assert_eq!(entries(&object).len(), 1, "{:?}", entries(&object));
    let definitions: Api<CustomResourceDefinition> = Api::all(bench.world.client());
    let namespaces: Api<Namespace> = Api::all(bench.world.client());
    let all_are_there = async |except: &[&str]| {
        for crd in crds {
            let crd = definitions.get(crd).await?;
            assert!(
                crd.metadata.deletion_timestamp.is_none(),
                "{:?}",
                crd.metadata.name
            );
        }
        let namespace = namespaces.get(ns).await?;
        assert!(namespace.metadata.deletion_timestamp.is_none());
        for object in ground
            .iter()
            .filter(|it| !except.iter().any(|other| it.starts_with(other)))
        {
            let time =
                bench
                    .world
                    .kubectl(&["get", object, "-o", "jsonpath={.metadata.deletionTimestamp}"])?;
            assert_eq!(time, "", "{object}");
        }
        anyhow::Ok(())
    };
    all_are_there(&[]).await?;
    for part in [
        "every object of its kind would go",
        "this controller runs in it",
        "it is this controller",
        "it is this Kustomization",
        "it is the source of this Kustomization",
    ] {
        bench.event("Kustomization", "Progressing", part).await?;
    }

    // The same at the end of the Kustomization, but for itself and its source.
    write_itself(&bench, "1h")?;
    let fourth = bench.push().await?;
    bench.applied(&fourth).await?;
    bench
        .kustomizations()
        .delete(APP, &DeleteParams::default())
        .await?;
    wait_for("the Kustomization to be gone", LIMIT, async || {
        match bench.kustomizations().get_opt(APP).await {
            Ok(None) => Ok(()),
            Ok(Some(object)) => Err(format!("{:?}", ready(&object))),
            Err(error) => Err(error.to_string()),
        }
    })
    .await?;
    bench.until_value("b", None).await?;
    assert!(bench.sources().get_opt(APP).await?.is_none());
    all_are_there(&["kustomization/", "gitrepository/"]).await?;
    assert!(syncer.runs());
    syncer.kill();
    plane.check_alive().context("the control plane")?;
    Ok(())
}
