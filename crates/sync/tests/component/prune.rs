//! Nothing is deleted on incomplete knowledge, nothing that is not ours, and not too much at once.

use anyhow::Context as _;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use plumbline_testkit::wait_for;
use serde_json::json;

use crate::bench::{APP, Bench, LIMIT, entries, ready};

/// Names of the ConfigMaps `a` and `b`, which must be there whatever happens.
async fn nothing_is_lost(bench: &Bench) -> anyhow::Result<()> {
    for name in ["a", "b"] {
        assert!(bench.value(name).await?.is_some(), "{name} was deleted");
    }
    let object = bench.kustomizations().get(APP).await?;
    assert_eq!(entries(&object).len(), 2, "the inventory lost something");
    Ok(())
}

#[tokio::test]
async fn an_empty_missing_broken_or_unreachable_source_deletes_nothing() -> anyhow::Result<()> {
    let mut bench = Bench::new().await?;
    bench.write_config_map("a", "1")?;
    bench.write_config_map("b", "1")?;
    bench.commit()?;
    bench.app().await?;
    let syncer = bench.start(&[])?;
    let revision = bench.push().await?;
    bench.applied(&revision).await?;

    // The path holds no manifest.
    bench.repository.remove("deploy")?;
    bench.repository.write("deploy/README", "nothing here")?;
    let revision = bench.push().await?;
    let message = bench.fails(&revision, "ArtifactFailed").await?;
    assert!(message.contains("the path holds no manifest"), "{message}");
    nothing_is_lost(&bench).await?;

    // The path does not exist.
    bench.repository.remove("deploy")?;
    bench.repository.write("other/README", "nothing here")?;
    let revision = bench.push().await?;
    let message = bench.fails(&revision, "ArtifactFailed").await?;
    assert!(message.contains("\"./deploy\" does not exist"), "{message}");
    nothing_is_lost(&bench).await?;

    // A file cannot be read: what is missing may be in it.
    bench.write_config_map("a", "2")?;
    bench.repository.write("deploy/b.yaml", "kind: [\n")?;
    let revision = bench.push().await?;
    let message = bench.fails(&revision, "BuildFailed").await?;
    assert!(
        message.contains("1 object(s) are no longer in Git, but nothing is deleted"),
        "{message}"
    );
    assert_eq!(
        bench.value("a").await?.as_deref(),
        Some("2"),
        "what can be read is applied"
    );
    nothing_is_lost(&bench).await?;

    // The path leads out of the repository.
    for path in ["../deploy", "deploy/../../x"] {
        bench.set_spec(APP, json!({ "path": path })).await?;
        bench
            .until(APP, "the path to be refused", |object| {
                let (value, _, message) = ready(object);
                value == "False" && message.contains(path) && message.contains("nothing is deleted")
            })
            .await?;
        nothing_is_lost(&bench).await?;
    }
    bench.set_spec(APP, json!({ "path": "./deploy" })).await?;

    // Nobody answers; after a restart of the syncer either.
    drop(syncer);
    bench.server.stop();
    std::fs::remove_dir_all(bench.world.dir().join("storage-syncer-0"))?;
    let _syncer = bench.start(&[])?;
    let message = bench.source_is("False", "GitOperationFailed").await?;
    assert!(message.contains("unreachable"), "{message}");
    bench
        .until(APP, "the missing source to be reported", |object| {
            ready(object).2.contains("unreachable")
        })
        .await?;
    nothing_is_lost(&bench).await?;

    // It comes back, and all is well.
    bench.server.resume()?;
    bench.write_config_map("b", "3")?;
    let revision = bench.push().await?;
    bench.applied(&revision).await?;
    bench.until_value("b", Some("3")).await
}

#[tokio::test]
async fn a_mass_deletion_waits_for_exactly_what_the_condition_says() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    for i in 0..12 {
        bench.write_config_map(&format!("m{i}"), "1")?;
    }
    let revision = bench.commit()?;
    bench.app().await?;
    let _syncer = bench.start(&[])?;
    bench.applied(&revision).await?;

    for i in 0..7 {
        bench.repository.remove(&format!("deploy/m{i}.yaml"))?;
    }
    bench.write_config_map("m11", "2")?;
    let revision = bench.push().await?;
    let message = bench.fails(&revision, "DeletionHeld").await?;
    assert!(message.starts_with("7 of 12 objects are gone"), "{message}");
    assert_eq!(
        bench.value("m11").await?.as_deref(),
        Some("2"),
        "the rest is applied"
    );
    for i in 0..7 {
        assert!(bench.value(&format!("m{i}")).await?.is_some(), "m{i} was deleted");
    }

    // A confirmation of something else does not count.
    let other = format!("plumbline.dev/confirm-deletion=main@sha1:{}", "0".repeat(40));
    bench.world.kubectl(&["annotate", "kustomization", APP, &other])?;
    let asked = bench.request(APP).await?;
    bench
        .until(APP, "the wrong confirmation to be seen", |object| {
            let status = object.status.clone().unwrap_or_default();
            status.last_handled_reconcile_at.as_deref() == Some(&asked) && ready(object).1 == "DeletionHeld"
        })
        .await?;
    assert!(bench.value("m0").await?.is_some());

    let (_, command) = message.split_once("kubectl ").context("no command")?;
    let words: Vec<&str> = command.split_whitespace().collect();
    bench.world.kubectl(&words)?;
    let object = bench.applied(&revision).await?;
    assert_eq!(entries(&object).len(), 5);
    assert_eq!(
        bench
            .config_maps()
            .list(&ListParams::default())
            .await?
            .items
            .len(),
        6
    );
    Ok(())
}

