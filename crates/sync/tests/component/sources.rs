//! Where manifests come from, and every way in which that goes wrong.

use std::{fmt::Write as _, time::Duration};

use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use plumbline_testkit::{git::Access, wait_for};
use serde_json::json;

use crate::bench::{APP, Bench, LIMIT, last_applied, ready};

#[tokio::test]
async fn credentials_are_wrong_then_right() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    bench.server.set_access(Access::Basic("ada", "right-password"));
    bench.write_config_map("a", "1")?;
    let revision = bench.commit()?;
    let secrets: Api<Secret> = Api::namespaced(bench.world.client(), bench.namespace());
    let wrong = json!({
        "metadata": { "name": "git" }, "stringData": { "username": "ada", "password": "wrong-password" },
    });
    secrets
        .create(&PostParams::default(), &serde_json::from_value(wrong)?)
        .await?;
    bench
        .source(json!({ "secretRef": { "name": "git" }, "interval": "5s" }))
        .await?;
    bench.kustomization(APP, json!({})).await?;
    let syncer = bench.start(&[])?;
    let message = bench.source_is("False", "AuthenticationFailed").await?;
    assert!(message.contains("refuses the credentials"), "{message}");
    bench
        .until(APP, "the missing source to be reported", |object| {
            ready(object).2.contains("refuses the credentials")
        })
        .await?;
    // Nobody touches the GitRepository: the Secret alone is mended.
    let right = json!({ "stringData": { "password": "right-password" } });
    secrets
        .patch("git", &PatchParams::default(), &Patch::Merge(&right))
        .await?;
    bench.source_is("True", "Succeeded").await?;
    bench.applied(&revision).await?;
    for word in ["right-password", "wrong-password"] {
        assert!(!syncer.log().contains(word), "the log has a password");
    }
    Ok(())
}

#[tokio::test]
async fn empty_repository_missing_branch_and_force_push() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    bench.app().await?;
    let _syncer = bench.start(&[])?;
    let message = bench.source_is("False", "EmptyGitRepository").await?;
    assert!(message.contains("push a first commit"), "{message}");

    bench.write_config_map("a", "1")?;
    let first = bench.push().await?;
    bench.applied(&first).await?;

    let spec = |branch: &str| json!({ "spec": { "ref": { "branch": branch } } });
    bench
        .sources()
        .patch(APP, &PatchParams::default(), &Patch::Merge(&spec("absent")))
        .await?;
    let message = bench.source_is("False", "GitOperationFailed").await?;
    assert!(
        message.contains("branch 'absent' not found") && message.contains("main"),
        "{message}"
    );
    // What was fetched before stays in use.
    assert_eq!(bench.value("a").await?.as_deref(), Some("1"));
    bench
        .sources()
        .patch(APP, &PatchParams::default(), &Patch::Merge(&spec("main")))
        .await?;
    bench.source_is("True", "Succeeded").await?;

    bench.write_config_map("a", "2")?;
    bench.write_config_map("b", "1")?;
    let second = bench.push().await?;
    bench.applied(&second).await?;
    // Somebody pushes another history over it.
    bench.repository.force(first.trim_start_matches("main@sha1:"))?;
    bench.write_config_map("a", "3")?;
    let forced = format!("main@sha1:{}", bench.repository.amend("another history")?);
    bench.request_source().await?;
    let message = bench.source_is("False", "RewindHeld").await?;
    assert!(
        message.contains(&second) && message.contains(&forced) && message.contains("does not continue it"),
        "{message}"
    );
    // It is held: what was applied stays, for as long as nobody says anything; and it is found out once.
    bench.server.requests();
    bench.request_source().await?;
    wait_for("another look", LIMIT, async || {
        let requests = bench.server.requests();
        if requests
            .iter()
            .any(|request| request.command.as_deref() == Some("fetch"))
        {
            return Ok(Err(format!("{requests:?}")));
        }
        requests
            .iter()
            .any(|request| request.command.is_some())
            .then_some(Ok(()))
            .ok_or_else(String::new)
    })
    .await?
    .map_err(|requests| anyhow::anyhow!("the history was fetched again: {requests}"))?;
    assert_eq!(bench.value("a").await?.as_deref(), Some("2"));
    assert_eq!(bench.value("b").await?.as_deref(), Some("1"));
    // As the message says.
    let command = format!("plumbline.dev/confirm-rewind={forced}");
    assert!(message.contains(&command), "{message}");
    bench
        .world
        .kubectl(&["annotate", "gitrepository", APP, "--overwrite", &command])?;
    bench.applied(&forced).await?;
    assert_eq!(bench.value("a").await?.as_deref(), Some("3"));
    bench.until_value("b", None).await?;

    // The next one is another question.
    bench.write_config_map("a", "4")?;
    let again = format!("main@sha1:{}", bench.repository.amend("once more")?);
    bench.request_source().await?;
    bench.source_is("False", "RewindHeld").await?;
    bench.event("GitRepository", "RewindHeld", &again).await?;
    bench
        .world
        .kubectl(&["annotate", "gitrepository", APP, "plumbline.dev/rewind=allow"])?;
    bench.applied(&again).await?;
    bench.write_config_map("a", "5")?;
    let allowed = format!("main@sha1:{}", bench.repository.amend("and again")?);
    bench.request_source().await?;
    bench.applied(&allowed).await.map(drop)
}

