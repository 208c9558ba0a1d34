//! Wiring: client, key, watches, worker, leader election, HTTP.

use std::sync::Arc;

use anyhow::Context as _;
use k8s_openapi::api::{
    apps::v1::{DaemonSet, Deployment, StatefulSet},
    batch::v1::{CronJob, Job},
    core::v1::{ConfigMap, Secret},
};
use kube::{Client, runtime::watcher};
use plumbline_common::{
    admin::{self, Admin},
    client::{self, ClientOptions},
    events::{Doing, Recorder},
    leader::{self, Leadership},
    shutdown::{Stopping, Supervisor},
    telemetry,
};
use prometheus_client::registry::Registry;

use crate::{
    alert::{Alerter, Alerts},
    argo::Rollout,
    args::{Cli, Command, Flags},
    by_name,
    config::{Config, Environment, Namespaces},
    controller::{Controller, scopes},
    csi, keystore,
    kinds::WorkloadKind,
    meta_info,
    metrics::Metrics,
    namespaces,
    notify::Notifier,
    observe,
    post::{Poster, Target},
    report::Reporter,
    rerun::Runner,
    source::SourceKind,
};

/// How we name ourselves to the API server.
pub const USER_AGENT: &str = concat!("plumbline-reloader/", env!("CARGO_PKG_VERSION"));
/// Stakater's Lease, so that the two never lead at the same time.
pub const LEASE: &str = "stakater-reloader-lock";

/// Runs what the command line asks for.
pub async fn run(cli: Cli) -> anyhow::Result<()> {
    match &cli.command {
        Some(Command::Explain(explain)) => crate::explain::run(explain, &cli.flags).await,
        None => controller(&cli.flags).await,
    }
}

async fn controller(flags: &Flags) -> anyhow::Result<()> {
    client::install_crypto_provider();
    telemetry::init(log_level(&flags.log_level), log_format(&flags.log_format));
    let environment = Environment::read();
    let config = Config::new(flags, &environment)?;
    let options = ClientOptions {
        kubeconfig: flags.kubeconfig.clone(),
        context: flags.context.clone(),
    };
    let mut registry = Registry::default();
    let metrics = Metrics::new(&mut registry);
    let observer = Arc::new(metrics.clone());
    let client = client::connect_observed(&options, USER_AGENT, Some(observer)).await?;
    let own_namespace = environment
        .own_namespace
        .clone()
        .unwrap_or_else(|| client.default_namespace().to_owned());
    let keyer = keystore::keyer(client.clone(), &own_namespace).await?;

    let runner = Runner::new(client.clone(), own_namespace.clone());

    let admin = Admin::new(registry);
    let mut supervisor = Supervisor::default();
    if let Some(address) = admin::listen_address(&flags.listen_address)? {
        let router = admin.router().route("/live", axum::routing::get(async || "ok\n"));
        supervisor.spawn("HTTP", admin::serve(address, router, supervisor.stopping()));
    }
    let doing = Doing::default();
    let (config_maps, sending_for_config_maps) =
        Recorder::after(client.clone(), "reloader-configmaps", &doing);
    let (secrets, sending_for_secrets) = Recorder::after(client.clone(), "reloader-secrets", &doing);
    tokio::spawn(sending_for_config_maps);
    tokio::spawn(sending_for_secrets);
    let alerter = Alerts::from_variables(environment_variable).map(|alerts| {
        let (alerter, sending) = Alerter::new(alerts);
        tokio::spawn(sending);
        alerter
    });
    let notifier = flags.notification_url.clone().map(|url| Notifier {
        format: flags.notification_format,
        poster: poster("a notification", url),
    });
    let webhook = config
        .webhook
        .clone()
        .map(|url| poster("a call of the webhook", url));
    let by_namespace = config.count_by_namespace;
    let reporter = Reporter {
        metrics,
        config_maps,
        secrets,
        doing,
        by_namespace,
        alerter,
        notifier,
    };
    meta_info::publish(&client, &environment, flags).await;
    let controller = Arc::new(Controller::new(
        config,
        keyer,
        runner,
        client.clone(),
        reporter,
        webhook,
    ));

    follow(&controller, &mut supervisor);
    let started = controller.clone();
    tokio::spawn(async move {
        started.started().await;
        admin.set_ready(true);
        tracing::debug!("ready");
    });
    let election = flags.enable_ha.then(|| leader::Election {
        lease: LEASE.into(),
        namespace: own_namespace,
        identity: environment.pod_name.unwrap_or_else(leader::identity),
    });
    // A standby watches too: it takes over with everything known.
    let stopping = supervisor.stopping();
    supervisor.spawn("the worker", work(controller, client, election, stopping));
    supervisor.run().await
}

