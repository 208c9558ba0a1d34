//! Directories with kustomization files and transformations of the spec, by the real kustomize.

use k8s_openapi::api::apps::v1::Deployment;
use kube::{Api, api::ListParams};
use plumbline_testkit::Tool;
use serde_json::{Value, json};

use crate::bench::{APP, Bench, Syncer, entries, ready};

async fn start(bench: &Bench) -> anyhow::Result<Syncer> {
    let program = tokio::task::spawn_blocking(|| Tool::Kustomize.path()).await??;
    bench.start(&[&format!("--kustomize={}", program.display())])
}

/// How often kustomize was started.
fn builds(syncer: &Syncer) -> usize {
    syncer.log().matches("kustomize build").count()
}

async fn config_maps(bench: &Bench) -> anyhow::Result<Vec<String>> {
    let all = bench.config_maps().list(&ListParams::default()).await?;
    let names = all.items.into_iter().filter_map(|map| map.metadata.name);
    Ok(names.filter(|name| name != "kube-root-ca.crt").collect())
}

fn deployment() -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web" },
        "spec": {
            "replicas": 0, "selector": { "matchLabels": { "app": "web" } },
            "template": {
                "metadata": { "labels": { "app": "web" } },
                "spec": { "containers": [
                    { "name": "main", "image": "example.com/web:v1", "envFrom": [{ "configMapRef": { "name": "settings" } }] },
                    { "name": "side", "image": "example.com/side:v1" },
                ] },
            },
        },
    })
}

#[tokio::test]
async fn an_overlay_is_built_once_a_change_and_its_generated_names_go_with_their_content()
-> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let ns = bench.namespace();
    let write = |path: &str, content: &str| bench.repository.write(path, content);
    bench
        .repository
        .write("base/web.yaml", deployment().to_string())?;
    write(
        "base/kustomization.yaml",
        "resources: [web.yaml]\nconfigMapGenerator:\n- name: settings\n  literals: [a=1]\n",
    )?;
    write(
        "parts/label/kustomization.yaml",
        "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\nlabels: [{pairs: {part: 'yes'}}]\n",
    )?;
    write(
        "over/kustomization.yaml",
        &format!(
            "resources: [../base]\nnamespace: {ns}\nimages: [{{name: example.com/side, newTag: v2}}]\npatches: [{{path: replicas.yaml}}]\n"
        ),
    )?;
    write(
        "over/replicas.yaml",
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec: {revisionHistoryLimit: 3}\n",
    )?;
    let first = bench.commit()?;
    bench.source(json!({})).await?;
    let spec = json!({
        "path": "./over", "namePrefix": "x-", "images": [{ "name": "example.com/web", "newTag": "v9", "newName": "example.com/new" }],
        "patches": [{
            "patch": "- op: add\n  path: /metadata/labels/patched\n  value: 'yes'\n",
            "target": { "kind": "Deployment", "labelSelector": "part=yes" },
        }],
        "components": ["../parts/label", "../parts/gone"], "ignoreMissingComponents": true,
        "commonMetadata": { "labels": { "team": "a" } },
    });
    bench.kustomization(APP, spec).await?;
    let mut syncer = start(&bench).await?;
    let object = bench.applied(&first).await?;
    let deployments: Api<Deployment> = Api::namespaced(bench.world.client(), ns);
    let web = deployments.get("x-web").await?;
    let labels = web.metadata.labels.unwrap_or_default();
    assert_eq!(
        (&*labels["part"], &*labels["team"], &*labels["patched"]),
        ("yes", "a", "yes")
    );
    let annotations = web.metadata.annotations.unwrap_or_default();
    let notes = annotations
        .keys()
        .filter(|key| key.starts_with("config.kubernetes.io/"));
    assert_eq!(notes.count(), 0, "{annotations:?}");
    let spec = web.spec.unwrap_or_default();
    assert_eq!(spec.revision_history_limit, Some(3));
    let containers = spec.template.spec.unwrap_or_default().containers;
    assert_eq!(containers[0].image.as_deref(), Some("example.com/new:v9"));
    assert_eq!(containers[1].image.as_deref(), Some("example.com/side:v2"));
    let before = config_maps(&bench).await?;
    assert!(
        before.len() == 1 && before[0].starts_with("x-settings-"),
        "{before:?}"
    );
    assert_eq!(entries(&object).len(), 2);
    assert_eq!(builds(&syncer), 1);

    // A commit that touches nothing of it builds nothing; a restart neither.
    write("README.md", "more")?;
    write("base/unused.txt", "more")?;
    let second = bench.push().await?;
    bench.applied(&second).await?;
    syncer.kill();
    let syncer = start(&bench).await?;
    write("README.md", "even more")?;
    let third = bench.push().await?;
    bench.applied(&third).await?;
    assert_eq!(builds(&syncer), 1, "in all");

    // Another content has another name; the old one goes.
    write(
        "base/kustomization.yaml",
        "resources: [web.yaml]\nconfigMapGenerator:\n- name: settings\n  literals: [a=2]\n",
    )?;
    let fourth = bench.push().await?;
    bench.applied(&fourth).await?;
    assert_eq!(builds(&syncer), 2);
    let after = config_maps(&bench).await?;
    assert!(after.len() == 1 && after != before, "{after:?}");
    let web = deployments.get("x-web").await?.spec.unwrap_or_default();
    let used = web.template.spec.unwrap_or_default().containers[0]
        .env_from
        .clone();
    let used = used.and_then(|mut from| from.pop()?.config_map_ref);
    assert_eq!(used.map(|it| it.name).as_deref(), Some(&*after[0]));

    // The API server's complaint names the file of the base.
    let broken = deployment().to_string().replace("\"replicas\"", "\"replicsa\"");
    write("base/web.yaml", &broken)?;
    let fifth = bench.push().await?;
    let message = bench.fails(&fifth, "ReconciliationFailed").await?;
    assert!(
        message.starts_with(&format!("base/web.yaml: Deployment/{ns}/x-web")) && message.contains("replicsa"),
        "{message}"
    );
    Ok(())
}

