//! Which files of which repositories a source shows: ignore, sparseCheckout, include, recurseSubmodules.

use kube::api::{Patch, PatchParams};
use plumbline_testkit::git::{Access, GitServer, Repository};
use serde_json::json;

use crate::bench::{APP, Bench};

/// Another repository, beside the first one on the same server.
fn beside(bench: &Bench, name: &str) -> anyhow::Result<(Repository, String)> {
    let directory = bench.world.dir().join(format!("beside-{name}"));
    let repository = Repository::init(&directory)?;
    let link = bench.world.dir().join(format!("{name}.git"));
    std::os::unix::fs::symlink(repository.path(), link)?;
    Ok((repository, bench.server.url_of(&format!("{name}.git"))))
}

/// Commits a submodule at `path`.
fn add_submodule(repository: &Repository, path: &str, url: &str, commit: &str) -> anyhow::Result<String> {
    repository.write(
        ".gitmodules",
        format!("[submodule \"m\"]\n\tpath = {path}\n\turl = {url}\n"),
    )?;
    repository.git(&["add", "--all", "--force"])?;
    repository.git(&[
        "update-index",
        "--add",
        "--cacheinfo",
        &format!("160000,{commit},{path}"),
    ])?;
    repository.git(&["commit", "--quiet", "--message", "submodule"])?;
    Ok(format!("main@sha1:{}", repository.head()?))
}

#[tokio::test]
async fn ignored_and_left_out_directories_are_not_applied() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    for (file, name) in [("deploy/a", "a"), ("deploy/skip/b", "b"), ("deploy/only/c", "c")] {
        bench
            .repository
            .write(&format!("{file}.yaml"), bench.manifest(name, "1"))?;
    }
    let revision = bench.commit()?;
    bench.source(json!({ "ignore": "deploy/skip/" })).await?;
    bench.kustomization(APP, json!({})).await?;
    let _syncer = bench.start(&[])?;
    bench.applied(&revision).await?;
    bench.until_value("a", Some("1")).await?;
    bench.until_value("c", Some("1")).await?;
    assert_eq!(bench.value("b").await?, None);

    let spec = json!({ "spec": { "sparseCheckout": ["./deploy/only"], "ignore": null } });
    bench
        .sources()
        .patch(APP, &PatchParams::default(), &Patch::Merge(&spec))
        .await?;
    // The same revision, other files: what is no longer in it goes.
    bench.until_value("a", None).await?;
    assert_eq!(bench.value("c").await?.as_deref(), Some("1"));
    let status = bench.sources().get(APP).await?.status.unwrap_or_default();
    assert_eq!(status.observed_sparse_checkout, ["./deploy/only"]);
    assert_eq!(status.observed_ignore, None);

    let spec = json!({ "spec": { "sparseCheckout": ["absent"] } });
    bench
        .sources()
        .patch(APP, &PatchParams::default(), &Patch::Merge(&spec))
        .await?;
    let message = bench.source_is("False", "GitOperationFailed").await?;
    assert!(
        message.contains("'absent'") && message.contains("sparseCheckout"),
        "{message}"
    );
    assert_eq!(bench.value("c").await?.as_deref(), Some("1"));
    Ok(())
}

