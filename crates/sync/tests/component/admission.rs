//! Admission webhooks that change, refuse, or never answer: real ones, which the API server calls over TLS.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use plumbline_testkit::{AdmissionServer, Verdict, wait_for};
use serde_json::{Value, json};

use crate::bench::{APP, Bench, LIMIT, entries, patches, ready};

/// A webhook configuration for ConfigMaps of this namespace.
fn configuration(bench: &Bench, kind: &str, client_config: &Value, webhook: &Value) -> Value {
    let ns = bench.namespace();
    let mut whole = json!({
        "name": "review.example.org", "sideEffects": "None", "admissionReviewVersions": ["v1"],
        "clientConfig": client_config, "failurePolicy": "Fail",
        "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": ns } },
        "rules": [{ "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["configmaps"] }],
    });
    for (field, value) in webhook.as_object().into_iter().flatten() {
        whole[field] = value.clone();
    }
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": { "name": format!("{ns}-review") },
        "webhooks": [whole],
    })
}

fn install(bench: &Bench, configuration: &Value) -> anyhow::Result<()> {
    let text = configuration.to_string();
    bench
        .world
        .kubectl_with(&["apply", "--server-side", "-f", "-"], &text)?;
    Ok(())
}

/// Waits until the API server asks it.
async fn works(bench: &Bench, server: &AdmissionServer) -> anyhow::Result<()> {
    let before = server.reviews();
    wait_for("the webhook to be called", LIMIT, async || {
        // Whatever it says.
        let probe = ["create", "configmap", "probe", "--dry-run=server", "-o", "name"];
        drop(bench.world.kubectl(&probe));
        if server.reviews() > before {
            Ok(())
        } else {
            Err("it is not")
        }
    })
    .await
}