#[tokio::test]
async fn a_plain_directory_is_transformed_and_its_sub_directories_are_built_on_their_own()
-> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let ns = bench.namespace();
    bench.write_config_map("plain", "1")?;
    let write = |path: &str, content: &str| bench.repository.write(path, content);
    write(
        "deploy/one/kustomization.yaml",
        &format!(
            "namespace: {ns}\nconfigMapGenerator: [{{name: one, literals: [key=1], options: {{disableNameSuffixHash: true}}}}]\n"
        ),
    )?;
    write("deploy/two/kustomization.yaml", "resources: [gone.yaml]\n")?;
    write("deploy/two/not-listed.yaml", "kind: [")?;
    let first = bench.commit()?;
    bench.source(json!({})).await?;
    bench.kustomization(APP, json!({})).await?;
    let syncer = start(&bench).await?;
    let message = bench.fails(&first, "BuildFailed").await?;
    assert!(
        message.starts_with(
            "deploy/two/kustomization.yaml: resources: \"gone.yaml\" does not exist at this revision"
        ),
        "{message}"
    );
    // One that cannot be built harms nothing else.
    assert_eq!(bench.value("plain").await?.as_deref(), Some("1"));
    assert_eq!(bench.value("one").await?.as_deref(), Some("1"));

    write("deploy/two/kustomization.yaml", "resources: [two.yaml]\n")?;
    write("deploy/two/two.yaml", &bench.manifest("two", "1"))?;
    let second = bench.push().await?;
    bench.applied(&second).await?;
    assert_eq!(bench.value("two").await?.as_deref(), Some("1"));

    // A transformation makes one build of all; what had other names goes.
    let target = format!("{ns}-target");
    bench.world.kubectl(&["create", "namespace", &target])?;
    bench
        .set_spec(APP, json!({ "targetNamespace": target, "nameSuffix": "-s" }))
        .await?;
    bench
        .until(APP, "the transformations", |object| {
            ready(object).0 == "True" && entries(object).iter().all(|(id, _)| id.starts_with(&target))
        })
        .await?;
    assert_eq!(config_maps(&bench).await?, Vec::<String>::new());
    let found = bench
        .world
        .kubectl(&["get", "configmaps", "-n", &target, "-o", "name"])?;
    for name in ["plain-s", "one-s", "two-s"] {
        assert!(found.contains(name), "{found}");
    }
    assert_eq!(builds(&syncer), 3);

    bench.set_spec(APP, json!({ "path": "./none" })).await?;
    bench
        .until(APP, "the missing path", |object| {
            ready(object).1 == "ArtifactFailed"
        })
        .await?;
    bench.world.kubectl(&["delete", "namespace", &target])?;
    Ok(())
}

