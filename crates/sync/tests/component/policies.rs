//! How single objects and whole Kustomizations say that they want to be treated.

use kube::api::{Patch, PatchParams};
use plumbline_testkit::wait_for;
use serde_json::{Value, json};

use crate::bench::{APP, Bench, LIMIT, ready};

const PREFIX: &str = "kustomize.toolkit.fluxcd.io/";

async fn annotate(bench: &Bench, name: &str, annotations: &Value, value: &str) -> anyhow::Result<()> {
    let patch = json!({ "metadata": { "annotations": annotations }, "data": { "key": value } });
    bench
        .config_maps()
        .patch(name, &PatchParams::default(), &Patch::Merge(&patch))
        .await?;
    Ok(())
}

#[tokio::test]
async fn single_objects_are_left_alone_as_they_say_in_git_or_in_the_cluster() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let with = |name: &str, kind: &str, key: &str, value: &str| {
        let mut manifest = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "data": { "key": "git" },
            "metadata": { "name": name, "namespace": bench.namespace() },
        });
        manifest["metadata"][kind] = json!({ format!("{PREFIX}{key}"): value });
        bench
            .repository
            .write(&format!("deploy/{name}.yaml"), manifest.to_string())
    };
    // Label or annotation, in whatever case.
    with("ignored", "annotations", "ssa", "ignore")?;
    with("disabled", "labels", "reconcile", "Disabled")?;
    with("once", "annotations", "ssa", "ifnotpresent")?;
    with("kept", "labels", "prune", "DISABLED")?;
    bench.write_config_map("live-disabled", "git")?;
    bench.write_config_map("live-ignored", "git")?;
    bench.write_config_map("plain", "git")?;
    let first = bench.commit()?;
    bench.app().await?;
    let mut syncer = bench.start(&[])?;
    bench.applied(&first).await?;
    for (name, value) in [
        ("ignored", None),
        ("disabled", None),
        ("once", Some("git")),
        ("kept", Some("git")),
        ("live-disabled", Some("git")),
    ] {
        assert_eq!(bench.value(name).await?.as_deref(), value, "{name}");
    }

    let disabled = json!({ format!("{PREFIX}reconcile"): "DISABLED" });
    annotate(&bench, "live-disabled", &disabled, "by hand").await?;
    annotate(
        &bench,
        "live-ignored",
        &json!({ format!("{PREFIX}ssa"): "Ignore" }),
        "by hand",
    )
    .await?;
    annotate(&bench, "once", &json!({}), "by hand").await?;
    annotate(&bench, "plain", &json!({}), "by hand").await?;
    bench.until_value("plain", Some("git")).await?;
    bench.write_config_map("live-disabled", "git 2")?;
    let second = bench.push().await?;
    bench.applied(&second).await?;
    // After a restart as well.
    syncer.kill();
    let _syncer = bench.start(&[])?;
    bench.write_config_map("plain", "git 2")?;
    let third = bench.push().await?;
    bench.applied(&third).await?;
    for name in ["live-disabled", "live-ignored", "once"] {
        assert_eq!(bench.value(name).await?.as_deref(), Some("by hand"), "{name}");
    }

    // The annotation goes, and Git counts again, at once.
    annotate(
        &bench,
        "live-disabled",
        &json!({ format!("{PREFIX}reconcile"): null }),
        "by hand",
    )
    .await?;
    bench.until_value("live-disabled", Some("git 2")).await?;

    for name in ["kept", "live-ignored", "ignored"] {
        bench.repository.remove(&format!("deploy/{name}.yaml"))?;
    }
    let fourth = bench.push().await?;
    bench.applied(&fourth).await?;
    assert_eq!(bench.value("kept").await?.as_deref(), Some("git"));
    assert_eq!(bench.value("live-ignored").await?.as_deref(), Some("by hand"));
    Ok(())
}

async fn set_policy(bench: &Bench, policy: &str) -> anyhow::Result<()> {
    let patch = json!({ "metadata": { "annotations": { "plumbline.dev/failure-policy": policy } } });
    bench
        .kustomizations()
        .patch(APP, &PatchParams::default(), &Patch::Merge(&patch))
        .await?;
    Ok(())
}

