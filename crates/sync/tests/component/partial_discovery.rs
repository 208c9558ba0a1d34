//! A group of kinds whose server is down: a real APIService without a backend, as for a metrics adapter that crashed.

use kube::{
    Api,
    api::{DeleteParams, DynamicObject, Patch, PatchParams},
    core::{ApiResource, GroupVersionKind},
};
use plumbline_testkit::{ControlPlane, wait_for};
use serde_json::json;

use crate::bench::{APP, Bench, LIMIT, entries, ready};

const GROUP: &str = "things.example.org";

fn definition() -> String {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": format!("things.{GROUP}") },
        "spec": {
            "group": GROUP, "scope": "Namespaced",
            "names": { "plural": "things", "singular": "thing", "kind": "Thing", "listKind": "ThingList" },
            "versions": [{ "name": "v1", "served": true, "storage": true, "schema": {
                "openAPIV3Schema": { "type": "object", "x-kubernetes-preserve-unknown-fields": true },
            } }],
        },
    })
    .to_string()
}

/// Has the API server send everything about the group to a Service that is not there.
async fn take_down(bench: &Bench) -> anyhow::Result<()> {
    let patch = json!({
        "metadata": { "labels": { "kube-aggregator.kubernetes.io/automanaged": null } },
        "spec": { "service": { "namespace": "default", "name": "nobody", "port": 443 }, "insecureSkipTLSVerify": true },
    });
    services(bench)
        .patch(
            &format!("v1.{GROUP}"),
            &PatchParams::default(),
            &Patch::Merge(&patch),
        )
        .await?;
    wait_for("the group to be down", LIMIT, async || {
        match bench
            .world
            .kubectl(&["get", "--raw", &format!("/apis/{GROUP}/v1")])
        {
            Err(_) => Ok(()),
            Ok(answer) => Err(answer),
        }
    })
    .await
}

/// Kubernetes itself makes the APIService of a CRD anew.
async fn bring_up(bench: &Bench) -> anyhow::Result<()> {
    services(bench)
        .delete(&format!("v1.{GROUP}"), &DeleteParams::default())
        .await?;
    wait_for("the group to be back", LIMIT, async || {
        match things(bench).list(&kube::api::ListParams::default()).await {
            Ok(_) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    })
    .await
}

fn services(bench: &Bench) -> Api<DynamicObject> {
    let gvk = GroupVersionKind::gvk("apiregistration.k8s.io", "v1", "APIService");
    Api::all_with(bench.world.client(), &ApiResource::from_gvk(&gvk))
}

fn things(bench: &Bench) -> Api<DynamicObject> {
    bench.api(GROUP, "v1", "Thing")
}

#[tokio::test]
async fn a_kind_whose_server_is_down_is_neither_gone_nor_forgotten() -> anyhow::Result<()> {
    let plane = tokio::task::spawn_blocking(ControlPlane::start_temporary).await??;
    let bench = Bench::on(&plane).await?;
    bench
        .world
        .kubectl_with(&["apply", "--server-side", "-f", "-"], &definition())?;
    bench.world.kubectl(&[
        "wait",
        "--for=condition=Established",
        "--timeout=60s",
        &format!("crd/things.{GROUP}"),
    ])?;
    for name in ["t1", "t2"] {
        bench.repository.write(
            &format!("deploy/{name}.yaml"),
            format!(
                "apiVersion: {GROUP}/v1\nkind: Thing\nmetadata: {{name: {name}, namespace: {}}}\nspec: {{size: 1}}\n",
                bench.namespace()
            ),
        )?;
    }
    bench.write_config_map("a", "1")?;
    let first = bench.commit()?;
    bench.app().await?;
    let mut syncer = bench.start(&[])?;
    bench.applied(&first).await?;

    take_down(&bench).await?;
    bench.repository.remove("deploy/t1.yaml")?;
    bench.write_config_map("a", "2")?;
    let second = bench.push().await?;
    let message = bench.fails(&second, "ReconciliationFailed").await?;
    assert!(message.contains("t1: cannot be deleted"), "{message}");
    assert_eq!(bench.value("a").await?.as_deref(), Some("2"), "the rest goes on");
    let object = bench.kustomizations().get(APP).await?;
    assert_eq!(entries(&object).len(), 3, "{:?}", entries(&object));

    // A new process has never seen the kind.
    syncer.kill();
    std::fs::remove_dir_all(bench.world.dir().join("storage-syncer-0"))?;
    let mut syncer = bench.start(&[])?;
    bench.write_config_map("a", "3")?;
    let third = bench.push().await?;
    bench.until_value("a", Some("3")).await?;
    let message = bench.fails(&third, "ReconciliationFailed").await?;
    println!("{message}");
    let object = bench.kustomizations().get(APP).await?;
    assert_eq!(entries(&object).len(), 3, "{:?}", entries(&object));

    bring_up(&bench).await?;
    wait_for("the one that Git dropped to go", LIMIT, async || {
        let list = things(&bench).list(&kube::api::ListParams::default()).await;
        let list = list.map_err(|error| error.to_string())?;
        let left: Vec<String> = list.items.into_iter().filter_map(|it| it.metadata.name).collect();
        if left == ["t2"] {
            Ok(())
        } else {
            Err(format!("{left:?}"))
        }
    })
    .await?;
    let object = bench.applied(&third).await?;
    assert_eq!(entries(&object).len(), 2);

    // The end of the Kustomization waits for it, too, also in a process that has never seen the kind.
    take_down(&bench).await?;
    syncer.kill();
    bench
        .kustomizations()
        .delete(APP, &DeleteParams::default())
        .await?;
    let mut syncer = bench.start(&[])?;
    bench
        .until(APP, "the end to be held up", |object| {
            ready(object).1 == "PruneFailed" && ready(object).2.contains("t2")
        })
        .await?;
    bring_up(&bench).await?;
    wait_for("the Kustomization to be gone", LIMIT, async || {
        match bench.kustomizations().get_opt(APP).await {
            Ok(None) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    assert_eq!(
        things(&bench).get_opt("t2").await?.map(|it| it.metadata.name),
        None
    );
    assert!(syncer.runs());
    syncer.kill();
    plane.check_alive()?;
    Ok(())
}
