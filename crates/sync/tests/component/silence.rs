//! An API server that takes a request and never answers it, and one that has no time for a tenant.

use std::time::{Duration, Instant};

use http::{Method, request::Parts};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, api::PostParams};
use serde_json::json;

use crate::{
    bench::{APP, Bench, EVERYTHING, ready, tenant},
    faults::{Fault, about},
};

async fn secret(bench: &Bench, name: &str, data: serde_json::Value) -> anyhow::Result<()> {
    let secret = json!({ "metadata": { "name": name }, "stringData": data });
    let secrets: Api<Secret> = Api::namespaced(bench.world.client(), bench.namespace());
    secrets
        .create(&PostParams::default(), &serde_json::from_value(secret)?)
        .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_never_comes_is_not_waited_for_and_holds_nobody_up() -> anyhow::Result<()> {
    const SILENCE: &str = "cannot be read: the API server did not answer within 10 s";
    let mut bench = Bench::new().await?;
    let api = bench.behind_faults().await?;
    secret(&bench, "vars", json!({ "value": "1" })).await?;
    secret(&bench, "git", json!({ "username": "a", "password": "b" })).await?;
    for name in ["a", "b", "c"] {
        bench.write_config_map(name, "${value}")?;
    }
    bench.repository.write("other/d.yaml", bench.manifest("d", "1"))?;
    let first = bench.commit()?;
    bench.source(json!({ "secretRef": { "name": "git" } })).await?;
    let from = json!({ "postBuild": { "substituteFrom": [{ "kind": "Secret", "name": "vars" }] } });
    bench.kustomization(APP, from).await?;
    bench.kustomization("other", json!({ "path": "./other" })).await?;
    let arguments = ["--concurrent=1", "--inventory-status-limit=1"];
    let mut syncer = bench.start(&arguments)?;
    bench.applied(&first).await?;
    bench.applied_by("other", &first).await?;

    // Variables: with one worker for all.
    api.answer(Fault::Silence, usize::MAX, about("GET", "secrets", "vars"));
    bench.repository.write("other/d.yaml", bench.manifest("d", "2"))?;
    let second = bench.push().await?;
    let message = bench.fails(&second, "BuildFailed").await?;
    assert!(message.contains(SILENCE), "{message}");
    bench.applied_by("other", &second).await?;
    api.forward_all();
    bench.applied(&second).await?;

    // Credentials.
    api.answer(Fault::Silence, usize::MAX, about("GET", "secrets", "git"));
    bench.request_source().await?;
    let message = bench.source_is("False", "AuthenticationFailed").await?;
    assert!(message.contains(SILENCE), "{message}");
    api.forward_all();

    // A part of an inventory, which a new process reads.
    syncer.kill();
    api.answer(Fault::Silence, usize::MAX, |parts: &Parts| {
        parts.method == Method::GET && parts.uri.path().contains("/configmaps/plumbline-inventory-")
    });
    let _syncer = bench.start(&arguments)?;
    bench
        .until(APP, "the silence to be said", |object| {
            ready(object)
                .2
                .contains("which holds a part of the inventory, cannot be read")
                && ready(object).2.contains("did not answer within 10 s")
        })
        .await?;
    api.forward_all();
    bench.applied(&second).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_acts_as_a_tenant_gives_up_as_soon_as_who_acts_as_itself() -> anyhow::Result<()> {
    let mut bench = Bench::new().await?;
    let api = bench.behind_faults().await?;
    bench
        .world
        .kubectl_with(&["apply", "-f", "-"], &tenant(EVERYTHING))?;
    bench.write_config_map("a", "1")?;
    let first = bench.commit()?;
    bench.source(json!({})).await?;
    bench
        .kustomization(APP, json!({ "serviceAccountName": "tenant" }))
        .await?;
    let _syncer = bench.start(&[])?;
    bench.applied(&first).await?;
    api.answer(Fault::Status(503), usize::MAX, about("PATCH", "configmaps", "a"));
    bench.write_config_map("a", "2")?;
    let second = bench.push().await?;
    let begun = Instant::now();
    let message = bench.fails(&second, "ReconciliationFailed").await?;
    assert!(message.contains("answers 503"), "{message}");
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    api.forward_all();
    bench.applied(&second).await?;
    Ok(())
}