#[tokio::test]
async fn atomic_applies_all_of_a_revision_or_nothing() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let ns = bench.namespace();
    let write = |name: &str, value: &str| bench.write_config_map(name, value);
    write("a", "1")?;
    write("b", "1")?;
    write("old", "1")?;
    // A namespace and what is in it are no obstacle to one another.
    bench.repository.write(
        "deploy/space.yaml",
        format!(
            "{{apiVersion: v1, kind: Namespace, metadata: {{name: {ns}-a}}}}\n---\n\
             {{apiVersion: v1, kind: ConfigMap, metadata: {{name: inner, namespace: {ns}-a}}}}\n"
        ),
    )?;
    let first = bench.commit()?;
    bench.app().await?;
    set_policy(&bench, "Atomic").await?;
    let _syncer = bench.start(&[])?;
    bench.applied(&first).await?;

    // One is refused by the API server: nothing new is applied or deleted.
    write("a", "2")?;
    bench.repository.remove("deploy/old.yaml")?;
    let typo = bench.manifest("b", "2").replace("\ndata:", "\ndtaa:");
    bench.repository.write("deploy/b.yaml", typo)?;
    write("c", "1")?;
    let second = bench.push().await?;
    let message = bench.fails(&second, "ReconciliationFailed").await?;
    assert!(
        message.contains("deploy/b.yaml:1")
            && message.contains("dtaa")
            && message.contains("nothing new is applied"),
        "{message}"
    );
    let nothing_changed = async |why: &str| {
        for (name, value) in [
            ("a", Some("1")),
            ("b", Some("1")),
            ("old", Some("1")),
            ("c", None),
        ] {
            assert_eq!(bench.value(name).await?.as_deref(), value, "{why}: {name}");
        }
        anyhow::Ok(())
    };
    nothing_changed("refused").await?;
    // What the last whole revision has is still kept as it was.
    let edit = json!({ "data": { "key": "edited" } });
    bench
        .config_maps()
        .patch("old", &PatchParams::default(), &Patch::Merge(&edit))
        .await?;
    // A file cannot be read.
    bench.repository.write("deploy/b.yaml", "kind: [\n")?;
    let third = bench.push().await?;
    let message = bench.fails(&third, "BuildFailed").await?;
    assert!(message.contains("deploy/b.yaml"), "{message}");
    assert_eq!(bench.value("a").await?.as_deref(), Some("1"));
    assert_eq!(bench.value("c").await?, None);

    // Mended, all of it comes.
    write("b", "2")?;
    let fourth = bench.push().await?;
    bench.applied(&fourth).await?;
    for (name, value) in [("a", Some("2")), ("b", Some("2")), ("c", Some("1"))] {
        assert_eq!(bench.value(name).await?.as_deref(), value, "{name}");
    }
    bench.until_value("old", None).await?;

    set_policy(&bench, "Isolated").await?;
    bench
        .until(APP, "the wrong policy to be named", |object| {
            let (_, reason, message) = ready(object);
            reason == "InvalidField"
                && message.contains("plumbline.dev/failure-policy")
                && message.contains("Isolate")
        })
        .await?;
    bench
        .world
        .kubectl(&["delete", "namespace", &format!("{ns}-a"), "--wait=false"])?;
    Ok(())
}

#[tokio::test]
async fn fields_that_are_left_to_others_get_their_first_value_from_git_and_no_other() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let ns = bench.namespace();
    let api = bench.api("apps", "v1", "Deployment");
    let deployment = |replicas: u32, image: &str| {
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": { "name": "web", "namespace": ns, "labels": { "scaled": "yes" } },
            "spec": {
                "replicas": replicas, "selector": { "matchLabels": { "app": "web" } },
                "template": {
                    "metadata": { "labels": { "app": "web" } },
                    "spec": { "nodeName": "nowhere", "containers": [{ "name": "main", "image": image }] },
                },
            },
        })
    };
    let write = |replicas, image| {
        bench
            .repository
            .write("deploy/web.yaml", deployment(replicas, image).to_string())
    };
    write(2, "x:1")?;
    // This one was there, and was made by kubectl.
    let mut before = deployment(4, "x:1");
    before["metadata"]["name"] = json!("old");
    bench
        .world
        .kubectl_with(&["apply", "-f", "-"], &before.to_string())?;
    before["spec"]["replicas"] = json!(1);
    bench.repository.write("deploy/old.yaml", before.to_string())?;
    bench.write_config_map("a", "1")?;
    let first = bench.commit()?;
    bench.source(json!({})).await?;
    let rules = json!([{ "paths": ["/spec/replicas"], "target": { "kind": "Deploy.*", "labelSelector": "scaled=yes" } }]);
    bench.kustomization(APP, json!({ "ignore": rules })).await?;
    let mut syncer = bench.start(&[])?;
    bench.applied(&first).await?;
    let replicas = async |name: &str| -> anyhow::Result<Value> {
        Ok(api.get(name).await?.data["spec"]["replicas"].clone())
    };
    assert_eq!(replicas("web").await?, 2);
    assert_eq!(replicas("old").await?, 4, "what was there counts");

    bench
        .world
        .kubectl(&["scale", "deployment", "web", "--replicas=0"])?;
    write(3, "x:2")?;
    let second = bench.push().await?;
    bench.applied(&second).await?;
    let image = |object: &kube::api::DynamicObject| {
        object.data["spec"]["template"]["spec"]["containers"][0]["image"].clone()
    };
    let web = api.get("web").await?;
    assert_eq!(
        (image(&web), &web.data["spec"]["replicas"]),
        (json!("x:2"), &json!(0))
    );
    syncer.kill();
    let _syncer = bench.start(&[])?;
    write(3, "x:3")?;
    let third = bench.push().await?;
    bench.applied(&third).await?;
    assert_eq!(replicas("web").await?, 0);

    // A rule that comes later keeps what is live, too; one that goes gives the field back to Git.
    let data = json!([{ "paths": ["/data/key"] }]);
    bench.set_spec(APP, json!({ "ignore": data })).await?;
    bench
        .until(APP, "the rule to be taken", |object| {
            object.status.as_ref().and_then(|it| it.observed_generation) == object.metadata.generation
                && ready(object).0 == "True"
        })
        .await?;
    wait_for("the replicas of Git", LIMIT, async || {
        match replicas("web").await {
            Ok(it) if it == 3 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    assert_eq!(bench.value("a").await?.as_deref(), Some("1"), "it stays");
    annotate(&bench, "a", &json!({}), "by hand").await?;
    bench.write_config_map("a", "2")?;
    let fourth = bench.push().await?;
    bench.applied(&fourth).await?;
    assert_eq!(bench.value("a").await?.as_deref(), Some("by hand"));

    let wrong = json!([{ "paths": ["/metadata/name"] }]);
    bench.set_spec(APP, json!({ "ignore": wrong })).await?;
    bench
        .until(APP, "the wrong rule to be named", |object| {
            let (_, reason, message) = ready(object);
            reason == "InvalidField" && message.contains("spec.ignore[0].paths")
        })
        .await?;
    Ok(())
}
