//! `spec.verify`: what is not signed by a trusted key is not applied.

use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use plumbline_testkit::{git::Signer, wait_for};
use serde_json::{Value, json};

use crate::bench::{APP, Bench, LIMIT};

async fn trust(bench: &Bench, keys: Value) -> anyhow::Result<()> {
    let secrets: Api<Secret> = Api::namespaced(bench.world.client(), bench.namespace());
    // Replaces all entries: a key that is not named is not trusted any longer.
    let patch = json!([{ "op": "replace", "path": "/data", "value": {} }]);
    if secrets.get_opt("trusted").await?.is_none() {
        let empty = json!({ "metadata": { "name": "trusted" } });
        secrets
            .create(&PostParams::default(), &serde_json::from_value(empty)?)
            .await?;
    } else {
        let patch = Patch::Json::<()>(serde_json::from_value(patch)?);
        secrets.patch("trusted", &PatchParams::default(), &patch).await?;
    }
    let keys = Patch::Merge(json!({ "stringData": keys }));
    secrets.patch("trusted", &PatchParams::default(), &keys).await?;
    Ok(())
}

/// Status, reason and message of the condition SourceVerified.
async fn verified(bench: &Bench, value: &str) -> anyhow::Result<String> {
    wait_for("SourceVerified", LIMIT, async || {
        let found = bench
            .sources()
            .get(APP)
            .await
            .map_err(|error| error.to_string())?;
        let conditions = found.status.unwrap_or_default().conditions;
        let condition = conditions.into_iter().find(|one| one.type_ == "SourceVerified");
        match condition {
            Some(condition) if condition.status == value => Ok(condition.message),
            other => Err(format!("{other:?}")),
        }
    })
    .await
}

#[tokio::test]
async fn only_what_a_trusted_key_signed_is_applied() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let ada = Signer::pgp(&bench.world.dir().join("ada"), "ed25519", "never", None)?;
    let eve = Signer::ssh(&bench.world.dir().join("eve"), "ed25519")?;
    bench.write_config_map("a", "1")?;
    bench.commit()?;
    let spec = json!({ "verify": { "mode": "HEAD", "secretRef": { "name": "trusted" } }, "interval": "5s" });
    bench.source(spec).await?;
    bench.kustomization(APP, json!({})).await?;
    let _syncer = bench.start(&[])?;
    let message = bench.source_is("False", "AuthenticationFailed").await?;
    assert!(
        message.contains("\"trusted\" of spec.verify.secretRef does not exist"),
        "{message}"
    );

    trust(&bench, json!({ "ada.asc": "nonsense" })).await?;
    let message = bench.source_is("False", "VerificationError").await?;
    assert!(
        message.contains("entry \"ada.asc\" is no OpenPGP public key"),
        "{message}"
    );

    trust(&bench, json!({ "ada.asc": ada.public_key()? })).await?;
    bench
        .event("GitRepository", "VerificationError", "is not signed")
        .await?;
    let message = verified(&bench, "False").await?;
    assert!(message.contains("commit '"), "{message}");
    assert_eq!(bench.value("a").await?, None, "nothing unsigned is applied");

    ada.use_for(&bench.repository)?;
    let signed = bench.push().await?;
    bench.applied(&signed).await?;
    let message = verified(&bench, "True").await?.to_uppercase();
    assert!(message.contains(ada.fingerprint()), "{message}");
    let mode = bench.sources().get(APP).await?.status.unwrap_or_default();
    assert_eq!(mode.source_verification_mode.as_deref(), Some("HEAD"));

    // Signed by somebody else: what was applied before stays.
    eve.use_for(&bench.repository)?;
    bench.write_config_map("a", "2")?;
    let foreign = bench.push().await?;
    let message = verified(&bench, "False").await?;
    assert!(message.contains("none of the trusted keys"), "{message}");
    assert_eq!(bench.value("a").await?.as_deref(), Some("1"));
    // Nobody touches the GitRepository: the key alone is added.
    trust(
        &bench,
        json!({ "ada.asc": ada.public_key()?, "eve.sshpub": eve.public_key()? }),
    )
    .await?;
    bench.applied(&foreign).await?;
    // A key that was taken out does not count any longer, without a restart.
    trust(&bench, json!({ "ada.asc": ada.public_key()? })).await?;
    bench.write_config_map("a", "3")?;
    bench.push().await?;
    verified(&bench, "False").await?;
    assert_eq!(bench.value("a").await?.as_deref(), Some("2"));
    Ok(())
}

