//! One object database on disk.
//!
//! A mirror starts a new generation when the old one is damaged or has too many packs; the old directory goes when
//! its last reader does. The files of a generation, in the order in which a fetch writes them:
//!
//! - `objects/pack/pack-*.{pack,idx}`: complete packs; gitoxide renames them into place, the index last
//! - `shallow`: the commits whose parents we do not have
//! - `tips`: the commits that are complete, latest last; only these are offered to a server as already known
//!
//! So a crash at any point leaves at most a pack that nobody relies on.

use std::{
    fs,
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use gix_hash::Kind;
use gix_object::{Exists, FindHeader};
use gix_odb::store::init::{Options, Slots};
use gix_pack::cache::lru::MemoryCappedHashmap;

use super::{CommitId, GitError, TagId};

/// So many commits are remembered as complete: enough for several branches of one repository.
const TIPS: usize = 16;
/// With more packs than this the mirror starts anew: one small pack comes with every fetch.
pub(super) const PACKS: usize = 24;
/// Decoded delta bases kept by one reader, in bytes.
const PACK_CACHE: usize = 4 << 20;
/// No single object may need more memory than this, in bytes.
pub(super) const OBJECT_LIMIT: usize = 256 << 20;

/// A reader with its own small cache.
pub(super) type Handle = gix_odb::HandleArc;

/// An open object database.
pub(super) struct Generation {
    directory: PathBuf,
    pub(super) number: u64,
    pub(super) kind: Kind,
    store: Arc<gix_odb::Store>,
    damaged: AtomicBool,
    retired: AtomicBool,
}

impl Generation {
    /// Makes an empty one.
    pub(super) fn create(mirror: &Path, number: u64, kind: Kind) -> Result<Self, GitError> {
        let directory = mirror.join(number.to_string());
        remove(&directory)?;
        let packs = directory.join("objects/pack");
        fs::create_dir_all(&packs).map_err(GitError::storage("create", &packs))?;
        let format = directory.join("format");
        fs::write(&format, kind.to_string()).map_err(GitError::storage("write", &format))?;
        Self::open_store(directory, number, kind)
    }

    /// Opens what an earlier process left. `None` if it cannot be relied on.
    pub(super) fn open(mirror: &Path, number: u64) -> Option<Self> {
        let directory = mirror.join(number.to_string());
        let kind = fs::read_to_string(directory.join("format"))
            .ok()?
            .trim()
            .parse()
            .ok()?;
        clean(&directory);
        if !packs_are_whole(&directory.join("objects/pack"), kind) {
            return None;
        }
        let generation = Self::open_store(directory, number, kind).ok()?;
        let tips = generation.tips();
        (!tips.is_empty() && tips.iter().all(|tip| generation.contains(*tip))).then_some(generation)
    }

    fn open_store(directory: PathBuf, number: u64, kind: Kind) -> Result<Self, GitError> {
        let options = Options {
            slots: Slots::Given(u16::try_from(PACKS).unwrap_or(u16::MAX) * 2),
            use_multi_pack_index: false,
            alloc_limit_bytes: Some(OBJECT_LIMIT),
            ..Options::default()
        };
        let objects = directory.join("objects");
        let store = gix_odb::Store::at_opts(objects.clone(), kind, &mut std::iter::empty(), options)
            .map_err(GitError::storage("read", objects))?;
        Ok(Self {
            directory,
            number,
            kind,
            store: Arc::new(store),
            damaged: AtomicBool::new(false),
            retired: AtomicBool::new(false),
        })
    }

    pub(super) fn pack_directory(&self) -> PathBuf {
        self.directory.join("objects/pack")
    }

    pub(super) fn shallow_file(&self) -> PathBuf {
        self.directory.join("shallow")
    }

    /// A new reader.
    pub(super) fn handle(&self) -> Handle {
        let mut handle = self.store.to_cache_arc();
        handle.set_pack_cache(|| Box::new(MemoryCappedHashmap::new(PACK_CACHE)));
        handle
    }

    /// Whether the commit is there; all it holds is there too then, because packs arrive whole.
    pub(super) fn contains(&self, commit: CommitId) -> bool {
        self.has(commit.0, gix_object::Kind::Commit)
    }

    /// Whether the tag object is there.
    pub(super) fn contains_tag(&self, tag: TagId) -> bool {
        self.has(tag.0, gix_object::Kind::Tag)
    }

    fn has(&self, id: gix_hash::ObjectId, kind: gix_object::Kind) -> bool {
        let handle = self.store.to_cache_arc();
        id.kind() == self.kind
            && handle.exists(&id)
            && matches!(FindHeader::try_header(&handle, &id), Ok(Some(header)) if header.kind == kind)
    }

    pub(super) fn pack_count(&self) -> usize {
        let entries = fs::read_dir(self.pack_directory())
            .into_iter()
            .flatten()
            .flatten();
        entries
            .filter(|entry| entry.path().extension().is_some_and(|it| it == "idx"))
            .count()
    }

    /// The commits that are complete, latest last.
    pub(super) fn tips(&self) -> Vec<CommitId> {
        let text = fs::read_to_string(self.directory.join("tips")).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// Remembers that `commit` is complete.
    pub(super) fn add_tip(&self, commit: CommitId) -> Result<(), GitError> {
        let mut tips = self.tips();
        tips.retain(|tip| *tip != commit);
        tips.push(commit);
        let forgotten = tips.len().saturating_sub(TIPS);
        tips.drain(..forgotten);
        let lines: Vec<String> = tips.iter().map(ToString::to_string).collect();
        self.replace("tips", &(lines.join("\n") + "\n"))
    }

    /// Before a fetch: leaves only those commits in `shallow` that are still remembered, so that the list that goes
    /// to the server with every fetch does not grow.
    pub(super) fn prune_shallow(&self) -> Result<(), GitError> {
        let Ok(text) = fs::read_to_string(self.shallow_file()) else {
            return Ok(());
        };
        let tips = self.tips();
        let kept: String = text
            .split_inclusive('\n')
            .filter(|line| line.trim_end().parse().is_ok_and(|commit| tips.contains(&commit)))
            .collect();
        if kept.is_empty() {
            return fs::remove_file(self.shallow_file())
                .map_err(GitError::storage("remove", self.shallow_file()));
        }
        if kept == text {
            Ok(())
        } else {
            self.replace("shallow", &kept)
        }
    }

    /// Large files were left on the server.
    pub(super) fn set_filtered(&self) -> Result<(), GitError> {
        if self.is_filtered() {
            Ok(())
        } else {
            self.replace("filtered", "")
        }
    }

    pub(super) fn is_filtered(&self) -> bool {
        self.directory.join("filtered").exists()
    }

    pub(super) fn set_damaged(&self) {
        self.damaged.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_damaged(&self) -> bool {
        self.damaged.load(Ordering::Relaxed)
    }

    /// To be removed when the last reader is gone.
    pub(super) fn retire(&self) {
        self.retired.store(true, Ordering::Relaxed);
    }

    fn replace(&self, name: &str, text: &str) -> Result<(), GitError> {
        let path = self.directory.join(name);
        let write = || -> io::Result<()> {
            let mut file = tempfile::NamedTempFile::new_in(&self.directory)?;
            file.write_all(text.as_bytes())?;
            file.persist(&path)?;
            Ok(())
        };
        write().map_err(GitError::storage("write", &path))
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        if self.retired.load(Ordering::Relaxed)
            && let Err(error) = remove(&self.directory)
        {
            tracing::warn!(%error, "an old generation of a mirror stays on disk");
        }
    }
}

/// Removes a directory; it need not exist.
pub(super) fn remove(directory: &Path) -> Result<(), GitError> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(GitError::storage("remove", directory)(error))
        }
        _ => Ok(()),
    }
}

