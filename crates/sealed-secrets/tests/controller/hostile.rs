//! Items, blobs and names that somebody made to do harm.

use plumbline_sealed_secrets::crypto::{Envelope, decode, encode, seal};
use plumbline_sealed_secrets::scope::Scope;
use serde_json::json;

use crate::harness::{Place, item};

#[tokio::test(flavor = "multi_thread")]
async fn hostile_items_fail_by_name_and_hurt_nobody() {
    let place = Place::new().await;
    let unsealer = place.start(&[]).await;
    let key = unsealer.certificate().await.public_key;
    let label = Scope::Strict.label(place.namespace(), "a");
    let good = seal(&mut rand::rngs::SysRng, &key, &label, b"v").unwrap();
    let bytes = decode(&good).unwrap();
    let wrapped = Envelope::parse(&bytes).unwrap().wrapped_key.len();
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = bytes.clone();
        change(&mut bytes);
        encode(&bytes)
    };
    let fill = |value: u8| move |bytes: &mut Vec<u8>| bytes[2..2 + wrapped].fill(value);
    let ways: Vec<(&str, String)> = vec![
        ("empty", String::new()),
        ("one-byte", encode(&[1])),
        ("two-bytes", encode(&[1, 0])),
        ("length-0", encode(&[0, 0, 1, 2])),
        ("length-max", with(&|bytes| bytes[..2].fill(0xff))),
        (
            "length-511",
            with(&|bytes| bytes[..2].copy_from_slice(&[1, 0xff])),
        ),
        ("no-padding", good.trim_end_matches('=').to_owned() + "A"),
        ("spaces", format!(" {good}")),
        ("r-zero", with(&fill(0))),
        (
            "r-one",
            with(&|bytes| {
                fill(0)(bytes);
                bytes[1 + wrapped] = 1;
            }),
        ),
        ("r-max", with(&fill(0xff))),
        ("no-tag", with(&|bytes| bytes.truncate(2 + wrapped + 3))),
        ("trailing", with(&|bytes| bytes.push(0))),
    ];
    for (name, item) in &ways {
        let mut sealed = unsealer.seal("a", Scope::Strict, &[]).await;
        sealed["metadata"]["name"] = json!(name);
        sealed["spec"]["encryptedData"] = json!({"k": item});
        // Under the label of `a` nothing of this opens either way; what matters is that each is answered.
        place.apply(sealed).await;
    }
    for (name, _) in &ways {
        let message = place.synced(name, "False").await;
        assert!(
            message.starts_with("no key could decrypt secret (k)"),
            "{name}: {message}"
        );
    }
    // Line breaks are Go's leniency, and ours.
    let mut sealed = unsealer.seal("a", Scope::Strict, &[]).await;
    let (head, tail) = good.split_at(64);
    sealed["spec"]["encryptedData"] = json!({"k": format!("{head}\r\n{tail}\n")});
    place.apply(sealed.clone()).await;
    place.secret("a", |secret| item(secret, "k") == Some("v")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn blobs_that_are_no_secret_and_names_that_are_a_keys_are_refused() {
    let place = Place::new().await;
    let unsealer = place.start(&[]).await;
    let key = unsealer.certificate().await.public_key;
    // Whole-Secret blobs that hold something else, or ask for more.
    let label = |name: &str| Scope::Strict.label(place.namespace(), name);
    for (name, whole, says) in [
        (
            "map",
            json!({"kind": "ConfigMap", "data": {"k": "v"}}),
            "does not hold a Secret",
        ),
        ("text", json!("text"), "does not hold a Secret"),
        (
            "token",
            json!({"kind": "Secret", "type": "kubernetes.io/service-account-token"}),
            "is refused",
        ),
    ] {
        let blob = seal(
            &mut rand::rngs::SysRng,
            &key,
            &label(name),
            whole.to_string().as_bytes(),
        )
        .unwrap();
        let object = json!({
            "apiVersion": "bitnami.com/v1alpha1", "kind": "SealedSecret",
            "metadata": {"name": name, "namespace": place.namespace()}, "spec": {"data": blob, "encryptedData": {}},
        });
        place.apply(object).await;
        let message = place.synced(name, "False").await;
        assert!(message.contains(says), "{name}: {message}");
    }
    // A name under which old versions look for a key.
    place
        .apply(
            unsealer
                .seal(
                    "sealed-secrets-key",
                    Scope::Strict,
                    &[("tls.key", "x"), ("tls.crt", "y")],
                )
                .await,
        )
        .await;
    let message = place.synced("sealed-secrets-key", "False").await;
    assert!(message.contains("would be taken for a sealing key"), "{message}");
    assert!(
        place
            .secrets()
            .get_opt("sealed-secrets-key")
            .await
            .unwrap()
            .is_none()
    );
}
