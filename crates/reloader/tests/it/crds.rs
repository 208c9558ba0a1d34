//! Kinds that may not be there: Argo's Rollouts and the classes of the secrets-store CSI driver.

use kube::{
    Api,
    api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams},
    core::{ApiResource, GroupVersionKind},
};
use plumbline_testkit::wait_for;
use serde_json::{Value, json};

use crate::harness::{AUTO, Bench, LIMIT, workload};

// A CRD whose objects may hold anything.
async fn crd(bench: &Bench, group: &str, version: &str, kind: &str, plural: &str) -> anyhow::Result<()> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(
        "apiextensions.k8s.io",
        "v1",
        "CustomResourceDefinition",
    ));
    let api: Api<DynamicObject> = Api::all_with(bench.world.client(), &resource);
    let open = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let object = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{group}")},
        "spec": {
            "group": group, "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural, "singular": kind.to_lowercase()},
            "versions": [{"name": version, "served": true, "storage": true,
                "schema": {"openAPIV3Schema": open}}],
        },
    });
    let name = format!("{plural}.{group}");
    api.patch(&name, &PatchParams::apply("test").force(), &Patch::Apply(object))
        .await?;
    let objects = custom(bench, group, version, kind);
    wait_for("the kind to be served", LIMIT, async || {
        objects.list(&kube::api::ListParams::default()).await.map(drop)
    })
    .await
}

fn custom(bench: &Bench, group: &str, version: &str, kind: &str) -> Api<DynamicObject> {
    let mut resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    if kind == "SecretProviderClassPodStatus" {
        resource.plural = "secretproviderclasspodstatuses".into();
    }
    Api::namespaced_with(bench.world.client(), bench.world.namespace(), &resource)
}

#[tokio::test]
async fn argos_rollouts_are_rolled_when_their_kind_comes_later() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    bench.config_map("app", "v1").await?;
    let _reloader = bench.start(&["--debounce=0s", "--is-Argo-Rollouts=true"]).await?;
    crd(&bench, "argoproj.io", "v1alpha1", "Rollout", "rollouts").await?;
    let api = custom(&bench, "argoproj.io", "v1alpha1", "Rollout");
    let restart = ("reloader.stakater.com/rollout-strategy", "restart");
    bench.create(workload("Deployment", "base", &[])).await?;
    for (name, annotations, by_reference) in [
        ("plain", vec![AUTO], false),
        ("restart", vec![AUTO, restart], false),
        ("reference", vec![AUTO], true),
    ] {
        let mut object = workload("Rollout", name, &annotations);
        object["apiVersion"] = json!("argoproj.io/v1alpha1");
        if by_reference {
            object["spec"] =
                json!({"workloadRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "base"}});
        }
        api.create(&PostParams::default(), &serde_json::from_value(object)?)
            .await?;
    }
    let seen = async |name: &str| -> Result<Value, String> {
        let object = api.get(name).await.map_err(|error| error.to_string())?;
        serde_json::to_value(object).map_err(|error| error.to_string())
    };
    for name in ["plain", "restart", "reference"] {
        wait_for("the Rollout to be adopted", LIMIT, async || {
            let object = seen(name).await?;
            let state = object["metadata"]["annotations"][crate::harness::SOURCES].clone();
            let known = state.as_str().is_some_and(|state| state.contains("cm/app"));
            if known { Ok(()) } else { Err(object.to_string()) }
        })
        .await?;
    }
    bench.set("ConfigMap", "app", "v2").await?;
    let (hash, restart_at) = (
        "/spec/template/metadata/annotations/reloader.plumbline.dev~1config-hash",
        "/spec/restartAt",
    );
    for (name, pointer) in [
        ("plain", hash),
        ("restart", restart_at),
        ("reference", restart_at),
    ] {
        wait_for("the Rollout to be rolled", LIMIT, async || {
            let object = seen(name).await?;
            match object.pointer(pointer) {
                Some(_) => Ok(()),
                None => Err(object.to_string()),
            }
        })
        .await?;
    }
    let plain = seen("plain").await.map_err(anyhow::Error::msg)?;
    assert_eq!(
        plain["spec"]["template"]["spec"]["containers"][0]["name"], "a",
        "{plain}"
    );
    Ok(())
}

#[tokio::test]
async fn a_rotated_secret_of_the_csi_driver_rolls_those_who_mount_it() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let group = "secrets-store.csi.x-k8s.io";
    let status_kind = "SecretProviderClassPodStatus";
    let _reloader = bench
        .start(&["--debounce=0s", "--enable-csi-integration=true"])
        .await?;
    crd(&bench, group, "v1", status_kind, "secretproviderclasspodstatuses").await?;
    crd(
        &bench,
        group,
        "v1",
        "SecretProviderClass",
        "secretproviderclasses",
    )
    .await?;
    let api = custom(&bench, group, "v1", status_kind);
    let status = |version: &str| {
        json!({"secretProviderClassName": "vault", "podName": "web-0", "mounted": true,
            "objects": [{"id": "secret/db", "version": version}]})
    };
    let mut object = workload("Deployment", "web", &[AUTO]);
    object["spec"]["template"]["spec"]["volumes"] = json!([{"name": "vault", "csi": {
        "driver": "secrets-store.csi.k8s.io", "readOnly": true, "volumeAttributes": {"secretProviderClass": "vault"}}}]);
    object["spec"]["template"]["spec"]["containers"][0]["volumeMounts"] =
        json!([{"name": "vault", "mountPath": "/vault"}]);
    let exclude = "secretproviderclasses.exclude.reloader.stakater.com/reload";
    let mut excluded = object.clone();
    excluded["metadata"]["name"] = json!("excluded");
    excluded["metadata"]["annotations"][exclude] = json!("vault");
    bench.create(excluded).await?;
    bench.create(object).await?;
    // Named, without being mounted.
    let named = ("secretproviderclass.reloader.stakater.com/reload", "va.lt");
    bench.create(workload("Deployment", "named", &[named])).await?;
    for pod in ["web-0", "web-1"] {
        let object = json!({"apiVersion": format!("{group}/v1"), "kind": status_kind,
            "metadata": {"name": pod}, "status": status("1")});
        api.create(&PostParams::default(), &serde_json::from_value(object)?)
            .await?;
    }
    for name in ["web", "named"] {
        bench.adopted("Deployment", name, &["spc/vault"]).await?;
    }
    let before = bench.template("Deployment", "web").await?;
    let (named, excluded) = (
        bench.template("Deployment", "named").await?,
        bench.template("Deployment", "excluded").await?,
    );
    // The pods see the new version one after the other.
    for pod in ["web-0", "web-1"] {
        let change = json!({"status": status("2")});
        api.patch(pod, &PatchParams::default(), &Patch::Merge(&change))
            .await?;
    }
    let after = bench.rolled("Deployment", "web", &before).await?;
    api.delete("web-0", &DeleteParams::default()).await?;
    bench.rolled("Deployment", "named", &named).await?;
    bench.stays("Deployment", "web", &after).await?;
    for (name, count) in [("web", 1), ("named", 1), ("excluded", 0)] {
        assert_eq!(bench.count("Deployment", name).await?, count, "{name}");
    }
    assert_eq!(bench.template("Deployment", "excluded").await?, excluded);
    Ok(())
}
