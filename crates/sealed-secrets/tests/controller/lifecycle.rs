//! From a SealedSecret to a Secret and back, and what it costs.

use kube::api::{DeleteParams, Patch, PatchParams};
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

#[tokio::test(flavor = "multi_thread")]
async fn a_scope_that_is_corrected_without_a_spec_change_is_noticed() {
    let place = Place::new().await;
    let unsealer = place.start(&[]).await;
    let mut sealed = unsealer.seal("a", Scope::NamespaceWide, &[("k", "v")]).await;
    let right = sealed.clone();
    sealed["metadata"]["annotations"] = json!({});
    place.apply(sealed).await;
    assert_eq!(
        place.synced("a", "False").await,
        "no key could decrypt secret (k)"
    );
    let event = place.event("a", "ErrUnsealFailed").await;
    assert_eq!(
        event.message.as_deref(),
        Some("Failed to unseal: no key could decrypt secret (k)")
    );
    assert_eq!(event.type_.as_deref(), Some("Warning"));
    assert!(
        unsealer
            .metric("sealed_secrets_controller_unseal_errors_total{reason=\"unseal\"")
            .await
            > 0.5
    );
    assert!(unsealer.metric("sealed_secrets_controller_condition_info").await < 0.0);
    place.apply(right).await;
    place.synced("a", "True").await;
    assert_eq!(item(&place.secret("a", |_| true).await, "k"), Some("v"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_message_follows_the_failure() {
    let place = Place::new().await;
    let unsealer = place.start(&[]).await;
    let mut sealed = unsealer.seal("a", Scope::Strict, &[("k", "v")]).await;
    sealed["spec"]["encryptedData"]["broken"] = json!("AgAA");
    place.apply(sealed.clone()).await;
    assert_eq!(
        place.synced("a", "False").await,
        "no key could decrypt secret (broken)"
    );
    sealed["spec"]["encryptedData"]["alsobroken"] = json!("!");
    place.apply(sealed.clone()).await;
    let message = place
        .status("a", |object| object.metadata.generation == Some(2))
        .await;
    assert_eq!(message, "no key could decrypt secret (alsobroken, broken)");
    assert!(
        place.secrets().get_opt("a").await.unwrap().is_none(),
        "no partial Secret"
    );
    sealed["spec"]["template"] = json!({"metadata": {"labels": {"a": 1}}});
    sealed["spec"]["encryptedData"] =
        unsealer.seal("a", Scope::Strict, &[("k", "v")]).await["spec"]["encryptedData"].clone();
    place
        .sealed()
        .delete("a", &DeleteParams::default())
        .await
        .unwrap();
    place.apply(sealed.clone()).await;
    let message = place.synced("a", "False").await;
    assert!(
        message.contains("spec.template.metadata.labels must be a map of strings"),
        "{message}"
    );
    // A Secret of that type is filled in by the API server.
    sealed["spec"]["template"] = json!({
        "type": "kubernetes.io/service-account-token",
        "metadata": {"annotations": {"kubernetes.io/service-account.name": "default"}},
    });
    place.apply(sealed.clone()).await;
    let message = place
        .status("a", |object| object.metadata.generation == Some(2))
        .await;
    assert!(message.contains("service-account-token is refused"), "{message}");
    // A sealing key must not come in through a SealedSecret.
    sealed["spec"]["template"] =
        json!({"metadata": {"labels": {"sealedsecrets.bitnami.com/sealed-secrets-key": "active"}}});
    place.apply(sealed).await;
    let message = place
        .status("a", |object| object.metadata.generation == Some(3))
        .await;
    assert!(message.contains("would inject a sealing key"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn templates_are_rendered_and_their_errors_keep_secrets() {
    let place = Place::new().await;
    let unsealer = place.start(&[]).await;
    let mut sealed = unsealer
        .seal("a", Scope::Strict, &[("user", "admin"), ("password", "hunter2")])
        .await;
    sealed["spec"]["template"] = json!({"data": {
        "url": "postgres://{{ .user }}:{{ .password | urlquery }}@db", "user": "not this",
        "config.json": "{{ dict \"p\" .password | toJson }}",
    }});
    place.apply(sealed.clone()).await;
    let secret = place.secret("a", |_| true).await;
    assert_eq!(item(&secret, "url"), Some("postgres://admin:hunter2@db"));
    assert_eq!(item(&secret, "config.json"), Some("{\"p\":\"hunter2\"}"));
    assert_eq!(item(&secret, "user"), Some("admin"));
    for (generation, template) in [
        (2, "{{ fail .password }}"),
        (3, "{{ .password.x }}"),
        (4, "{{ mustFromJson .password }}"),
        (5, "{{ range until 2000000000 }}{{ end }}"),
    ] {
        sealed["spec"]["template"]["data"] = json!({"x": template});
        place.apply(sealed.clone()).await;
        let message = place
            .status("a", |object| object.metadata.generation == Some(generation))
            .await;
        assert!(
            message.starts_with("spec.template.data: template: x: "),
            "{message}"
        );
        assert!(!message.contains("hunter2"), "{message}");
    }
    let message = place.event("a", "ErrUnsealFailed").await.message.unwrap();
    assert!(!message.contains("hunter2"), "{message}");
    assert!(!unsealer.log().contains("hunter2"));
}

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
    one.stop();
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
