//! Installing, upgrading and uninstalling on a real API server. There is no node here: what a Deployment asks for is made, but
//! does not run.

use plumbline_charts::{Chart, documents};
use plumbline_testkit::kubectl;
use serde_json::{Value, json};

use crate::stage::{FIRST, Stage};
use crate::values;

/// Kinds of operators that are not on the control plane.
const FOREIGN: [&str; 4] = [
    "ServiceMonitor",
    "PodMonitor",
    "PrometheusRule",
    "VerticalPodAutoscaler",
];

#[test]
fn every_render_is_accepted_by_the_api_server() {
    let stage = Stage::shared();
    for case in values::CASES {
        let arguments = case.arguments();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let mut rendered = stage
            .helm
            .template(case.chart, "dry", "home", &arguments)
            .unwrap();
        rendered.retain(|object| !FOREIGN.contains(&object["kind"].as_str().unwrap_or_default()));
        let items = json!({"apiVersion": "v1", "kind": "List", "items": rendered}).to_string();
        let apply = [
            "apply",
            "--server-side",
            "--dry-run=server",
            "--force-conflicts",
            "-f",
            "-",
        ];
        let accepted = kubectl(stage.cluster(), "", &apply, &items);
        accepted.unwrap_or_else(|error| panic!("{} {}: {error:#}", case.chart.name(), case.name));
    }
}

#[test]
fn one_command_brings_the_kinds_and_what_is_made_of_them() {
    let stage = Stage::shared();
    let repository = stage.get(&["gitrepository", FIRST, "-n", FIRST]);
    assert_eq!(repository["spec"]["url"], "https://git.example/you/estate");
    assert_eq!(repository["spec"]["interval"], "3m");
    assert_eq!(repository["spec"]["ref"], json!({"branch": "main"}));
    let kustomization = stage.get(&["kustomization", FIRST, "-n", FIRST]);
    assert_eq!(kustomization["spec"]["path"], "./deploy");
    assert_eq!(kustomization["spec"]["prune"], true);

    // An upgrade takes for its own what the first installation had to make as hooks, and changes it in place.
    let uid = kustomization["metadata"]["uid"].clone();
    let kinds = stage.get(&["crd", "kustomizations.kustomize.toolkit.fluxcd.io"])["metadata"]["uid"].clone();
    let upgrade = ["--reuse-values", "--set", "git.interval=4m"];
    stage
        .helm
        .chart("upgrade", Chart::Sync, FIRST, FIRST, &upgrade)
        .unwrap();
    let manifest = documents(&stage.helm.run(&["get", "manifest", FIRST, "-n", FIRST]).unwrap()).unwrap();
    let named = |kind: &str| manifest.iter().filter(|object| object["kind"] == kind).count();
    assert_eq!(named("Kustomization"), 1);
    assert_eq!(named("CustomResourceDefinition"), 3);
    let after = stage.get(&["kustomization", FIRST, "-n", FIRST]);
    assert_eq!(after["metadata"]["uid"], uid, "it is the same one");
    assert_eq!(after["spec"]["interval"], "4m");
    let crd = stage.get(&["crd", "kustomizations.kustomize.toolkit.fluxcd.io"]);
    assert_eq!(crd["metadata"]["uid"], kinds, "it is the same one");
}

