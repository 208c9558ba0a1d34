//! Uninstalling: the controllers go, and nothing of what people have with them.

use anyhow::ensure;
use plumbline_testkit::wait_for;

use super::{
    PATIENCE,
    charts::{CHARTS, SYNC},
    estate::{APP, NAMESPACE, SECRET},
    stage::Stage,
};
use crate::demo::timeline::Timeline;

/// Custom resource definitions that stay, and with them the objects.
const CRDS: [&str; 3] = [
    "gitrepositories.source.toolkit.fluxcd.io",
    "kustomizations.kustomize.toolkit.fluxcd.io",
    "sealedsecrets.bitnami.com",
];

pub(super) async fn tell(stage: &Stage, timeline: &mut Timeline) -> anyhow::Result<()> {
    let rollouts = stage.rollouts().await?;
    let before = identities(stage)?;
    // Nothing may put right what an uninstallation takes away.
    for chart in [SYNC]
        .into_iter()
        .chain(CHARTS.into_iter().filter(|chart| chart.name != SYNC.name))
    {
        let since = timeline.action(&format!("helm uninstall {} --wait", chart.name));
        stage.run_helm(chart, &["uninstall", chart.name, "--wait"])?;
        let selector = format!("app.kubernetes.io/instance={}", chart.name);
        wait_for("its pods to go", PATIENCE, async || {
            let pods = [
                "get",
                "pods",
                "-n",
                chart.namespace,
                "-l",
                &selector,
                "-o",
                "name",
            ];
            match stage.kubectl(&pods, "") {
                Ok(names) if names.is_empty() => Ok(()),
                Ok(names) => Err(names),
                Err(error) => Err(format!("{error:#}")),
            }
        })
        .await?;
        timeline.effect("gone", since);
    }
    for crd in CRDS {
        stage.kubectl(&["get", "crd", crd], "")?;
    }
    let after = identities(stage)?;
    ensure!(
        before == after,
        "uninstalling did not leave the estate alone:\n{before}\nbecame\n{after}"
    );
    let keys = ["get", "secrets", "-n", "kube-system", "-o", "name"];
    let keys = [&keys[..], &["-l", "sealedsecrets.bitnami.com/sealed-secrets-key"]].concat();
    ensure!(!stage.kubectl(&keys, "")?.is_empty(), "the sealing keys are gone");
    stage.rolled(rollouts).await?;
    timeline.note("   definitions, sealing keys, SealedSecret, Secret and the running pods are as they were");
    Ok(())
}

/// Names and unique ids of what has to survive.
fn identities(stage: &Stage) -> anyhow::Result<String> {
    let format = "jsonpath={range .items[*]}{.kind}/{.metadata.name} {.metadata.uid}{\"\\n\"}{end}";
    let kinds = "deployments,pods,configmaps,secrets,sealedsecrets";
    let estate = stage.kubectl(&["get", kinds, "-n", NAMESPACE, "-o", format], "")?;
    for name in [APP, SECRET] {
        ensure!(estate.contains(name), "{name} is not there:\n{estate}");
    }
    let sources = "gitrepositories,kustomizations";
    Ok(estate + &stage.kubectl(&["get", sources, "-n", SYNC.namespace, "-o", format], "")?)
}
