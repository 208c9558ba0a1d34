//! Several replicas, several namespaces, a part of the objects.

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::jiff::SignedDuration;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use plumbline_sealed_secrets::scope::Scope;
use plumbline_testkit::wait_for;
use serde_json::json;

use crate::harness::{PATIENCE, Place};

#[tokio::test(flavor = "multi_thread")]
async fn one_replica_works_and_another_takes_over() {
    let place = Place::new().await;
    let one = place.start(&["--leader-elect"]).await;
    place
        .apply(one.seal("a", Scope::Strict, &[("k", "v")]).await)
        .await;
    place.synced("a", "True").await;
    let two = place.start(&["--leader-elect"]).await;
    // The one that waits serves the certificate, too.
    place
        .apply(two.seal("b", Scope::Strict, &[("k", "v")]).await)
        .await;
    place.synced("b", "True").await;
    assert!(
        two.metric("sealed_secrets_controller_unseal_requests_total")
            .await
            .abs()
            < 0.5
    );
    let leases: Api<Lease> = Api::namespaced(place.world.client(), place.namespace());
    let lease = async || {
        let spec = leases.get("plumbline-unsealer").await.unwrap().spec.unwrap();
        (spec.holder_identity.unwrap_or_default(), spec.renew_time)
    };
    let (leader, before) = lease().await;
    one.stop();
    let after = wait_for("another leader", PATIENCE, async || match lease().await {
        (name, Some(at)) if !name.is_empty() && name != leader => Ok(at),
        other => Err(format!("{other:?}")),
    })
    .await
    .unwrap();
    // The lease would have held for 15 s: it was given away.
    let took = after.0.duration_since(before.unwrap().0);
    assert!(took < SignedDuration::from_secs(15), "{took}");
    place
        .apply(two.seal("c", Scope::Strict, &[("k", "v")]).await)
        .await;
    place.synced("c", "True").await;
    assert!(
        two.metric("sealed_secrets_controller_unseal_requests_total")
            .await
            > 0.5
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn other_namespaces_can_be_listed() {
    let (place, other) = (Place::new().await, Place::new().await);
    let flag = format!("--additional-namespaces={},not-there", other.namespace());
    let unsealer = place.start(&[&flag]).await;
    let mut sealed = unsealer.seal("a", Scope::ClusterWide, &[("k", "v")]).await;
    place.apply(sealed.clone()).await;
    sealed["metadata"]["namespace"] = json!(other.namespace());
    other.apply(sealed).await;
    place.synced("a", "True").await;
    other.synced("a", "True").await;
    other
        .sealed()
        .delete("a", &DeleteParams::default())
        .await
        .unwrap();
    wait_for("its series to go", PATIENCE, async || {
        let series = format!(
            "sealed_secrets_controller_condition_info{{namespace=\"{}\"",
            other.namespace()
        );
        let left = unsealer.metric(&series).await;
        if left.abs() < 0.5 { Ok(()) } else { Err(left) }
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_selected_is_opened_and_made_anew() {
    let place = Place::new().await;
    let unsealer = place
        .start(&["--label-selector=team=a", "--metrics-omit-secret-labels"])
        .await;
    let mut chosen = unsealer.seal("chosen", Scope::Strict, &[("k", "v")]).await;
    chosen["metadata"]["labels"] = json!({"team": "a"});
    place
        .apply(unsealer.seal("other", Scope::Strict, &[("k", "v")]).await)
        .await;
    place.apply(chosen).await;
    place.synced("chosen", "True").await;
    // Its Secret has no such label, and is watched all the same.
    let first = place.secret("chosen", |_| true).await;
    place
        .secrets()
        .delete("chosen", &DeleteParams::default())
        .await
        .unwrap();
    place
        .secret("chosen", |secret| secret.metadata.uid != first.metadata.uid)
        .await;
    assert!(place.secrets().get_opt("other").await.unwrap().is_none());
    assert!(
        unsealer
            .metric("sealed_secrets_controller_condition_info{")
            .await
            .abs()
            < 0.5,
        "names are left out"
    );
    // A label makes the other one come up.
    let label = json!({"metadata": {"labels": {"team": "a"}}});
    place
        .sealed()
        .patch("other", &PatchParams::default(), &Patch::Merge(label))
        .await
        .unwrap();
    place.synced("other", "True").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_status_events_tell_and_are_not_repeated() {
    let place = Place::new().await;
    let unsealer = place.start(&["--update-status=false"]).await;
    place
        .apply(unsealer.seal("a", Scope::Strict, &[("k", "v")]).await)
        .await;
    place.secret("a", |_| true).await;
    let event = place.event("a", "Unsealed").await;
    let requests = unsealer
        .metric("sealed_secrets_controller_unseal_requests_total")
        .await;
    for n in 0..3 {
        let label = json!({"metadata": {"labels": {"n": n.to_string()}}});
        place
            .sealed()
            .patch("a", &PatchParams::default(), &Patch::Merge(label))
            .await
            .unwrap();
    }
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    let after = unsealer
        .metric("sealed_secrets_controller_unseal_requests_total")
        .await;
    assert!(
        (after - requests).abs() < 0.5,
        "nothing is opened again: {requests} {after}"
    );
    let again = place.event("a", "Unsealed").await;
    assert_eq!(
        (again.metadata.name, again.count),
        (event.metadata.name, event.count)
    );
    assert_eq!(place.sealed().get("a").await.unwrap().status, None);
}

/// Somebody labels the object while its status is written: the status ends up right all the same, and is told once.
#[tokio::test(flavor = "multi_thread")]
async fn conflicts_over_the_status_are_settled() {
    let place = Place::new().await;
    let unsealer = place.start(&[]).await;
    let sealed = unsealer.seal("a", Scope::Strict, &[("k", "v")]).await;
    place.apply(sealed).await;
    for n in 0..40 {
        let label = json!({"metadata": {"labels": {"n": n.to_string()}}});
        place
            .sealed()
            .patch("a", &PatchParams::default(), &Patch::Merge(label))
            .await
            .unwrap();
    }
    place.synced("a", "True").await;
    let event = place.event("a", "Unsealed").await;
    assert_eq!(event.count, Some(1));
}