/// Removes what a killed fetch left: temporary files, locks, packs without an index.
fn clean(directory: &Path) {
    let packs = directory.join("objects/pack");
    for folder in [directory, packs.as_path()] {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let name = entry.file_name();
            let orphan = match path.extension().and_then(|it| it.to_str()) {
                Some("pack") => !path.with_extension("idx").exists(),
                Some("idx" | "keep" | "lock") => {
                    !path.with_extension("pack").exists() || !name.to_string_lossy().ends_with(".idx")
                }
                _ => name.to_string_lossy().starts_with(".tmp"),
            };
            if orphan && path.is_file() {
                // Best effort: what cannot be removed is not read either.
                drop(fs::remove_file(&path));
            }
        }
    }
}

/// Whether each pack ends with the checksum its index says: a pack cut short by a crash of the machine does not.
fn packs_are_whole(directory: &Path, kind: Kind) -> bool {
    fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .all(|path| {
            if path.extension().is_none_or(|it| it != "idx") {
                return true;
            }
            let length = kind.len_in_bytes();
            let last = || -> io::Result<Vec<u8>> {
                let mut file = fs::File::open(path.with_extension("pack"))?;
                file.seek(SeekFrom::End(-i64::try_from(length).unwrap_or(i64::MAX)))?;
                let mut last = Vec::with_capacity(length);
                file.read_to_end(&mut last)?;
                Ok(last)
            };
            gix_pack::index::File::at(&path, kind)
                .is_ok_and(|index| last().is_ok_and(|last| last == index.pack_checksum().as_slice()))
        })
}