// Until the process is asked to stop: what is being written then is written to its end, and the lease is given away.
async fn work(
    controller: Arc<Controller>,
    client: Client,
    election: Option<leader::Election>,
    stopping: Stopping,
) -> anyhow::Result<()> {
    let Some(election) = election else {
        controller.work(stopping).await;
        return Ok(());
    };
    let mut leadership = tokio::select! {
        () = stopping.clone().wait() => return Ok(()),
        leadership = Leadership::acquire(client, election) => leadership?,
    };
    tokio::select! {
        () = controller.work(stopping) => {}
        error = leadership.lost() => return Err(error),
    }
    leadership.release().await;
    Ok(())
}

// A part that only reads: it ends as soon as the process is asked to stop.
fn reads(supervisor: &mut Supervisor, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
    supervisor.spawn_until_stopped(name, async move {
        task.await;
        anyhow::bail!("it ended by itself")
    });
}

fn follow(controller: &Arc<Controller>, supervisor: &mut Supervisor) {
    let config = controller.config();
    if let Namespaces::All {
        selector: Some(selector),
        ..
    } = &config.namespaces
    {
        let (controller, selector) = (controller.clone(), selector.clone());
        reads(supervisor, "watching namespaces", async move {
            namespaces::follow(&controller, &selector).await;
        });
    }
    if config.by_name {
        reads(
            supervisor,
            "watching sources",
            by_name::follow(controller.clone()),
        );
    }
    for scope in scopes(&config.namespaces) {
        if config.csi {
            let task = csi::follow(controller.clone(), scope.clone());
            reads(supervisor, "watching classes", task);
        }
        for kind in config.sources.iter().filter(|_| !config.by_name) {
            let (controller, scope) = (controller.clone(), scope.clone());
            let kind = *kind;
            let selection = selection(&controller, kind);
            reads(supervisor, "watching sources", async move {
                match kind {
                    SourceKind::Secret => {
                        observe::sources::<Secret>(controller, scope, selection, None).await;
                    }
                    _ => observe::sources::<ConfigMap>(controller, scope, selection, None).await,
                }
            });
        }
        for kind in &config.workloads {
            let (controller, scope) = (controller.clone(), scope.clone());
            let kind = *kind;
            reads(supervisor, "watching workloads", async move {
                match kind {
                    WorkloadKind::Deployment => observe::workloads::<Deployment>(controller, scope).await,
                    WorkloadKind::StatefulSet => observe::workloads::<StatefulSet>(controller, scope).await,
                    WorkloadKind::DaemonSet => observe::workloads::<DaemonSet>(controller, scope).await,
                    WorkloadKind::CronJob => observe::workloads::<CronJob>(controller, scope).await,
                    WorkloadKind::Job => observe::workloads::<Job>(controller, scope).await,
                    WorkloadKind::Rollout => observe::workloads::<Rollout>(controller, scope).await,
                }
            });
        }
    }
}

fn selection(controller: &Controller, kind: SourceKind) -> watcher::Config {
    let config = controller.config();
    let mut selection = watcher::Config::default();
    if let Some(labels) = &config.source_selector {
        selection = selection.labels(labels);
    }
    // Up to 1 MiB each, ten per release, and no pod ever reads one.
    if kind == SourceKind::Secret && !config.helm_releases {
        selection = selection.fields("type!=helm.sh/release.v1");
    }
    selection
}

fn poster(what: &'static str, url: String) -> Poster {
    let (poster, sending) = Poster::new(Target {
        what,
        url,
        proxy: None,
    });
    tokio::spawn(sending);
    poster
}

fn environment_variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn log_level(level: &str) -> &str {
    // Stakater's library knows two more names.
    match level {
        "warning" => "warn",
        "fatal" | "panic" => "error",
        other => other,
    }
}

fn log_format(format: &str) -> telemetry::Format {
    match format {
        "json" => telemetry::Format::Json,
        "text" => telemetry::Format::Text,
        _ => telemetry::Format::Auto,
    }
}

/// Starts the runtime and runs.
pub fn main(cli: Cli) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(run(cli))
}
