//! Mirrors: one directory per repository URL and credentials, shared by all who use them.

use std::{
    collections::{HashMap, HashSet},
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use super::{
    CommitId, GitError, Polled, Reference, Remote, Resolved, Signed, Snapshot, Tag, TagId,
    fetch::{Wanted, fetch_into, object_format},
    generation::{Generation, PACKS, remove},
    listed::Listings,
    reference::ListedRef,
    signed,
    transport::{Guard, Session},
};

/// Name of the file that is locked while a process uses the directory.
const LOCK: &str = "lock";
/// How directories begin that nobody needs after a crash.
const SCRATCH: &str = "scratch-";
/// So long a process waits for another one to end.
const OTHER_PROCESS: Duration = Duration::from_secs(5);

/// All mirrors below one directory. Cloning shares them.
#[derive(Clone)]
pub struct Mirrors {
    directory: PathBuf,
    lock: Arc<File>,
    open: Arc<Mutex<HashMap<String, Weak<Shared>>>>,
    interrupt: Arc<AtomicBool>,
}

/// A repository and its mirror. Calls block; those that write are serialised with all others of the same mirror.
#[derive(Clone)]
pub struct Mirror {
    remote: Remote,
    shared: Arc<Shared>,
    interrupt: Arc<AtomicBool>,
}

/// Lives as long as a mirror or a snapshot of it: two of these for one directory would remove each other's files.
pub(super) struct Shared {
    directory: PathBuf,
    /// Keeps other processes out.
    _lock: Arc<File>,
    /// Held for the length of a fetch.
    writer: Mutex<()>,
    current: Mutex<Option<Arc<Generation>>>,
    /// What the server said there is.
    pub(super) listed: Listings,
}

impl Mirrors {
    /// Uses (and makes) the directory `git` below `storage`. One process at a time: another one is waited for a few
    /// seconds, because it may be about to end.
    pub fn new(storage: &Path) -> Result<Self, GitError> {
        let directory = storage.join("git");
        fs::create_dir_all(&directory).map_err(GitError::storage("create", &directory))?;
        let lock = lock(&directory)?;
        Ok(Self {
            directory,
            lock: Arc::new(lock),
            open: Arc::default(),
            interrupt: Arc::default(),
        })
    }

    /// The mirror of `remote`; its directory is made by the first fetch. Nothing is connected.
    pub fn open(&self, remote: Remote) -> Result<Mirror, GitError> {
        let key = remote.fingerprint();
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, mirror| mirror.strong_count() > 0);
        let shared = if let Some(shared) = open.get(&key).and_then(Weak::upgrade) {
            shared
        } else {
            let shared = Arc::new(Shared::open(self.directory.join(&key), Arc::clone(&self.lock))?);
            open.insert(key, Arc::downgrade(&shared));
            shared
        };
        Ok(Mirror {
            remote,
            shared,
            interrupt: Arc::clone(&self.interrupt),
        })
    }

    /// Removes the directories of all mirrors that are neither open nor named in `keep` (by
    /// [`Remote::fingerprint`]). Returns how many went.
    pub fn prune(&self, keep: &HashSet<String>) -> Result<usize, GitError> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let mut removed = 0;
        let entries = fs::read_dir(&self.directory).map_err(GitError::storage("read", &self.directory))?;
        for entry in entries.flatten() {
            let key = entry.file_name().to_string_lossy().into_owned();
            if key != LOCK
                && !keep.contains(&key)
                && open.get(&key).is_none_or(|mirror| mirror.strong_count() == 0)
            {
                remove(&entry.path())?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// Makes all running and later operations end early with [`GitError::Interrupted`]: for the end of the process.
    /// A server that is silent is waited for until its timeout all the same.
    pub fn interrupt(&self) {
        self.interrupt.store(true, Ordering::Relaxed);
    }
}

/// Locks the directory for this process. The system gives the lock back when the process ends, however it ends.
fn lock(directory: &Path) -> Result<File, GitError> {
    let path = directory.join(LOCK);
    let file = File::create(&path).map_err(GitError::storage("create", &path))?;
    let until = Instant::now() + OTHER_PROCESS;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => return Err(GitError::storage("lock", path)(error)),
            Err(TryLockError::WouldBlock) if Instant::now() > until => {
                return Err(GitError::StorageInUse(directory.to_owned()));
            }
            Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(50)),
        }
    }
}

impl Shared {
    fn open(directory: PathBuf, lock: Arc<File>) -> Result<Self, GitError> {
        let mut numbers: Vec<u64> = match fs::read_dir(&directory) {
            Ok(entries) => entries
                .flatten()
                .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
                .collect(),
            Err(_) => Vec::new(),
        };
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(SCRATCH) {
                remove(&entry.path())?;
            }
        }
        numbers.sort_unstable();
        let mut current = None;
        for number in numbers.into_iter().rev() {
            if current.is_none() {
                current = Generation::open(&directory, number);
                if current.is_some() {
                    continue;
                }
                tracing::info!(directory = %directory.display(), number, "an unfinished or damaged mirror is removed");
            }
            remove(&directory.join(number.to_string()))?;
        }
        Ok(Self {
            directory,
            _lock: lock,
            writer: Mutex::new(()),
            current: Mutex::new(current.map(Arc::new)),
            listed: Listings::default(),
        })
    }

    fn current(&self) -> MutexGuard<'_, Option<Arc<Generation>>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn holding(&self, commit: CommitId) -> Option<Arc<Generation>> {
        let current = self.current().clone()?;
        (!current.is_damaged() && current.contains(commit)).then_some(current)
    }
}

