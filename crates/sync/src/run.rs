//! Wiring of the controller process.

use std::{
    sync::{Arc, Mutex, OnceLock, atomic::AtomicU64},
    time::Duration,
};

use anyhow::Context as _;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, Client, core::PartialObjectMeta};
use plumbline_common::{
    admin, client,
    events::Recorder,
    leader::{self, Leadership},
    shutdown,
};
use prometheus_client::registry::Registry;
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::UnboundedReceiverStream;

use crate::{
    api::{GitRepository, Kustomization, Receiver},
    build,
    cluster::{
        identity::ClusterId,
        kinds::Kinds,
        live::{Live, Owner},
        target::{self, TargetCluster},
        unpark,
        watch::{self, Refused, Scope},
    },
    config::ControllerArgs,
    context::{Context, CrossNamespace, Settings},
    controller,
    depends::{dependants::Dependants, watch::Gates},
    git::{self, FileUrls, Mirrors, UrlPolicy},
    metrics::Metrics,
    receiver,
    remote::{KubeconfigPolicy, RemoteClusters, Unverified},
    source::{self, SourceKey, Sources},
    vital::Place,
    wishes::Wishes,
};

/// Runs the controller until it is told to stop or a part of it fails.
pub async fn run(args: ControllerArgs) -> anyhow::Result<()> {
    client::install_crypto_provider();
    args.init_telemetry();
    for flag in args.without_effect() {
        tracing::warn!(flag, "the flag is accepted for compatibility and has no effect");
    }
    git::sweep();
    let mut addresses = vec![
        admin::listen_address(&args.health_addr)?,
        admin::listen_address(&args.metrics_addr)?,
    ];
    addresses.dedup();
    let user_agent = concat!("plumbline-sync/", env!("CARGO_PKG_VERSION"));
    let mut config = client::config(&client::ClientOptions::default()).await?;
    config.headers.push((
        http::header::USER_AGENT,
        http::HeaderValue::from_static(user_agent),
    ));
    let mut registry = Registry::default();
    let metrics = Metrics::new(&mut registry);
    let observer = Arc::new(metrics.clone());
    let kube =
        client::connect_observed(&client::ClientOptions::default(), user_agent, Some(observer)).await?;
    let admin = admin::Admin::new(registry);

    let mut parts = shutdown::Supervisor::default();
    for address in addresses.into_iter().flatten() {
        parts.spawn(
            "the administrative server",
            admin::serve(address, admin.router(), parts.stopping()),
        );
    }
    let (leads, leading) = tokio::sync::watch::channel(false);
    if let Some(address) = admin::listen_address(&args.receiver_addr)? {
        let receivers = receiver::Receivers {
            address,
            client: kube.clone(),
            api: scope::<Receiver>(&kube, &args),
            selector: args.watch_label_selector.clone(),
            cross_namespace: settings(&args).cross_namespace,
            jitter: args.interval_jitter_percentage,
            leading,
            metrics: metrics.clone(),
        };
        parts.spawn("the webhook receiver", receivers.run(parts.stopping()));
    }
    let controllers = Controllers {
        args,
        config,
        kube,
        metrics,
        leads,
        stopping: parts.stopping(),
        admin,
    };
    parts.spawn("the controllers", controllers.run());
    parts.run().await
}

struct Controllers {
    args: ControllerArgs,
    config: kube::Config,
    kube: Client,
    metrics: Metrics,
    /// Tells the other parts that this replica leads.
    leads: tokio::sync::watch::Sender<bool>,
    stopping: shutdown::Stopping,
    admin: admin::Admin,
}

impl Controllers {
    async fn run(self) -> anyhow::Result<()> {
        if !self.args.enable_leader_election {
            return self.lead().await;
        }
        let election = leader::Election {
            lease: "plumbline-sync-leader-election".into(),
            namespace: self.args.runtime_namespace.clone(),
            identity: leader::identity(),
        };
        // A standby is ready: it takes over as soon as it can.
        self.admin.set_ready(true);
        let acquire = Leadership::acquire(self.kube.clone(), election);
        let mut leadership = tokio::select! {
            () = self.stopping.clone().wait() => return Ok(()),
            leadership = acquire => leadership?,
        };
        tokio::select! {
            lost = leadership.lost() => return Err(lost),
            ended = self.lead() => ended?,
        }
        // It was asked to end: another replica need not wait for the end of the lease.
        leadership.release().await;
        Ok(())
    }

