//! The connection to a remote cluster. Its task finds out whether the cluster answers, and which one it is; then it only acts
//! when a request failed or took long.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client};
use plumbline_common::backoff::{self, Backoff};
use tokio::{
    sync::{OnceCell, Semaphore, mpsc},
    task::{AbortHandle, JoinSet},
};

use super::gate::{Gate, Passage};
use crate::cluster::{
    identity::ClusterId,
    kinds::Kinds,
    live::{Live, Owner},
    target::{self, TargetCluster},
    unpark,
    watch::{self, Refused, Scope, Watches},
};

/// Bound on finding out whether a cluster answers.
const PROBE: Duration = Duration::from_secs(10);
/// How often that is found out at most, however many requests fail.
const AGAIN: Duration = Duration::from_millis(500);
/// When a cluster that does not answer is asked again.
const AWAY: Backoff = Backoff {
    base: Duration::from_secs(1),
    max: Duration::from_secs(30),
};

/// What it means when a cluster does not know who we are.
pub(super) const NOT_ACCEPTED: &str =
    "it does not accept the credentials of the kubeconfig (401): renew them in the Secret";

/// UID of the namespace `kube-system` of our own cluster, read once it matters; `None` where that is not allowed.
pub(super) type HomeUid = Arc<OnceCell<Option<String>>>;

/// A connection. It ends when it is dropped.
pub struct Connection {
    shared: Arc<Shared>,
    task: AbortHandle,
}

/// How it stands with a connection.
pub enum State {
    /// Nobody knows yet.
    Connecting,
    /// The cluster answers.
    Up(Arc<TargetCluster>),
    /// It does not, for this reason.
    Away(Arc<str>),
}

struct Shared {
    server: String,
    gate: Arc<Gate>,
    cluster: OnceLock<Arc<TargetCluster>>,
    users: Mutex<HashSet<Owner>>,
    /// Another cluster answers than at first.
    replaced: AtomicBool,
    wake: mpsc::UnboundedSender<Owner>,
}

/// What a connection is made of.
pub(super) struct Parts {
    /// URL of the cluster.
    pub(super) server: String,
    /// As whoever objects are applied as, without a gate and without tries of its own.
    pub(super) acting: Client,
    /// The same as the user of the kubeconfig.
    pub(super) own: Client,
    /// What everything else is done with, behind the gate.
    pub(super) client: Client,
    pub(super) gate: Arc<Gate>,
    /// Where objects are watched.
    pub(super) scope: Scope,
    /// Requests in flight that apply objects.
    pub(super) concurrency: usize,
    pub(super) home: Client,
    pub(super) home_uid: HomeUid,
    pub(super) wake: mpsc::UnboundedSender<Owner>,
}

impl Connection {
    /// Begins to connect.
    pub(super) fn open(parts: Parts) -> Self {
        let shared = Arc::new(Shared {
            server: parts.server.clone(),
            gate: Arc::clone(&parts.gate),
            cluster: OnceLock::new(),
            users: Mutex::default(),
            replaced: AtomicBool::new(false),
            wake: parts.wake.clone(),
        });
        let task = tokio::spawn(attend(Arc::clone(&shared), parts)).abort_handle();
        Self { shared, task }
    }

    /// The URL of the cluster.
    pub fn server(&self) -> &str {
        &self.shared.server
    }

    /// The cluster, once it has been reached.
    pub fn cluster(&self) -> Option<Arc<TargetCluster>> {
        self.shared.cluster.get().cloned()
    }

    /// How it stands.
    pub fn state(&self) -> State {
        match (self.shared.gate.passage(), self.cluster()) {
            (Passage::Shut(why), _) => State::Away(why),
            (Passage::Open, Some(cluster)) => State::Up(cluster),
            _ => State::Connecting,
        }
    }

    /// Waits until it is known how it stands, but not for long.
    pub async fn settled(&self, limit: Duration) -> State {
        // `Err`: it is not known yet.
        drop(tokio::time::timeout(limit, self.shared.gate.known()).await);
        self.state()
    }

    /// A Kustomization is applied there.
    pub fn join(&self, owner: &Owner) {
        self.users().insert(owner.clone());
    }

    /// It is no longer.
    pub fn leave(&self, owner: &Owner) {
        self.users().remove(owner);
        if let Some(cluster) = self.cluster() {
            cluster.forget_owner(owner);
        }
    }

    /// Whether the URL leads to another cluster by now: a new connection has to be made.
    pub(super) fn is_replaced(&self) -> bool {
        self.shared.replaced.load(Ordering::Relaxed)
    }

    fn users(&self) -> std::sync::MutexGuard<'_, HashSet<Owner>> {
        self.shared.users.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        tracing::debug!(
            server = self.shared.server,
            "the connection to a cluster is closed"
        );
        self.task.abort();
    }
}

impl Shared {
    fn tell(&self, passage: Passage) {
        if !self.gate.set(passage) {
            return;
        }
        let users = self.users();
        for owner in users.iter() {
            // `Err`: the process is stopping.
            drop(self.wake.send(owner.clone()));
        }
    }