impl Mirror {
    /// Where the mirror leads.
    pub const fn remote(&self) -> &Remote {
        &self.remote
    }

    /// Asks the server what `reference` stands for now: one query for just the references that matter, none at all
    /// for a fixed commit. Nothing is written.
    pub fn resolve(&self, reference: &Reference) -> Result<Resolved, GitError> {
        self.resolve_since(reference, Instant::now())
            .map(|polled| polled.resolved)
    }

    /// As [`Self::resolve`], but takes what the server told another user of the mirror after `since`.
    pub fn resolve_since(&self, reference: &Reference, since: Instant) -> Result<Polled, GitError> {
        let Some(prefix) = reference.prefix() else {
            let resolved = reference
                .select(&[])
                .ok_or_else(|| reference.not_found(&self.remote.url, &[]))?;
            return Ok(Polled {
                resolved,
                at: Instant::now(),
                shared: false,
            });
        };
        let ask = |prefixes: &[&str]| self.list(prefixes);
        let (mut listed, mut shared) = self.shared.listed.since(&prefix, since, ask)?;
        if shared && reference.select(&listed.refs).is_none() {
            // It may be newer than what somebody else was told.
            (listed, shared) = self.shared.listed.since(&prefix, Instant::now(), ask)?;
        }
        if let Some(resolved) = reference.select(&listed.refs) {
            return Ok(Polled {
                resolved,
                at: listed.at,
                shared,
            });
        }
        // Only to say what there is instead.
        let existing = self.list(&["refs/heads/", "refs/tags/"])?;
        if existing.is_empty() {
            return Err(GitError::Empty {
                url: self.remote.url.to_string(),
            });
        }
        Err(reference.not_found(&self.remote.url, &existing))
    }

    fn list(&self, prefixes: &[&str]) -> Result<Vec<ListedRef>, GitError> {
        let mut session = Session::connect(&self.remote, self.guard())?;
        session.list(prefixes).map_err(|error| session.fail(&error))
    }

    /// Makes sure that the commit is here. No request if it is.
    pub fn fetch(&self, resolved: &Resolved) -> Result<(), GitError> {
        if self.has(resolved) {
            return Ok(());
        }
        let _writer = self.shared.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if self.has(resolved) {
            return Ok(());
        }
        let guard = self.guard();
        let session = Session::connect(&self.remote, Arc::clone(&guard))?;
        let kind = object_format(&session)?;
        let usable =
            self.shared.current().clone().filter(|current| {
                !current.is_damaged() && current.kind == kind && current.pack_count() < PACKS
            });
        if let Some(current) = usable {
            match fetch_into(&current, session, &Wanted::Files(resolved)) {
                Ok(()) => return Ok(()),
                // What we said we have may not be what the server thinks we have: ask for everything, once.
                Err(error @ (GitError::Protocol { .. } | GitError::Corrupt(_))) => {
                    tracing::info!(url = %self.remote.url, %error, "the incremental fetch failed: fetching anew");
                }
                Err(error) => return Err(error),
            }
            let session = Session::connect(&self.remote, guard)?;
            return self.fetch_anew(session, kind, resolved);
        }
        self.fetch_anew(session, kind, resolved)
    }

    fn fetch_anew(
        &self,
        session: Session,
        kind: gix_hash::Kind,
        resolved: &Resolved,
    ) -> Result<(), GitError> {
        let number = self.shared.current().as_ref().map_or(0, |current| current.number) + 1;
        let new = Generation::create(&self.shared.directory, number, kind)?;
        if let Err(error) = fetch_into(&new, session, &Wanted::Files(resolved)) {
            new.retire();
            return Err(error);
        }
        if let Some(old) = self.shared.current().replace(Arc::new(new)) {
            old.retire();
        }
        Ok(())
    }

    /// Whether the commit is here.
    pub fn contains(&self, commit: CommitId) -> bool {
        self.shared.holding(commit).is_some()
    }

    /// Whether the commit and the tag that led to it are here.
    fn has(&self, resolved: &Resolved) -> bool {
        self.shared
            .holding(resolved.commit)
            .is_some_and(|current| resolved.tag.is_none_or(|tag| current.contains_tag(tag)))
    }

    /// What is signed of a commit that was fetched.
    pub fn signed_commit(&self, commit: CommitId) -> Result<Signed, GitError> {
        signed::commit(&*self.fetched(commit)?, commit)
    }

    /// The tag object that led to the commit, which was fetched with it.
    pub fn tag(&self, commit: CommitId, tag: TagId) -> Result<Tag, GitError> {
        signed::tag(&*self.fetched(commit)?, tag)
    }

    pub(super) fn fetched(&self, commit: CommitId) -> Result<Arc<Generation>, GitError> {
        self.shared
            .holding(commit)
            .ok_or_else(|| GitError::Corrupt(format!("commit '{commit}' is not in it")))
    }

    /// A view of the commit that stays readable whatever happens to the mirror. The commit must have been fetched.
    pub fn snapshot(&self, commit: CommitId) -> Result<Snapshot, GitError> {
        Snapshot::new(self.fetched(commit)?, Arc::clone(&self.shared), commit)
    }

    /// A directory for what is needed for a moment; it goes with the returned value.
    pub(super) fn scratch(&self) -> Result<tempfile::TempDir, GitError> {
        let directory = &self.shared.directory;
        tempfile::Builder::new()
            .prefix(SCRATCH)
            .tempdir_in(directory)
            .map_err(GitError::storage("create", directory))
    }

    pub(super) fn guard(&self) -> Arc<Guard> {
        Guard::new(
            self.remote.url.clone(),
            self.remote.timeout,
            Arc::clone(&self.interrupt),
        )
    }
}
