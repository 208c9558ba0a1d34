//! What the charts render: lint, golden renders, what values are refused.

use plumbline_charts::{Chart, Helm};
use plumbline_testkit::workspace_dir;
use serde_json::{Value, json};

use crate::values::{self, Case};

fn helm() -> (tempfile::TempDir, Helm) {
    let home = tempfile::tempdir().unwrap();
    let helm = Helm::new(home.path(), None).unwrap();
    (home, helm)
}

#[test]
fn helm_finds_nothing_to_say() {
    let (_home, helm) = helm();
    for case in values::CASES {
        let dir = case.chart.dir();
        let mut arguments = vec!["lint", "--strict", dir.to_str().unwrap()];
        let file = case.file();
        if let Some(file) = &file {
            arguments.extend(["--values", file.to_str().unwrap()]);
        }
        helm.run(&arguments).unwrap();
    }
}

/// The render without what changes with versions, and without what has a golden file already.
fn shorn(case: &Case, mut documents: Vec<Value>) -> String {
    for document in &mut documents {
        if document["kind"] == "CustomResourceDefinition" {
            document["spec"] = json!("see files/crds.yaml");
        }
        if let Some(data) = document.get_mut("data").and_then(Value::as_object_mut) {
            for (name, value) in data {
                if name.contains(".json") {
                    *value = json!("see files/dashboard.json");
                }
            }
        }
    }
    let texts: Vec<String> = documents
        .iter()
        .map(|document| serde_yaml::to_string(document).unwrap())
        .collect();
    let version = env!("CARGO_PKG_VERSION");
    format!("# {}\n---\n{}", case.about, texts.join("---\n"))
        .replace(
            &format!("{}-{version}", case.chart.name()),
            &format!("{}-VERSION", case.chart.name()),
        )
        .replace(&format!(":{version}"), ":VERSION")
        .replace(&format!("version: {version}"), "version: VERSION")
}

#[test]
fn renders_are_as_they_were() {
    let (_home, helm) = helm();
    for case in values::CASES {
        let documents = helm
            .template(
                case.chart,
                "my",
                "home",
                &case.arguments().iter().map(String::as_str).collect::<Vec<_>>(),
            )
            .unwrap();
        insta::assert_snapshot!(
            format!("{}-{}", case.chart.name(), case.name),
            shorn(case, documents)
        );
    }
}

#[test]
fn a_mistake_in_the_values_is_told_with_its_place() {
    let (_home, helm) = helm();
    let refused = [
        (
            Chart::Sync,
            "git.ulr=https://x/y",
            "additional properties 'ulr' not allowed",
        ),
        (Chart::Sync, "git.url=git@host:me/repo", "at '/git/url'"),
        (Chart::Sync, "git.interval=3", "at '/git/interval'"),
        (Chart::Sync, "replicas=-1", "at '/replicas'"),
        (
            Chart::Sync,
            "gitt.url=x",
            "additional properties 'gitt' not allowed",
        ),
        (
            Chart::Sync,
            "watchAllNamespaces=false,rbac.clusterAdmin=true",
            "rbac.clusterAdmin contradicts watchAllNamespaces=false",
        ),
        (
            Chart::Reloader,
            "reloader.reloadStrategy=env",
            "at '/reloader/reloadStrategy'",
        ),
        (
            Chart::Reloader,
            "reloader.autoReloadall=true",
            "additional properties 'autoReloadall' not allowed",
        ),
        (
            Chart::Reloader,
            "image.repository=stakater/reloader",
            "this chart brings its own",
        ),
        (
            Chart::SealedSecrets,
            "keyRenewPeriod=1h",
            "additional properties 'keyRenewPeriod' not allowed",
        ),
        (Chart::SealedSecrets, "driftPolicy=fix", "at '/driftPolicy'"),
        (
            Chart::SealedSecrets,
            "image.repository=bitnami/sealed-secrets-controller",
            "this chart brings its own",
        ),
        (
            Chart::SealedSecrets,
            "ingress.selfSigned=true",
            "at '/ingress/selfSigned'",
        ),
        (
            Chart::SealedSecrets,
            "networkPolicy.enabled=true,networkPolicy.egress.enabled=true",
            "kubeapiCidr",
        ),
    ];
    for (chart, set, expected) in refused {
        let error = helm.template(chart, "my", "home", &["--set", set]).unwrap_err();
        let error = format!("{error:#}");
        assert!(error.contains(expected), "{} {set}: {error}", chart.name());
    }
}

#[test]
fn pods_fit_the_restricted_standard_by_default() {
    let (_home, helm) = helm();
    for chart in Chart::ALL {
        let documents = helm.template(chart, "my", "home", &[]).unwrap();
        let deployment = documents.iter().find(|one| one["kind"] == "Deployment").unwrap();
        let pod = &deployment["spec"]["template"]["spec"];
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true, "{chart:?}");
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
        let container = &pod["containers"][0];
        let context = &container["securityContext"];
        assert_eq!(context["allowPrivilegeEscalation"], false);
        assert_eq!(context["readOnlyRootFilesystem"], true);
        assert_eq!(context["capabilities"]["drop"], json!(["ALL"]));
        for needed in ["livenessProbe", "readinessProbe", "resources"] {
            assert!(container[needed].is_object(), "{chart:?} {needed}");
        }
    }
}

#[test]
fn the_charts_are_of_the_version_of_the_code() {
    for chart in Chart::ALL {
        let text = std::fs::read_to_string(chart.dir().join("Chart.yaml")).unwrap();
        let about: Value = serde_yaml::from_str(&text).unwrap();
        for field in ["version", "appVersion"] {
            assert_eq!(about[field], env!("CARGO_PKG_VERSION"), "{chart:?} {field}");
        }
    }
    assert!(workspace_dir().join("charts").is_dir());
}

#[test]
fn every_argument_is_a_flag_of_the_program() {
    let (_home, helm) = helm();
    for case in values::CASES {
        let flags = format!("docs/reference/{}-flags.txt", case.chart.name());
        let flags = std::fs::read_to_string(workspace_dir().join(flags)).unwrap();
        let arguments = case.arguments();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let documents = helm.template(case.chart, "my", "home", &arguments).unwrap();
        let deployment = documents.iter().find(|one| one["kind"] == "Deployment").unwrap();
        let given = &deployment["spec"]["template"]["spec"]["containers"][0]["args"];
        for argument in given.as_array().unwrap() {
            let flag = argument.as_str().unwrap().split('=').next().unwrap();
            let is_known = flags
                .split(|c: char| c.is_whitespace() || c == '[')
                .any(|word| word == flag);
            assert!(is_known, "{} {}: {flag}", case.chart.name(), case.name);
        }
    }
}
