//! Flux's flags: those that mean the same, those that are taken and mean nothing, and those that are refused.

use std::process::{Command, Stdio};

use kube::api::{Patch, PatchParams};
use plumbline_testkit::wait_for;
use serde_json::json;

use crate::bench::{APP, Bench, LIMIT, ready};

#[tokio::test]
async fn flags_of_flux_are_taken_and_a_selector_leaves_the_others_alone() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    bench.write_config_map("a", "1")?;
    bench.repository.write("other/b.yaml", bench.manifest("b", "1"))?;
    let revision = bench.commit()?;
    bench.app().await?;
    bench.kustomization("other", json!({ "path": "./other" })).await?;
    let shard = json!({ "metadata": { "labels": { "sharding.fluxcd.io/key": "one" } } });
    let params = PatchParams::default();
    bench.sources().patch(APP, &params, &Patch::Merge(&shard)).await?;
    bench
        .kustomizations()
        .patch(APP, &params, &Patch::Merge(&shard))
        .await?;
    let without_effect = [
        "--requeue-dependency=5s",
        "--http-retry=9",
        "--kube-api-qps=50",
        "--kube-api-burst=300",
        "--events-addr=http://notification-controller/",
        "--storage-addr=:9090",
        "--storage-adv-addr=source-controller",
    ];
    let mut arguments = without_effect.to_vec();
    arguments.extend([
        "--concurrent=2",
        "--concurrent-ssa=2",
        "--interval-jitter-percentage=10",
        "--no-remote-bases",
        "--no-cross-namespace-refs",
        "--enable-leader-election=false",
        "--watch-label-selector=sharding.fluxcd.io/key in (one, two)",
        "--watch-configs-label-selector=",
        "--default-service-account=",
        "--override-manager=before",
        "--override-manager=long-before",
    ]);
    let syncer = bench.start(&arguments)?;
    bench.applied(&revision).await?;
    for flag in without_effect {
        let name = flag.split('=').next().unwrap_or_default();
        wait_for(&format!("a word about {name}"), LIMIT, async || {
            let log = syncer.log();
            let told = log
                .lines()
                .any(|line| line.contains("has no effect") && line.contains(name));
            if told { Ok(()) } else { Err(log) }
        })
        .await?;
    }
    let other = bench.kustomizations().get("other").await?;
    assert_eq!(ready(&other), Default::default(), "it is another shard's");
    assert_eq!(bench.value("b").await?, None);

    // Taking a label away takes the object away, and nothing that it applied.
    let nobody = json!({ "metadata": { "labels": { "sharding.fluxcd.io/key": null } } });
    bench
        .kustomizations()
        .patch(APP, &params, &Patch::Merge(&nobody))
        .await?;
    let both = json!({ "metadata": { "labels": { "sharding.fluxcd.io/key": "two" } } });
    bench
        .kustomizations()
        .patch("other", &params, &Patch::Merge(&both))
        .await?;
    bench.applied_by("other", &revision).await?;
    assert_eq!(bench.value("a").await?.as_deref(), Some("1"));
    Ok(())
}

#[test]
fn flags_that_would_change_what_is_done_are_refused_by_name() -> anyhow::Result<()> {
    for flag in [
        "--insecure-kubeconfig-exec",
        "--custom-apply-stage-kinds=apps/Deployment",
        "--sops-age-secret=keys",
        "--feature-gates=CancelHealthCheckOnNewRevision=true",
        "--no-remote-basses",
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_plumbline-sync"))
            .arg(flag)
            .stdin(Stdio::null())
            .output()?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        let name = flag.split('=').next().unwrap_or_default();
        assert!(!output.status.success(), "{flag} was taken");
        assert!(complaint.contains(name), "{flag}: {complaint}");
    }
    Ok(())
}
