//! Whose Secret it is: refusal, adoption, patching, outliving, immutability.

use kube::api::{DeleteParams, Patch, PatchParams};
use plumbline_sealed_secrets::scope::Scope;
use serde_json::{Value, json};

use crate::harness::{Place, Unsealer, item};

async fn foreign(place: &Place, annotations: Value) {
    place
        .create_secret(json!({
            "metadata": {"name": "a", "annotations": annotations, "labels": {"old": "label"}},
            "stringData": {"old": "value", "k": "before"},
        }))
        .await;
}

async fn with_template(unsealer: &Unsealer, annotations: Value) -> Value {
    let mut sealed = unsealer.seal("a", Scope::Strict, &[("k", "v")]).await;
    sealed["spec"]["template"] =
        json!({"metadata": {"labels": {"new": "label"}, "annotations": annotations}});
    sealed
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_secret_is_refused_and_replaced_once_it_is_gone() {
    let place = Place::new().await;
    let unsealer = place.start(&[]).await;
    foreign(&place, json!({"sealedsecrets.bitnami.com/managed": "TRUE"})).await;
    place.apply(with_template(&unsealer, json!({})).await).await;
    let message = place.synced("a", "False").await;
    let text = "Resource \"a\" already exists and is not managed by SealedSecret";
    assert_eq!(message, format!("failed update: {text}"));
    assert_eq!(
        place.event("a", "ErrUpdateFailed").await.message.as_deref(),
        Some(text)
    );
    assert_eq!(item(&place.secret("a", |_| true).await, "k"), Some("before"));
    assert!(
        unsealer
            .metric("sealed_secrets_controller_unseal_errors_total{reason=\"unmanaged\"")
            .await
            > 0.5
    );
    let delete = async || {
        let secrets = place.secrets();
        drop(secrets.delete("a", &DeleteParams::default()).await.unwrap());
    };
    // Somebody replaces it: within a second ours must not be in the way.
    delete().await;
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    foreign(&place, json!({})).await;
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    assert_eq!(item(&place.secret("a", |_| true).await, "k"), Some("before"));
    delete().await;
    place.secret("a", |secret| item(secret, "k") == Some("v")).await;
    place.synced("a", "True").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_managed_secret_is_taken_over() {
    let place = Place::new().await;
    let unsealer = place.start(&[]).await;
    foreign(&place, json!({"sealedsecrets.bitnami.com/managed": "true"})).await;
    place
        .apply(with_template(&unsealer, json!({"x": "y"})).await)
        .await;
    place.synced("a", "True").await;
    let secret = place.secret("a", |secret| item(secret, "k") == Some("v")).await;
    assert_eq!(item(&secret, "old"), None);
    assert_eq!(
        secret.metadata.labels.unwrap().into_iter().collect::<Vec<_>>(),
        [("new".to_owned(), "label".to_owned())]
    );
    assert_eq!(
        secret
            .metadata
            .annotations
            .unwrap()
            .into_iter()
            .collect::<Vec<_>>(),
        [("x".to_owned(), "y".to_owned())]
    );
    assert_eq!(secret.metadata.owner_references.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_patched_secret_keeps_what_it_had() {
    let place = Place::new().await;
    let unsealer = place.start(&[]).await;
    foreign(&place, json!({"sealedsecrets.bitnami.com/patch": "true"})).await;
    place
        .apply(with_template(&unsealer, json!({"x": "y"})).await)
        .await;
    place.synced("a", "True").await;
    let secret = place.secret("a", |secret| item(secret, "k") == Some("v")).await;
    assert_eq!(item(&secret, "old"), Some("value"));
    assert_eq!(secret.metadata.labels.unwrap().len(), 2);
    assert_eq!(
        secret.metadata.owner_references, None,
        "it was there before, and stays when the SealedSecret goes"
    );
    // Without the annotation it is not ours to touch: what it had must not go.
    let gone = json!({"metadata": {"annotations": {"sealedsecrets.bitnami.com/patch": null}}, "stringData": {"k": "own"}});
    place
        .secrets()
        .patch("a", &PatchParams::default(), &Patch::Merge(gone))
        .await
        .unwrap();
    let message = place.synced("a", "False").await;
    assert!(message.contains("is not managed by SealedSecret"), "{message}");
    let secret = place.secret("a", |_| true).await;
    assert_eq!(
        (item(&secret, "old"), item(&secret, "k")),
        (Some("value"), Some("own"))
    );
    // With both annotations it is merged into and taken over.
    let both = json!({"metadata": {"annotations": {
        "sealedsecrets.bitnami.com/patch": "true", "sealedsecrets.bitnami.com/managed": "true",
    }}});
    place
        .secrets()
        .patch("a", &PatchParams::default(), &Patch::Merge(both))
        .await
        .unwrap();
    place.synced("a", "True").await;
    let secret = place.secret("a", |secret| item(secret, "k") == Some("v")).await;
    assert_eq!(item(&secret, "old"), Some("value"));
    assert_eq!(secret.metadata.owner_references.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_outlives_its_sealed_secret_is_still_ours() {
    let place = Place::new().await;
    let unsealer = place.start(&[]).await;
    let outlives = json!({"sealedsecrets.bitnami.com/skip-set-owner-references": "true"});
    place
        .apply(with_template(&unsealer, outlives.clone()).await)
        .await;
    place.synced("a", "True").await;
    let secret = place.secret("a", |_| true).await;
    assert_eq!(secret.metadata.owner_references, None);
    let mut changed = unsealer.seal("a", Scope::Strict, &[("k", "next")]).await;
    changed["spec"]["template"] = json!({"metadata": {"annotations": outlives}});
    place.apply(changed).await;
    place
        .secret("a", |secret| item(secret, "k") == Some("next"))
        .await;
    place.synced("a", "True").await;
    // One that was to go with its SealedSecret, and is to stay now.
    let mut sealed = unsealer.seal("b", Scope::Strict, &[("k", "v")]).await;
    place.apply(sealed.clone()).await;
    place.synced("b", "True").await;
    sealed["spec"]["template"] = json!({"metadata": {"annotations": outlives}});
    place.apply(sealed).await;
    place
        .secret("b", |secret| secret.metadata.owner_references.is_none())
        .await;
    place.synced("b", "True").await;
    for name in ["a", "b"] {
        place
            .sealed()
            .delete(name, &DeleteParams::default())
            .await
            .unwrap();
    }
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    for name in ["a", "b"] {
        assert!(place.secrets().get_opt(name).await.unwrap().is_some(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_immutable_secret_is_left_alone_with_advice() {
    let place = Place::new().await;
    let unsealer = place.start(&[]).await;
    let mut sealed = unsealer.seal("a", Scope::Strict, &[("k", "v")]).await;
    sealed["spec"]["template"] = json!({"immutable": true});
    place.apply(sealed).await;
    place.synced("a", "True").await;
    assert_eq!(place.secret("a", |_| true).await.immutable, Some(true));
    let mut changed = unsealer.seal("a", Scope::Strict, &[("k", "next")]).await;
    changed["spec"]["template"] = json!({"immutable": true});
    place.apply(changed).await;
    let message = place.synced("a", "False").await;
    let text = format!(
        "Error updating {}/a: the target Secret is immutable. Once a Secret is marked as immutable, it is not possible to revert this change nor to mutate the contents of the data field. You can only delete and recreate the Secret.",
        place.namespace()
    );
    assert_eq!(message, format!("failed update: {text}"));
    assert_eq!(place.event("a", "ErrUpdateFailed").await.message, Some(text));
    place
        .secrets()
        .delete("a", &DeleteParams::default())
        .await
        .unwrap();
    place
        .secret("a", |secret| item(secret, "k") == Some("next"))
        .await;
    place.synced("a", "True").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_existing_type_that_the_template_leaves_open_is_no_change() {
    let place = Place::new().await;
    let unsealer = place.start(&[]).await;
    place
        .apply(unsealer.seal("a", Scope::Strict, &[("k", "v")]).await)
        .await;
    place.synced("a", "True").await;
    let before = place.secret("a", |_| true).await;
    assert_eq!(before.type_.as_deref(), Some("Opaque"));
    // An edit of the metadata alone makes the object come up again.
    let label = json!({"metadata": {"labels": {"x": "y"}}});
    place
        .sealed()
        .patch("a", &PatchParams::default(), &Patch::Merge(label))
        .await
        .unwrap();
    drop(unsealer);
    let _unsealer = place.start(&[]).await;
    let after = place.secret("a", |_| true).await;
    assert_eq!(before.metadata.resource_version, after.metadata.resource_version);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_deprecated_form_opens_and_can_be_switched_off() {
    use plumbline_sealed_secrets::crypto::seal;
    let place = Place::new().await;
    let unsealer = place.start(&[]).await;
    // Somebody else's namespace, owner and finalizer inside the blob are not taken.
    let whole = json!({
        "kind": "Secret", "apiVersion": "v1", "type": "Opaque",
        "metadata": {"name": "x", "namespace": "kube-system", "finalizers": ["a/b"]},
        "data": {"k": "dg=="},
    });
    let label = Scope::Strict.label(place.namespace(), "a");
    let key = unsealer.certificate().await.public_key;
    let blob = seal(
        &mut rand::rngs::SysRng,
        &key,
        &label,
        whole.to_string().as_bytes(),
    )
    .unwrap();
    let sealed = json!({
        "apiVersion": "bitnami.com/v1alpha1", "kind": "SealedSecret",
        "metadata": {"name": "a", "namespace": place.namespace()},
        "spec": {"data": blob, "encryptedData": {}},
    });
    place.apply(sealed.clone()).await;
    let secret = place.secret("a", |_| true).await;
    assert_eq!(item(&secret, "k"), Some("v"));
    assert_eq!(secret.metadata.finalizers, None);
    unsealer.stop();
    let unsealer = place.start(&["--accept-deprecated-v1-data=false"]).await;
    let mut again = sealed;
    again["metadata"]["name"] = json!("b");
    place.apply(again.clone()).await;
    let text = "using deprecated 'data' field, use 'encryptedData' or flip the feature flag";
    assert_eq!(place.synced("b", "False").await, text);
    again["metadata"]["name"] = json!("c");
    again["spec"]["encryptedData"] =
        unsealer.seal("c", Scope::Strict, &[("k", "v")]).await["spec"]["encryptedData"].clone();
    place.apply(again).await;
    let text = "cannot use the field 'encryptedData' and the deprecated field 'data' at the same time";
    assert_eq!(place.synced("c", "False").await, text);
}
