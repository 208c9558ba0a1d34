//! The walk that everybody makes: a Secret is sealed, committed, applied by the syncer and opened by the unsealer.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use plumbline_testkit::wait_for;
use plumbline_together::{Estate, PATIENCE, Unsealer};

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_secret_in_git_becomes_a_secret_and_goes_with_its_file() {
    let estate = tokio::task::spawn_blocking(Estate::start).await.unwrap().unwrap();
    let unsealer = Unsealer::start(&estate).await.unwrap();
    let client = estate.client().await.unwrap();

    let seal = |password| {
        let literals = ["user=admin", password];
        unsealer.seal(&estate, "default", "login", &literals).unwrap()
    };
    let sealed = seal("password=s3cret");
    assert!(!sealed.contains("s3cret") && sealed.contains("kind: SealedSecret"));

    estate.repository.write("sealed.yaml", &sealed).unwrap();
    let other = "{apiVersion: v1, kind: ConfigMap, metadata: {name: stays, namespace: default}}";
    estate.repository.write("stays.yaml", other).unwrap();
    let commit = estate.repository.commit("A sealed login").unwrap();
    estate.follow_repository().unwrap();
    estate.applied(&client, &commit).await.unwrap();
    let secrets: Api<Secret> = Api::namespaced(client, "default");
    let opened = wait_for("the Secret", PATIENCE, async || {
        secrets
            .get_opt("login")
            .await
            .map_err(|error| error.to_string())?
            .ok_or("not there".to_owned())
    })
    .await
    .unwrap();
    let data = opened.data.unwrap();
    assert_eq!(data["user"].0, b"admin");
    assert_eq!(data["password"].0, b"s3cret");

    // An edit of the file is an edit of the Secret.
    estate
        .repository
        .write("sealed.yaml", seal("password=next"))
        .unwrap();
    estate.push("Another password").await.unwrap();
    wait_for("the new password", PATIENCE, async || {
        let found = secrets.get("login").await.map_err(|error| error.to_string())?;
        match found.data.and_then(|data| Some(data.get("password")?.0.clone())) {
            Some(value) if value == b"next" => Ok(()),
            _ => Err("still the old one".to_owned()),
        }
    })
    .await
    .unwrap();

    // Without its file the SealedSecret is pruned, and Kubernetes collects the Secret behind it.
    estate.repository.remove("sealed.yaml").unwrap();
    estate.push("No login").await.unwrap();
    wait_for("the Secret to go", PATIENCE, async || {
        match secrets.get_opt("login").await {
            Ok(None) => Ok(()),
            Ok(Some(_)) => Err("still there".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    })
    .await
    .unwrap();
}