#[tokio::test]
async fn in_range_mode_every_commit_counts() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let ada = Signer::pgp(&bench.world.dir().join("ada"), "ed25519", "never", None)?;
    let eve = Signer::ssh(&bench.world.dir().join("eve"), "ed25519")?;
    trust(&bench, json!({ "ada.asc": ada.public_key()? })).await?;
    ada.use_for(&bench.repository)?;
    bench.write_config_map("a", "1")?;
    let first = bench.commit()?;
    let spec = json!({ "verify": { "mode": "HEAD", "secretRef": { "name": "trusted" } } });
    bench.source(spec).await?;
    bench
        .world
        .kubectl(&["annotate", "gitrepository", APP, "plumbline.dev/verify=range"])?;
    bench.kustomization(APP, json!({})).await?;
    let _syncer = bench.start(&[])?;
    bench.applied(&first).await?;

    for value in ["2", "3", "4"] {
        bench.write_config_map("a", value)?;
        bench.commit()?;
    }
    let fourth = bench.push().await?;
    bench.applied(&fourth).await?;
    let message = verified(&bench, "True").await?;
    assert!(message.contains("and of 3 commit(s) since '"), "{message}");

    // Somebody else's commit under one of hers: the newest alone would pass.
    eve.use_for(&bench.repository)?;
    bench.write_config_map("b", "1")?;
    let hidden = bench.commit()?;
    ada.use_for(&bench.repository)?;
    bench.write_config_map("a", "5")?;
    bench.push().await?;
    let message = verified(&bench, "False").await?;
    let hidden = hidden.trim_start_matches("main@sha1:");
    assert!(
        message.contains(&format!("commit '{hidden}', which came after")),
        "{message}"
    );
    assert_eq!(
        (bench.value("a").await?.as_deref(), bench.value("b").await?),
        (Some("4"), None)
    );

    // As in Flux, only the newest counts without it.
    bench.world.kubectl(&[
        "annotate",
        "gitrepository",
        APP,
        "--overwrite",
        "plumbline.dev/verify=tip",
    ])?;
    bench.until_value("b", Some("1")).await
}

#[tokio::test]
async fn a_tag_is_verified_under_its_own_name_and_after_a_restart() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let ada = Signer::pgp(&bench.world.dir().join("ada"), "ed25519", "never", None)?;
    trust(&bench, json!({ "ada.asc": ada.public_key()? })).await?;
    ada.use_for(&bench.repository)?;
    bench.write_config_map("a", "1")?;
    let one = bench.repository.commit("one")?;
    bench.repository.git(&["tag", "-s", "-m", "one", "v1.0.0"])?;
    let spec = json!({
        "verify": { "mode": "TagAndHEAD", "secretRef": { "name": "trusted" } }, "interval": "5s", "ref": { "semver": ">=1.0.0" },
    });
    bench.source(spec).await?;
    bench.kustomization(APP, json!({})).await?;
    let mut syncer = bench.start(&[])?;
    bench.applied(&format!("v1.0.0@sha1:{one}")).await?;
    let message = verified(&bench, "True").await?;
    assert!(
        message.contains("tag 'v1.0.0'") && message.contains("commit '"),
        "{message}"
    );

    // The old signed tag under a newer name would be a step back that looks like a release.
    bench
        .repository
        .git(&["update-ref", "refs/tags/v2.0.0", "refs/tags/v1.0.0"])?;
    bench.request_source().await?;
    let message = verified(&bench, "False").await?;
    assert!(
        message.contains("'v2.0.0' is the signed tag \"v1.0.0\" under another name"),
        "{message}"
    );
    syncer.kill();
    bench.repository.git(&["tag", "--delete", "v2.0.0"])?;
    bench.write_config_map("a", "2")?;
    let two = bench.repository.commit("two")?;
    bench.repository.git(&["tag", "-s", "-m", "two", "v1.1.0"])?;
    let _syncer = bench.start(&[])?;
    bench.applied(&format!("v1.1.0@sha1:{two}")).await?;
    verified(&bench, "True").await.map(drop)
}