#[tokio::test]
async fn what_is_not_ours_or_does_not_want_to_go_is_not_deleted() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let ns = bench.namespace();
    // It was there before.
    let mine = serde_json::from_value(json!({
        "metadata": { "name": "before" }, "data": { "own": "1" },
    }))?;
    bench.config_maps().create(&PostParams::default(), &mine).await?;
    for name in ["before", "taken", "live", "stays", "goes"] {
        bench.write_config_map(name, "git")?;
    }
    bench.repository.write(
        "deploy/stays.yaml",
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: stays\n  namespace: {ns}\n  annotations:\n    \
             kustomize.toolkit.fluxcd.io/prune: disabled\n"
        ),
    )?;
    let revision = bench.commit()?;
    bench.app().await?;
    let syncer = bench.start(&[])?;
    bench.applied(&revision).await?;
    bench
        .event(
            "Kustomization",
            "Progressing",
            &format!("ConfigMap/{ns}/before adopted"),
        )
        .await?;

    // Another Kustomization's now, and one that somebody wants to keep: changed while the syncer does not look,
    // or it would correct the labels at once.
    drop(syncer);
    let patch = json!({ "metadata": { "labels": { "kustomize.toolkit.fluxcd.io/name": "another" } } });
    bench
        .config_maps()
        .patch("taken", &PatchParams::default(), &Patch::Merge(&patch))
        .await?;
    let patch = json!({ "metadata": { "annotations": { "kustomize.toolkit.fluxcd.io/prune": "disabled" } } });
    bench
        .config_maps()
        .patch("live", &PatchParams::default(), &Patch::Merge(&patch))
        .await?;
    for name in ["before", "taken", "live", "stays", "goes"] {
        bench.repository.remove(&format!("deploy/{name}.yaml"))?;
    }
    bench.write_config_map("new", "1")?;
    let revision = bench.commit()?;
    // Without its mirror it cannot apply the old revision once more, labels and all.
    std::fs::remove_dir_all(bench.world.dir().join("storage-syncer-0"))?;
    let _syncer = bench.start(&[])?;
    let object = bench.applied(&revision).await?;
    assert_eq!(bench.value("goes").await?, None);
    for name in ["before", "taken", "live", "stays"] {
        assert!(bench.value(name).await?.is_some(), "{name} was deleted");
    }
    assert_eq!(
        entries(&object),
        [(format!("{ns}_new__ConfigMap"), "v1".to_owned())]
    );
    bench
        .event("Kustomization", "Progressing", "pruning is disabled on it")
        .await?;

    // What was there before lost our marks and kept its own field.
    let before = bench.config_maps().get("before").await?;
    assert_eq!(before.data.unwrap_or_default()["own"], "1");
    assert_eq!(before.metadata.labels.unwrap_or_default().len(), 0);
    assert_eq!(before.metadata.annotations.unwrap_or_default().len(), 0);
    Ok(())
}

#[tokio::test]
async fn a_renamed_object_goes_only_when_its_successor_is_there() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let ns = bench.namespace();
    let service = |name: &str, port: u32| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: {ns}}}\nspec: {{ports: [{{port: {port}}}]}}\n"
        )
    };
    bench.repository.write("deploy/s.yaml", service("old", 80))?;
    bench.write_config_map("a", "1")?;
    let revision = bench.commit()?;
    bench.app().await?;
    let _syncer = bench.start(&[])?;
    bench.applied(&revision).await?;

    bench
        .repository
        .write("deploy/s.yaml", service("new", 99_999_999))?;
    bench.repository.remove("deploy/a.yaml")?;
    bench.write_config_map("b", "1")?;
    let revision = bench.push().await?;
    let message = bench.fails(&revision, "ReconciliationFailed").await?;
    assert!(
        message.contains("is not deleted while a Service cannot be applied"),
        "{message}"
    );
    bench.api("", "v1", "Service").get("old").await?;
    bench.until_value("a", None).await?;

    bench.repository.write("deploy/s.yaml", service("new", 81))?;
    let revision = bench.push().await?;
    bench.applied(&revision).await?;
    wait_for("the old Service to be gone", LIMIT, async || {
        match bench.api("", "v1", "Service").get_opt("old").await {
            Ok(None) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
}