#[tokio::test]
async fn a_branch_that_was_moved_back_while_nobody_looked_is_held_too() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    bench.write_config_map("a", "1")?;
    let first = bench.commit()?;
    bench.write_config_map("a", "2")?;
    let second = bench.commit()?;
    bench.app().await?;
    let mut syncer = bench.start(&[])?;
    bench.applied(&second).await?;
    syncer.kill();
    bench.repository.force(first.trim_start_matches("main@sha1:"))?;
    let mut syncer = bench.start(&["--allowed-git-hosts=*.example.com,127.0.0.1"])?;
    bench.source_is("False", "RewindHeld").await?;
    assert_eq!(bench.value("a").await?.as_deref(), Some("2"));
    syncer.kill();

    // Where it may be, and whether it may be moved back, are flags too.
    let mut syncer = bench.start(&["--allowed-git-hosts=*.example.com"])?;
    let message = bench.source_is("False", "URLInvalid").await?;
    assert!(
        message.contains("'127.0.0.1' is not among those that are allowed"),
        "{message}"
    );
    syncer.kill();
    let mut syncer = bench.start(&["--allowed-git-schemes=https,ssh"])?;
    let message = wait_for("the scheme to be refused", LIMIT, async || {
        let message = bench
            .source_is("False", "URLInvalid")
            .await
            .map_err(|error| error.to_string())?;
        if message.contains("http:// is not among the schemes") {
            Ok(message)
        } else {
            Err(message)
        }
    })
    .await?;
    assert!(message.contains("--allowed-git-schemes"), "{message}");
    syncer.kill();
    let _syncer = bench.start(&["--branch-rewind=allow"])?;
    bench.applied(&first).await?;
    bench.until_value("a", Some("1")).await
}

#[tokio::test]
async fn those_of_one_repository_ask_once() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    bench.write_config_map("a", "1")?;
    bench.commit()?;
    let names = ["one", "two", "three", "four", "five", "six"];
    for name in names {
        bench.source_named(name, json!({ "interval": "2s" })).await?;
    }
    let _syncer = bench.start(&[])?;
    for name in names {
        bench.source_named_is(name, "True", "Succeeded").await?;
    }
    bench.server.requests();
    // The time is the subject here.
    tokio::time::sleep(Duration::from_secs(10)).await;
    let requests = bench.server.requests();
    let asked = requests
        .iter()
        .filter(|request| request.command.as_deref() == Some("ls-refs"))
        .count();
    println!(
        "{} GitRepositories, every 2 s for 10 s: {asked} queries",
        names.len()
    );
    assert!(
        (3..=10).contains(&asked),
        "{asked} queries of six that would each ask five times"
    );
    bench.write_config_map("a", "2")?;
    let revision = bench.commit()?;
    for name in names {
        bench.source_has(name, &revision).await?;
    }
    Ok(())
}

#[tokio::test]
async fn every_kind_of_reference_is_followed() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    bench.write_config_map("a", "1.0.0")?;
    let one = bench.repository.commit("one")?;
    bench.repository.tag("v1.0.0")?;
    bench.write_config_map("a", "1.2.0")?;
    let two = bench.repository.commit("two")?;
    bench.repository.annotated_tag("v1.2.0")?;
    bench.write_config_map("a", "2.0.0")?;
    let three = bench.repository.commit("three")?;
    bench.repository.tag("v2.0.0")?;
    bench
        .repository
        .git(&["update-ref", "refs/pull/7/head", &three])?;
    bench.source(json!({ "ref": { "tag": "v1.0.0" } })).await?;
    bench.kustomization(APP, json!({})).await?;
    let _syncer = bench.start(&[])?;
    for (reference, revision, value) in [
        (json!({ "tag": "v1.0.0" }), format!("v1.0.0@sha1:{one}"), "1.0.0"),
        (json!({ "semver": "1.x" }), format!("v1.2.0@sha1:{two}"), "1.2.0"),
        (
            json!({ "name": "refs/pull/7/head" }),
            format!("refs/pull/7/head@sha1:{three}"),
            "2.0.0",
        ),
        (json!({ "commit": one }), format!("sha1:{one}"), "1.0.0"),
    ] {
        // A JSON patch replaces the whole reference.
        let patch = json!([{ "op": "replace", "path": "/spec/ref", "value": reference }]).to_string();
        bench
            .world
            .kubectl(&["patch", "gitrepository", APP, "--type=json", "-p", &patch])?;
        bench.applied(&revision).await?;
        assert_eq!(bench.value("a").await?.as_deref(), Some(value), "{reference}");
    }
    Ok(())
}

