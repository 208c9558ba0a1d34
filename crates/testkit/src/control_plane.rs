//! etcd, kube-apiserver and kube-controller-manager: a real control plane in a directory.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow, bail};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::{Api, Client};

use crate::{
    audit::AuditLog,
    binaries::Binaries,
    components::{self, Ports, Reach},
    directory::{self, Process},
    leash::Leash,
    node,
    progress::say,
};

/// Ready takes about 3 s; this much on a machine that is busy compiling.
const READY: Duration = Duration::from_mins(2);
/// A port may be taken between finding and using it.
const ATTEMPTS: usize = 5;
/// What all three programs say when a port is taken.
const PORT_TAKEN: &str = "address already in use";

/// A control plane that ends with this value, or with the process that holds it.
///
/// Its directory then has `admin.conf` (a kubeconfig for `system:masters`), `audit.log` (one line a request),
/// `bin` (the programs), `logs` and `pids.json`. The methods block; they may be called from async tests.
#[derive(Debug)]
pub struct ControlPlane {
    dir: PathBuf,
    binaries: Binaries,
    ports: Ports,
    reach: Reach,
    running: Mutex<Vec<Running>>,
    /// What is not a child of this process, and ends with one of those that are.
    others: Mutex<Vec<Process>>,
    /// `None` once the control plane was left to itself.
    leash: Option<Leash>,
}

#[derive(Debug)]
struct Running {
    name: &'static str,
    child: Child,
}

impl ControlPlane {
    /// Subdirectory for what is not the control plane's own; removed by [`crate::down`].
    pub const WORK: &'static str = "work";

    /// Starts a control plane in `dir`, which must be new, empty or left by an ended one, and waits until it works.
    pub fn start(dir: &Path) -> anyhow::Result<Self> {
        Self::start_on(dir, Reach::Loopback, Leash::new)
    }

    /// As [`ControlPlane::start`], with a node that is about to be ready.
    pub(crate) fn start_with_node(dir: &Path) -> anyhow::Result<Self> {
        Self::start_on(dir, Reach::Node, Leash::new)
    }

