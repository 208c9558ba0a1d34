//! A re-sealed value pushed to Git restarts exactly the pods that use it, once; the syncer neither undoes nor repeats it.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use kube::{Api, Client, api::ListParams};
use plumbline_testkit::wait_for;
use plumbline_together::{Estate, PATIENCE, Unsealer};

/// Longer than the reloader waits for a second change, and than the syncer takes to see drift.
const QUIET: Duration = Duration::from_secs(3);
const STATE: &str = "reloader.plumbline.dev/sources";
const LAST: &str = "reloader.stakater.com/last-reloaded-from";

fn deployment(name: &str, secret: &str, note: &str) -> String {
    format!(
        r#"apiVersion: apps/v1
kind: Deployment
metadata:
  name: {name}
  namespace: default
  labels: {{note: "{note}"}}
  annotations: {{secret.reloader.stakater.com/reload: "{secret}"}}
spec:
  replicas: 0
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      containers:
        - name: main
          image: registry.example/{name}:1
          envFrom: [{{secretRef: {{name: {secret}}}}}]
"#
    )
}

/// What the reloader writes into a Deployment's template, and how many ReplicaSets there have been.
async fn rolls(client: &Client, name: &str) -> (Option<String>, usize) {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), "default");
    let sets: Api<ReplicaSet> = Api::namespaced(client.clone(), "default");
    let found = deployments.get(name).await.unwrap();
    let template = found.spec.unwrap().template.metadata.unwrap();
    let selector = ListParams::default().labels(&format!("app={name}"));
    let sets = sets.list_metadata(&selector).await.unwrap().items.len();
    let last = template.annotations.and_then(|mut notes| notes.remove(LAST));
    (last, sets)
}

async fn wait_for_rolls(client: &Client, name: &str, expected: usize) {
    wait_for("the rollout", PATIENCE, async || {
        match rolls(client, name).await {
            (_, sets) if sets == expected => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resealed_value_rolls_its_users_once_and_the_syncer_lets_it_be() {
    let estate = tokio::task::spawn_blocking(Estate::start).await.unwrap().unwrap();
    let unsealer = Unsealer::start(&estate).await.unwrap();
    estate.start_reloader().unwrap();
    let client = estate.client().await.unwrap();
    let seal = |name, literal| unsealer.seal(&estate, "default", name, &[literal]).unwrap();

    let repository = &estate.repository;
    repository
        .write("login.yaml", seal("login", "password=s3cret"))
        .unwrap();
    repository
        .write("other.yaml", seal("other", "token=abc"))
        .unwrap();
    repository
        .write("user.yaml", deployment("user", "login", "a"))
        .unwrap();
    repository
        .write("stranger.yaml", deployment("stranger", "other", "a"))
        .unwrap();
    let commit = repository
        .commit("Two Deployments, each with a sealed Secret")
        .unwrap();
    estate.follow_repository().unwrap();
    estate.applied(&client, &commit).await.unwrap();
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), "default");
    for (name, secret) in [("user", "login"), ("stranger", "other")] {
        wait_for("the reloader's memory of the Secret", PATIENCE, async || {
            let found = deployments.get(name).await.map_err(|error| error.to_string())?;
            let notes = found.metadata.annotations.unwrap_or_default();
            match notes.get(STATE) {
                Some(state) if state.contains(secret) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await
        .unwrap();
        wait_for_rolls(&client, name, 1).await;
    }

    // The re-sealed value: one rollout of the one Deployment that uses it.
    repository
        .write("login.yaml", seal("login", "password=next"))
        .unwrap();
    estate.push("Another password").await.unwrap();
    wait_for_rolls(&client, "user", 2).await;
    let (rolled, _) = rolls(&client, "user").await;
    assert!(rolled.as_ref().unwrap().contains("login"), "{rolled:?}");
    tokio::time::sleep(QUIET).await;
    assert_eq!(rolls(&client, "user").await, (rolled.clone(), 2), "once");
    assert_eq!(rolls(&client, "stranger").await, (None, 1), "not its Secret");

    // The syncer applies the very Deployment again: what the reloader wrote stays, and nothing rolls.
    repository
        .write("user.yaml", deployment("user", "login", "b"))
        .unwrap();
    estate.push("Another label").await.unwrap();
    let found = deployments.get("user").await.unwrap();
    assert_eq!(found.metadata.labels.unwrap()["note"], "b");
    tokio::time::sleep(QUIET).await;
    assert_eq!(rolls(&client, "user").await, (rolled, 2), "the syncer lets it be");

    // The same value sealed anew is another ciphertext and no other Secret.
    repository
        .write("login.yaml", seal("login", "password=next"))
        .unwrap();
    estate.push("Sealed once more").await.unwrap();
    tokio::time::sleep(QUIET).await;
    assert_eq!(rolls(&client, "user").await.1, 2, "equal values roll nothing");
}