    async fn lead(self) -> anyhow::Result<()> {
        let Self {
            args,
            config,
            kube,
            metrics,
            leads,
            stopping,
            admin,
        } = self;
        leads.send_replace(true);
        let mirrors = Mirrors::new(&args.storage_path)
            .with_context(|| format!("--storage-path {} cannot be used", args.storage_path.display()))?;
        let (recorder, events) = Recorder::new(kube.clone(), "plumbline-sync");
        let events = tokio::spawn(events);
        let Parts {
            source: source_context,
            context,
            wake,
            wakes,
            changed_sources,
        } = parts(&args, &kube, config, mirrors.clone(), recorder, metrics)?;
        let (crd_news, news) = mpsc::unbounded_channel();
        let (crd_client, everywhere) = (kube.clone(), args.watch_all_namespaces);
        let crds = tokio::spawn(async move {
            if everywhere {
                watch::crds(crd_client, crd_news, Refused::IsTemporary).await;
            } else {
                // Roles of a namespace do not reach CRDs: a new kind is noticed at the interval.
                let _kept = crd_news;
                std::future::pending::<()>().await;
            }
        });
        let variables = tokio::spawn(variables(
            scope::<PartialObjectMeta<ConfigMap>>(&kube, &args),
            scope::<PartialObjectMeta<Secret>>(&kube, &args),
            args.watch_configs_label_selector.clone(),
            Arc::clone(&context),
        ));
        let unpark = tokio::spawn(unpark::unpark(Arc::clone(&context.home), news, wake));
        let builder = Arc::clone(&context.builder);
        let live = Arc::clone(&context.home.live);
        let starting = tokio::spawn(target::starting(live));
        admin.set_ready(true);
        let selector = args.watch_label_selector.as_str();
        futures::future::join(
            source::controller::run(
                scope::<GitRepository>(&kube, &args),
                selector,
                args.concurrent,
                source_context,
                stopping.clone(),
            ),
            controller::run(
                scope::<Kustomization>(&kube, &args),
                selector,
                args.concurrent,
                UnboundedReceiverStream::new(wakes),
                UnboundedReceiverStream::new(changed_sources),
                context,
                stopping,
            ),
        )
        .await;
        mirrors.interrupt();
        builder.interrupt();
        crds.abort();
        unpark.abort();
        starting.abort();
        variables.abort();
        // The recorders are gone: what is queued is still sent, within the time a stop may take.
        drop(tokio::time::timeout(Duration::from_secs(2), events).await);
        Ok(())
    }
}

/// What the two controllers work with, and what tells them to look.
pub(crate) struct Parts {
    /// Of the GitRepositories.
    pub(crate) source: Arc<source::controller::Context>,
    /// Of the Kustomizations.
    pub(crate) context: Arc<Context>,
    wake: mpsc::UnboundedSender<Owner>,
    wakes: mpsc::UnboundedReceiver<Owner>,
    changed_sources: mpsc::UnboundedReceiver<SourceKey>,
}

