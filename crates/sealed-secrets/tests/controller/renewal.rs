//! New keys, when they seal, and how the certificate gets to people.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use nix::sys::signal::Signal;
use plumbline_sealed_secrets::scope::Scope;
use plumbline_testkit::wait_for;
use serde_json::json;

use crate::harness::{PATIENCE, Place, Unsealer, item};
use crate::keys::{in_an_hour, key_secret, key_secret_until, keys};

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_or_age_renews_and_old_keys_still_open() {
    let place = Place::new().await;
    let unsealer = place.start(&[]).await;
    let old = unsealer.seal("a", Scope::Strict, &[("k", "old")]).await;
    let first = unsealer.certificate().await.public_key.fingerprint().clone();
    // The order of keys is in seconds.
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    unsealer.signal(Signal::SIGUSR1);
    keys(&unsealer, 2).await;
    wait_for("the new certificate", PATIENCE, async || {
        if *unsealer.certificate().await.public_key.fingerprint() == first {
            Err("still the old one")
        } else {
            Ok(())
        }
    })
    .await
    .unwrap();
    place.apply(old).await;
    assert_eq!(item(&place.secret("a", |_| true).await, "k"), Some("old"));
    unsealer.stop();
    let unsealer = place.start(&["--key-renew-period=1s"]).await;
    wait_for("a renewal", PATIENCE, async || {
        let count = unsealer.keys().await.len();
        if count > 2 { Ok(()) } else { Err(count) }
    })
    .await
    .unwrap();
    unsealer.stop();
    let unsealer = place.start(&[]).await;
    let count = unsealer.keys().await.len();
    unsealer.stop();
    // Nothing is older than a moment long ago, everything than one to come.
    let unsealer = place
        .start(&["--key-cutoff-time", "Mon, 01 Jan 2001 00:00:00 +0000"])
        .await;
    assert_eq!(unsealer.keys().await.len(), count);
    unsealer.stop();
    let unsealer = place
        .start(&["--key-cutoff-time", "Thu, 01 Jan 2099 00:00:00 +0000"])
        .await;
    assert_eq!(unsealer.keys().await.len(), count + 1);
}

async fn fingerprint(unsealer: &Unsealer) -> String {
    unsealer.certificate().await.public_key.fingerprint().to_string()
}

