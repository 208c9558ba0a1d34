//! Objects that move from one Kustomization to another, and objects that two of them want.

use anyhow::Context as _;
use kube::api::DeleteParams;
use plumbline_sync::api::Kustomization;
use plumbline_testkit::{
    git::{GitServer, Repository},
    wait_for,
};
use serde_json::json;

use crate::{
    bench::{APP, Bench, LIMIT, entries, ready},
    far::Way,
};

async fn uid(bench: &Bench, name: &str) -> anyhow::Result<String> {
    let uid = bench.config_maps().get(name).await?.metadata.uid;
    uid.context("no uid")
}

async fn owner(bench: &Bench, name: &str) -> anyhow::Result<String> {
    let labels = bench.config_maps().get(name).await?.metadata.labels;
    Ok(labels.unwrap_or_default()["kustomize.toolkit.fluxcd.io/name"].clone())
}

fn has(object: &Kustomization, name: &str) -> bool {
    entries(object)
        .iter()
        .any(|(id, _)| id.contains(&format!("_{name}_")))
}

fn conflict(object: &Kustomization) -> Option<String> {
    let conditions = &object.status.as_ref()?.conditions;
    let found = conditions
        .iter()
        .find(|c| c.type_ == "Conflict" && c.status == "True")?;
    Some(found.message.clone())
}

/// Kustomizations `one` and `two` of the directories of their names; `two` waits for `one`.
async fn both(bench: &Bench) -> anyhow::Result<()> {
    bench.source(json!({})).await?;
    bench.kustomization("one", json!({ "path": "./one" })).await?;
    let after = json!({ "path": "./two", "dependsOn": [{ "name": "one" }] });
    bench.kustomization("two", after).await
}

