//! From a directory with kustomization files to manifests, by the real `kustomize` program.
//!
//! ```text
//! spec + files ── merge (pure) ── inputs (pure: what is read, what is refused) ── run (child process) ── built (kept on disk)
//! ```

mod built;
mod inputs;
mod merge;
mod run;
mod sandbox;
mod tree;

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sha2::{Digest as _, Sha256};

pub use built::Built;
pub use inputs::KUSTOMIZATIONS;
pub use merge::{Split, split};
pub use tree::{Files, Tree};

use crate::{
    api::KustomizationSpec,
    git::{BlobId, IgnoreRules, RepoPath, Snapshot},
    manifest::{self, ContentDigest},
    observe::MAX_FILE,
};

/// Files of one build.
const FILES: usize = 20_000;
/// Bytes of one build.
const BYTES: usize = 128 << 20;
/// However long `spec.timeout` is, no build takes longer.
const LONGEST: Duration = Duration::from_mins(2);

/// Why there is no result. In words for the condition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BuildError(pub String);

impl BuildError {
    fn new<T>(message: impl Into<String>) -> Result<T, Self> {
        Err(Self(message.into()))
    }
}

/// The transformations of a spec: what only kustomize does.
#[derive(Clone, Debug, Default)]
pub struct Transformations(KustomizationSpec);

impl Transformations {
    /// Those of `spec`.
    pub fn of(spec: &KustomizationSpec) -> Self {
        Self(KustomizationSpec {
            target_namespace: spec.target_namespace.clone(),
            name_prefix: spec.name_prefix.clone(),
            name_suffix: spec.name_suffix.clone(),
            patches: spec.patches.clone(),
            images: spec.images.clone(),
            components: spec.components.clone(),
            ignore_missing_components: spec.ignore_missing_components,
            build_metadata: spec.build_metadata.clone(),
            ..KustomizationSpec::default()
        })
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        let spec = &self.0;
        spec.target_namespace.is_none()
            && spec.name_prefix.is_none()
            && spec.name_suffix.is_none()
            && spec.patches.is_empty()
            && spec.images.is_empty()
            && spec.components.is_empty()
            && spec.build_metadata.is_empty()
    }

    /// Tells them from others; `None` when there is none.
    pub fn digest(&self) -> Option<ContentDigest> {
        // A spec of strings can always be written as JSON.
        let json = (!self.is_empty()).then(|| serde_json::to_value(&self.0).unwrap_or_default());
        json.map(|json| manifest::digest(&json))
    }
}

/// What to build, and how long it may take.
#[derive(Clone, Copy)]
pub struct Job<'a> {
    /// The files.
    pub snapshot: &'a Snapshot,
    /// Which of them the source leaves out.
    pub ignore: &'a IgnoreRules,
    /// What is put into the kustomization file.
    pub transformations: &'a Transformations,
    /// `spec.timeout`.
    pub timeout: Duration,
}

/// Runs builds: a bounded number at a time, and none whose result is known.
pub struct Builder {
    program: PathBuf,
    directory: PathBuf,
    free: Mutex<usize>,
    freed: Condvar,
    stopping: AtomicBool,
    known: Mutex<HashMap<[u8; 32], Weak<Built>>>,
}

/// How often those that wait for their turn see whether the process stops.
const LOOK: Duration = Duration::from_millis(200);

impl Builder {
    /// `program` is kustomize, a name to be found on the PATH or a path. Results are kept in `directory`, which is made, and
    /// may be lost: then they are built anew.
    pub fn new(program: PathBuf, directory: &Path, concurrent: u16) -> std::io::Result<Self> {
        std::fs::create_dir_all(directory)?;
        let directory = directory.canonicalize()?;
        built::sweep(&directory);
        Ok(Self {
            program,
            directory,
            free: Mutex::new(concurrent.max(1).into()),
            freed: Condvar::new(),
            stopping: AtomicBool::new(false),
            known: Mutex::default(),
        })
    }

    /// The process stops: builds end at once.
    pub fn interrupt(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.freed.notify_all();
    }