    fn users(&self) -> std::sync::MutexGuard<'_, HashSet<Owner>> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Everything that runs for a connection; ends with it.
async fn attend(shared: Arc<Shared>, parts: Parts) {
    let mut tasks = JoinSet::new();
    let mut failures = 0;
    loop {
        match parts.probe().await {
            Ok(id) => {
                match shared.cluster.get() {
                    None => {
                        let cluster = parts.cluster(id);
                        // `Err`: it is set already, which only this task does.
                        drop(shared.cluster.set(Arc::clone(&cluster)));
                        accompany(&mut tasks, &parts, cluster);
                    }
                    Some(cluster) if !cluster.id.is(&id) => {
                        shared.replaced.store(true, Ordering::Relaxed);
                        shared.tell(Passage::Shut(Arc::from("another cluster answers there now")));
                        return;
                    }
                    Some(cluster) => {
                        shared.tell(Passage::Open);
                        if failures > 0 {
                            cluster.watches.restart();
                        }
                    }
                }
                failures = 0;
                shared.tell(Passage::Open);
                shared.gate.suspected().await;
                tokio::time::sleep(AGAIN).await;
            }
            Err(why) => {
                failures += 1;
                shared.tell(Passage::Shut(Arc::from(why)));
                let delay = backoff::jitter(AWAY.delay(failures), 20, rand::random());
                tokio::time::sleep(delay).await;
            }
        }
    }
}

/// Starts what goes on beside. New kinds are noticed where the account may see them; elsewhere they are asked for at the retry
/// interval.
fn accompany(tasks: &mut JoinSet<()>, parts: &Parts, cluster: Arc<TargetCluster>) {
    let (changed, news) = mpsc::unbounded_channel();
    let client = parts.client.clone();
    tasks.spawn(target::starting(Arc::clone(&cluster.live)));
    tasks.spawn(async move { watch::crds(client, changed, Refused::IsFinal).await });
    tasks.spawn(unpark::unpark(cluster, news, parts.wake.clone()));
}

impl Parts {
    fn cluster(&self, id: ClusterId) -> Arc<TargetCluster> {
        let live = Arc::new(Live::default());
        let wake = self.wake.clone();
        Arc::new(TargetCluster {
            id,
            client: self.client.clone(),
            config: None,
            observer: None,
            kinds: Kinds::new(self.client.clone()),
            watches: Watches::new(self.client.clone(), self.scope.clone(), Arc::clone(&live), wake),
            live,
            in_flight: Semaphore::new(self.concurrency),
            parked: Mutex::default(),
            kinds_news: AtomicU64::new(0),
            impersonated: Mutex::default(),
        })
    }

    /// Whether the cluster answers, and which one it is. The error is for people.
    async fn probe(&self) -> Result<ClusterId, String> {
        let asking = async {
            self.acting
                .apiserver_version()
                .await
                .map_err(|error| describe(&error))?;
            let uid = match uid(&self.own).await? {
                None => uid(&self.acting).await?,
                known => known,
            };
            let home = self.home_uid.get_or_try_init(|| uid_of_home(&self.home)).await;
            // What is not known of our own cluster now is asked for at the next time.
            Ok::<_, String>(if uid.is_some() && home.is_ok_and(|home| *home == uid) {
                ClusterId::Home
            } else {
                ClusterId::Remote {
                    uid,
                    server: self.server.clone(),
                }
            })
        };
        tokio::time::timeout(PROBE, asking)
            .await
            .unwrap_or_else(|_| Err("it does not answer in time".into()))
    }
}

/// What tells clusters apart; `None` where it may not be read.
async fn uid(client: &Client) -> Result<Option<String>, String> {
    match Api::<Namespace>::all(client.clone())
        .get_metadata("kube-system")
        .await
    {
        Ok(namespace) => Ok(namespace.metadata.uid),
        Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404) => Ok(None),
        Err(error) => Err(describe(&error)),
    }
}

async fn uid_of_home(client: &Client) -> Result<Option<String>, String> {
    tokio::time::timeout(PROBE, uid(client))
        .await
        .unwrap_or_else(|_| Err("our own cluster does not answer".into()))
}

/// What a failure means for whoever has to do something about it.
fn describe(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if status.code == 401 => NOT_ACCEPTED.into(),
        kube::Error::Api(status) if status.code == 403 => format!("it refuses: {}", status.message),
        kube::Error::Api(status) => format!("it answers {}: {}", status.code, status.message),
        other if is_timeout(other) => "it does not answer in time".into(),
        other => chain(other),
    }
}

fn is_timeout(error: &(dyn std::error::Error + 'static)) -> bool {
    let is = |error: &std::io::Error| error.kind() == std::io::ErrorKind::TimedOut;
    error.downcast_ref().is_some_and(is) || error.source().is_some_and(is_timeout)
}

/// The messages of an error and its sources, each once.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        source = error.source();
    }
    text.strip_prefix("ServiceError: ")
        .map_or(text.clone(), str::to_owned)
}
