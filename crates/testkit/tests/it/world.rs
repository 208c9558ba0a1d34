//! Worlds are apart, and the audit log counts exactly.

use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::{
    Api,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use plumbline_testkit::{World, wait_for};
use serde_json::json;

#[tokio::test]
async fn worlds_are_apart_and_kubectl_is_the_real_one() {
    let (a, b) = (World::new().await.unwrap(), World::new().await.unwrap());
    assert_ne!(a.namespace(), b.namespace());
    assert_ne!(a.dir(), b.dir());
    let manifest = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: here}\ndata: {key: value}\n";
    a.kubectl_with(&["apply", "--server-side", "-f", "-"], manifest)
        .unwrap();
    let printed = a
        .kubectl(&["get", "configmap", "here", "-o", "jsonpath={.data.key}"])
        .unwrap();
    assert_eq!(printed, "value");
    let error = b.kubectl(&["get", "configmap", "here"]).unwrap_err().to_string();
    assert!(error.contains("not found"), "{error}");
}

#[tokio::test]
async fn the_audit_log_counts_what_one_client_asked_for() {
    let world = World::new().await.unwrap();
    let log = world.audit_log().since_now().unwrap();
    let agent = format!("counted/{}", world.namespace());
    let client = world.client_as(&agent).await.unwrap();
    let maps: Api<ConfigMap> = Api::namespaced(client, world.namespace());
    let apply = PatchParams::apply("counted");
    for n in 0..7 {
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("m{n}")}});
        maps.patch(&format!("m{n}"), &apply, &Patch::Apply(&map))
            .await
            .unwrap();
    }
    maps.list(&ListParams::default()).await.unwrap();
    let watch = maps.watch(&kube::api::WatchParams::default(), "0").await.unwrap();
    drop(watch);

    let counts = wait_for("nine requests", Duration::from_secs(10), async || {
        let requests = log.requests(&agent).map_err(|error| format!("{error:#}"))?;
        match requests.count() {
            9 => Ok(requests),
            n => Err(format!("{n} requests")),
        }
    })
    .await
    .unwrap();
    assert!(
        counts
            .0
            .iter()
            .all(|one| one.namespace == world.namespace() && one.code < 300)
    );
    let counts = counts.without_watches_and_leases().by_verb_and_resource();
    let expected =
        [("list", 1), ("patch", 7)].map(|(verb, n)| ((verb.to_owned(), "configmaps".to_owned()), n));
    assert_eq!(counts, expected.into());
}

#[tokio::test]
async fn namespaces_really_go_away() {
    let world = World::new().await.unwrap();
    let namespaces: Api<Namespace> = Api::all(world.client());
    namespaces
        .delete(world.namespace(), &DeleteParams::default())
        .await
        .unwrap();
    wait_for(
        "the namespace to go",
        Duration::from_mins(1),
        async || match namespaces.get_opt(world.namespace()).await {
            Ok(None) => Ok(()),
            other => Err(format!("{other:?}")),
        },
    )
    .await
    .unwrap();
}
