//! From a SealedSecret to a Secret and back, and what it costs.

use kube::api::DeleteParams;
use plumbline_sealed_secrets::scope::Scope;
use plumbline_testkit::wait_for;
use serde_json::json;

use crate::harness::{PATIENCE, Place, item};

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_secret_becomes_a_secret_and_takes_it_along_when_it_goes() {
    let place = Place::new().await;
    let unsealer = place.start(&[]).await;
    let mut sealed = unsealer
        .seal(
            "login",
            Scope::Strict,
            &[("user", "admin"), ("password", "s3cret")],
        )
        .await;
    sealed["spec"]["template"] = json!({
        "type": "kubernetes.io/basic-auth",
        "metadata": {
            "name": "elsewhere", "namespace": "elsewhere", "labels": {"app": "shop"}, "annotations": {"note": "1"},
            "ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "y"}],
        },
    });
    sealed["spec"]["encryptedData"]["username"] = sealed["spec"]["encryptedData"]["user"].clone();
    let applied = place.apply(sealed).await;
    let secret = place.secret("login", |_| true).await;
    assert_eq!(item(&secret, "password"), Some("s3cret"));
    assert_eq!(item(&secret, "user"), Some("admin"));
    assert_eq!(secret.type_.as_deref(), Some("kubernetes.io/basic-auth"));
    assert_eq!(secret.metadata.labels.unwrap()["app"], "shop");
    assert_eq!(secret.metadata.annotations.unwrap()["note"], "1");
    let owners = secret.metadata.owner_references.unwrap();
    assert_eq!(owners.len(), 1);
    assert_eq!(Some(&owners[0].uid), applied.metadata.uid.as_ref());
    assert_eq!(
        (owners[0].controller, owners[0].block_owner_deletion),
        (Some(true), None)
    );

    assert_eq!(place.synced("login", "True").await, "");
    let event = place.event("login", "Unsealed").await;
    assert_eq!(
        event.message.as_deref(),
        Some("SealedSecret unsealed successfully")
    );
    assert_eq!(event.source.unwrap().component.as_deref(), Some("sealed-secrets"));
    let status = place.sealed().get("login").await.unwrap().status.unwrap();
    let fingerprint = unsealer.certificate().await.public_key.fingerprint().to_string();
    assert_eq!(status.unsealed.unwrap().keys["password"], fingerprint);
    assert!(!unsealer.log().contains("s3cret"));

    place
        .sealed()
        .delete("login", &DeleteParams::default())
        .await
        .unwrap();
    let secrets = place.secrets();
    wait_for("the Secret to be collected", PATIENCE, async || {
        match secrets.get_opt("login").await {
            Ok(None) => Ok(()),
            _ => Err("still there"),
        }
    })
    .await
    .unwrap();
    unsealer.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_object_costs_three_requests_and_a_restart_none() {
    let place = Place::new().await;
    let log = place.world.audit_log().since_now().unwrap();
    let unsealer = place.start(&[]).await;
    for n in 0..10 {
        let name = format!("s{n}");
        place
            .apply(
                unsealer
                    .seal(&name, Scope::Strict, &[("a", "1"), ("b", "2"), ("c", "3")])
                    .await,
            )
            .await;
    }
    for n in 0..10 {
        place.synced(&format!("s{n}"), "True").await;
    }
    let requests = || {
        log.requests("plumbline-unsealer")
            .unwrap()
            .without_watches_and_leases()
            .in_namespace(place.namespace())
    };
    let count = |resource: &str| {
        let requests = requests();
        requests
            .0
            .iter()
            .filter(|request| request.resource == resource)
            .count()
    };
    wait_for("the Events", PATIENCE, async || {
        let events = requests()
            .by_verb_and_resource()
            .get(&("create".to_owned(), "events".to_owned()))
            .copied();
        if events == Some(10) {
            Ok(())
        } else {
            Err(format!("{:?}", requests().by_verb_and_resource()))
        }
    })
    .await
    .unwrap();
    let seen = requests().by_verb_and_resource();
    let times = |verb: &str, resource: &str| {
        seen.get(&(verb.to_owned(), resource.to_owned()))
            .copied()
            .unwrap_or(0)
    };
    // Ten objects and one sealing key.
    assert_eq!(times("create", "secrets"), 11, "{seen:?}");
    assert_eq!(
        times("update", "sealedsecrets/status") + times("update", "sealedsecrets"),
        10,
        "{seen:?}"
    );
    assert_eq!(times("update", "secrets"), 0, "{seen:?}");
    // The legacy key's name is looked for; nothing else is read one by one.
    let reads = requests()
        .0
        .iter()
        .filter(|r| r.verb == "get" && r.name.starts_with('s') && !r.name.starts_with("sealed"))
        .count();
    assert_eq!(reads, 0, "{seen:?}");
    assert!(count("secrets") > 0);
    unsealer.kill();

    let log = place.world.audit_log().since_now().unwrap();
    let unsealer = place.start(&[]).await;
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert!(
        unsealer
            .metric("sealed_secrets_controller_unseal_requests_total")
            .await
            .abs()
            < 0.5,
        "nothing is opened again"
    );
    let again = log
        .requests("plumbline-unsealer")
        .unwrap()
        .without_watches_and_leases()
        .in_namespace(place.namespace());
    let writes: Vec<_> = again
        .0
        .iter()
        .filter(|request| !matches!(request.verb.as_str(), "get" | "list"))
        .collect();
    assert!(writes.is_empty(), "{writes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happened_while_it_was_down_is_noticed() {
    let place = Place::new().await;
    let unsealer = place.start(&[]).await;
    let sealed = unsealer.seal("a", Scope::Strict, &[("k", "old")]).await;
    let changed = unsealer.seal("a", Scope::Strict, &[("k", "new")]).await;
    place.apply(sealed).await;
    place
        .apply(unsealer.seal("b", Scope::Strict, &[("k", "v")]).await)
        .await;
    place.synced("a", "True").await;
    place.synced("b", "True").await;
    unsealer.kill();
    place.apply(changed).await;
    place
        .secrets()
        .delete("b", &DeleteParams::default())
        .await
        .unwrap();
    let _unsealer = place.start(&[]).await;
    place.secret("a", |secret| item(secret, "k") == Some("new")).await;
    place.secret("b", |secret| item(secret, "k") == Some("v")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_point_it_loses_nothing_and_repeats_nothing() {
    let place = Place::new().await;
    let unsealer = place.start(&[]).await;
    let mut objects = Vec::new();
    for n in 0..30 {
        objects.push(
            unsealer
                .seal(&format!("s{n}"), Scope::Strict, &[("k", "v"), ("l", "w")])
                .await,
        );
    }
    unsealer.kill();
    for object in objects {
        place.apply(object).await;
    }
    let log = place.world.audit_log().since_now().unwrap();
    // Each round gets a little further than the one before.
    for round in 1..8 {
        let unsealer = place.start(&["--concurrency=2"]).await;
        tokio::time::sleep(std::time::Duration::from_millis(15 * round)).await;
        unsealer.kill();
    }
    let _unsealer = place.start(&[]).await;
    for n in 0..30 {
        place.synced(&format!("s{n}"), "True").await;
        assert_eq!(
            item(&place.secret(&format!("s{n}"), |_| true).await, "l"),
            Some("w")
        );
    }
    let requests = log
        .requests("plumbline-unsealer")
        .unwrap()
        .in_namespace(place.namespace());
    let writes = |verb: &str| {
        requests
            .0
            .iter()
            .filter(|request| request.resource == "secrets" && request.verb == verb && request.code < 300)
            .count()
    };
    // A request whose client died is not always logged as answered.
    assert!((20..=30).contains(&writes("create")), "{}", writes("create"));
    assert_eq!((writes("update"), writes("delete")), (0, 0));
}
