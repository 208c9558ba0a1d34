//! The process: keys first, then the API for kubeseal, then the watches.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use anyhow::Context as _;
use k8s_openapi::jiff::Timestamp;
use plumbline_common::admin::{self, Admin};
use plumbline_common::client::{self, ClientOptions};
use plumbline_common::events::Recorder;
use plumbline_common::leader::{self, Election, Leadership};
use plumbline_common::shutdown::{Stopping, Supervisor};
use plumbline_common::telemetry::{self, Format};
use prometheus_client::registry::Registry;
use tokio::sync::watch;

use crate::config::{Command, Config};
use crate::context::Context;
use crate::controller;
use crate::crypto::Keyring;
use crate::keystore::Keystore;
use crate::metrics::Metrics;
use crate::observe::Index;
use crate::publish::publish;
use crate::server::Server;

/// What Events name as their source, as they always have.
const COMPONENT: &str = "sealed-secrets";
/// The Lease that replicas compete for.
const LEASE: &str = "plumbline-unsealer";
/// Where a Pod finds its own namespace.
const POD_NAMESPACE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// Does what `config` says; returns when the process is asked to stop, or with the first failure.
pub async fn run(config: Config) -> anyhow::Result<()> {
    if config.version {
        return print(&format!("controller version: {}\n", env!("CARGO_PKG_VERSION")));
    }
    match config.command {
        Some(Command::Crd) => print(&crd()?),
        None => serve(config).await,
    }
}

/// The CustomResourceDefinition, as YAML.
pub fn crd() -> anyhow::Result<String> {
    use kube::CustomResourceExt as _;
    Ok(format!(
        "---\n{}",
        crate::documents::to_yaml(&crate::api::SealedSecret::crd())?
    ))
}

fn print(text: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    std::io::stdout()
        .write_all(text.as_bytes())
        .context("cannot write to standard output")
}

async fn serve(config: Config) -> anyhow::Result<()> {
    let format = match config.log_format.to_ascii_lowercase().as_str() {
        "json" => Format::Json,
        _ => Format::Text,
    };
    telemetry::init(&config.log_level, format);
    // A core dump would hold every key; so would the memory that another process of this user reads.
    if let Err(error) = nix::sys::prctl::set_dumpable(false) {
        tracing::warn!(%error, "cannot forbid core dumps");
    }
    let options = ClientOptions {
        kubeconfig: config.kubeconfig.clone(),
        ..ClientOptions::default()
    };
    let agent = concat!("plumbline-unsealer/", env!("CARGO_PKG_VERSION"));
    let client = client::connect(&options, agent).await?;
    let own = own_namespace();
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        namespace = own,
        "Starting sealed-secrets controller"
    );
    let config = Arc::new(config);
    let mut registry = Registry::default();
    let metrics = Metrics::new(&mut registry, config.metrics_omit_secret_labels);
    let admin = Admin::new(registry);
    let mut parts = Supervisor::default();

    let (keyring, keys) = watch::channel(Arc::default());
    let server = Server::new(&config, keys.clone(), metrics.clone());
    if let Some(address) = admin::listen_address(&config.listen_addr)? {
        parts.spawn("the API for kubeseal", server.serve(address, parts.stopping()));
    }
    if let Some(address) = admin::listen_address(&config.listen_metrics_addr)? {
        parts.spawn(
            "the metrics server",
            admin::serve(address, admin.router(), parts.stopping()),
        );
    }

    let keystore = Keystore::new(client.clone(), &own, Arc::clone(&config));
    let start = keystore.start(Timestamp::now()).await?;
    keyring.send_replace(Arc::new(start));
    parts.spawn_until_stopped(
        "the counting of sealing keys",
        count(keys.clone(), metrics.clone()),
    );
    parts.spawn_until_stopped(
        "the watch of sealing keys",
        keystore.clone().watch(keyring.clone()),
    );
    parts.spawn_until_stopped("the renewal of sealing keys", keystore.renew_in_time(keyring));

    let (recorder, sending) = Recorder::new(client.clone(), COMPONENT);
    parts.spawn("the sending of Events", async {
        sending.await;
        Ok(())
    });
    let namespaces = config.namespaces(&own);
    let context = Arc::new(Context {
        client,
        config,
        key_namespace: own,
        keyring: keys,
        metrics,
        recorder,
        index: Mutex::new(Index::default()),
        memory: Mutex::default(),
        drops_records: AtomicBool::new(false),
    });
    let stopping = parts.stopping();
    parts.spawn("the controller", work(context, namespaces, admin, stopping));
    parts.run().await
}

/// Leads, if that is asked for, and works. A replica that waits is ready: it serves the certificate.
async fn work(
    context: Arc<Context>,
    namespaces: Vec<String>,
    admin: Admin,
    stopping: Stopping,
) -> anyhow::Result<()> {
    let leadership = if context.config.leader_elect {
        admin.set_ready(true);
        let election = Election {
            lease: LEASE.to_owned(),
            namespace: context.key_namespace.clone(),
            identity: leader::identity(),
        };
        tokio::select! {
            () = stopping.clone().wait() => return Ok(()),
            leadership = Leadership::acquire(context.client.clone(), election) => Some(leadership?),
        }
    } else {
        None
    };
    let (client, keyring) = (context.client.clone(), context.keyring.clone());
    let (namespace, name) = (
        context.key_namespace.clone(),
        context.config.certificate_configmap.clone(),
    );
    let working = async move {
        let reconciling = controller::run(context, namespaces, || {
            tracing::info!("HTTP server serving and watches complete");
            admin.set_ready(true);
        });
        if name.is_empty() {
            return reconciling.await;
        }
        tokio::try_join!(reconciling, publish(client, &namespace, &name, keyring)).map(drop)
    };
    let Some(mut leadership) = leadership else {
        return tokio::select! {
            ended = working => ended,
            () = stopping.wait() => Ok(()),
        };
    };
    tokio::select! {
        ended = working => return ended,
        error = leadership.lost() => return Err(error),
        () = stopping.wait() => {}
    }
    // What was being written is done anew by who leads next, which need not wait for the end of the lease.
    leadership.release().await;
    Ok(())
}

/// Every replica counts the keys it has, also one that waits.
async fn count(mut keys: watch::Receiver<Arc<Keyring>>, metrics: Metrics) -> anyhow::Result<()> {
    loop {
        metrics.keys(&keys.borrow_and_update());
        keys.changed().await?;
    }
}

/// `POD_NAMESPACE`, else the Pod's own, else `default`: where the keys are.
fn own_namespace() -> String {
    std::env::var("POD_NAMESPACE")
        .ok()
        .or_else(|| std::fs::read_to_string(POD_NAMESPACE).ok())
        .map(|text| text.trim().to_owned())
        .filter(|text| !text.is_empty())
        .unwrap_or_else(|| "default".to_owned())
}
