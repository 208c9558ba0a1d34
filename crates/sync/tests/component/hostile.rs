//! Manifests that somebody wrote to hurt: each has a bound on time, memory and what it reaches.

use kube::api::DeleteParams;
use plumbline_testkit::wait_for;
use serde_json::json;

use crate::bench::{APP, Bench, LIMIT, entries, patches, ready};

/// Memory that a debug build may take for a file with a hundred thousand documents, in MiB.
const MEMORY: u64 = 400;

#[tokio::test]
async fn a_hundred_thousand_documents_and_twenty_thousand_duplicates_are_bounded() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let ns = bench.namespace();
    let one = format!(
        "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: twin, namespace: {ns}}}\ndata: {{key: \"1\"}}\n"
    );
    bench.repository.write(
        "deploy/many.yaml",
        format!("{}{}", "---\n".repeat(100_000), one.repeat(20_000)),
    )?;
    // The same object by another version, and one that claims to be somebody else's.
    for version in ["v1", "v2"] {
        bench.repository.write(
            &format!("deploy/scaler-{version}.yaml"),
            format!(
                "apiVersion: autoscaling/{version}\nkind: HorizontalPodAutoscaler\nmetadata: {{name: h, namespace: {ns}}}\n\
                 spec: {{maxReplicas: 2, scaleTargetRef: {{apiVersion: apps/v1, kind: Deployment, name: none}}}}\n"
            ),
        )?;
    }
    bench.repository.write(
        "deploy/claims.yaml",
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: claims, namespace: {ns}, labels: \
             {{kustomize.toolkit.fluxcd.io/name: other, kustomize.toolkit.fluxcd.io/namespace: kube-system}}}}\n"
        ),
    )?;
    // Names that would forge the inventory entries of other objects.
    bench.repository.write(
        "deploy/forged.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a_b_c, namespace: kube-system_x}\n",
    )?;
    bench.write_config_map("good", "1")?;
    let revision = bench.commit()?;
    bench.app().await?;
    let syncer = bench.start(&[])?;
    let message = bench.fails(&revision, "BuildFailed").await?;
    assert!(message.starts_with("20001 problems"), "{message}");
    assert!(message.len() < 32 << 10, "{} bytes", message.len());
    assert!(
        message.contains("scaler-v2.yaml:1") || message.contains("forged.yaml:1") || message.contains("more"),
        "{message}"
    );
    assert_eq!(bench.value("good").await?.as_deref(), Some("1"));
    assert_eq!(bench.value("twin").await?.as_deref(), Some("1"));
    let claims = bench
        .config_maps()
        .get("claims")
        .await?
        .metadata
        .labels
        .unwrap_or_default();
    assert_eq!(claims["kustomize.toolkit.fluxcd.io/name"], APP);
    let object = bench.kustomizations().get(APP).await?;
    assert_eq!(entries(&object).len(), 4, "{:?}", entries(&object));
    let memory = syncer.peak_memory()?;
    println!("{memory} MiB");
    assert!(memory < MEMORY, "{memory} MiB");
    Ok(())
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one story, told in order")]
async fn finalizers_foreign_owners_and_denied_deletions_are_no_hot_loop() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let ns = bench.namespace();
    let with = |name: &str, metadata: &str| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: {ns}, {metadata}}}\ndata: {{key: \"1\"}}\n"
        )
    };
    bench.repository.write(
        "deploy/endless.yaml",
        with("endless", "finalizers: [example.org/never]"),
    )?;
    bench.write_config_map("kept", "1")?;
    bench.write_config_map("good", "1")?;
    let first = bench.commit()?;
    bench.app().await?;
    let _syncer = bench.start(&[])?;
    bench.applied(&first).await?;

    // Kubernetes' garbage collector deletes what has an owner that does not exist, as often as it is made.
    let log = bench.world.audit_log().since_now()?;
    bench.repository.write(
        "deploy/orphan.yaml",
        with(
            "orphan",
            "ownerReferences: [{apiVersion: v1, kind: ConfigMap, name: none, uid: 7b2b0f9e-0000-4000-8000-000000000000}]",
        ),
    )?;
    bench.push().await?;
    bench
        .until(APP, "the fight to be given up", |object| {
            ready(object).2.contains("changes it again and again")
        })
        .await?;
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    let sent = patches(&bench.requests(&log)?, "configmaps");
    println!("{sent} applies of an object that is deleted each time");
    assert!(sent <= 15, "{sent}");

    // A finalizer that nobody takes off, and a deletion that is denied: the one is let go, the other is said.
    let policy = json!({ "apiVersion": "v1", "kind": "List", "items": [
        {
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
            "metadata": { "name": format!("{ns}-keep") },
            "spec": {
                "matchConstraints": { "resourceRules": [{
                    "apiGroups": [""], "apiVersions": ["v1"], "operations": ["DELETE"], "resources": ["configmaps"],
                }] },
                "validations": [{ "expression": "oldObject.metadata.name != 'kept'", "message": "this one is kept" }],
            },
        },
        {
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": { "name": format!("{ns}-keep") },
            "spec": {
                "policyName": format!("{ns}-keep"), "validationActions": ["Deny"],
                "matchResources": { "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": ns } } },
            },
        },
    ] });
    bench
        .world
        .kubectl_with(&["apply", "--server-side", "-f", "-"], &policy.to_string())?;
    wait_for("the admission policy to work", LIMIT, async || {
        match bench
            .world
            .kubectl(&["delete", "configmap", "kept", "--dry-run=server"])
        {
            Err(error) if error.to_string().contains("this one is kept") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    for name in ["orphan", "endless", "kept"] {
        bench.repository.remove(&format!("deploy/{name}.yaml"))?;
    }
    let second = bench.push().await?;
    let message = bench.fails(&second, "ReconciliationFailed").await?;
    assert!(
        message.contains(&format!("ConfigMap/{ns}/kept: cannot be deleted")),
        "{message}"
    );
    assert!(
        message.contains("this one is kept") && !message.contains("endless"),
        "{message}"
    );
    let endless = bench.config_maps().get("endless").await?;
    assert!(endless.metadata.deletion_timestamp.is_some());
    bench.world.kubectl(&[
        "delete",
        "validatingadmissionpolicybinding",
        &format!("{ns}-keep"),
    ])?;
    let object = bench.applied(&second).await?;
    assert_eq!(entries(&object).len(), 1);
    assert_eq!(bench.value("kept").await?, None);
    let free = json!({ "metadata": { "finalizers": null } });
    let params = kube::api::PatchParams::default();
    bench
        .config_maps()
        .patch("endless", &params, &kube::api::Patch::Merge(&free))
        .await?;
    drop(
        bench
            .config_maps()
            .delete("endless", &DeleteParams::default())
            .await,
    );
    Ok(())
}
