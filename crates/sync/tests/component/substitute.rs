//! Variables of `spec.postBuild`.

use k8s_openapi::api::{apps::v1::Deployment, core::v1::Secret};
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use plumbline_testkit::wait_for;
use serde_json::{Value, json};

use crate::bench::{APP, Bench, LIMIT, entries};

async fn config_map(bench: &Bench, name: &str, data: Value) -> anyhow::Result<()> {
    let map = json!({ "metadata": { "name": name, "labels": { "reconcile.fluxcd.io/watch": "Enabled" } }, "data": data });
    let api = bench.config_maps();
    api.create(&PostParams::default(), &serde_json::from_value(map)?)
        .await?;
    Ok(())
}

#[tokio::test]
async fn variables_come_from_all_sources_and_a_change_of_one_is_applied_at_once() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let ns = bench.namespace();
    bench.repository.write(
        "deploy/it.yaml",
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: '${{name}}-config', namespace: {ns}}}\ndata:\n  one: ${{one}}\n  \
             two: \"${{two}}\"\n  three: ${{three}}\n  port: ${{port}}\n  kept: $${{one}}\n  default: ${{none:=fallback}}\n---\n\
             apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: web, namespace: {ns}}}\nspec:\n  replicas: ${{replicas}}\n  \
             paused: ${{quote}}${{paused}}${{quote}}\n"
        )
        .replace("  paused: ${quote}${paused}${quote}\n", "  selector: {matchLabels: {app: web}}\n  template:\n    metadata: {labels: {app: web}}\n    spec:\n      containers: [{name: main, image: \"x:${tag}\", env: [{name: PORT, value: \"${port}\"}]}]\n"),
    )?;
    bench.repository.write(
        "deploy/raw.yaml",
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: raw\n  namespace: {ns}\n  annotations: {{kustomize.toolkit.fluxcd.io/substitute: disabled}}\n\
             data: {{key: '${{unknown}}'}}\n"
        ),
    )?;
    let revision = bench.commit()?;
    config_map(
        &bench,
        "first",
        json!({ "one": "from-first", "two": "from-first", "three": "from-first" }),
    )
    .await?;
    let secret = json!({ "metadata": { "name": "second" }, "stringData": { "two": "from-second\n", "three": "from-second" } });
    let secrets: Api<Secret> = Api::namespaced(bench.world.client(), ns);
    secrets
        .create(&PostParams::default(), &serde_json::from_value(secret)?)
        .await?;
    bench.source(json!({})).await?;
    let build = json!({
        "substitute": { "name": "app", "three": "inline", "replicas": "0", "tag": "v1", "port": "8080" },
        "substituteFrom": [
            { "kind": "ConfigMap", "name": "first" },
            { "kind": "Secret", "name": "second" },
            { "kind": "Secret", "name": "nobody", "optional": true },
        ],
    });
    bench.kustomization(APP, json!({ "postBuild": build })).await?;
    let _syncer = bench.start(&[])?;
    let object = bench.applied(&revision).await?;
    let ids: Vec<_> = entries(&object).into_iter().map(|(id, _)| id).collect();
    assert!(ids.contains(&format!("{ns}_app-config__ConfigMap")), "{ids:?}");
    let data = bench
        .config_maps()
        .get("app-config")
        .await?
        .data
        .unwrap_or_default();
    let expected = [
        ("one", "from-first"),
        ("two", "from-second"),
        ("three", "inline"),
        ("port", "8080"),
        ("kept", "${one}"),
        ("default", "fallback"),
    ];
    assert_eq!(
        data,
        expected
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into()
    );
    assert_eq!(bench.value("raw").await?.as_deref(), Some("${unknown}"));
    let deployments: Api<Deployment> = Api::namespaced(bench.world.client(), ns);
    let spec = deployments.get("web").await?.spec.unwrap_or_default();
    assert_eq!(spec.replicas, Some(0));
    let container = &spec.template.spec.unwrap_or_default().containers[0];
    assert_eq!(container.image.as_deref(), Some("x:v1"));
    let env = container.env.clone().unwrap_or_default();
    assert_eq!(env[0].value.as_deref(), Some("8080"));

    // No commit and no annotation: the ConfigMap is watched.
    let patch = json!({ "data": { "one": "changed" } });
    bench
        .config_maps()
        .patch("first", &PatchParams::default(), &Patch::Merge(&patch))
        .await?;
    wait_for("the new value", LIMIT, async || {
        let map = bench.config_maps().get("app-config").await;
        let data = map.map_err(|error| error.to_string())?.data.unwrap_or_default();
        if data["one"] == "changed" {
            Ok(())
        } else {
            Err(format!("{data:?}"))
        }
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_substituted_is_named_and_harms_nothing_else() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let ns = bench.namespace();
    bench.write_config_map("a", "${value}")?;
    bench.write_config_map("b", "1")?;
    let first = bench.commit()?;
    bench.source(json!({})).await?;
    bench
        .kustomization(
            APP,
            json!({ "postBuild": { "substitute": { "value": "hunter2" } } }),
        )
        .await?;
    let syncer = bench.start(&[])?;
    bench.applied(&first).await?;
    assert_eq!(bench.value("a").await?.as_deref(), Some("hunter2"));

    bench
        .repository
        .write("deploy/a.yaml", bench.manifest("a", "${value} ${valu}"))?;
    bench.repository.remove("deploy/b.yaml")?;
    bench.write_config_map("c", "1")?;
    let second = bench.push().await?;
    let message = bench.fails(&second, "BuildFailed").await?;
    assert!(
        message.contains("deploy/a.yaml:1: data.key: the variable \"valu\" is not set"),
        "{message}"
    );
    assert!(message.contains("nothing is deleted"), "{message}");
    assert_eq!(bench.value("a").await?.as_deref(), Some("hunter2"));
    assert_eq!(bench.value("b").await?.as_deref(), Some("1"));
    assert_eq!(bench.value("c").await?.as_deref(), Some("1"));

    for (build, expected) in [
        (
            json!({ "substituteFrom": [{ "kind": "Secret", "name": "gone" }] }),
            format!("Secret {ns}/gone does not exist: create it, or set optional: true"),
        ),
        (
            json!({ "substitute": { "a-b": "x" }, "substituteFrom": null }),
            "spec.postBuild.substitute: \"a-b\" is not the name of a variable".to_owned(),
        ),
    ] {
        bench.set_spec(APP, json!({ "postBuild": build })).await?;
        bench
            .until(APP, &expected, |object| {
                crate::bench::ready(object).2.contains(&expected)
            })
            .await?;
    }
    assert_eq!(bench.value("a").await?.as_deref(), Some("hunter2"));
    assert!(!syncer.log().contains("hunter2"));

    // Without a variable nothing is substituted, unless it is asked for.
    bench
        .repository
        .write("deploy/a.yaml", bench.manifest("a", "${value}"))?;
    let third = bench.push().await?;
    bench
        .set_spec(
            APP,
            json!({ "postBuild": { "substitute": null, "substituteFrom": null } }),
        )
        .await?;
    bench.applied(&third).await?;
    assert_eq!(bench.value("a").await?.as_deref(), Some("${value}"));
    bench.until_value("b", None).await?;
    bench
        .set_spec(APP, json!({ "postBuild": { "substituteStrategy": "Always" } }))
        .await?;
    bench.fails(&third, "BuildFailed").await?;
    Ok(())
}
