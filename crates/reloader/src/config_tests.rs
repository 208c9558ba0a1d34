use clap::Parser;

use super::*;
use crate::args::Cli;

fn config(arguments: &[&str]) -> Result<Config, ConfigError> {
    let cli = Cli::try_parse_from([&["plumbline-reloader"], arguments].concat()).unwrap();
    Config::new(&cli.flags, &Environment::default())
}

#[test]
fn every_flag_of_stakater_is_taken() {
    let config = config(&[
        "--auto-reload-all=true",
        "--configmap-annotation=a/1",
        "--secret-annotation=a/2",
        "--auto-annotation",
        "a/3",
        "--configmap-auto-annotation=a/4",
        "--secret-auto-annotation=a/5",
        "--auto-search-annotation=a/6",
        "--search-match-annotation=a/7",
        "--ignore-annotation=a/8",
        "--pause-deployment-annotation=a/9",
        "--pause-deployment-time-annotation=a/10",
        "--reload-strategy=env-vars",
        "--reload-on-create=true",
        "--reload-on-delete",
        "true",
        "--sync-after-restart",
        "--resources-to-ignore=Secrets",
        "--ignored-workload-types=jobs,cronjobs",
        "--namespaces-to-ignore=kube-system",
        "--namespaces-to-ignore=a,b",
        "--namespace-selector=team:shop",
        "--resource-label-selector=reload=yes",
        "--log-format=json",
        "--log-level=debug",
    ])
    .unwrap();
    assert!(config.auto_all && config.settings.on_create && config.settings.on_delete);
    assert_eq!(
        (config.keys.configmap.as_str(), config.keys.paused_at.as_str()),
        ("a/1", "a/10")
    );
    assert_eq!(config.strategy, Strategy::EnvVars);
    assert_eq!(config.sources, [SourceKind::ConfigMap]);
    assert_eq!(
        config.workloads,
        [
            WorkloadKind::Deployment,
            WorkloadKind::StatefulSet,
            WorkloadKind::DaemonSet
        ]
    );
    assert_eq!(config.source_selector.as_deref(), Some("reload=yes"));
    let ignored = ["kube-system", "a", "b"].map(Into::into).into();
    assert_eq!(
        config.namespaces,
        Namespaces::All {
            ignored,
            selector: Some("team=shop".into())
        }
    );
}

#[test]
fn the_defaults_are_stakaters() {
    let config = config(&[]).unwrap();
    assert_eq!(config.keys, Keys::default());
    assert!(!config.auto_all && !config.settings.on_create && !config.settings.on_delete);
    assert_eq!(
        config.namespaces,
        Namespaces::All {
            ignored: HashSet::new(),
            selector: None
        }
    );
    assert_eq!(config.workloads, WorkloadKind::ALL[..5]);
    assert_eq!(config.debounce.quiet, Duration::from_secs(1));
}

#[test]
fn create_and_delete_must_be_exactly_true() {
    for text in ["True", "1", "yes", ""] {
        let config = config(&[&format!("--reload-on-create={text}")]).unwrap();
        assert!(!config.settings.on_create, "{text}");
    }
}

#[test]
fn nonsense_is_refused_with_what_to_write() {
    for (arguments, error) in [
        ("--reload-strategy=blue", ConfigError::Strategy("blue".into())),
        ("--resources-to-ignore=pods", ConfigError::Resource("pods".into())),
        (
            "--resources-to-ignore=configmaps,secrets",
            ConfigError::EverythingIgnored,
        ),
        (
            "--ignored-workload-types=pods",
            ConfigError::WorkloadType("pods".into()),
        ),
        ("--enable-ha", ConfigError::Ha),
    ] {
        assert_eq!(config(&[arguments]).unwrap_err(), error);
    }
}

#[test]
fn one_namespace_comes_from_the_environment() {
    let cli = Cli::try_parse_from(["plumbline-reloader", "--namespaces=b,a"]).unwrap();
    let environment = Environment {
        kubernetes_namespace: Some("shop".into()),
        ..Environment::default()
    };
    let config = Config::new(&cli.flags, &environment).unwrap();
    assert_eq!(
        config.namespaces,
        Namespaces::Only(["a", "b", "shop"].map(Into::into).into())
    );
}
