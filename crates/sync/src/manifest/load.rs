//! Pure: from the files of a path to what Git wants, with everything that is wrong.

use std::{
    collections::HashMap,
    fmt::{self, Write as _},
    sync::Arc,
};

use sha2::{Digest as _, Sha256};

use super::{ApplyPolicy, ContentDigest, Flaw, Manifest, Parsed, Place, Variables, parse};
use crate::{
    build::Built,
    git::BlobId,
    object::{Gvk, ObjectId},
};

/// A manifest file of a source.
#[derive(Clone, Debug)]
pub struct SourceFile {
    /// Its path from the root of the repository.
    pub path: Arc<str>,
    /// Its content.
    pub blob: BlobId,
    /// How it came to be.
    pub made: Made,
}

/// How a manifest came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    /// It stands so in the repository.
    Written,
    /// One object that kustomize made of it and of other files: lines mean nothing.
    Built,
}

/// Where an object comes from.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The file.
    pub file: SourceFile,
    /// The place in it.
    pub place: Place,
}

/// `workloads/hpa.yaml:1`, with the document when it is not the first, and the item of a List.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.file.made == Made::Built {
            return f.write_str(&self.file.path);
        }
        write!(f, "{}:{}", self.file.path, self.place.line)?;
        if self.place.document > 1 {
            write!(f, " (document {})", self.place.document)?;
        }
        match self.place.item {
            Some(item) => write!(f, " (item {})", item + 1),
            None => Ok(()),
        }
    }
}

/// One object that Git wants.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Its identity, with `metadata.namespace` as written; whether that counts depends on the kind's scope.
    pub id: ObjectId,
    /// API version it is written in.
    pub version: Arc<str>,
    /// Digest of its content.
    pub digest: ContentDigest,
    /// How it wants to be applied.
    pub policy: ApplyPolicy,
    /// Whether it asks to be replaced where an immutable field changes.
    pub force: bool,
    /// Whether Kubernetes deletes it when it is done, which is no drift.
    pub expires: bool,
    /// Where it comes from.
    pub origin: Origin,
}

impl Wanted {
    /// What it is.
    pub fn gvk(&self) -> Gvk<'_> {
        Gvk {
            group: &self.id.group,
            version: &self.version,
            kind: &self.id.kind,
        }
    }
}

/// Something that is wrong with the source or with one of its objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// File and line, or the object where no file is to blame.
    pub at: String,
    /// What is wrong, and what to do.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.at, self.message)
    }
}

/// Everything that Git wants under a path.
#[derive(Clone, Debug, Default)]
pub struct Desired {
    /// The objects, in the order of files and documents.
    pub objects: Vec<Wanted>,
    /// What could not be read: objects may be missing from `objects`, so nothing may be pruned.
    pub unreadable: Vec<Problem>,
    /// What is wrong with objects whose identity is known.
    pub problems: Vec<Problem>,
    /// What is put in for variables.
    pub variables: Option<Arc<Variables>>,
    /// What kustomize made: the content of some files of `objects`.
    pub built: Vec<Arc<Built>>,
    /// A directory could not be built: it may be worth trying again.
    pub build_failed: bool,
    /// SHA-256 of all of it, in hex.
    pub digest: String,
}

/// Parsed files by content, so that a commit costs what it changed. Holds only what the last load used.
#[derive(Debug, Default)]
pub struct ParseCache {
    parsed: HashMap<BlobId, Arc<Parsed>>,
    /// Of the variables that were put in.
    variables: Option<ContentDigest>,
}

/// Loads `files`. `read` brings a file's content, or says why it cannot be read.
pub fn load(
    files: &[SourceFile],
    variables: Option<Arc<Variables>>,
    cache: &mut ParseCache,
    mut read: impl FnMut(&SourceFile) -> Result<Vec<u8>, String>,
) -> Desired {
    let digest = variables.as_deref().map(Variables::digest).copied();
    if cache.variables != digest {
        *cache = ParseCache {
            variables: digest,
            ..ParseCache::default()
        };
    }
    let mut desired = Desired {
        variables,
        ..Desired::default()
    };
    let variables = desired.variables.clone();
    let mut used = HashMap::with_capacity(files.len());
    let mut first: HashMap<ObjectId, usize> = HashMap::new();
    for file in files {
        let parsed = if let Some(known) = used.get(&file.blob).or_else(|| cache.parsed.get(&file.blob)) {
            Arc::clone(known)
        } else {
            match read(file) {
                Ok(content) => Arc::new(parse(&content, variables.as_deref())),
                Err(message) => {
                    desired.unreadable.push(Problem {
                        at: file.path.to_string(),
                        message,
                    });
                    continue;
                }
            }
        };
        used.insert(file.blob, Arc::clone(&parsed));
        desired
            .unreadable
            .extend(parsed.flaws.iter().map(|flaw| problem(file, flaw)));
        for manifest in &parsed.manifests {
            let wanted = wanted(file, manifest);
            if let Some(&earlier) = first.get(&wanted.id) {
                let earlier = &desired.objects[earlier].origin;
                let message = format!(
                    "{} {:?} stands already in {earlier}, which is the one that counts: remove one of them",
                    wanted.id.kind, wanted.id.name
                );
                desired.problems.push(Problem {
                    at: wanted.origin.to_string(),
                    message,
                });
            } else {
                first.insert(wanted.id.clone(), desired.objects.len());
                desired.objects.push(wanted);
            }
        }
    }
    cache.parsed = used;
    desired.digest = summary(&desired);
    desired
}

fn wanted(file: &SourceFile, manifest: &Manifest) -> Wanted {
    Wanted {
        id: manifest.id.clone(),
        version: Arc::clone(&manifest.version),
        digest: manifest.digest,
        policy: manifest.policy,
        force: manifest.force,
        expires: manifest.expires,
        origin: Origin {
            file: file.clone(),
            place: manifest.place,
        },
    }
}

fn problem(file: &SourceFile, flaw: &Flaw) -> Problem {
    let at = match (flaw.line, flaw.document) {
        _ if file.made == Made::Built => file.path.to_string(),
        (0, _) => file.path.to_string(),
        (line, 0 | 1) => format!("{}:{line}", file.path),
        (line, document) => format!("{}:{line} (document {document})", file.path),
    };
    Problem {
        at,
        message: flaw.message.clone(),
    }
}

fn summary(desired: &Desired) -> String {
    let mut objects: Vec<_> = desired
        .objects
        .iter()
        .map(|object| (object.gvk(), &object.id.namespace, &object.id.name, object.digest))
        .collect();
    objects.sort_unstable();
    let mut hasher = Sha256::new();
    for (gvk, namespace, name, digest) in objects {
        hasher.update(format!("{gvk} {namespace}/{name} "));
        hasher.update(digest);
    }
    hasher
        .finalize()
        .iter()
        .fold(String::with_capacity(64), |mut hex, byte| {
            // Writing to a String cannot fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        })
}
