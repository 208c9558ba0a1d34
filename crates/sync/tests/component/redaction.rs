//! What is secret stays out of conditions, events, logs and annotations, whoever quotes it.

use k8s_openapi::api::core::v1::{Event, Secret};
use kube::{
    Api,
    api::{ListParams, Patch, PatchParams, PostParams},
};
use plumbline_testkit::{git::Access, wait_for};
use serde_json::json;

use crate::bench::{APP, Bench, LIMIT, Syncer, ready};

/// In every secret of these tests.
const SECRET: &str = "hunter2";
/// The same as Kubernetes writes it.
const ENCODED: &str = "aHVudGVyM";

/// Nothing that the syncer wrote has a secret in it.
async fn nothing_is_told(bench: &Bench, syncer: &Syncer) -> anyhow::Result<()> {
    let events: Api<Event> = Api::namespaced(bench.world.client(), bench.namespace());
    let mut told = Vec::new();
    for object in bench.kustomizations().list(&ListParams::default()).await? {
        told.push(json!(object.status).to_string());
    }
    for object in bench.sources().list(&ListParams::default()).await? {
        told.push(json!(object.status).to_string());
    }
    for event in events.list(&ListParams::default()).await? {
        told.push(json!([event.message, event.reason, event.metadata.annotations]).to_string());
    }
    told.push(syncer.log());
    for text in told {
        for line in text.lines() {
            assert!(!line.contains(SECRET) && !line.contains(ENCODED), "{line}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn values_of_secrets_are_in_no_message_about_them() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let ns = bench.namespace();
    let secret = |name: &str, rest: &str| {
        bench.repository.write(
            &format!("deploy/{name}.yaml"),
            format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: {ns}}}\n{rest}"),
        )
    };
    secret("good", "stringData: {password: hunter2-good}\n")?;
    secret(
        "fixed",
        "stringData: {password: hunter2-fixed}\nimmutable: true\n",
    )?;
    // The API server quotes each of these.
    secret("not-base64", "data: {password: hunter2!}\n")?;
    secret("number", "stringData: {password: [hunter2-list]}\n")?;
    secret("typo", "stringDataa: {password: hunter2-typo}\n")?;
    secret(
        "type",
        "type: kubernetes.io/dockerconfigjson\nstringData: {.dockerconfigjson: hunter2-no-json}\n",
    )?;
    let first = bench.commit()?;
    bench.app().await?;
    let syncer = bench.start(&["--log-level=trace"])?;
    let message = bench.fails(&first, "ReconciliationFailed").await?;
    for name in ["not-base64", "number", "typo", "type"] {
        assert!(
            message.contains(&format!("deploy/{name}.yaml:1")),
            "{name}: {message}"
        );
    }
    nothing_is_told(&bench, &syncer).await?;

    // It changes where it may not, and somebody edits it.
    for name in ["not-base64", "number", "typo", "type"] {
        bench.repository.remove(&format!("deploy/{name}.yaml"))?;
    }
    secret(
        "fixed",
        "stringData: {password: hunter2-other}\nimmutable: true\n",
    )?;
    let second = bench.push().await?;
    let message = bench.fails(&second, "ReconciliationFailed").await?;
    assert!(message.contains("immutable"), "{message}");
    let secrets: Api<Secret> = Api::namespaced(bench.world.client(), ns);
    let edit = json!({ "stringData": { "password": "hunter2-edited" } });
    secrets
        .patch("good", &PatchParams::default(), &Patch::Merge(&edit))
        .await?;
    wait_for("the edit to be undone", LIMIT, async || {
        let data = secrets.get("good").await.map_err(|_| "it cannot be read")?.data;
        match data.unwrap_or_default().remove("password") {
            Some(value) if value.0 == b"hunter2-good" => Ok(()),
            _ => Err("it is not"),
        }
    })
    .await?;
    nothing_is_told(&bench, &syncer).await
}

#[tokio::test]
async fn values_that_come_from_a_secret_are_in_no_message_about_other_objects() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let ns = bench.namespace();
    let variables: Secret = serde_json::from_value(json!({
        "metadata": { "name": "variables" }, "stringData": { "token": "hunter2-token", "port": "hunter2-port", "mode": "on" },
    }))?;
    let secrets: Api<Secret> = Api::namespaced(bench.world.client(), ns);
    secrets.create(&PostParams::default(), &variables).await?;
    bench.repository.write(
        "deploy/service.yaml",
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: s, namespace: {ns}}}\nspec: {{type: \"${{token}}\", ports: [{{port: 80}}]}}\n"
        ),
    )?;
    bench.repository.write(
        "deploy/label.yaml",
        format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: l, namespace: {ns}, labels: {{a: \"${{port}} ${{mode}}\"}}}}\n"),
    )?;
    bench.write_config_map("a", "${token}")?;
    let first = bench.commit()?;
    bench.source(json!({})).await?;
    let build = json!({ "substituteFrom": [{ "kind": "Secret", "name": "variables" }] });
    bench.kustomization(APP, json!({ "postBuild": build })).await?;
    let syncer = bench.start(&["--log-level=trace"])?;
    let message = bench.fails(&first, "ReconciliationFailed").await?;
    assert!(
        message.contains("2 problems") && message.contains("[from a Secret]"),
        "{message}"
    );
    assert_eq!(bench.value("a").await?.as_deref(), Some("hunter2-token"));
    nothing_is_told(&bench, &syncer).await
}

#[tokio::test]
async fn credentials_are_in_no_message_about_a_repository() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    bench.write_config_map("a", "1")?;
    let revision = bench.commit()?;
    bench.server.set_access(Access::Basic("me", "hunter2-right"));
    let secret = |password: &str| -> anyhow::Result<Secret> {
        Ok(serde_json::from_value(json!({
            "metadata": { "name": "git" }, "stringData": { "username": "me", "password": password },
        }))?)
    };
    let secrets: Api<Secret> = Api::namespaced(bench.world.client(), bench.namespace());
    secrets
        .create(&PostParams::default(), &secret("hunter2-wrong")?)
        .await?;
    bench.source(json!({ "secretRef": { "name": "git" } })).await?;
    bench.kustomization(APP, json!({})).await?;
    // A token in the URL is for everybody to read who may read the object: it is refused, and not repeated.
    let url = bench.server.url().replace("http://", "http://me:hunter2-token@");
    bench.source_named("token", json!({ "url": url })).await?;
    let syncer = bench.start(&["--log-level=trace"])?;
    bench.source_is("False", "AuthenticationFailed").await?;
    let message = bench.source_named_is("token", "False", "URLInvalid").await?;
    assert!(message.contains("secretRef"), "{message}");
    nothing_is_told(&bench, &syncer).await?;

    let right = json!({ "stringData": { "password": "hunter2-right" } });
    secrets
        .patch("git", &PatchParams::default(), &Patch::Merge(&right))
        .await?;
    bench.request_source().await?;
    let object = bench.applied(&revision).await?;
    assert_eq!(ready(&object).0, "True");
    nothing_is_told(&bench, &syncer).await
}
