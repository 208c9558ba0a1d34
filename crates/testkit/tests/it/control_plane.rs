//! Starting, stopping, side by side, outages.

use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api,
    api::{DeleteParams, ListParams, ObjectMeta, PostParams},
};
use plumbline_testkit::{ControlPlane, client, down, wait_for};

use crate::leash::processes_with;

fn config_map(name: &str) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.into()),
            ..ObjectMeta::default()
        },
        ..ConfigMap::default()
    }
}

#[tokio::test]
async fn two_run_side_by_side_and_end_without_a_trace() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let first = ControlPlane::start(a.path()).unwrap();
    let second = ControlPlane::start(b.path()).unwrap();

    let taken = ControlPlane::start(a.path()).unwrap_err().to_string();
    assert!(taken.contains("already runs a cluster"), "{taken}");

    let one = client(&first.kubeconfig(), "two-clusters").await.unwrap();
    let two = client(&second.kubeconfig(), "two-clusters").await.unwrap();
    let created = Api::namespaced(one, "default")
        .create(&PostParams::default(), &config_map("only-here"))
        .await;
    created.unwrap();
    let elsewhere: Api<ConfigMap> = Api::namespaced(two, "default");
    assert!(elsewhere.get_opt("only-here").await.unwrap().is_none());

    first.stop();
    assert_eq!(processes_with(a.path().to_str().unwrap()), 0);
    elsewhere.list(&ListParams::default()).await.unwrap();
    second.stop();
    assert_eq!(processes_with(b.path().to_str().unwrap()), 0);
    assert!(b.path().join("audit.log").exists());
}

#[tokio::test]
async fn one_that_is_left_running_is_ended_by_its_directory() {
    let dir = tempfile::tempdir().unwrap();
    ControlPlane::start(dir.path()).unwrap().leave_running().unwrap();
    let client = client(&dir.path().join("admin.conf"), "left-running")
        .await
        .unwrap();
    assert_eq!(client.apiserver_version().await.unwrap().major, "1");
    down(dir.path()).unwrap();
    assert_eq!(processes_with(dir.path().to_str().unwrap()), 0);
    assert!(dir.path().join("audit.log").exists() && !dir.path().join("admin.conf").exists());
    let again = down(dir.path()).unwrap_err().to_string();
    assert!(again.contains("no cluster runs"), "{again}");
}

#[tokio::test]
async fn an_outage_of_the_api_server_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let plane = ControlPlane::start(dir.path()).unwrap();
    let client = client(&plane.kubeconfig(), "outage").await.unwrap();
    let maps: Api<ConfigMap> = Api::namespaced(client, "default");
    maps.create(&PostParams::default(), &config_map("survivor"))
        .await
        .unwrap();
    plane.stop_apiserver().unwrap();
    assert!(maps.get("survivor").await.is_err(), "the API server is away");
    plane.start_apiserver().unwrap();
    maps.get("survivor").await.unwrap();
    // Garbage collection, namespaces and the like work again too.
    maps.delete("kube-root-ca.crt", &DeleteParams::default())
        .await
        .unwrap();
    wait_for(
        "the controller manager to put it back",
        Duration::from_mins(1),
        async || maps.get("kube-root-ca.crt").await,
    )
    .await
    .unwrap();
}