/// The sealed-secrets and reloader releases, in a namespace of their own: what is there survives them.
#[test]
fn what_people_have_survives_upgrade_and_uninstall() {
    let stage = Stage::shared();
    let namespace = "life";
    stage.kubectl(&["create", "namespace", namespace]);
    // Objects of people, of the controllers, and keys.
    let sealed = json!({"apiVersion": "bitnami.com/v1alpha1", "kind": "SealedSecret",
        "metadata": {"name": "login", "namespace": namespace}, "spec": {"encryptedData": {"a": "AgA="}}});
    let key = json!({"apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": {"name": "sealed-secrets-keyabcde", "namespace": namespace,
            "labels": {"sealedsecrets.bitnami.com/sealed-secrets-key": "active"}}});
    let repository = json!({"apiVersion": "source.toolkit.fluxcd.io/v1", "kind": "GitRepository",
        "metadata": {"name": "mine", "namespace": namespace},
        "spec": {"url": "https://git.example/x", "interval": "1h"}});
    let list = json!({"apiVersion": "v1", "kind": "List", "items": [sealed, key, repository]});
    stage.kubectl_with(&["apply", "--server-side", "-f", "-"], &list.to_string());

    let charts = [
        (
            Chart::Sync,
            "life-sync",
            ["--set", "git.url=https://git.example/y"],
            "logLevel=debug",
        ),
        (
            Chart::Reloader,
            "life",
            ["--set", "reloader.logLevel=info"],
            "reloader.logLevel=debug",
        ),
        (
            Chart::SealedSecrets,
            "life-sealed-secrets",
            ["--set", "rbac.clusterRoleName=life-unsealer"],
            "logLevel=DEBUG",
        ),
    ];
    let is_deployed = |name: &str| stage.exists(&["deployment", name, "-n", namespace]);
    for (chart, release, set, change) in charts {
        let deployment = match chart {
            Chart::Reloader => "life-reloader",
            _ => release,
        };
        let helm = |verb: &str, more: &[&str]| stage.helm.chart(verb, chart, release, namespace, more);
        helm("install", &set).unwrap();
        assert!(is_deployed(deployment), "{chart:?}");
        helm("upgrade", &["--reuse-values", "--set", change]).unwrap();
        let spec = stage.get(&["deployment", deployment, "-n", namespace]);
        let arguments = spec["spec"]["template"]["spec"]["containers"][0]["args"].to_string();
        assert!(
            arguments.to_lowercase().contains("log-level=debug"),
            "{arguments}"
        );
        stage.helm.run(&["uninstall", release, "-n", namespace]).unwrap();
        assert!(!is_deployed(deployment), "{chart:?}");
        // Once more, as after a mistake.
        helm("install", &set).unwrap();
        stage.helm.run(&["uninstall", release, "-n", namespace]).unwrap();
    }
    for kept in [
        ["sealedsecret", "login"],
        ["secret", "sealed-secrets-keyabcde"],
        ["gitrepository", "mine"],
        ["gitrepository", "life-sync"],
        ["kustomization", "life-sync"],
    ] {
        assert!(stage.exists(&[kept[0], kept[1], "-n", namespace]), "{kept:?}");
    }
    for crd in [
        "sealedsecrets.bitnami.com",
        "gitrepositories.source.toolkit.fluxcd.io",
        "kustomizations.kustomize.toolkit.fluxcd.io",
    ] {
        let annotations = &stage.get(&["crd", crd])["metadata"]["annotations"];
        let owner = annotations["meta.helm.sh/release-name"]
            .as_str()
            .unwrap_or_default();
        assert!(owner.starts_with(FIRST), "left to whom it belongs: {owner}");
    }
}

#[test]
fn the_next_step_is_told() {
    let stage = Stage::shared();
    let notes = |chart: Chart, set: &[&str]| {
        let all = [&["--dry-run=server"], set].concat();
        stage.helm.chart("install", chart, "told", "home", &all).unwrap()
    };
    let sync = notes(Chart::Sync, &["--set", "git.url=ssh://git@git.example/x"]);
    assert!(sync.contains("--from-file=known_hosts"), "{sync}");
    assert!(
        sync.contains("kubectl describe kustomization told -n home"),
        "{sync}"
    );
    let sealed = notes(Chart::SealedSecrets, &["--set", "rbac.clusterRoleName=told"]);
    assert!(sealed.contains("kubeseal --controller-name told-sealed-secrets --controller-namespace home"));
    assert!(
        sealed.contains("was there already and was left as it is"),
        "{sealed}"
    );
    let reloader = notes(Chart::Reloader, &["--set", "reloader.deployment.replicas=2"]);
    assert!(reloader.contains("set reloader.enableHA=true"), "{reloader}");
}

#[test]
fn names_and_selectors_are_those_that_people_have() {
    let stage = Stage::shared();
    let rendered =
        |chart, release: &str, set: &[&str]| stage.helm.template(chart, release, "home", set).unwrap();
    let of_kind = |objects: &[Value], kind: &str| {
        objects
            .iter()
            .find(|object| object["kind"] == kind)
            .cloned()
            .unwrap()
    };
    let stakater = of_kind(&rendered(Chart::Reloader, "prod", &[]), "Deployment");
    assert_eq!(stakater["metadata"]["name"], "prod-reloader");
    assert_eq!(
        stakater["spec"]["selector"]["matchLabels"],
        json!({"app": "prod-reloader", "release": "prod"})
    );
    let bitnami = of_kind(
        &rendered(Chart::SealedSecrets, "sealed-secrets", &[]),
        "Deployment",
    );
    assert_eq!(bitnami["metadata"]["name"], "sealed-secrets");
    assert_eq!(
        bitnami["spec"]["selector"]["matchLabels"],
        json!({"app.kubernetes.io/name": "sealed-secrets", "app.kubernetes.io/instance": "sealed-secrets"})
    );
    let flux = of_kind(&rendered(Chart::Sync, "flux", &[]), "Deployment");
    assert_eq!(flux["metadata"]["labels"]["app.kubernetes.io/part-of"], "flux");
}