#[tokio::test]
async fn what_moves_in_one_revision_is_handed_over_and_never_deleted() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let ns = bench.namespace();
    let write = |path: &str, name: &str| bench.repository.write(path, bench.manifest(name, "1"));
    for n in 0..12 {
        write(&format!("one/m{n}.yaml"), &format!("m{n}"))?;
    }
    write("one/stays.yaml", "stays")?;
    write("one/goes.yaml", "goes")?;
    write("two/own.yaml", "own")?;
    let first = bench.commit()?;
    both(&bench).await?;
    let mut syncer = bench.start(&[])?;
    bench.applied_by("two", &first).await?;
    bench.applied_by("one", &first).await?;
    let mut uids = Vec::new();
    for n in 0..12 {
        uids.push(uid(&bench, &format!("m{n}")).await?);
    }

    // Most of it moves, which is no mass deletion; one is really gone.
    for n in 0..12 {
        bench.repository.remove(&format!("one/m{n}.yaml"))?;
        write(&format!("two/m{n}.yaml"), &format!("m{n}"))?;
    }
    bench.repository.remove("one/goes.yaml")?;
    let second = bench.push().await?;
    let one = bench.applied_by("one", &second).await?;
    let two = bench.applied_by("two", &second).await?;
    assert_eq!((entries(&one).len(), entries(&two).len()), (1, 13));
    assert_eq!(bench.value("goes").await?, None);
    for (n, before) in uids.iter().enumerate() {
        let name = format!("m{n}");
        assert_eq!(uid(&bench, &name).await?, *before, "{name} was made anew");
        assert_eq!(owner(&bench, &name).await?, "two");
    }
    let event = format!("ConfigMap/{ns}/m0 handed over to the Kustomization {ns}/two");
    bench.event("Kustomization", "Progressing", &event).await?;
    assert!(conflict(&one).is_none() && conflict(&two).is_none());

    // And back, while nobody looks; the new owner has to be known before anything is deleted after a start, too.
    syncer.kill();
    for n in 0..12 {
        bench.repository.remove(&format!("two/m{n}.yaml"))?;
        write(&format!("one/m{n}.yaml"), &format!("m{n}"))?;
    }
    let third = bench.commit()?;
    let _syncer = bench.start(&[])?;
    bench.applied_by("one", &third).await?;
    bench.applied_by("two", &third).await?;
    for (n, before) in uids.iter().enumerate() {
        let name = format!("m{n}");
        assert_eq!(uid(&bench, &name).await?, *before, "{name} was made anew");
        assert_eq!(owner(&bench, &name).await?, "one");
    }

    // It is ours now: it goes with its manifest.
    bench.repository.remove("one/m0.yaml")?;
    let fourth = bench.push().await?;
    bench.applied_by("one", &fourth).await?;
    bench.until_value("m0", None).await?;

    // A Kustomization that is deleted hands over, too.
    bench.repository.remove("one")?;
    write("two/m1.yaml", "m1")?;
    write("two/stays.yaml", "stays")?;
    bench.set_spec("two", json!({ "dependsOn": null })).await?;
    let fifth = bench.push().await?;
    bench.fails_by("one", &fifth, "ArtifactFailed").await?;
    bench.fails_by("two", &fifth, "BuildFailed").await?;
    bench
        .kustomizations()
        .delete("one", &DeleteParams::default())
        .await?;
    let two = bench.applied_by("two", &fifth).await?;
    assert!(has(&two, "m1") && has(&two, "stays"));
    wait_for("one to be gone", LIMIT, async || {
        match bench.kustomizations().get_opt("one").await {
            Ok(None) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    assert_eq!(owner(&bench, "m1").await?, "two");
    assert_eq!(uid(&bench, "m1").await?, uids[1]);
    assert_eq!(bench.value("m2").await?, None, "nobody wants it");
    Ok(())
}

#[tokio::test]
async fn two_owners_both_hear_of_it_and_the_first_one_keeps_the_object() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let ns = bench.namespace();
    let write =
        |path: &str, name: &str, value: &str| bench.repository.write(path, bench.manifest(name, value));
    write("one/shared.yaml", "shared", "one")?;
    write("two/own.yaml", "own", "1")?;
    let first = bench.commit()?;
    bench.source(json!({})).await?;
    for name in ["one", "two"] {
        bench.kustomization(name, json!({ "path": name })).await?;
    }
    let mut syncer = bench.start(&[])?;
    bench.applied_by("one", &first).await?;
    bench.applied_by("two", &first).await?;

    write("two/shared.yaml", "shared", "two")?;
    let second = bench.push().await?;
    let message = bench.fails_by("two", &second, "BuildFailed").await?;
    let expected = format!(
        "two/shared.yaml:1: ConfigMap/{ns}/shared belongs to the Kustomization {ns}/one, which keeps it"
    );
    assert!(message.starts_with(&expected), "{message}");
    let check = |name: &'static str, object: &'static str, other: &'static str| {
        let expected = format!("ConfigMap/{ns}/{object}: also in {ns}/{other}");
        let bench = &bench;
        async move {
            bench
                .until(name, &format!("{name} to say so"), |object| {
                    conflict(object).is_some_and(|message| message.contains(&expected))
                })
                .await
        }
    };
    check("two", "shared", "one").await?;
    let one = check("one", "shared", "two").await?;
    assert_eq!(ready(&one).0, "True", "the first one is none the worse for it");
    assert_eq!(bench.value("shared").await?.as_deref(), Some("one"));

    // A restart does not turn it round.
    syncer.kill();
    write("one/shared.yaml", "shared", "one again")?;
    let third = bench.commit()?;
    let _syncer = bench.start(&[])?;
    bench.fails_by("two", &third, "BuildFailed").await?;
    bench.applied_by("one", &third).await?;
    check("one", "shared", "two").await?;
    assert_eq!(bench.value("shared").await?.as_deref(), Some("one again"));

    // When the first one lets go, the second one has it, and nobody says Conflict any more.
    let before = uid(&bench, "shared").await?;
    bench.repository.remove("one/shared.yaml")?;
    write("one/other.yaml", "other", "1")?;
    let fourth = bench.push().await?;
    for name in ["one", "two"] {
        bench.applied_by(name, &fourth).await?;
        bench
            .until(name, "the end of the conflict", |object| {
                conflict(object).is_none()
            })
            .await?;
    }
    assert_eq!(bench.value("shared").await?.as_deref(), Some("two"));
    assert_eq!(uid(&bench, "shared").await?, before);

    // Nor does it when the second one gives up.
    write("one/own.yaml", "own", "mine")?;
    let fifth = bench.push().await?;
    bench.fails_by("one", &fifth, "BuildFailed").await?;
    check("two", "own", "one").await?;
    bench.repository.remove("one/own.yaml")?;
    let sixth = bench.push().await?;
    bench.applied_by("one", &sixth).await?;
    bench
        .until("two", "the end of the conflict", |object| {
            conflict(object).is_none()
        })
        .await?;
    assert_eq!(bench.value("own").await?.as_deref(), Some("1"));
    Ok(())
}