    /// Blocking: builds the directory `root`, unless the result of the very same inputs is known.
    pub fn build(&self, root: &RepoPath, job: &Job<'_>) -> Result<Arc<Built>, BuildError> {
        let mut list = |directory: &RepoPath| tree::list(job.snapshot, job.ignore, directory);
        let mut content = |path: &str, blob: BlobId| read(job.snapshot, path, blob);
        let mut tree = Tree::new(&mut list, &mut content);
        let merged = merge::root(root, &job.transformations.0, &mut tree)?;
        let found = inputs::find(root, merged.name, &merged.file, &mut tree)?;
        if found.len() > FILES {
            return BuildError::new(format!(
                "the build reads {} files, which are more than {FILES}",
                found.len()
            ));
        }
        let root_path = join(root.as_str(), merged.name);
        let content = merged.file.to_string();
        let digest = digest(&found, &root_path, &content);
        if let Some(known) = self.known(&digest) {
            return Ok(known);
        }
        let mut inputs: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        let mut bytes = content.len();
        for (path, blob) in found {
            let content = read(job.snapshot, &path, blob)?;
            bytes += content.len();
            if bytes > BYTES {
                return BuildError::new(format!("the build reads more than {} MiB", BYTES >> 20));
            }
            inputs.insert(path, content);
        }
        inputs.insert(root_path, content.into_bytes());
        let _turn = self.turn()?;
        // Another Kustomization may have built the same meanwhile.
        if let Some(known) = self.known(&digest) {
            return Ok(known);
        }
        tracing::debug!(directory = %root, "kustomize build");
        let output = run::kustomize(
            &inputs,
            root,
            &run::Limits {
                program: &self.program,
                directory: &self.directory,
                timeout: job.timeout.min(LONGEST),
                stopping: &self.stopping,
            },
        )?;
        let objects = built::objects(&output, root, merged.keep_origins)?;
        let built = Built::store(&self.path(&digest), &objects).map_err(|error| {
            BuildError(format!(
                "the result of the build cannot be kept in --storage-path: {error}"
            ))
        })?;
        Ok(self.remember(digest, built))
    }

    fn known(&self, digest: &[u8; 32]) -> Option<Arc<Built>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(built) = known.get(digest).and_then(Weak::upgrade) {
            return Some(built);
        }
        drop(known);
        let built = Built::load(&self.path(digest))?;
        Some(self.remember(*digest, built))
    }

    fn remember(&self, digest: [u8; 32], built: Built) -> Arc<Built> {
        let built = Arc::new(built);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, built| built.strong_count() > 0);
        known.insert(digest, Arc::downgrade(&built));
        built
    }

    fn path(&self, digest: &[u8; 32]) -> PathBuf {
        self.directory.join(built::hex(digest))
    }

    fn turn(&self) -> Result<Turn<'_>, BuildError> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        while *free == 0 {
            if self.stopping.load(Ordering::Relaxed) {
                return BuildError::new("the process stops");
            }
            let waited = self.freed.wait_timeout(free, LOOK);
            free = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        *free -= 1;
        Ok(Turn(self))
    }
}

struct Turn<'b>(&'b Builder);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.freed.notify_one();
    }
}

fn read(snapshot: &Snapshot, path: &str, blob: BlobId) -> Result<Vec<u8>, BuildError> {
    let content = snapshot.read(blob, MAX_FILE);
    content.map_err(|error| BuildError(format!("{path}: {error}")))
}

fn join(directory: &str, name: &str) -> String {
    if directory.is_empty() {
        name.to_owned()
    } else {
        format!("{directory}/{name}")
    }
}

/// The last part of a path.
pub fn name(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

fn digest(files: &Files, root: &str, content: &str) -> [u8; 32] {
    let mut hasher = Sha256::new();
    let mut add = |text: &str| {
        hasher.update((text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    };
    add(root);
    add(content);
    for (path, blob) in files {
        add(path);
        add(&blob.to_string());
    }
    hasher.finalize().into()
}

#[cfg(test)]
mod tests;
