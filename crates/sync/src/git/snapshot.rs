//! Reading a commit straight from the object database.

use std::sync::{Arc, Mutex, PoisonError};

use gix_object::{FindExt, FindHeader, tree::EntryKind};

use super::{
    BlobId, CommitId, GitError, IgnoreRules, Listing, RepoPath, TreeId,
    fetch::BLOB_FILTER,
    generation::{Generation, Handle},
    listing::{self, Entry},
    mirror::Shared,
    transport::chain,
};

/// One commit. Cheap to clone, and shared between threads.
#[derive(Clone)]
pub struct Snapshot(Arc<Inner>);

struct Inner {
    // Before the mirror: what a retired generation leaves is removed while the mirror is still known.
    generation: Arc<Generation>,
    _mirror: Arc<Shared>,
    commit: CommitId,
    root: TreeId,
    /// A reader that nobody uses just now: its cache makes the next read cheap.
    idle: Mutex<Option<Handle>>,
}

/// Who made a commit, when and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitInfo {
    /// Name of the author.
    pub author: String,
    /// When it was authored, in seconds since 1970.
    pub time: i64,
    /// The first line of its message.
    pub subject: String,
}

impl Snapshot {
    pub(super) fn new(
        generation: Arc<Generation>,
        mirror: Arc<Shared>,
        commit: CommitId,
    ) -> Result<Self, GitError> {
        let handle = generation.handle();
        let mut buffer = Vec::new();
        let root = match handle.find_commit(&commit.0, &mut buffer) {
            Ok(found) => TreeId(found.tree()),
            Err(error) => return Err(damaged(&generation, &error)),
        };
        Ok(Self(Arc::new(Inner {
            generation,
            _mirror: mirror,
            commit,
            root,
            idle: Mutex::new(Some(handle)),
        })))
    }

    /// The commit.
    pub fn commit(&self) -> CommitId {
        self.0.commit
    }

    /// Author, time and subject, for messages.
    pub fn info(&self) -> Result<CommitInfo, GitError> {
        self.with_reader(|reader| {
            let mut buffer = Vec::new();
            let commit = reader
                .handle
                .find_commit(&self.0.commit.0, &mut buffer)
                .map_err(|error| damaged(&self.0.generation, &error))?;
            let author = commit
                .author()
                .map_err(|error| damaged(&self.0.generation, &error))?;
            Ok(CommitInfo {
                author: author.name.to_string(),
                time: author.seconds(),
                subject: commit.message().summary().to_string(),
            })
        })
    }

    /// Names the content of a directory; `None` if it does not exist. The same id means the same files below it
    /// (other than those that symbolic links lead to, and `.sourceignore` files above it).
    pub fn tree_id(&self, path: &RepoPath) -> Result<Option<TreeId>, GitError> {
        self.with_reader(|reader| listing::find_tree(reader, path))
    }

    /// All files below a directory that must exist, sorted by path, without those that are ignored.
    pub fn files(&self, path: &RepoPath, ignore: &IgnoreRules) -> Result<Listing, GitError> {
        self.with_reader(|reader| listing::list(reader, path, ignore))
    }

    /// The size of a file in bytes; its content is not loaded.
    pub fn size(&self, blob: BlobId) -> Result<u64, GitError> {
        self.with_reader(|reader| reader.size(blob))
    }

    /// The content of a file of at most `limit` bytes. Of a larger one nothing is loaded.
    pub fn read(&self, blob: BlobId, limit: u64) -> Result<Vec<u8>, GitError> {
        self.with_reader(|reader| reader.read(blob, limit))
    }

    fn with_reader<T>(&self, work: impl FnOnce(&Reader<'_>) -> Result<T, GitError>) -> Result<T, GitError> {
        let idle = self.0.idle.lock().unwrap_or_else(PoisonError::into_inner).take();
        let handle = idle.unwrap_or_else(|| self.0.generation.handle());
        let reader = Reader {
            handle,
            generation: &self.0.generation,
            root: self.0.root,
        };
        let result = work(&reader);
        *self.0.idle.lock().unwrap_or_else(PoisonError::into_inner) = Some(reader.handle);
        result
    }
}

/// What one thread reads with.
pub(super) struct Reader<'a> {
    handle: Handle,
    generation: &'a Generation,
    pub(super) root: TreeId,
}

impl Reader<'_> {
    /// The entries of a directory as they are stored. Names are not checked.
    pub(super) fn entries(&self, tree: TreeId) -> Result<Vec<Entry>, GitError> {
        let mut buffer = Vec::new();
        let found = self
            .handle
            .find_tree(&tree.0, &mut buffer)
            .map_err(|error| damaged(self.generation, &error))?;
        Ok(found
            .entries
            .iter()
            .map(|entry| {
                let id = entry.oid.to_owned();
                let name = entry.filename.to_owned();
                match entry.mode.kind() {
                    EntryKind::Tree => Entry::Directory {
                        name,
                        tree: TreeId(id),
                    },
                    EntryKind::Blob | EntryKind::BlobExecutable => Entry::File {
                        name,
                        blob: BlobId(id),
                    },
                    EntryKind::Link => Entry::Link {
                        name,
                        target: BlobId(id),
                    },
                    EntryKind::Commit => Entry::Submodule { name },
                }
            })
            .collect())
    }

    pub(super) fn size(&self, blob: BlobId) -> Result<u64, GitError> {
        match FindHeader::try_header(&self.handle, &blob.0) {
            Ok(Some(header)) if header.kind == gix_object::Kind::Blob => Ok(header.size),
            Ok(Some(_)) => Err(corrupt(self.generation, format!("'{blob}' is not a file"))),
            Ok(None) if self.generation.is_filtered() => Err(GitError::FileNotFetched { limit: BLOB_FILTER }),
            Ok(None) => Err(corrupt(self.generation, format!("'{blob}' is missing"))),
            Err(error) => Err(damaged(self.generation, &error)),
        }
    }

    pub(super) fn read(&self, blob: BlobId, limit: u64) -> Result<Vec<u8>, GitError> {
        let size = self.size(blob)?;
        if size > limit {
            return Err(GitError::FileTooLarge { size, limit });
        }
        let mut buffer = Vec::new();
        let length = self
            .handle
            .find_blob(&blob.0, &mut buffer)
            .map_err(|error| damaged(self.generation, &error))?
            .data
            .len();
        buffer.truncate(length);
        Ok(buffer)
    }
}

fn damaged(generation: &Generation, error: &(dyn std::error::Error + 'static)) -> GitError {
    corrupt(generation, chain(error))
}

/// The next fetch starts a new generation.
fn corrupt(generation: &Generation, reason: String) -> GitError {
    generation.set_damaged();
    GitError::Corrupt(reason)
}
