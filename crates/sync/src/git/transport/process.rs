//! Git through a child process (`ssh`, or the local `git` for `file://`): bounded in time, its words kept for errors.

use std::{
    io::Read,
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
    time::Duration,
};

use gix_transport::{
    Protocol, Service,
    client::{
        self, MessageKind, TransportWithoutIO, WriteMode,
        blocking_io::{RequestWriter, SetServiceResponse, Transport},
        git::{ConnectMode, blocking_io::Connection},
    },
};

use super::super::{GitError, Remote};
use super::{Guard, guard::Guarded, private::PrivateDirectory};

/// So much of what a program says is kept.
const KEPT_WORDS: usize = 8 * 1024;
/// How often the watch looks at the wish to stop.
const WATCH: Duration = Duration::from_millis(100);

/// `git upload-pack` on a repository of this machine.
pub(super) fn local(remote: &Remote, guard: Arc<Guard>) -> Result<Spawned, GitError> {
    let mut command = Command::new("git");
    // The development flag says that this repository is trusted, whoever owns it.
    command
        .args(["-c", "safe.directory=*", "upload-pack", "--"])
        .arg(&remote.url.path);
    Spawned::start("git", command, guard, None, |url, words| {
        let reason = words.to_owned();
        if words.contains("not appear to be a git repository") || words.contains("not a git repository") {
            GitError::NotFound { url, reason }
        } else {
            GitError::Unreachable { url, reason }
        }
    })
}

/// Gives an error its type by what the program said.
pub(super) type Classify = fn(url: String, words: &str) -> GitError;

/// A connection through a child process, which ends with it.
pub(super) struct Spawned {
    // Dropped first: the program sees the end of its input.
    connection: Option<Connection<Guarded<std::process::ChildStdout>, ChildStdin>>,
    watch: Arc<Watch>,
    threads: Vec<thread::JoinHandle<()>>,
    guard: Arc<Guard>,
    classify: Classify,
    /// Files the program needs, removed at the end.
    _files: Option<PrivateDirectory>,
}

struct Watch {
    child: Mutex<Option<Child>>,
    done: Mutex<bool>,
    wake: Condvar,
    words: Mutex<Vec<u8>>,
}

impl Spawned {
    pub(super) fn start(
        program: &'static str,
        mut command: Command,
        guard: Arc<Guard>,
        files: Option<PrivateDirectory>,
        classify: Classify,
    ) -> Result<Self, GitError> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        command
            .env_clear()
            .env("PATH", path)
            .env("LC_ALL", "C")
            .env("GIT_PROTOCOL", "version=2")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_TERMINAL_PROMPT", "0")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some(directory) = &files {
            command.env("HOME", directory.path());
            let askpass = directory.path().join("askpass");
            if askpass.exists() {
                command
                    .env("SSH_ASKPASS", askpass)
                    .env("SSH_ASKPASS_REQUIRE", "force")
                    .env("DISPLAY", "none");
            }
        }
        let mut child = command
            .spawn()
            .map_err(|source| GitError::Program { program, source })?;
        let (Some(stdin), Some(stdout), Some(mut stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(GitError::Program {
                program,
                source: std::io::ErrorKind::BrokenPipe.into(),
            });
        };
        let watch = Arc::new(Watch {
            child: Mutex::new(Some(child)),
            done: Mutex::new(false),
            wake: Condvar::new(),
            words: Mutex::new(Vec::new()),
        });
        let listener = thread::spawn({
            let watch = Arc::clone(&watch);
            move || watch.listen(&mut stderr)
        });
        let watcher = thread::spawn({
            let (watch, guard) = (Arc::clone(&watch), Arc::clone(&guard));
            move || watch.guard(&guard)
        });
        let connection = Connection::new(
            Guarded {
                inner: stdout,
                guard: Arc::clone(&guard),
            },
            stdin,
            Protocol::V2,
            guard.url().path.as_str(),
            None::<(String, Option<u16>)>,
            ConnectMode::Process,
            false,
        );
        Ok(Self {
            connection: Some(connection),
            watch,
            threads: vec![listener, watcher],
            guard,
            classify,
            _files: files,
        })
    }

    fn connection(
        &mut self,
    ) -> Result<&mut Connection<Guarded<std::process::ChildStdout>, ChildStdin>, client::Error> {
        self.connection.as_mut().ok_or(client::Error::MissingHandshake)
    }

    /// What the program said, as the cause of a failure if there is one.
    fn keep_words(&self) {
        let words = self
            .watch
            .words
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let words = String::from_utf8_lossy(&words);
        let words = words.trim();
        if words.is_empty() {
            return;
        }
        let url = self.guard.url().to_string();
        let cause = (self.classify)(url, words);
        // Only looked at when the operation has failed.
        drop(self.guard.fail(cause));
    }

    fn end(&mut self) {
        *self.watch.done.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.watch.wake.notify_all();
        for thread in self.threads.drain(..) {
            // A thread that panicked has nothing left to do.
            drop(thread.join());
        }
    }
}

impl Watch {
    fn listen(&self, stderr: &mut impl Read) {
        let mut buffer = [0; 1024];
        while let Ok(count @ 1..) = stderr.read(&mut buffer) {
            let mut words = self.words.lock().unwrap_or_else(PoisonError::into_inner);
            let room = KEPT_WORDS.saturating_sub(words.len()).min(count);
            words.extend_from_slice(buffer.get(..room).unwrap_or_default());
        }
    }

    /// Kills the program when the time is up, the operation is to stop, or it is done and the program does not end.
    fn guard(&self, guard: &Guard) {
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        while !*done && guard.check().is_ok() {
            (done, _) = self
                .wake
                .wait_timeout(done, WATCH)
                .unwrap_or_else(PoisonError::into_inner);
        }
        drop(done);
        let Some(mut child) = self.child.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            return;
        };
        // With its input closed a healthy program ends by itself within moments.
        for _ in 0..20 {
            if guard.check().is_err() || !matches!(child.try_wait(), Ok(None)) {
                break;
            }
            thread::sleep(Duration::from_millis(10));
        }
        drop(child.kill());
        drop(child.wait());
    }
}

impl Drop for Spawned {
    fn drop(&mut self) {
        drop(self.connection.take());
        self.end();
        self.keep_words();
    }
}

impl TransportWithoutIO for Spawned {
    fn to_url(&self) -> std::borrow::Cow<'_, gix_transport::bstr::BStr> {
        std::borrow::Cow::Borrowed(self.guard.url().as_str().into())
    }

    fn connection_persists_across_multiple_requests(&self) -> bool {
        true
    }

    fn configure(&mut self, _config: &dyn std::any::Any) -> gix_error::Result<()> {
        Ok(())
    }
}

impl Transport for Spawned {
    fn handshake<'a>(
        &mut self,
        service: Service,
        extra_parameters: &'a [(&'a str, Option<&'a str>)],
    ) -> Result<SetServiceResponse<'_>, client::Error> {
        self.connection()?.handshake(service, extra_parameters)
    }

    fn request(
        &mut self,
        write_mode: WriteMode,
        on_into_read: MessageKind,
        trace: bool,
    ) -> Result<RequestWriter<'_>, client::Error> {
        self.connection()?.request(write_mode, on_into_read, trace)
    }
}
