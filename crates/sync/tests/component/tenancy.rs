//! Whose rights count, and what is refused instead of being done differently.

use anyhow::Context as _;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;

use crate::bench::{APP, Bench, EVERYTHING, ready, tenant};

#[tokio::test]
async fn fields_that_are_not_built_yet_are_named() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    bench.write_config_map("a", "1")?;
    let revision = bench.commit()?;
    bench.source(json!({})).await?;
    bench
        .kustomization(
            APP,
            json!({
                "decryption": { "provider": "sops" },
            }),
        )
        .await?;
    bench
        .source_named("provided", json!({ "provider": "github" }))
        .await?;
    let _syncer = bench.start(&[])?;
    let object = bench
        .until(APP, "the fields to be refused", |object| {
            ready(object).1 == "UnsupportedField"
        })
        .await?;
    let (value, _, message) = ready(&object);
    assert_eq!(value, "False");
    for field in ["spec.decryption", "SealedSecret"] {
        assert!(message.contains(field), "{message}");
    }
    let status = object.status.context("no status")?;
    assert!(
        status
            .conditions
            .iter()
            .any(|c| c.type_ == "Stalled" && c.status == "True")
    );
    assert_eq!(bench.value("a").await?, None, "nothing is applied");
    let message = bench
        .source_named_is("provided", "False", "UnsupportedField")
        .await?;
    assert!(message.contains("spec.provider"), "{message}");

    bench.set_spec(APP, json!({ "decryption": null })).await?;
    let object = bench.applied(&revision).await?;
    let conditions = object.status.context("no status")?.conditions;
    assert!(conditions.iter().all(|c| c.type_ != "Stalled"), "{conditions:?}");
    Ok(())
}

#[tokio::test]
async fn a_source_of_another_namespace_is_refused_unless_allowed() -> anyhow::Result<()> {
    let (bench, other) = (Bench::new().await?, Bench::new().await?);
    other.write_config_map("a", "1")?;
    other
        .repository
        .write("deploy/a.yaml", bench.manifest("a", "1"))?;
    other.commit()?;
    other.source(json!({})).await?;
    let reference = json!({ "kind": "GitRepository", "name": APP, "namespace": other.namespace() });
    bench
        .kustomization(APP, json!({ "sourceRef": reference }))
        .await?;
    let mut syncer = bench.start(&[])?;
    let object = bench
        .until(APP, "the reference to be refused", |object| {
            ready(object).1 == "AccessDenied"
        })
        .await?;
    let message = ready(&object).2;
    assert!(message.contains("--no-cross-namespace-refs"), "{message}");
    assert_eq!(bench.value("a").await?, None);
    assert!(syncer.runs());
    Ok(())
}

#[tokio::test]
async fn a_service_account_may_do_what_it_may() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let ns = bench.namespace();
    bench
        .world
        .kubectl_with(&["apply", "--server-side", "-f", "-"], &tenant(EVERYTHING))?;
    bench.write_config_map("a", "1")?;
    bench.write_config_map("b", "1")?;
    bench.repository.write(
        "deploy/ns.yaml",
        format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {ns}-forbidden}}\n"),
    )?;
    bench.repository.write(
        "deploy/s.yaml",
        format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: s, namespace: {ns}}}\n"),
    )?;
    let log = bench.world.audit_log().since_now()?;
    let revision = bench.commit()?;
    bench.source(json!({})).await?;
    bench
        .kustomization(APP, json!({ "serviceAccountName": "tenant" }))
        .await?;
    let _syncer = bench.start(&[])?;
    let message = bench.fails(&revision, "ReconciliationFailed").await?;
    let account = format!("system:serviceaccount:{ns}:tenant");
    for part in [
        "2 problems",
        "deploy/ns.yaml:1",
        "deploy/s.yaml:1",
        "is forbidden",
        &account,
    ] {
        assert!(message.contains(part), "{part:?} is not in {message}");
    }
    assert_eq!(bench.value("a").await?.as_deref(), Some("1"));
    let mut applies = log.requests("plumbline-sync/")?;
    applies
        .0
        .retain(|it| it.namespace == ns && it.verb == "patch" && it.resource == "configmaps");
    assert!(applies.count() >= 2, "{applies:?}");
    assert!(applies.0.iter().all(|it| it.user == account), "{applies:?}");

    // It drifts and is corrected, and prunes, as the tenant too.
    let edit = json!({ "data": { "key": "edited" } });
    bench
        .config_maps()
        .patch("a", &PatchParams::default(), &Patch::Merge(&edit))
        .await?;
    bench.until_value("a", Some("1")).await?;
    for file in ["b", "ns", "s"] {
        bench.repository.remove(&format!("deploy/{file}.yaml"))?;
    }
    let revision = bench.push().await?;
    bench.applied(&revision).await?;
    bench.until_value("b", None).await
}