    /// As [`ControlPlane::start`], in a new temporary directory that is removed with it, however this process ends.
    pub fn start_temporary() -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("plumbline-cluster-")
            .tempdir()
            .context("cannot create a temporary directory")?
            .keep();
        Self::start_on(&dir, Reach::Loopback, || Leash::removing(&dir))
    }

    fn start_on(dir: &Path, reach: Reach, leash: impl Fn() -> anyhow::Result<Leash>) -> anyhow::Result<Self> {
        let binaries = match reach {
            Reach::Loopback => Binaries::find()?,
            Reach::Node => Binaries::find_with_node()?,
        };
        fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let dir = fs::canonicalize(dir).with_context(|| format!("cannot find {}", dir.display()))?;
        let mut attempt = 1;
        loop {
            directory::claim(&dir)?;
            let plane = Self {
                dir: dir.clone(),
                binaries: binaries.clone(),
                ports: Ports::free().context("no free port on 127.0.0.1")?,
                reach,
                running: Mutex::default(),
                others: Mutex::default(),
                leash: Some(leash()?),
            };
            match plane.bring_up() {
                Ok(()) => return Ok(plane),
                Err(error) if attempt < ATTEMPTS && format!("{error:#}").contains(PORT_TAKEN) => attempt += 1,
                Err(error) => return Err(error),
            }
        }
    }

    fn bring_up(&self) -> anyhow::Result<()> {
        directory::furnish(&self.dir, &self.binaries, self.ports.apiserver, self.reach)?;
        if self.reach == Reach::Node {
            node::enclose(self)?;
        }
        let mut etcd = components::etcd(&self.binaries, &self.dir, self.ports);
        self.launch("etcd", &mut etcd)?;
        self.start_apiserver()?;
        let mut manager = components::controller_manager(&self.binaries, &self.dir);
        self.launch("kube-controller-manager", &mut manager)?;
        if self.reach == Reach::Node {
            node::begin(self, &self.binaries)?;
        }
        self.await_client("the default ServiceAccount", async |client| {
            let accounts: Api<ServiceAccount> = Api::namespaced(client, "default");
            accounts.get("default").await.map(drop)
        })
    }

    /// The kubeconfig of an administrator.
    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.join("admin.conf")
    }

    /// The directory it was started in.
    /// Programs beside the control plane keep their files in its subdirectory [`ControlPlane::WORK`].
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What clients have asked for since the start.
    pub fn audit_log(&self) -> AuditLog {
        AuditLog::new(self.dir.join("audit.log"))
    }

    /// Kills the API server, as an outage would. etcd keeps what was stored.
    pub fn stop_apiserver(&self) -> anyhow::Result<()> {
        let mut running = self.running();
        let at = running
            .iter()
            .position(|one| one.name == "kube-apiserver")
            .context("the API server is not running")?;
        let mut stopped = running.swap_remove(at);
        stopped.child.kill().context("cannot kill the API server")?;
        stopped.child.wait().context("lost sight of the API server")?;
        self.record(&running)
    }

    /// Starts the API server on the port it had, and waits until it is ready.
    pub fn start_apiserver(&self) -> anyhow::Result<()> {
        if self.running().iter().any(|one| one.name == "kube-apiserver") {
            bail!("the API server is running already");
        }
        let mut apiserver = components::apiserver(&self.binaries, &self.dir, self.ports, self.reach);
        self.launch("kube-apiserver", &mut apiserver)?;
        self.await_client("the API server's /readyz", async |client| {
            let request = http::Request::get("/readyz")
                .body(vec![])
                .map_err(kube::Error::HttpError)?;
            client.request_text(request).await.map(drop)
        })
    }

    /// Ends everything it started. Logs and the audit log stay in the directory. Dropping it does the same.
    pub fn stop(self) {
        drop(self);
    }

    /// Leaves the control plane running on its own, until [`crate::down`] is called with its directory.
    pub fn leave_running(mut self) -> anyhow::Result<()> {
        let leash = self.leash.take().context("the control plane has ended")?;
        leash.release()?;
        // Dropping the handle of a child does not end it.
        self.running().clear();
        Ok(())
    }

    /// Runs another program beside the control plane, with its output in `logs`. It ends with the control plane.
    pub fn start_program(&self, name: &'static str, command: &mut Command) -> anyhow::Result<()> {
        self.launch(name, command).map(drop)
    }

    /// Starts a component and returns its process id.
    pub(crate) fn launch(&self, name: &'static str, command: &mut Command) -> anyhow::Result<u32> {
        let path = self.log_file(name);
        let log = File::options().create(true).append(true).open(&path);
        let log = log.with_context(|| format!("cannot write {}", path.display()))?;
        let again = log.try_clone().context("cannot share the log file")?;
        let leash = self.leash.as_ref().context("the control plane has ended")?;
        let child = leash.spawn(command.current_dir(&self.dir).stdout(log).stderr(again))?;
        let pid = child.id();
        let mut running = self.running();
        running.push(Running { name, child });
        self.record(&running)?;
        Ok(pid)
    }

    /// Remembers a process that a component has started, so that it can be ended when the component is gone.
    pub(crate) fn record_also(&self, name: &str, pid: u32) -> anyhow::Result<()> {
        self.others().push(Process::new(name, pid)?);
        self.record(&self.running())
    }

    fn record(&self, running: &[Running]) -> anyhow::Result<()> {
        let processes: Result<Vec<_>, _> = running
            .iter()
            .map(|one| Process::new(one.name, one.child.id()))
            .collect();
        let mut processes = processes?;
        processes.extend(self.others().iter().cloned());
        directory::record(&self.dir, &processes)
    }

    /// Calls `ask` with an administrator's client until it succeeds. The client lives on a thread and a runtime
    /// of its own, so that callers may be asynchronous or not.
    pub(crate) fn await_client(
        &self,
        what: &str,
        ask: impl AsyncFn(Client) -> Result<(), kube::Error> + Sync,
    ) -> anyhow::Result<()> {
        let waiting = || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            let client = runtime.block_on(crate::world::client(&self.kubeconfig(), "plumbline-testkit"))?;
            let deadline = Instant::now() + READY;
            loop {
                let answer = runtime.block_on(async {
                    tokio::time::timeout(Duration::from_secs(5), ask(client.clone())).await
                });
                let state = match answer {
                    Ok(Ok(())) => return Ok(()),
                    Ok(Err(error)) => anyhow!(error),
                    Err(_) => anyhow!("no answer in 5 s"),
                };
                self.check_alive()?;
                if Instant::now() > deadline {
                    let what = format!("waited {READY:?} for {what}; see {}/logs", self.dir.display());
                    return Err(state.context(what));
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        };
        std::thread::scope(|scope| scope.spawn(waiting).join())
            .map_err(|_| anyhow!("the thread that waited for {what} panicked"))?
    }

    /// Fails with the end of its log for the first component or program that has ended by itself.
    pub fn check_alive(&self) -> anyhow::Result<()> {
        for one in self.running().iter_mut() {
            if let Some(status) = one.child.try_wait().context("lost sight of a component")? {
                let log = fs::read_to_string(self.log_file(one.name)).unwrap_or_default();
                let lines: Vec<_> = log.lines().collect();
                let tail = lines.get(lines.len().saturating_sub(15)..).unwrap_or_default();
                bail!(
                    "{} ended ({status}); the end of its log:\n{}",
                    one.name,
                    tail.join("\n")
                );
            }
        }
        Ok(())
    }

    fn log_file(&self, name: &str) -> PathBuf {
        self.dir.join("logs").join(format!("{name}.log"))
    }

    fn running(&self) -> MutexGuard<'_, Vec<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn others(&self) -> MutexGuard<'_, Vec<Process>> {
        self.others.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        // The API server's clients first, its store last. An error means that it has ended already.
        for mut one in self.running().drain(..).rev() {
            drop(one.child.kill());
            drop(one.child.wait());
        }
        // One that was left running has no leash any more.
        if self.reach == Reach::Node && self.leash.is_some() {
            let others = self.others();
            let alive = || others.iter().any(Process::alive);
            let deadline = Instant::now() + READY;
            while alive() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(20));
            }
            if let Err(error) = node::clean_up(&self.dir) {
                say(format_args!("the node left something behind: {error:#}"));
            }
        }
    }
}
