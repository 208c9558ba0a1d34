//! One commit, read straight from the object database.

use std::sync::{Arc, Mutex, PoisonError};

use gix_object::{Exists, FindExt, FindHeader, tree::EntryKind};

use super::{
    BlobId, CommitId, GitError, RepoPath, TreeId,
    fetch::BLOB_FILTER,
    generation::{Generation, Handle},
    listing::{self, Entry, Walk},
    mirror::Shared,
    transport::chain,
};

/// A commit that is there.
pub(super) struct Commit {
    // Before the mirror: what a retired generation leaves is removed while the mirror is still known.
    generation: Arc<Generation>,
    _mirror: Arc<Shared>,
    id: CommitId,
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

impl Commit {
    pub(super) fn new(
        generation: Arc<Generation>,
        mirror: Arc<Shared>,
        id: CommitId,
    ) -> Result<Self, GitError> {
        let handle = generation.handle();
        let mut buffer = Vec::new();
        let root = match handle.find_commit(&id.0, &mut buffer) {
            Ok(found) => TreeId(found.tree()),
            Err(error) => return Err(damaged(&generation, &error)),
        };
        Ok(Self {
            generation,
            _mirror: mirror,
            id,
            root,
            idle: Mutex::new(Some(handle)),
        })
    }

    pub(super) const fn id(&self) -> CommitId {
        self.id
    }

    /// Author, time and subject, for messages.
    pub(super) fn info(&self) -> Result<CommitInfo, GitError> {
        self.with_reader(|reader| {
            let mut buffer = Vec::new();
            let commit = reader
                .handle
                .find_commit(&self.id.0, &mut buffer)
                .map_err(|error| damaged(&self.generation, &error))?;
            let author = commit
                .author()
                .map_err(|error| damaged(&self.generation, &error))?;
            Ok(CommitInfo {
                author: author.name.to_string(),
                time: author.seconds(),
                subject: commit.message().summary().to_string(),
            })
        })
    }

    pub(super) fn tree_id(&self, path: &RepoPath) -> Result<Option<TreeId>, GitError> {
        self.with_reader(|reader| listing::find_tree(reader, path))
    }

    pub(super) fn entry(&self, path: &RepoPath) -> Result<Option<Entry>, GitError> {
        self.with_reader(|reader| listing::find_entry(reader, path))
    }

    pub(super) fn walk(&self, path: &RepoPath) -> Result<Option<Walk>, GitError> {
        self.with_reader(|reader| listing::walk(reader, path))
    }

    pub(super) fn rules_above(&self, path: &RepoPath) -> Result<Vec<(String, Vec<u8>)>, GitError> {
        self.with_reader(|reader| listing::rules_above(reader, path))
    }

    /// Whether the file's content is here.
    pub(super) fn has(&self, blob: BlobId) -> bool {
        blob.0.kind() == self.generation.kind && self.with_reader(|reader| reader.handle.exists(&blob.0))
    }

    pub(super) fn size(&self, blob: BlobId) -> Result<u64, GitError> {
        self.with_reader(|reader| reader.size(blob))
    }

    pub(super) fn read(&self, blob: BlobId, limit: u64) -> Result<Vec<u8>, GitError> {
        self.with_reader(|reader| reader.read(blob, limit))
    }

    fn with_reader<T>(&self, work: impl FnOnce(&Reader<'_>) -> T) -> T {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).take();
        let handle = idle.unwrap_or_else(|| self.generation.handle());
        let reader = Reader {
            handle,
            generation: &self.generation,
            root: self.root,
        };
        let result = work(&reader);
        *self.idle.lock().unwrap_or_else(PoisonError::into_inner) = Some(reader.handle);
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
                    EntryKind::Commit => Entry::Submodule {
                        name,
                        commit: CommitId(id),
                    },
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
