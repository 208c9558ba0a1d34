//! Sealing keys: made once, found again, renewed, followed.

use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, Patch, PatchParams};
use plumbline_sealed_secrets::crypto::{cert, generate_private_key};
use plumbline_sealed_secrets::scope::Scope;
use plumbline_testkit::wait_for;
use serde_json::{Value, json};

use crate::harness::{PATIENCE, Place, Unsealer, item};

/// A key Secret as somebody brings it.
pub(crate) fn key_secret(name: &str, not_before: &str) -> Value {
    key_secret_until(name, not_before, "2099-01-01T00:00:00Z")
}

/// [`key_secret`] with an end.
pub(crate) fn key_secret_until(name: &str, not_before: &str, not_after: &str) -> Value {
    let private = generate_private_key(2048).unwrap();
    let request = cert::Request {
        common_name: "own",
        not_before: not_before.parse().unwrap(),
        not_after: not_after.parse().unwrap(),
        serial: [3; 16],
    };
    let certificate = cert::self_signed(&private, &request).unwrap();
    json!({
        "metadata": {"name": name, "labels": {"sealedsecrets.bitnami.com/sealed-secrets-key": "active"}},
        "type": "kubernetes.io/tls",
        "stringData": {"tls.key": private.as_str(), "tls.crt": certificate},
    })
}

/// Newer than every key that is made now, and within what clocks may differ.
pub(crate) fn in_an_hour() -> String {
    let now = k8s_openapi::jiff::Timestamp::now();
    (now + k8s_openapi::jiff::SignedDuration::from_hours(1)).to_string()
}

