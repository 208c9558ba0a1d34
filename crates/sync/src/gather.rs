//! What Git wants under a path: plain manifests as they stand, directories with a kustomization file as kustomize builds them.

use std::{sync::Arc, time::Duration};

use crate::{
    build::{self, BuildError, Builder, Built, Job, Transformations},
    git::{BlobId, FileEntry, GitError, Listing, RepoPath, Snapshot},
    manifest::{Desired, Made, ParseCache, Problem, SourceFile, Variables, load},
    source::Artifact,
};

/// Larger manifest files are refused: with the API server's limit of 3 MiB a request, they are no manifests.
pub const MAX_FILE: u64 = 10 << 20;

/// Why a path cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It does not exist.
    #[error(
        "the path {0:?} does not exist at this revision: correct spec.path or push it; nothing is deleted"
    )]
    PathMissing(String),
    /// It cannot be read.
    #[error("the path {0:?} cannot be read: {1}; nothing is deleted")]
    Git(String, GitError),
    /// It cannot be built.
    #[error("{0}\nNothing is applied or deleted until it can be built")]
    Build(BuildError),
}

impl LoadError {
    /// For the condition Ready.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Build(_) => "BuildFailed",
            Self::PathMissing(_) | Self::Git(..) => "ArtifactFailed",
        }
    }
}

/// How directories with kustomization files are built.
pub struct Build<'a> {
    /// Runs kustomize.
    pub builder: &'a Builder,
    /// Of the spec.
    pub transformations: Transformations,
    /// `spec.timeout`.
    pub timeout: Duration,
}

/// Blocking: loads the manifests under `path`, and builds what has to be built.
///
/// With a kustomization file there, or transformations in the spec, all is one build. Otherwise plain manifests are taken as
/// they stand, and each directory below that has a kustomization file is a build of its own: Flux's rule with one build for
/// all of it, but what is wrong with one directory harms no other.
pub fn manifests(
    artifact: &Artifact,
    path: &str,
    how: &Build<'_>,
    variables: Option<Arc<Variables>>,
    cache: &mut ParseCache,
) -> Result<Desired, LoadError> {
    let failed = |error| LoadError::Git(path.to_owned(), error);
    let root = RepoPath::parse(path).map_err(failed)?;
    let snapshot = &artifact.snapshot;
    if snapshot.tree_id(&root).map_err(failed)?.is_none() {
        return Err(LoadError::PathMissing(path.to_owned()));
    }
    let listing = snapshot.files(&root, &artifact.ignore).map_err(failed)?;
    let job = Job {
        snapshot,
        ignore: &artifact.ignore,
        transformations: &how.transformations,
        timeout: how.timeout,
    };
    let gathered = if !how.transformations.is_empty() || has_kustomization(&root, &listing) {
        let built = how.builder.build(&root, &job).map_err(LoadError::Build)?;
        Gathered {
            files: built.files().to_vec(),
            built: vec![built],
            ..Gathered::default()
        }
    } else {
        Gathered::split(&root, &listing, how.builder, &job)
    };
    let Gathered {
        files,
        built,
        problems,
        build_failed,
    } = gathered;
    let mut desired = load(&files, variables, cache, |file| read(snapshot, &built, file.blob));
    desired.built = built;
    desired.build_failed = build_failed;
    desired.unreadable.extend(problems);
    Ok(desired)
}

/// A file of the repository, or an object that was built.
pub(crate) fn read(snapshot: &Snapshot, built: &[Arc<Built>], blob: BlobId) -> Result<Vec<u8>, String> {
    match built.iter().find_map(|built| built.read(blob)) {
        Some(read) => read.map_err(|error| format!("what kustomize built cannot be read: {error}")),
        None => snapshot.read(blob, MAX_FILE).map_err(|error| error.to_string()),
    }
}

fn has_kustomization(root: &RepoPath, listing: &Listing) -> bool {
    listing.files.iter().any(|file| {
        let path = RepoPath::parse(&file.path).ok();
        let directory = path.as_ref().and_then(RepoPath::split_last);
        build::KUSTOMIZATIONS.contains(&build::name(&file.path))
            && directory.is_some_and(|(at, _)| at == *root)
    })
}

#[derive(Default)]
struct Gathered {
    files: Vec<SourceFile>,
    built: Vec<Arc<Built>>,
    problems: Vec<Problem>,
    build_failed: bool,
}

impl Gathered {
    fn split(root: &RepoPath, listing: &Listing, builder: &Builder, job: &Job<'_>) -> Self {
        let paths = listing.files.iter().map(|file| file.path.as_str());
        let split = build::split(root, paths);
        let mut gathered = Self::default();
        let mut manifests = split.manifests.into_iter().peekable();
        for FileEntry { path, blob, .. } in &listing.files {
            if manifests.next_if(|manifest| manifest == path).is_some() {
                gathered.files.push(SourceFile {
                    path: Arc::from(path.as_str()),
                    blob: *blob,
                    made: Made::Written,
                });
            }
        }
        let is_built = |path: &str| {
            RepoPath::parse(path).is_ok_and(|path| split.directories.iter().any(|above| path.is_in(above)))
        };
        for problem in listing.problems.iter().filter(|problem| !is_built(&problem.path)) {
            gathered.problems.push(Problem {
                at: problem.path.clone(),
                message: problem.reason.clone(),
            });
        }
        for directory in &split.directories {
            match builder.build(directory, job) {
                Ok(built) => {
                    gathered.files.extend(built.files().iter().cloned());
                    gathered.built.push(built);
                }
                Err(BuildError(message)) => {
                    gathered.build_failed = true;
                    // Most messages begin with a place, which is what a problem is found by.
                    let (at, message) = match message.split_once(": ") {
                        Some((at, message)) if at.starts_with(directory.as_str()) => {
                            (at.to_owned(), message.to_owned())
                        }
                        _ => (directory.to_string(), message),
                    };
                    gathered.problems.push(Problem { at, message });
                }
            }
        }
        gathered
    }
}