#[tokio::test]
async fn a_poll_is_one_query_and_a_push_is_found_by_it() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    bench.write_config_map("a", "1")?;
    let revision = bench.commit()?;
    bench.source(json!({ "interval": "1s" })).await?;
    bench.kustomization(APP, json!({})).await?;
    let _syncer = bench.start(&[])?;
    bench.applied(&revision).await?;
    bench.server.requests();
    let mut seen = Vec::new();
    wait_for("three polls", LIMIT, async || {
        seen.extend(bench.server.requests());
        match seen.iter().filter(|it| it.command.is_some()).count() {
            0..3 => Err(format!("{seen:?}")),
            _ => Ok(()),
        }
    })
    .await?;
    // A greeting and a query; nothing is fetched.
    let commands: Vec<_> = seen.iter().map(|it| it.command.as_deref()).collect();
    for poll in commands.chunks_exact(2) {
        assert_eq!(poll, [None, Some("ls-refs")], "{commands:?}");
    }
    // Nobody asks for anything.
    bench.write_config_map("a", "2")?;
    let revision = bench.commit()?;
    bench.applied(&revision).await?;
    Ok(())
}

#[tokio::test]
async fn local_urls_need_the_flag() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    bench.write_config_map("a", "1")?;
    let revision = bench.commit()?;
    let url = format!("file://{}", bench.repository.path().display());
    bench.source(json!({ "url": url })).await?;
    bench.kustomization(APP, json!({})).await?;
    let syncer = bench.start(&[])?;
    let message = bench.source_is("False", "URLInvalid").await?;
    assert!(message.contains("file"), "{message}");
    drop(syncer);
    let _syncer = bench.start(&["--allow-file-urls"])?;
    bench.applied(&revision).await?;
    Ok(())
}

#[tokio::test]
async fn hostile_files_are_named_bounded_and_stop_nothing() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    bench.write_config_map("a", "1")?;
    let first = bench.commit()?;
    bench.app().await?;
    let syncer = bench.start(&[])?;
    bench.applied(&first).await?;
    let before = syncer.peak_memory()?;

    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for i in 1..12 {
        let items = vec![format!("*a{}", i - 1); 10].join(", ");
        writeln!(bomb, "a{i}: &a{i} [{items}]")?;
    }
    let depth = 100_000;
    bench.repository.write("deploy/bomb.yaml", bomb)?;
    bench.repository.write(
        "deploy/deep.yaml",
        format!("a: {}{}\n", "[".repeat(depth), "]".repeat(depth)),
    )?;
    let mut huge = bench.manifest("huge", "1").into_bytes();
    huge.extend(b"# fill\n".repeat((50 << 20) / 7));
    bench.repository.write("deploy/huge.yaml", huge)?;
    bench.repository.link("deploy/passwd.yaml", "/etc/passwd")?;
    bench.repository.link("deploy/up.yaml", "../../outside.yaml")?;
    bench.write_config_map("b", "1")?;
    let revision = bench.push().await?;
    let message = bench.fails(&revision, "BuildFailed").await?;
    for part in [
        "5 problems",
        "deploy/bomb.yaml",
        "deploy/deep.yaml",
        "deploy/huge.yaml: the file is too large",
        "deploy/passwd.yaml",
        "deploy/up.yaml",
    ] {
        assert!(message.contains(part), "{part:?} is not in {message}");
    }
    assert!(!message.contains("root:"), "{message}");
    assert_eq!(bench.value("b").await?.as_deref(), Some("1"));
    let grown = syncer.peak_memory()? - before;
    println!("peak memory {before} MiB, and {grown} MiB more for the hostile files");
    assert!(grown < 150, "{grown} MiB");

    for file in ["bomb", "deep", "huge", "passwd", "up"] {
        bench.repository.remove(&format!("deploy/{file}.yaml"))?;
    }
    let revision = bench.push().await?;
    let object = bench.applied(&revision).await?;
    assert_eq!(last_applied(&object), revision);
    Ok(())
}