#[tokio::test]
async fn a_webhook_that_changes_every_apply_is_no_hot_loop() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let count = Arc::new(AtomicUsize::new(0));
    // A new value each time, and another value than Git's.
    let server = AdmissionServer::start({
        let count = Arc::clone(&count);
        move |request| {
            let mut operations = vec![json!({
                "op": "add", "path": "/metadata/annotations/example.org~1stamp",
                "value": count.fetch_add(1, Ordering::Relaxed).to_string(),
            })];
            if request["object"]["metadata"]["annotations"].is_null() {
                operations.insert(
                    0,
                    json!({ "op": "add", "path": "/metadata/annotations", "value": {} }),
                );
            }
            if request["object"]["data"]["key"].is_string() {
                operations.push(json!({ "op": "add", "path": "/data/key", "value": "mutated" }));
            }
            Verdict::Patch(operations.into())
        }
    })?;
    let config = configuration(
        &bench,
        "MutatingWebhookConfiguration",
        &server.client_config(),
        &json!({}),
    );
    install(&bench, &config)?;
    works(&bench, &server).await?;
    for i in 0..5 {
        bench.write_config_map(&format!("m{i}"), "1")?;
    }
    let log = bench.world.audit_log().since_now()?;
    let first = bench.commit()?;
    bench.app().await?;
    let mut syncer = bench.start(&[])?;
    bench.applied(&first).await?;
    assert_eq!(bench.value("m0").await?.as_deref(), Some("mutated"));
    tokio::time::sleep(Duration::from_secs(4)).await;
    let sent = patches(&bench.requests(&log)?, "configmaps");
    println!("{sent} applies of 5 objects");
    assert_eq!(sent, 5, "an object was applied again although nothing happened");

    // One of them changes; the others stay as they are, also over a restart.
    let log = bench.world.audit_log().since_now()?;
    bench.write_config_map("m1", "2")?;
    let second = bench.push().await?;
    bench.applied(&second).await?;
    syncer.kill();
    let _syncer = bench.start(&[])?;
    bench.write_config_map("m2", "2")?;
    let third = bench.push().await?;
    bench.applied(&third).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let sent = patches(&bench.requests(&log)?, "configmaps");
    println!("{sent} applies for two changes and a restart");
    assert!(sent <= 2 + 5, "{sent}");
    bench.world.kubectl(&[
        "delete",
        "mutatingwebhookconfiguration",
        &format!("{}-review", bench.namespace()),
    ])?;
    Ok(())
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one story, told in order")]
async fn a_webhook_that_does_not_answer_or_denies_holds_up_nobody_else() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let ns = bench.namespace();
    let (silent, strict) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(true)));
    let server = AdmissionServer::start({
        let (silent, strict) = (Arc::clone(&silent), Arc::clone(&strict));
        move |request| match request["operation"].as_str() {
            Some("DELETE") if strict.load(Ordering::Relaxed) => {
                Verdict::Deny("a webhook keeps this one".into())
            }
            Some("DELETE") => Verdict::Allow,
            _ if silent.load(Ordering::Relaxed) => Verdict::Silence(Duration::from_secs(3)),
            _ => Verdict::Allow,
        }
    })?;
    let webhook = json!({
        "timeoutSeconds": 1, "objectSelector": { "matchLabels": { "slow": "yes" } },
        "rules": [{ "apiGroups": [""], "apiVersions": ["v1"], "operations": ["*"], "resources": ["configmaps"] }],
    });
    let config = configuration(
        &bench,
        "ValidatingWebhookConfiguration",
        &server.client_config(),
        &webhook,
    );
    install(&bench, &config)?;
    wait_for("the webhook to work", LIMIT, async || {
        let probe = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "probe", "labels": { "slow": "yes" } },
        });
        match bench
            .world
            .kubectl_with(&["create", "--dry-run=server", "-f", "-"], &probe.to_string())
        {
            Err(error) if error.to_string().contains("failed calling webhook") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;

    // More of them than the failures after which an API server counts as away.
    let slow = |i: usize| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: slow-{i:02}, namespace: {ns}, labels: {{slow: \"yes\"}}}}\n\
             data: {{key: \"1\"}}\n---\n"
        )
    };
    bench
        .repository
        .write("deploy/a-slow.yaml", (0..20).map(slow).collect::<String>())?;
    bench.write_config_map("quick", "1")?;
    bench.repository.write(
        "deploy/z-web.yaml",
        format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: web, namespace: {ns}}}\nspec:\n  replicas: 0\n  \
             selector: {{matchLabels: {{app: web}}}}\n  template:\n    metadata: {{labels: {{app: web}}}}\n    \
             spec: {{containers: [{{name: main, image: x}}]}}\n"
        ),
    )?;
    bench
        .repository
        .write("other/b.yaml", bench.manifest("other", "1"))?;
    let log = bench.world.audit_log().since_now()?;
    let first = bench.commit()?;
    bench.source(json!({})).await?;
    bench.kustomization(APP, json!({ "retryInterval": "1m" })).await?;
    bench.kustomization("other", json!({ "path": "./other" })).await?;
    let _syncer = bench.start(&[])?;
    let message = bench.fails(&first, "ReconciliationFailed").await?;
    assert!(
        message.contains("20 problems") && message.contains("review.example.org"),
        "{message}"
    );
    bench.applied_by("other", &first).await?;
    assert_eq!(bench.value("quick").await?.as_deref(), Some("1"));
    bench.api("apps", "v1", "Deployment").get("web").await?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let mut sent = bench.requests(&log)?;
    sent.0
        .retain(|it| it.resource == "configmaps" && it.name.starts_with("slow"));
    println!("{} applies of 20 objects that are not answered", sent.count());
    assert!(sent.count() <= 20 * 6, "{}", sent.count());

    silent.store(false, Ordering::Relaxed);
    bench.applied(&first).await?;

    // A deletion that is denied is said, tried again by itself, and done when it may.
    bench.set_spec(APP, json!({ "retryInterval": "3s" })).await?;
    bench
        .repository
        .write("deploy/a-slow.yaml", (1..20).map(slow).collect::<String>())?;
    let second = bench.push().await?;
    let message = bench.fails(&second, "ReconciliationFailed").await?;
    assert!(
        message.contains("slow-00: cannot be deleted") && message.contains("a webhook keeps this one"),
        "{message}"
    );
    let log = bench.world.audit_log().since_now()?;
    tokio::time::sleep(Duration::from_secs(4)).await;
    let mut sent = bench.requests(&log)?;
    sent.0.retain(|it| it.verb == "delete");
    assert!(sent.count() <= 5, "{sent:?}");
    strict.store(false, Ordering::Relaxed);
    let object = bench.applied(&second).await?;
    assert_eq!(entries(&object).len(), 21);
    assert_eq!(bench.value("slow-00").await?, None);
    bench.world.kubectl(&[
        "delete",
        "validatingwebhookconfiguration",
        &format!("{ns}-review"),
    ])?;
    Ok(())
}

#[tokio::test]
async fn a_webhook_from_git_that_blocks_everything_goes_when_git_drops_it() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let nobody = json!({ "url": "https://127.0.0.1:1/review", "caBundle": "" });
    // Everything in the namespace: also the status of the Kustomization and of its source.
    let all = json!({ "rules": [{
        "apiGroups": ["*"], "apiVersions": ["*"], "operations": ["*"], "resources": ["*/*"],
    }] });
    let config = configuration(&bench, "ValidatingWebhookConfiguration", &nobody, &all);
    bench.write_config_map("a", "1")?;
    let first = bench.commit()?;
    bench.source(json!({ "interval": "2s" })).await?;
    bench.kustomization(APP, json!({ "wait": true })).await?;
    let _syncer = bench.start(&[])?;
    bench.applied(&first).await?;

    bench
        .repository
        .write("deploy/webhook.yaml", config.to_string())?;
    bench.commit()?;
    wait_for("the webhook to block", LIMIT, async || {
        match bench
            .world
            .kubectl(&["create", "configmap", "probe", "--dry-run=server"])
        {
            Err(error) if error.to_string().contains("failed calling webhook") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    // Nothing can be applied or even said now. What the author does about it is all that is needed.
    bench.write_config_map("a", "2")?;
    bench.repository.remove("deploy/webhook.yaml")?;
    let third = bench.commit()?;
    let object = bench.applied(&third).await?;
    assert_eq!(entries(&object).len(), 1);
    assert_eq!(bench.value("a").await?.as_deref(), Some("2"));
    assert_eq!(ready(&object).0, "True");
    Ok(())
}
