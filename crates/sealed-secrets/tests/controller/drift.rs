//! Secrets that somebody else changes or deletes.

use kube::api::{DeleteParams, Patch, PatchParams};
use plumbline_sealed_secrets::scope::Scope;
use serde_json::json;

use crate::harness::{Place, item};

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_or_edited_secret_is_put_right() {
    let place = Place::new().await;
    let unsealer = place.start(&[]).await;
    place
        .apply(unsealer.seal("a", Scope::Strict, &[("k", "v")]).await)
        .await;
    place.synced("a", "True").await;
    let first = place.secret("a", |_| true).await;
    place
        .secrets()
        .delete("a", &DeleteParams::default())
        .await
        .unwrap();
    let second = place
        .secret("a", |secret| secret.metadata.uid != first.metadata.uid)
        .await;
    assert_eq!(item(&second, "k"), Some("v"));

    // "ZWRpdA==" is "edit"; the foreign label stays.
    let edit =
        json!({"data": {"k": "ZWRpdA==", "more": "ZWRpdA=="}, "metadata": {"labels": {"foreign": "label"}}});
    place
        .secrets()
        .patch("a", &PatchParams::default(), &Patch::Merge(edit))
        .await
        .unwrap();
    let right = place
        .secret("a", |secret| {
            item(secret, "k") == Some("v") && item(secret, "more").is_none()
        })
        .await;
    assert_eq!(right.metadata.labels.unwrap()["foreign"], "label");
}

#[tokio::test(flavor = "multi_thread")]
async fn drift_can_be_reported_or_ignored_and_deletion_left_alone() {
    let place = Place::new().await;
    let unsealer = place.start(&["--drift-policy=report"]).await;
    place
        .apply(unsealer.seal("a", Scope::Strict, &[("k", "v")]).await)
        .await;
    place.synced("a", "True").await;
    let edit = json!({"data": {"k": "ZWRpdA=="}});
    place
        .secrets()
        .patch("a", &PatchParams::default(), &Patch::Merge(&edit))
        .await
        .unwrap();
    let message = place.synced("a", "False").await;
    assert!(message.contains("was changed by somebody else"), "{message}");
    unsealer.stop();

    let unsealer = place.start(&["--drift-policy=ignore", "--skip-recreate"]).await;
    place.synced("a", "True").await;
    assert_eq!(item(&place.secret("a", |_| true).await, "k"), Some("edit"));
    place
        .secrets()
        .delete("a", &DeleteParams::default())
        .await
        .unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    assert!(place.secrets().get_opt("a").await.unwrap().is_none());
    drop(unsealer);
}

/// The Secret goes with the former object, and must not be missing for a moment because of that.
#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_secret_that_is_made_anew_keeps_its_secret() {
    let place = Place::new().await;
    let unsealer = place.start(&[]).await;
    let sealed = unsealer.seal("a", Scope::Strict, &[("k", "v")]).await;
    place.apply(sealed.clone()).await;
    place.synced("a", "True").await;
    place.secret("a", |_| true).await;
    unsealer.kill();
    // As a restored backup: the owner is an object of the same name that is no more.
    let orphan = DeleteParams {
        propagation_policy: Some(kube::api::PropagationPolicy::Orphan),
        ..DeleteParams::default()
    };
    place.sealed().delete("a", &orphan).await.unwrap();
    plumbline_testkit::wait_for("it to go", crate::harness::PATIENCE, async || {
        match place.sealed().get_opt("a").await {
            Ok(None) => Ok(()),
            _ => Err("still there"),
        }
    })
    .await
    .unwrap();
    let former = json!({"metadata": {"ownerReferences": [{
        "apiVersion": "bitnami.com/v1alpha1", "kind": "SealedSecret", "name": "a",
        "uid": "00000000-0000-0000-0000-000000000000", "controller": true,
    }]}});
    // Garbage collection may be faster: then the Secret is simply made.
    drop(
        place
            .secrets()
            .patch("a", &PatchParams::default(), &Patch::Merge(former))
            .await,
    );
    let again = place.apply(sealed).await;
    let _unsealer = place.start(&[]).await;
    place.synced("a", "True").await;
    place
        .secret("a", |secret| {
            let owners = secret.metadata.owner_references.iter().flatten();
            owners
                .map(|owner| Some(&owner.uid))
                .eq([again.metadata.uid.as_ref()])
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_old_way_of_collecting_deletes_what_is_ours_and_nothing_else() {
    let place = Place::new().await;
    let unsealer = place
        .start(&["--old-gc-behavior", "--label-selector=sealed=yes"])
        .await;
    let label = |mut sealed: serde_json::Value| {
        sealed["metadata"]["labels"] = json!({"sealed": "yes"});
        sealed
    };
    place
        .create_secret(json!({
            "metadata": {"name": "patched", "annotations": {"sealedsecrets.bitnami.com/patch": "true"}},
            "stringData": {"old": "value"},
        }))
        .await;
    for name in ["owned", "patched", "deselected", "outlives"] {
        let mut sealed = label(unsealer.seal(name, Scope::Strict, &[("k", "v")]).await);
        if name == "outlives" {
            sealed["spec"]["template"] = json!({"metadata": {"annotations":
                {"sealedsecrets.bitnami.com/skip-set-owner-references": "true"}}});
        }
        place.apply(sealed).await;
        place.synced(name, "True").await;
    }
    let uid = place.secret("deselected", |_| true).await.metadata.uid;
    // Out of the selector is not gone.
    let out = json!({"metadata": {"labels": {"sealed": "no"}}});
    place
        .sealed()
        .patch("deselected", &PatchParams::default(), &Patch::Merge(out))
        .await
        .unwrap();
    for name in ["owned", "patched", "outlives"] {
        place
            .sealed()
            .delete(name, &DeleteParams::default())
            .await
            .unwrap();
    }
    plumbline_testkit::wait_for("the Secret to go", crate::harness::PATIENCE, async || match place
        .secrets()
        .get_opt("owned")
        .await
    {
        Ok(None) => Ok(()),
        _ => Err("still there"),
    })
    .await
    .unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert_eq!(place.secret("deselected", |_| true).await.metadata.uid, uid);
    let patched = place.secret("patched", |_| true).await;
    assert_eq!(item(&patched, "old"), Some("value"));
    place.secret("outlives", |_| true).await;
}