#[tokio::test]
async fn nobody_gets_rights_by_saying_nothing_or_by_a_forged_name() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let ns = bench.namespace();
    bench
        .world
        .kubectl_with(&["apply", "--server-side", "-f", "-"], &tenant(EVERYTHING))?;
    bench.write_config_map("a", "1")?;
    bench.repository.write(
        "deploy/s.yaml",
        format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: s, namespace: {ns}}}\n"),
    )?;
    let log = bench.world.audit_log().since_now()?;
    let revision = bench.commit()?;
    bench.app().await?;
    // An empty name is no name.
    bench.set_spec(APP, json!({ "serviceAccountName": "" })).await?;
    let _syncer = bench.start(&["--default-service-account=tenant"])?;
    let message = bench.fails(&revision, "ReconciliationFailed").await?;
    let account = format!("system:serviceaccount:{ns}:tenant");
    assert!(
        message.contains("deploy/s.yaml:1") && message.contains(&account),
        "{message}"
    );
    assert_eq!(bench.value("a").await?.as_deref(), Some("1"));
    let mut writes = log.requests("plumbline-sync/")?;
    writes.0.retain(|it| {
        it.namespace == ns
            && it.verb == "patch"
            && it.resource != "kustomizations"
            && it.resource != "gitrepositories"
    });
    writes
        .0
        .retain(|it| it.resource == "configmaps" || it.resource == "secrets");
    assert!(
        writes.count() >= 2 && writes.0.iter().all(|it| it.user == account),
        "{writes:?}"
    );

    for name in [
        "tenant:x",
        "../default",
        "kube-system:default",
        "system:serviceaccount:kube-system:x",
        "a b",
    ] {
        bench.set_spec(APP, json!({ "serviceAccountName": name })).await?;
        bench
            .until(APP, "the name to be refused", |object| {
                let (_, reason, message) = ready(object);
                reason == "InvalidField" && message.contains(&format!("{name:?}"))
            })
            .await?;
    }

    // An account that does not exist can do nothing, and what was applied stays.
    bench
        .set_spec(APP, json!({ "serviceAccountName": "nobody" }))
        .await?;
    bench.repository.remove("deploy/s.yaml")?;
    bench.write_config_map("a", "2")?;
    let revision = bench.push().await?;
    let message = bench.fails(&revision, "ReconciliationFailed").await?;
    assert!(
        message.contains(&format!("system:serviceaccount:{ns}:nobody")),
        "{message}"
    );
    assert_eq!(bench.value("a").await?.as_deref(), Some("1"));

    // Nor can it delete: the Kustomization says so and waits for the right.
    bench
        .kustomizations()
        .delete(APP, &DeleteParams::default())
        .await?;
    bench
        .until(APP, "the deletion to be refused", |object| {
            let (_, reason, message) = ready(object);
            reason == "PruneFailed" && message.contains("nobody")
        })
        .await?;
    assert_eq!(bench.value("a").await?.as_deref(), Some("1"));
    bench
        .set_spec(APP, json!({ "serviceAccountName": "tenant" }))
        .await?;
    bench.until_value("a", None).await
}
