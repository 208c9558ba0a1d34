//! What is said when something is wrong, and what is never said.

use kube::api::{DeleteParams, Patch, PatchParams};
use plumbline_sealed_secrets::scope::Scope;
use serde_json::json;

use crate::harness::{Place, item};

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
        "no key could decrypt secret (broken): broken: too short for a sealed item"
    );
    sealed["spec"]["encryptedData"]["alsobroken"] = json!("!");
    place.apply(sealed.clone()).await;
    let message = place
        .status("a", |object| object.metadata.generation == Some(2))
        .await;
    assert_eq!(
        message,
        "no key could decrypt secret (alsobroken, broken): alsobroken: not base64; broken: too short for a sealed item"
    );
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

/// The API server quotes the first character of a `.dockerconfigjson` that is wrong: with a template that cuts a value to
/// pieces, whoever may write SealedSecrets could read it out of the condition.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_api_server_says_of_a_value_is_not_repeated() {
    let place = Place::new().await;
    let unsealer = place.start(&[]).await;
    let mut sealed = unsealer.seal("a", Scope::Strict, &[("pw", "~hunter2")]).await;
    sealed["spec"]["template"] = json!({
        "type": "kubernetes.io/dockerconfigjson", "data": {".dockerconfigjson": "{{ .pw }}"},
    });
    place.apply(sealed).await;
    let message = place.synced("a", "False").await;
    assert!(message.contains("data[.dockerconfigjson]"), "{message}");
    assert!(
        !message.contains('~') && !message.contains("hunter2"),
        "{message}"
    );
    let event = place.event("a", "ErrUpdateFailed").await.message.unwrap();
    assert!(!event.contains('~'), "{event}");
    let log = unsealer.log();
    let line = log.lines().find(|line| line.contains("not synced")).unwrap();
    assert!(!line.contains('~'), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_write_is_told_in_the_servers_words_and_tried_again() {
    let place = Place::new().await;
    let unsealer = place.start(&[]).await;
    place
        .world
        .kubectl(&["create", "quota", "none", "--hard=count/secrets=0"])
        .unwrap();
    let mut sealed = unsealer.seal("a", Scope::Strict, &[("k", "v")]).await;
    plumbline_testkit::wait_for("the quota to hold", crate::harness::PATIENCE, async || {
        let tried = place.world.kubectl_with(
            &["create", "-f", "-", "--dry-run=server"],
            r#"{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x"}}"#,
        );
        tried.err().map(drop).ok_or("not yet")
    })
    .await
    .unwrap();
    place.apply(sealed.clone()).await;
    let message = place.synced("a", "False").await;
    assert!(message.contains("none"), "{message}");
    place.event("a", "ErrUpdateFailed").await;
    let failed = "sealed_secrets_controller_unseal_errors_total{reason=\"update\"";
    assert!(unsealer.metric(failed).await > 0.5);
    // Nobody touches the object: it is the controller that tries again, also after its quick attempts.
    place.world.kubectl(&["delete", "quota", "none"]).unwrap();
    place.synced("a", "True").await;
    place.secret("a", |secret| item(secret, "k") == Some("v")).await;

    // What no Secret can have is said without asking.
    sealed["spec"]["encryptedData"]["a/b"] = sealed["spec"]["encryptedData"]["k"].clone();
    place.apply(sealed.clone()).await;
    let message = place
        .status("a", |object| object.metadata.generation == Some(2))
        .await;
    assert!(
        message.contains("\"a/b\" cannot be a key of a Secret"),
        "{message}"
    );
    // A type cannot be changed, only made anew; finalizers of the template are taken then.
    sealed["spec"]["encryptedData"] = json!({"k": sealed["spec"]["encryptedData"]["k"]});
    sealed["spec"]["template"] = json!({
        "type": "example.com/other", "metadata": {"finalizers": ["example.com/kept"]},
    });
    place.apply(sealed).await;
    let message = place
        .status("a", |object| object.metadata.generation == Some(3))
        .await;
    assert!(
        message.contains("the type of a Secret cannot be changed"),
        "{message}"
    );
    place
        .secrets()
        .delete("a", &DeleteParams::default())
        .await
        .unwrap();
    let secret = place
        .secret("a", |secret| secret.type_.as_deref() == Some("example.com/other"))
        .await;
    assert_eq!(
        secret.metadata.finalizers,
        Some(vec!["example.com/kept".to_owned()])
    );
    let free = json!({"metadata": {"finalizers": null}});
    place
        .secrets()
        .patch("a", &PatchParams::default(), &Patch::Merge(free))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn advice_says_what_everybody_can_see() {
    let place = Place::new().await;
    let unsealer = place.start(&[]).await;
    let other = format!("SHA256:{}", "x".repeat(43));
    let own = unsealer.certificate().await.public_key.fingerprint().to_string();
    // The annotation is wrong, and that is no obstacle.
    let mut sealed = unsealer.seal("a", Scope::Strict, &[("k", "v"), ("l", "w")]).await;
    sealed["metadata"]["annotations"] = json!({"plumbline.dev/sealed-with": other});
    place.apply(sealed.clone()).await;
    place.synced("a", "True").await;
    let status = place.sealed().get("a").await.unwrap().status.unwrap();
    assert_eq!(status.unsealed.unwrap().keys["k"], own);
    // Sealed for another name: with the annotation there is more to say.
    for (name, with, says) in [
        ("b", &other, "which is not loaded: bring that key back"),
        (
            "c",
            &own,
            "which is loaded: so for another name, namespace or scope",
        ),
    ] {
        sealed["metadata"]["name"] = json!(name);
        sealed["metadata"]["annotations"] = json!({"plumbline.dev/sealed-with": format!("k={with}")});
        place.apply(sealed.clone()).await;
        let message = place.synced(name, "False").await;
        assert!(
            message.starts_with("no key could decrypt secret (k, l): k: sealed for key "),
            "{message}"
        );
        assert!(
            message.contains(with.as_str()) && message.contains(says),
            "{message}"
        );
    }
    // Only the exact value counts, and where the two places differ that is said.
    let mut wide = unsealer.seal("d", Scope::ClusterWide, &[("k", "v")]).await;
    wide["spec"]["template"] =
        json!({"metadata": {"annotations": {"sealedsecrets.bitnami.com/cluster-wide": "true"}}});
    for value in ["TRUE", " true", "1"] {
        wide["metadata"]["annotations"] = json!({"sealedsecrets.bitnami.com/cluster-wide": value});
        place.apply(wide.clone()).await;
        let message = place.synced("d", "False").await;
        assert!(
            message.contains("the scope is strict by metadata.annotations, which count, and cluster-wide"),
            "{message}"
        );
    }
    // The wider one wins.
    wide["metadata"]["annotations"] = json!({
        "sealedsecrets.bitnami.com/cluster-wide": "true", "sealedsecrets.bitnami.com/namespace-wide": "true",
    });
    place.apply(wide).await;
    place.synced("d", "True").await;
}