/// A second repository, and a Kustomization `two` of it that can be cut off.
async fn second_source(bench: &Bench) -> anyhow::Result<(Repository, GitServer, Way)> {
    let other = Repository::init(&bench.world.dir().join("other"))?;
    other.write("deploy/own.yaml", bench.manifest("own", "1"))?;
    other.commit("first")?;
    let server = GitServer::http(&other)?;
    let url = server.url();
    let (host, path) = url
        .trim_start_matches("http://")
        .split_once('/')
        .context("no path")?;
    let way = Way::to(host.to_owned()).await?;
    let url = format!("http://127.0.0.1:{}/{path}", way.port);
    bench.source_named("other", json!({ "url": url })).await?;
    let spec = json!({ "sourceRef": { "kind": "GitRepository", "name": "other" } });
    bench.kustomization("two", spec).await?;
    Ok((other, server, way))
}

#[tokio::test]
async fn after_a_start_nothing_goes_before_every_source_was_asked() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let ns = bench.namespace();
    for name in ["stays", "moves", "goes"] {
        bench.write_config_map(name, "1")?;
    }
    let first = bench.commit()?;
    bench.app().await?;
    let (other, mut server, way) = second_source(&bench).await?;
    let mut syncer = bench.start(&[])?;
    bench.applied(&first).await?;
    bench
        .until("two", "the other one", |object| ready(object).0 == "True")
        .await?;
    let before = uid(&bench, "moves").await?;

    // It moves to another repository while nobody looks, and that one answers late.
    syncer.kill();
    bench.repository.remove("deploy/moves.yaml")?;
    let second = bench.commit()?;
    other.write("deploy/moves.yaml", bench.manifest("moves", "2"))?;
    other.commit("second")?;
    way.block();
    let mut syncer = bench.start(&[])?;
    let expected = format!(
        "1 object(s) that are no longer in this place of Git wait until the GitRepository {ns}/other was asked for its revision: \
         the Kustomization {ns}/two may want them"
    );
    bench
        .until(APP, "the wait to be said", |object| {
            let (value, reason, message) = ready(object);
            (value.as_str(), reason.as_str(), message) == ("Unknown", "Progressing", expected.clone())
        })
        .await?;
    assert_eq!(uid(&bench, "moves").await?, before);
    way.free();
    bench.applied(&second).await?;
    bench.until_value("moves", Some("2")).await?;
    assert_eq!(uid(&bench, "moves").await?, before, "it was made anew");
    assert_eq!(owner(&bench, "moves").await?, "two");

    // A source that cannot be asked wants what it last had, and holds nobody up.
    syncer.kill();
    bench.repository.remove("deploy/goes.yaml")?;
    let third = bench.commit()?;
    server.stop();
    let _syncer = bench.start(&[])?;
    bench.applied(&third).await?;
    bench.until_value("goes", None).await?;
    for name in ["stays", "moves", "own"] {
        assert!(bench.value(name).await?.is_some(), "{name}");
    }
    Ok(())
}