/// Puts them together. Nothing runs and nothing is asked yet.
pub(crate) fn parts(
    args: &ControllerArgs,
    kube: &Client,
    config: kube::Config,
    mirrors: Mirrors,
    recorder: Recorder,
    metrics: Metrics,
) -> anyhow::Result<Parts> {
    let builds = args.storage_path.join("builds");
    let builder = build::Builder::new(args.kustomize.clone(), &builds, args.concurrent_builds)
        .with_context(|| format!("--storage-path {} cannot be used", args.storage_path.display()))?;
    let (source_changed, changed_sources) = mpsc::unbounded_channel::<SourceKey>();
    let (wake, wakes) = mpsc::unbounded_channel::<Owner>();
    let sources = Arc::new(Sources::new(source_changed));
    let live = Arc::new(Live::default());
    let source = Arc::new(source::controller::Context {
        client: kube.clone(),
        mirrors,
        sources: Arc::clone(&sources),
        recorder: recorder.clone(),
        metrics: metrics.clone(),
        file_urls: if args.allow_file_urls {
            FileUrls::Allowed
        } else {
            FileUrls::Refused
        },
        policy: Arc::new(UrlPolicy {
            schemes: args.allowed_git_schemes.clone(),
            hosts: args.allowed_git_hosts.clone(),
        }),
        rewinds: args.branch_rewind,
        jitter: args.interval_jitter_percentage,
        memory: Mutex::default(),
        store: OnceLock::new(),
    });
    let watches = watches(args, &config, kube, Arc::clone(&live), wake.clone())?;
    let remotes = RemoteClusters::new(
        KubeconfigPolicy {
            hosts: args.allowed_cluster_hosts.clone(),
            unverified: if args.insecure_kubeconfig_tls {
                Unverified::Allowed
            } else {
                Unverified::Refused
            },
        },
        args.concurrent_ssa.into(),
        kube.clone(),
        Some(Arc::new(metrics.clone())),
        wake.clone(),
    );
    let home = Arc::new(TargetCluster {
        id: ClusterId::Home,
        client: kube.clone(),
        config: Some(config),
        observer: Some(Arc::new(metrics.clone())),
        kinds: Kinds::new(kube.clone()),
        live,
        watches,
        in_flight: Semaphore::new(args.concurrent_ssa.into()),
        parked: Mutex::default(),
        kinds_news: AtomicU64::new(0),
        impersonated: Mutex::default(),
    });
    let context = Arc::new(Context {
        client: kube.clone(),
        home,
        remotes,
        sources,
        source: Arc::clone(&source),
        builder: Arc::new(builder),
        wishes: Wishes::default(),
        gates: Gates::new(wake.clone()),
        dependants: Dependants::default(),
        recorder,
        metrics,
        settings: settings(args),
        memory: Mutex::default(),
        store: OnceLock::new(),
    });
    Ok(Parts {
        source,
        context,
        wake,
        wakes,
        changed_sources,
    })
}

fn settings(args: &ControllerArgs) -> Settings {
    Settings {
        concurrency: args.concurrent_ssa.into(),
        jitter: args.interval_jitter_percentage,
        budget: args.deletion_budget_percentage,
        inventory_limit: args.inventory_status_limit,
        cross_namespace: if args.no_cross_namespace_refs {
            CrossNamespace::Refused
        } else {
            CrossNamespace::Allowed
        },
        default_service_account: args.default_service_account.clone(),
        override_managers: args.override_manager.clone(),
        place: Place {
            namespace: args.runtime_namespace.clone(),
            pod: leader::identity(),
        },
    }
}

/// The watches on what is applied: everywhere, or in the one namespace, as the account whose rights end there.
fn watches(
    args: &ControllerArgs,
    config: &kube::Config,
    kube: &Client,
    live: Arc<Live>,
    wake: mpsc::UnboundedSender<Owner>,
) -> anyhow::Result<watch::Watches> {
    if args.watch_all_namespaces {
        return Ok(watch::Watches::new(kube.clone(), Scope::Everywhere, live, wake));
    }
    let (namespace, account) = (&args.runtime_namespace, &args.default_service_account);
    let client = if account.is_empty() {
        kube.clone()
    } else {
        let mut config = config.clone();
        config.auth_info.impersonate = Some(format!("system:serviceaccount:{namespace}:{account}"));
        config.auth_info.impersonate_groups = None;
        client::of(&config, None)?
    };
    let scope = Scope::Only(namespace.clone());
    Ok(watch::Watches::new(client, scope, live, wake))
}

fn scope<K>(client: &Client, args: &ControllerArgs) -> Api<K>
where
    K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
{
    if args.watch_all_namespaces {
        Api::all(client.clone())
    } else {
        Api::namespaced(client.clone(), &args.runtime_namespace)
    }
}

/// Wakes the Kustomizations whose variables or clusters change.
async fn variables(
    config_maps: Api<PartialObjectMeta<ConfigMap>>,
    secrets: Api<PartialObjectMeta<Secret>>,
    selector: String,
    context: Arc<Context>,
) {
    if selector.is_empty() {
        return;
    }
    let wake = |kind| {
        let context = &context;
        move |namespace: &str, name: &str| context.wake_users_of(kind, namespace, name)
    };
    futures::future::join(
        watch::labelled(config_maps, &selector, wake("ConfigMap")),
        watch::labelled(secrets, &selector, wake("Secret")),
    )
    .await;
}