/// Waits until the certificate that is served is another one than `before`; its fingerprint.
async fn another_than(unsealer: &Unsealer, before: &str) -> String {
    wait_for("another certificate", PATIENCE, async || {
        let now = fingerprint(unsealer).await;
        if now == before { Err(now) } else { Ok(now) }
    })
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_key_seals_once_its_backup_is_acknowledged() {
    let place = Place::new().await;
    let unsealer = place.start(&["--require-key-backup"]).await;
    let waiting = "sealed_secrets_controller_unacknowledged_sealing_keys";
    let first = fingerprint(&unsealer).await;
    let names = keys(&unsealer, 1).await;
    assert!(
        (unsealer.metric(waiting).await - 1.0).abs() < 0.5,
        "the first one seals, and is counted"
    );
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    unsealer.signal(Signal::SIGUSR1);
    let renewed: Vec<String> = keys(&unsealer, 2)
        .await
        .into_iter()
        .filter(|name| !names.contains(name))
        .collect();
    assert_eq!(fingerprint(&unsealer).await, first);
    assert!((unsealer.metric(waiting).await - 2.0).abs() < 0.5);
    // A restart, also as another replica, decides the same; and no third key is made by age while one waits.
    unsealer.stop();
    let unsealer = place
        .start(&["--require-key-backup", "--key-renew-period=1s"])
        .await;
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    assert_eq!(keys(&unsealer, 2).await.len(), 2);
    assert_eq!(fingerprint(&unsealer).await, first);
    assert!(
        unsealer.log().contains("its backup") || unsealer.log().contains("is not acknowledged"),
        "{}",
        unsealer.log()
    );
    let acknowledge = async |name: &str| {
        let patch = json!({"metadata": {"annotations": {"plumbline.dev/backup-acknowledged": "true"}}});
        let secrets = place.secrets();
        drop(
            secrets
                .patch(name, &PatchParams::default(), &Patch::Merge(patch))
                .await
                .unwrap(),
        );
    };
    acknowledge(&renewed[0]).await;
    let second = another_than(&unsealer, &first).await;
    // With all of them acknowledged, age counts again: a third one is made, and waits.
    acknowledge(&names[0]).await;
    keys(&unsealer, 3).await;
    assert_eq!(fingerprint(&unsealer).await, second);
    unsealer.stop();
    // Whoever does not ask for backups gets the newest.
    let unsealer = place.start(&["--key-renew-period=0"]).await;
    assert_ne!(fingerprint(&unsealer).await, second);
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_that_are_not_valid_do_not_seal_while_another_is() {
    let place = Place::new().await;
    for (name, from, until) in [
        ("future", "2090-01-01T00:00:00Z", "2099-01-01T00:00:00Z"),
        ("expired", "2020-01-01T00:00:00Z", "2021-01-01T00:00:00Z"),
        ("good", "2019-01-01T00:00:00Z", "2099-01-01T00:00:00Z"),
    ] {
        place.create_secret(key_secret_until(name, from, until)).await;
    }
    let unsealer = place.start(&["--key-renew-period=0"]).await;
    assert_eq!(keys(&unsealer, 3).await.len(), 3);
    let good = place.secret("good", |_| true).await;
    let pem = unsealer.certificate().await.pem;
    assert_eq!(item(&good, "tls.crt").unwrap().trim(), pem.trim());
    // They hold up no renewal either, and a key from the future does not pin what is newest.
    let first = fingerprint(&unsealer).await;
    unsealer.signal(Signal::SIGUSR1);
    let second = another_than(&unsealer, &first).await;
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    unsealer.signal(Signal::SIGUSR1);
    another_than(&unsealer, &second).await;
    keys(&unsealer, 5).await;
    unsealer.stop();
    // By the time their Secrets were made, the last one brought is the newest.
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    place
        .create_secret(key_secret("brought", "2018-01-01T00:00:00Z"))
        .await;
    let unsealer = place
        .start(&[
            "--key-order-priority=SecretCreationTimestamp",
            "--key-renew-period=0",
        ])
        .await;
    let brought = place.secret("brought", |_| true).await;
    let pem = unsealer.certificate().await.pem;
    assert_eq!(item(&brought, "tls.crt").unwrap().trim(), pem.trim());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_certificate_is_published_and_kept_right() {
    let place = Place::new().await;
    let maps: Api<ConfigMap> = Api::namespaced(place.world.client(), place.namespace());
    let unsealer = place
        .start(&["--certificate-configmap=sealing-certificate"])
        .await;
    let published = async |pem: &str| {
        wait_for("the certificate", PATIENCE, async || {
            let map = maps.get_opt("sealing-certificate").await.ok().flatten();
            let data = map.and_then(|map| map.data).unwrap_or_default();
            if data.get("cert.pem").map(String::as_str) == Some(pem) {
                Ok(data)
            } else {
                Err(format!("{data:?}"))
            }
        })
        .await
        .unwrap()
    };
    published(&unsealer.certificate().await.pem).await;
    // A key that comes takes its place; somebody else's certificate does not, and his other items stay.
    place.create_secret(key_secret("brought", &in_an_hour())).await;
    keys(&unsealer, 2).await;
    let pem = unsealer.certificate().await.pem;
    published(&pem).await;
    let tampered = json!({"data": {"cert.pem": "mine", "note": "kept"}});
    maps.patch(
        "sealing-certificate",
        &PatchParams::default(),
        &Patch::Merge(tampered),
    )
    .await
    .unwrap();
    let data = published(&pem).await;
    assert_eq!(data["note"], "kept");
    maps.delete("sealing-certificate", &DeleteParams::default())
        .await
        .unwrap();
    published(&pem).await;
    // Nothing changes, nothing is written.
    let log = place.world.audit_log().since_now().unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    let requests = log
        .requests("plumbline-unsealer")
        .unwrap()
        .without_watches_and_leases()
        .in_namespace(place.namespace());
    assert!(requests.0.is_empty(), "{:?}", requests.0);
}
