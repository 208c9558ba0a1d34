//! What the real `flux` says of an installation by our chart.

use plumbline_charts::Chart;
use plumbline_testkit::{FakeNode, Flux, World};
use serde_json::json;

use crate::stage::{PATIENCE, Stage};

#[tokio::test(flavor = "multi_thread")]
async fn flux_check_and_version_find_the_controller_and_its_kinds() -> anyhow::Result<()> {
    let stage = tokio::task::block_in_place(Stage::shared);
    let world = World::on(stage.plane()).await?;
    let ns = world.namespace();
    let flux = Flux::new(world.dir(), world.kubeconfig())?;
    // Exit code 0 or not, and everything that was said.
    let run = |arguments: &[&str]| -> anyhow::Result<(bool, String)> {
        let output = tokio::task::block_in_place(|| flux.command(ns, arguments).output())?;
        let said = [output.stdout, output.stderr].concat();
        Ok((output.status.success(), String::from_utf8(said)?))
    };
    let (fine, said) = run(&["check"])?;
    assert!(!fine && said.contains("no controllers found"), "{said}");

    let node = FakeNode::start(&world).await?;
    stage.helm.chart("install", Chart::Sync, "plumbline", ns, &[])?;
    let name = "plumbline-sync";
    // Nobody schedules here.
    let place = json!({ "spec": { "template": { "spec": { "nodeName": node.name() } } } }).to_string();
    stage.kubectl(&["patch", "deployment", name, "-n", ns, "-p", &place]);
    let rollout = format!("--timeout={}s", PATIENCE.as_secs());
    stage.kubectl(&[
        "rollout",
        "status",
        &format!("deployment/{name}"),
        "-n",
        ns,
        &rollout,
    ]);

    let (fine, said) = run(&["check", "--timeout=60s"])?;
    let deployment = stage.get(&["deployment", name, "-n", ns]);
    let image = deployment["spec"]["template"]["spec"]["containers"][0]["image"]
        .as_str()
        .unwrap_or_default();
    let version = deployment["metadata"]["labels"]["app.kubernetes.io/version"]
        .as_str()
        .unwrap_or_default();
    for part in [
        &format!("distribution: flux-{version}"),
        &format!("{name}: deployment ready"),
        image,
        "gitrepositories.source.toolkit.fluxcd.io/v1",
        "kustomizations.kustomize.toolkit.fluxcd.io/v1",
        "receivers.notification.toolkit.fluxcd.io/v1",
        "all checks passed",
    ] {
        assert!(said.contains(part), "no {part:?} in:\n{said}");
    }
    assert!(fine, "{said}");
    let (fine, said) = run(&["version"])?;
    assert!(
        fine && said.contains(&format!("distribution: flux-{version}")),
        "{said}"
    );
    assert!(said.contains(&format!("sync: {version}")), "{said}");

    stage.helm.run(&["uninstall", "plumbline", "-n", ns])?;
    node.stop(&world).await
}