#[tokio::test]
async fn included_sources_are_waited_for_followed_and_never_in_a_circle() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let (library, url) = beside(&bench, "library")?;
    library.write("base/x.yaml", bench.manifest("x", "1"))?;
    library.write("base/notes.yaml", "not: a manifest\n")?;
    library.commit("first")?;
    bench.write_config_map("a", "1")?;
    let revision = bench.commit()?;
    let include =
        json!([{ "repository": { "name": "library" }, "fromPath": "base", "toPath": "deploy/lib" }]);
    bench.source(json!({ "include": include })).await?;
    bench.kustomization(APP, json!({})).await?;
    let mut syncer = bench.start(&[])?;
    let message = bench.source_is("False", "NotFound").await?;
    assert!(message.contains("library"), "{message}");

    bench
        .source_named("library", json!({ "url": url, "ignore": "notes.yaml" }))
        .await?;
    bench.source_is("True", "Succeeded").await?;
    bench.applied(&revision).await?;
    bench.until_value("x", Some("1")).await?;
    let status = bench.sources().get(APP).await?.status.unwrap_or_default();
    assert_eq!(status.included_artifacts.len(), 1, "{status:#?}");
    assert_eq!(status.observed_include.len(), 1);
    assert!(!status.conditions.iter().any(|c| c.type_ == "IncludeUnavailable"));

    // Nobody touches the source that includes.
    library.write("base/x.yaml", bench.manifest("x", "2"))?;
    library.commit("second")?;
    let now = json!({ "metadata": { "annotations": { "reconcile.fluxcd.io/requestedAt": "now" } } });
    bench
        .sources()
        .patch("library", &PatchParams::default(), &Patch::Merge(&now))
        .await?;
    bench.until_value("x", Some("2")).await?;

    // After a restart too.
    syncer.kill();
    let _syncer = bench.start(&[])?;
    library.write("base/x.yaml", bench.manifest("x", "3"))?;
    library.commit("third")?;
    let now = json!({ "metadata": { "annotations": { "reconcile.fluxcd.io/requestedAt": "later" } } });
    bench
        .sources()
        .patch("library", &PatchParams::default(), &Patch::Merge(&now))
        .await?;
    bench.until_value("x", Some("3")).await?;

    let back = json!({ "spec": { "include": [{ "repository": { "name": APP } }] } });
    bench
        .sources()
        .patch("library", &PatchParams::default(), &Patch::Merge(&back))
        .await?;
    let message = bench.source_named_is("library", "False", "IncludeCircle").await?;
    assert!(message.contains("circle"), "{message}");
    assert_eq!(bench.value("x").await?.as_deref(), Some("3"));
    Ok(())
}

#[tokio::test]
async fn submodules_are_fetched_with_their_own_and_no_others_credentials() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    bench.server.set_access(Access::Basic("ada", "right-password"));
    let (inner, _) = beside(&bench, "inner")?;
    inner.write("y.yaml", bench.manifest("inner", "1"))?;
    let inner_commit = inner.commit("inner")?;
    let (outer, _) = beside(&bench, "outer")?;
    outer.write("x.yaml", bench.manifest("x", "1"))?;
    add_submodule(&outer, "nested", "../inner.git", &inner_commit)?;
    let outer_commit = outer.head()?;
    bench.write_config_map("a", "1")?;
    let revision = add_submodule(&bench.repository, "deploy/outer", "../outer.git", &outer_commit)?;

    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "git", "namespace": bench.namespace() },
        "stringData": { "username": "ada", "password": "right-password" },
    });
    bench
        .world
        .kubectl_with(&["apply", "-f", "-"], &secret.to_string())?;
    bench
        .source(json!({ "secretRef": { "name": "git" }, "recurseSubmodules": true }))
        .await?;
    bench.kustomization(APP, json!({})).await?;
    let _syncer = bench.start(&[])?;
    bench.applied(&revision).await?;
    for name in ["a", "x", "inner"] {
        bench.until_value(name, Some("1")).await?;
    }
    let status = bench.sources().get(APP).await?.status.unwrap_or_default();
    assert_eq!(status.observed_recurse_submodules, Some(true));

    // Another host gets no credentials.
    let other = Repository::init(&bench.world.dir().join("other"))?;
    other.write("z.yaml", bench.manifest("z", "1"))?;
    let other_commit = other.commit("other")?;
    let other_server = GitServer::http(&other)?;
    bench
        .repository
        .git(&["rm", "--quiet", "--cached", "deploy/outer"])?;
    add_submodule(
        &bench.repository,
        "deploy/other",
        &other_server.url(),
        &other_commit,
    )?;
    bench.request_source().await?;
    bench.until_value("z", Some("1")).await?;
    let requests = other_server.requests();
    assert!(!requests.is_empty());
    assert!(
        requests.iter().all(|request| request.authorization.is_none()),
        "{requests:?}"
    );

    // What cannot be fetched is named, and what was there stays.
    add_submodule(&bench.repository, "deploy/other", "file:///etc", &other_commit)?;
    bench.request_source().await?;
    let message = bench.source_is("False", "GitOperationFailed").await?;
    assert!(message.contains("deploy/other"), "{message}");
    assert_eq!(bench.value("z").await?.as_deref(), Some("1"));
    Ok(())
}