pub(crate) async fn keys(unsealer: &Unsealer, count: usize) -> Vec<String> {
    wait_for("the keys", PATIENCE, async || {
        let keys = unsealer.keys().await;
        let used = unsealer.metric("sealed_secrets_controller_sealing_keys").await;
        if keys.len() == count && (used - f64::from(u32::try_from(count).unwrap())).abs() < 0.5 {
            Ok(keys)
        } else {
            Err(format!("{keys:?}, {used} in use"))
        }
    })
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_made_as_the_original_makes_it_and_found_again() {
    let place = Place::new().await;
    let unsealer = place
        .start(&[
            "--my-cn=example",
            "--privatekey-labels=team=a",
            "--privatekey-annotations=x=y",
        ])
        .await;
    let names = keys(&unsealer, 1).await;
    assert!(
        names[0].starts_with("sealed-secrets-key") && names[0].len() == 23,
        "{names:?}"
    );
    let secret = place.secret(&names[0], |_| true).await;
    assert_eq!(secret.type_.as_deref(), Some("kubernetes.io/tls"));
    assert!(
        item(&secret, "tls.key")
            .unwrap()
            .starts_with("-----BEGIN RSA PRIVATE KEY-----\n")
    );
    assert_eq!(secret.metadata.labels.as_ref().unwrap()["team"], "a");
    assert_eq!(secret.metadata.annotations.as_ref().unwrap()["x"], "y");
    let served = unsealer.certificate().await;
    assert_eq!(item(&secret, "tls.crt").unwrap().trim(), served.pem.trim());
    assert!(unsealer.log().contains("New key written"));
    assert!(!unsealer.log().contains("PRIVATE KEY"));
    unsealer.stop();
    let unsealer = place.start(&[]).await;
    assert_eq!(keys(&unsealer, 1).await, names);
    assert!(unsealer.log().contains("registered private key"));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_that_start_at_once_make_one_key() {
    let place = Place::new().await;
    let kubeconfig = place.world.kubeconfig();
    let mut replicas: Vec<Unsealer> = (0..3)
        .map(|_| Unsealer::spawn(&place.world, &kubeconfig, "127.0.0.1", &[]))
        .collect();
    for replica in &mut replicas {
        replica.ready().await;
    }
    let names = keys(&replicas[0], 1).await;
    let fingerprint = replicas[0]
        .certificate()
        .await
        .public_key
        .fingerprint()
        .to_string();
    for replica in &replicas {
        assert_eq!(keys(replica, 1).await, names);
        assert_eq!(
            replica.certificate().await.public_key.fingerprint().to_string(),
            fingerprint
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_come_and_go_take_effect_at_once() {
    let place = Place::new().await;
    let unsealer = place.start(&[]).await;
    let sealed = unsealer.seal("a", Scope::Strict, &[("k", "v")]).await;
    let own = keys(&unsealer, 1).await.remove(0);
    // A newer key takes over the sealing.
    place.create_secret(key_secret("brought", &in_an_hour())).await;
    keys(&unsealer, 2).await;
    let brought = unsealer.seal("b", Scope::Strict, &[("k", "w")]).await;
    let label = |name: &str, value: &str| {
        let (secrets, name) = (place.secrets(), name.to_owned());
        let patch = json!({"metadata": {"labels": {"sealedsecrets.bitnami.com/sealed-secrets-key": value}}});
        async move {
            drop(
                secrets
                    .patch(&name, &PatchParams::default(), &Patch::Merge(patch))
                    .await
                    .unwrap(),
            );
        }
    };
    label(&own, "compromised").await;
    keys(&unsealer, 1).await;
    place.apply(sealed).await;
    assert_eq!(
        place.synced("a", "False").await,
        "no key could decrypt secret (k)"
    );
    place.apply(brought).await;
    place.synced("b", "True").await;
    // Back in use: only the object that failed is worked on again.
    let before = unsealer
        .metric("sealed_secrets_controller_unseal_requests_total")
        .await;
    label(&own, "active").await;
    place.synced("a", "True").await;
    let after = unsealer
        .metric("sealed_secrets_controller_unseal_requests_total")
        .await;
    assert!((after - before - 1.0).abs() < 0.5, "{before} {after}");
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_keys_are_reported_and_skipped() {
    let place = Place::new().await;
    let label = json!({"sealedsecrets.bitnami.com/sealed-secrets-key": "active"});
    let good = key_secret("other", "2026-01-01T00:00:00Z");
    let mixed = key_secret("mismatch", "2026-01-01T00:00:00Z");
    let bad: [(&str, Value); 5] = [
        ("empty", json!({})),
        ("garbage", json!({"tls.key": "x", "tls.crt": "y"})),
        ("no-cert", json!({"tls.key": good["stringData"]["tls.key"]})),
        (
            "mismatch",
            json!({"tls.key": good["stringData"]["tls.key"], "tls.crt": mixed["stringData"]["tls.crt"]}),
        ),
        (
            "encrypted",
            json!({"tls.key": "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n", "tls.crt": "y"}),
        ),
    ];
    for (name, data) in &bad {
        place
            .create_secret(json!({"metadata": {"name": name, "labels": label}, "stringData": data}))
            .await;
    }
    let unsealer = place.start(&[]).await;
    for (name, _) in &bad {
        assert!(
            unsealer.log().contains(&format!("{}/{name}", place.namespace())),
            "{name}: {}",
            unsealer.log()
        );
    }
    // They do not count as keys: one was made, and it works.
    place
        .apply(unsealer.seal("a", Scope::Strict, &[("k", "v")]).await)
        .await;
    place.synced("a", "True").await;
    assert!((unsealer.metric("sealed_secrets_controller_sealing_keys").await - 1.0).abs() < 0.5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_an_old_version_is_found_without_a_label() {
    let place = Place::new().await;
    let mut legacy = key_secret("sealed-secrets-key", "2031-01-01T00:00:00Z");
    legacy["metadata"]["labels"] = json!({});
    let created: Secret = place.create_secret(legacy).await;
    let unsealer = place.start(&[]).await;
    assert_eq!(
        unsealer.keys().await,
        Vec::<String>::new(),
        "no other key was made"
    );
    assert_eq!(
        item(&created, "tls.crt").unwrap().trim(),
        unsealer.certificate().await.pem.trim()
    );
    place
        .secrets()
        .delete("sealed-secrets-key", &DeleteParams::default())
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_keys_are_skipped_and_unusual_ones_are_used() {
    let place = Place::new().await;
    let label = json!({"sealedsecrets.bitnami.com/sealed-secrets-key": "active"});
    let create = async |name: &str, data: Value| {
        let object = json!({"metadata": {"name": name, "labels": label}, "stringData": data});
        place.create_secret(object).await;
    };
    let small = rsa::PrivateKey::new(&mut rand::rngs::SysRng, 1024).unwrap();
    let small = rsa::pkcs1::EncodeRsaPrivateKey::to_pkcs1_pem(&small, rsa::pkcs1::LineEnding::LF).unwrap();
    let good = key_secret("good", "2026-01-01T00:00:00Z")["stringData"].clone();
    create(
        "small",
        json!({"tls.key": small.as_str(), "tls.crt": good["tls.crt"]}),
    )
    .await;
    let curve = rcgen::KeyPair::generate().unwrap();
    let of_curve = rcgen::CertificateParams::default().self_signed(&curve).unwrap();
    create(
        "curve",
        json!({"tls.key": curve.serialize_pem(), "tls.crt": of_curve.pem()}),
    )
    .await;
    // The same key under two names is one key; PKCS#8 is read as well as PKCS#1.
    let pem = good["tls.key"].as_str().unwrap();
    let private: rsa::PrivateKey = rsa::pkcs1::DecodeRsaPrivateKey::from_pkcs1_pem(pem).unwrap();
    let pkcs8 = rsa::pkcs8::EncodePrivateKey::to_pkcs8_pem(&private, rsa::pkcs8::LineEnding::LF).unwrap();
    create(
        "one",
        json!({"tls.key": pkcs8.as_str(), "tls.crt": good["tls.crt"]}),
    )
    .await;
    create("two", good).await;
    let unsealer = place.start(&[]).await;
    for name in ["small", "curve"] {
        let named = format!("{}/{name}", place.namespace());
        assert!(unsealer.log().contains(&named), "{name}: {}", unsealer.log());
    }
    let count = unsealer.metric("sealed_secrets_controller_sealing_keys").await;
    assert!((count - 1.0).abs() < 0.5, "{count}: {}", unsealer.log());
    place
        .apply(unsealer.seal("a", Scope::Strict, &[("k", "v")]).await)
        .await;
    place.synced("a", "True").await;
}