#[tokio::test]
async fn what_a_build_may_not_do_is_refused_with_its_place_and_nothing_is_pruned() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let write = |path: &str, content: &str| bench.repository.write(path, content);
    let whole = "resources: [a.yaml, b.yaml]\n";
    bench.write_config_map("a", "1")?;
    bench.write_config_map("b", "1")?;
    write("deploy/kustomization.yaml", whole)?;
    write("loop/kustomization.yaml", "resources: [../deploy]\n")?;
    write("deploy/broken.txt", "kind: ConfigMap\n  indented: [\n")?;
    write(
        "deploy/plugin.yaml",
        "apiVersion: x/v1\nkind: X\nmetadata:\n  name: x\n  annotations:\n    config.kubernetes.io/function: |\n      exec: {path: /bin/sh}\n",
    )?;
    let first = bench.commit()?;
    bench.app().await?;
    let syncer = start(&bench).await?;
    bench.applied(&first).await?;
    let cases = [
        (
            "resources: [a.yaml, 'https://127.0.0.1:1/b.yaml']",
            "deploy/kustomization.yaml: resources: \"https://127.0.0.1:1/b.yaml\" is somewhere else",
        ),
        (
            "resources: [a.yaml, 'github.com/fluxcd/flux2//manifests?ref=main']",
            "is somewhere else, which is not allowed: make it a GitRepository",
        ),
        (
            "resources: [a.yaml]\nhelmCharts: [{name: x, repo: 'https://127.0.0.1:1'}]",
            "helmCharts is not supported",
        ),
        (
            "resources: [a.yaml]\ncomponents: [../../..]",
            "leads out of the repository",
        ),
        ("resources: [a.yaml, ../loop]", "cycle detected"),
        ("resources: [a.yaml, broken.txt]", "broken.txt"),
        (
            "resources: [a.yaml]\ntransformers: [plugin.yaml]",
            "runs a program, which is not allowed",
        ),
        (
            "resources: [a.yaml]\nsecretGenerator: [{name: s, files: [/etc/passwd]}]",
            "is absolute",
        ),
        ("resources: [a.yaml]\nnoSuchField: 1", "noSuchField"),
        (
            "resources: [a.yaml]\npatches: [{patch: '[{op: remove, path: /none}]', target: {kind: ConfigMap}}]",
            "/none",
        ),
    ];
    for (file, expected) in cases {
        write("deploy/kustomization.yaml", file)?;
        let revision = bench.push().await?;
        let message = bench.fails(&revision, "BuildFailed").await?;
        assert!(message.contains(expected), "{file}: {message}");
        assert!(message.starts_with("deploy"), "{file}: {message}");
        assert!(message.contains("Nothing is applied or deleted"), "{message}");
        assert!(
            !message.contains("/storage-") && !message.contains("/tmp"),
            "{message}"
        );
        for name in ["a", "b"] {
            assert!(bench.value(name).await?.is_some(), "{file}: {name} was deleted");
        }
    }
    // It is not built again and again while nothing changes, and at once when it is asked for.
    let before = builds(&syncer);
    let asked = bench.request(APP).await?;
    bench
        .until(APP, "the request to be handled", |object| {
            let status = object.status.clone().unwrap_or_default();
            status.last_handled_reconcile_at.as_deref() == Some(&asked)
        })
        .await?;
    assert_eq!(builds(&syncer), before + 1);

    write("deploy/kustomization.yaml", whole)?;
    let last = bench.push().await?;
    bench.applied(&last).await?;
    Ok(())
}

#[tokio::test]
async fn a_build_that_takes_too_long_or_has_no_program_is_ended_and_told() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    bench.write_config_map("a", "1")?;
    let many: Vec<String> = (0..1500).map(|n| bench.manifest(&format!("m{n}"), "1")).collect();
    bench.repository.write("deploy/many.yaml", many.join("---\n"))?;
    let patch = |n| {
        format!(
            "- {{patch: '[{{op: add, path: /metadata/labels, value: {{n: x{n}}}}}]', target: {{kind: ConfigMap, name: m.*}}}}\n"
        )
    };
    let patches: String = (0..1500).map(patch).collect();
    let file = format!("resources: [a.yaml, many.yaml]\npatches:\n{patches}");
    bench.repository.write("deploy/kustomization.yaml", file)?;
    let first = bench.commit()?;
    bench.source(json!({})).await?;
    bench
        .kustomization(APP, json!({ "timeout": "1s", "retryInterval": "1h" }))
        .await?;
    let mut syncer = start(&bench).await?;
    let message = bench.fails(&first, "BuildFailed").await?;
    assert!(message.contains("kustomize did not end within 1 s"), "{message}");
    assert_eq!(bench.value("a").await?, None);
    syncer.kill();

    bench
        .repository
        .write("deploy/kustomization.yaml", "resources: [a.yaml]\n")?;
    let second = bench.commit()?;
    let _syncer = bench.start(&["--kustomize=/no/such/kustomize"])?;
    let message = bench.fails(&second, "BuildFailed").await?;
    assert!(
        message.contains("\"/no/such/kustomize\" cannot be run") && message.contains("--kustomize"),
        "{message}"
    );
    Ok(())
}
