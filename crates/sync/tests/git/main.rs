//! The Git module against real Git servers.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod bad_servers;
mod chains;
mod collisions;
mod files;
mod history;
mod hostile;
mod mirrors;
mod places;
mod proxies;
mod references;
mod secure;
mod signatures;
mod views;

use std::{path::Path, time::Duration};

use plumbline_sync::git::{
    Credentials, FileUrls, GitError, IgnoreRules, Listing, Mirror, Mirrors, Reference, ReferenceSpec, Remote,
    RemoteUrl, RepoPath, Resolved, Secret, Snapshot,
};
use plumbline_testkit::git::{GitServer, Repository};
use tempfile::TempDir;

/// A repository with one commit, a server for it, and a place for mirrors.
struct World {
    repository: Repository,
    server: GitServer,
    mirrors: Option<Mirrors>,
    directory: TempDir,
}

impl World {
    fn new() -> Self {
        let world = Self::empty();
        world.repository.write("deploy/a.yaml", "a: 1\n").unwrap();
        world.repository.commit("first").unwrap();
        world
    }

    fn empty() -> Self {
        let directory = TempDir::new().unwrap();
        let repository = Repository::init(directory.path()).unwrap();
        let server = GitServer::http(&repository).unwrap();
        let mirrors = Some(Mirrors::new(&directory.path().join("storage")).unwrap());
        Self {
            repository,
            server,
            mirrors,
            directory,
        }
    }

    fn mirrors(&self) -> &Mirrors {
        self.mirrors.as_ref().unwrap()
    }

    fn mirror(&self) -> Mirror {
        self.mirrors().open(remote(&self.server.url())).unwrap()
    }

    /// What a process does that ends. Another one may use the storage then.
    fn release(&mut self) {
        self.mirrors = None;
    }

    /// What a process does that starts.
    fn start(&mut self) {
        self.release();
        self.mirrors = Some(Mirrors::new(&self.storage()).unwrap());
    }

    fn storage(&self) -> std::path::PathBuf {
        self.directory.path().join("storage")
    }
}

fn remote(url: &str) -> Remote {
    let mut remote = Remote::new(RemoteUrl::parse(url, FileUrls::Allowed).unwrap());
    remote.timeout = Duration::from_secs(20);
    remote
}

fn basic(username: &str, password: &str) -> Credentials {
    Credentials::Basic {
        username: username.to_owned(),
        password: Secret::new(password),
    }
}

fn branch(name: &str) -> Reference {
    Reference::from_spec(ReferenceSpec {
        branch: Some(name),
        ..Default::default()
    })
    .unwrap()
}

/// Resolves and fetches `main`.
fn sync(mirror: &Mirror) -> Result<(Resolved, Snapshot), GitError> {
    let resolved = mirror.resolve(&branch("main"))?;
    mirror.fetch(&resolved)?;
    let snapshot = mirror.snapshot(resolved.commit)?;
    Ok((resolved, snapshot))
}

fn path(path: &str) -> RepoPath {
    RepoPath::parse(path).unwrap()
}

fn list(snapshot: &Snapshot, directory: &str) -> Listing {
    snapshot.files(&path(directory), &IgnoreRules::default()).unwrap()
}

fn paths(listing: &Listing) -> Vec<&str> {
    listing.files.iter().map(|file| file.path.as_str()).collect()
}

/// The text of the file at `path`.
fn text(snapshot: &Snapshot, path: &str) -> String {
    let listing = list(snapshot, "");
    let file = listing.files.iter().find(|file| file.path == path).unwrap();
    String::from_utf8(snapshot.read(file.blob, 1 << 20).unwrap()).unwrap()
}

/// All files below `directory`, with their sizes: to see that nothing was written.
fn contents(directory: &Path) -> Vec<(String, u64)> {
    let mut found = Vec::new();
    let mut todo = vec![directory.to_owned()];
    while let Some(directory) = todo.pop() {
        // A fetch may be at work: what goes while we look was never there.
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            if entry.path().is_dir() {
                todo.push(entry.path());
            }
            if let Ok(metadata) = entry.metadata() {
                found.push((entry.path().display().to_string(), metadata.len()));
            }
        }
    }
    found.sort();
    found
}
