//! What a source shows: a commit, or the directories of it that are kept, with other snapshots put into it.
//!
//! ```text
//! commit ── keep (spec.sparseCheckout) ── with (submodules) ── with (spec.include)
//! ```

use std::sync::Arc;

use gix_hash::ObjectId;
use sha2::{Digest as _, Sha256};

use super::{
    BlobId, CommitId, CommitInfo, GitError, IgnoreRules, Listing, RepoPath, TreeId,
    commit::Commit,
    generation::Generation,
    listing::{Entry, FileKind, Walk},
    mirror::Shared,
};

/// Files at a revision. Cheap to clone, and shared between threads.
#[derive(Clone)]
pub struct Snapshot(Arc<View>);

enum View {
    Commit(Box<Commit>),
    /// Only these directories.
    Sparse {
        whole: Snapshot,
        kept: Vec<RepoPath>,
    },
    /// Other snapshots put over directories. Where two overlap, the deeper one shows, else the later one.
    Composed {
        base: Snapshot,
        parts: Vec<Part>,
    },
}

/// A snapshot that is put into another one.
#[derive(Clone)]
pub struct Part {
    /// The directory it shows at. What is there otherwise is hidden.
    pub at: RepoPath,
    /// Its files.
    pub snapshot: Snapshot,
    /// Its directory that is shown.
    pub from: RepoPath,
    /// Rules of its own by which files are left out before it is put in.
    pub ignore: Option<IgnoreRules>,
}

impl Snapshot {
    pub(super) fn new(
        generation: Arc<Generation>,
        mirror: Arc<Shared>,
        commit: CommitId,
    ) -> Result<Self, GitError> {
        Ok(Self(Arc::new(View::Commit(Box::new(Commit::new(
            generation, mirror, commit,
        )?)))))
    }

    /// Only what is in these directories, which must exist. None means all.
    pub fn keep(self, directories: Vec<RepoPath>) -> Result<Self, GitError> {
        if directories.is_empty() || directories.iter().any(|directory| directory.as_str().is_empty()) {
            return Ok(self);
        }
        for directory in &directories {
            if self.tree_id(directory)?.is_none() {
                return Err(GitError::InvalidPath {
                    path: directory.to_string(),
                    reason: "it is in spec.sparseCheckout and does not exist at this revision",
                });
            }
        }
        Ok(Self(Arc::new(View::Sparse {
            whole: self,
            kept: directories,
        })))
    }

    /// With other snapshots put into it.
    #[must_use]
    pub fn with(self, parts: Vec<Part>) -> Self {
        if parts.is_empty() {
            return self;
        }
        Self(Arc::new(View::Composed { base: self, parts }))
    }

    fn main(&self) -> &Commit {
        match &*self.0 {
            View::Commit(commit) => commit,
            View::Sparse { whole: below, .. } | View::Composed { base: below, .. } => below.main(),
        }
    }

    /// The commit; of what is put into it nothing is said.
    pub fn commit(&self) -> CommitId {
        self.main().id()
    }

    /// Author, time and subject, for messages.
    pub fn info(&self) -> Result<CommitInfo, GitError> {
        self.main().info()
    }

    /// Names the content of a directory; `None` if it does not exist. The same id means the same files below it
    /// (other than those that symbolic links lead to, and `.sourceignore` files above it).
    pub fn tree_id(&self, path: &RepoPath) -> Result<Option<TreeId>, GitError> {
        match &*self.0 {
            View::Commit(commit) => commit.tree_id(path),
            View::Sparse { whole, kept } => {
                if kept.iter().any(|kept| path.is_in(kept)) {
                    return whole.tree_id(path);
                }
                let mut ids = Ids::new(None);
                for kept in kept.iter().filter(|kept| kept.is_in(path)) {
                    ids.add(kept, whole.tree_id(kept)?, None);
                }
                Ok(ids.finish())
            }
            View::Composed { base, parts } => {
                let below = || {
                    parts
                        .iter()
                        .filter(|part| part.at.is_in(path) && part.at != *path)
                };
                let own = match over(parts, path) {
                    Some((part, rest)) => {
                        let id = part.snapshot.tree_id(&part.from.join(&rest))?;
                        match &part.ignore {
                            Some(rules) if id.is_some() => {
                                let mut ids = Ids::new(None);
                                ids.add(&rest, id, Some(rules));
                                ids.finish()
                            }
                            _ => id,
                        }
                    }
                    None => base.tree_id(path)?,
                };
                if below().next().is_none() {
                    return Ok(own);
                }
                let mut ids = Ids::new(own);
                for part in below() {
                    ids.add(&part.at, part.snapshot.tree_id(&part.from)?, part.ignore.as_ref());
                }
                Ok(ids.finish())
            }
        }
    }

    /// All files below a directory that must exist, sorted by path, without those that are ignored.
    pub fn files(&self, path: &RepoPath, ignore: &IgnoreRules) -> Result<Listing, GitError> {
        match self.walk(path)? {
            Some(walk) => walk.listing(ignore),
            None => Err(GitError::InvalidPath {
                path: path.to_string(),
                reason: "it does not exist at this revision",
            }),
        }
    }

    fn walk(&self, path: &RepoPath) -> Result<Option<Walk>, GitError> {
        match &*self.0 {
            View::Commit(commit) => commit.walk(path),
            View::Sparse { whole, kept } => {
                if self.tree_id(path)?.is_none() {
                    return Ok(None);
                }
                let is_kept = |path: &str| {
                    RepoPath::parse(path).is_ok_and(|path| kept.iter().any(|kept| path.is_in(kept)))
                };
                let Some(mut walk) = whole.walk(path)? else {
                    return Ok(None);
                };
                walk.keep(is_kept);
                walk.source_ignores.retain(|(directory, _)| is_kept(directory));
                Ok(Some(walk))
            }
            View::Composed { base, parts } => {
                let mut walk = match over(parts, path) {
                    Some((part, rest)) => {
                        let mut walk = part.walk(&rest)?;
                        if let Some(walk) = &mut walk {
                            walk.source_ignores.extend(base.rules_above(&part.at)?);
                        }
                        walk
                    }
                    None => base.walk(path)?,
                };
                let mut below: Vec<&Part> = parts
                    .iter()
                    .filter(|part| part.at.is_in(path) && part.at != *path)
                    .collect();
                // Stable: of two at one place the later one comes last.
                below.sort_by_key(|part| part.at.parts().count());
                for part in below {
                    let walk = walk.get_or_insert_default();
                    let hidden = |path: &str| RepoPath::parse(path).is_ok_and(|path| path.is_in(&part.at));
                    walk.keep(|path| !hidden(path));
                    walk.source_ignores.retain(|(directory, _)| !hidden(directory));
                    let found = part
                        .walk(&RepoPath::default())?
                        .ok_or_else(|| GitError::InvalidPath {
                            path: part.from.to_string(),
                            reason: "it does not exist in what is to be included",
                        })?;
                    walk.append(found);
                }
                Ok(walk)
            }
        }
    }

    fn rules_above(&self, path: &RepoPath) -> Result<Vec<(String, Vec<u8>)>, GitError> {
        match &*self.0 {
            View::Commit(commit) => commit.rules_above(path),
            View::Sparse { whole, kept } => {
                let mut rules = whole.rules_above(path)?;
                rules.retain(|(directory, _)| {
                    RepoPath::parse(directory).is_ok_and(|path| kept.iter().any(|kept| path.is_in(kept)))
                });
                Ok(rules)
            }
            View::Composed { base, .. } => base.rules_above(path),
        }
    }

    /// The entry at a path of the commit itself.
    pub(super) fn entry(&self, path: &RepoPath) -> Result<Option<Entry>, GitError> {
        self.main().entry(path)
    }

    /// The commit that has the file: ids name content, so whichever has it will do.
    fn holder(&self, blob: BlobId) -> Option<&Commit> {
        match &*self.0 {
            View::Commit(commit) => commit.has(blob).then_some(&**commit),
            View::Sparse { whole, .. } => whole.holder(blob),
            View::Composed { base, parts } => base
                .holder(blob)
                .or_else(|| parts.iter().find_map(|part| part.snapshot.holder(blob))),
        }
    }

    fn reader(&self, blob: BlobId) -> &Commit {
        match &*self.0 {
            View::Composed { .. } => self.holder(blob).unwrap_or_else(|| self.main()),
            View::Commit(_) | View::Sparse { .. } => self.main(),
        }
    }

    /// The size of a file in bytes; its content is not loaded.
    pub fn size(&self, blob: BlobId) -> Result<u64, GitError> {
        self.reader(blob).size(blob)
    }

    /// The content of a file of at most `limit` bytes. Of a larger one nothing is loaded.
    pub fn read(&self, blob: BlobId, limit: u64) -> Result<Vec<u8>, GitError> {
        self.reader(blob).read(blob, limit)
    }
}

/// The part that shows at `path`, with the rest of the path inside of it.
fn over<'a>(parts: &'a [Part], path: &RepoPath) -> Option<(&'a Part, RepoPath)> {
    parts
        .iter()
        .filter_map(|part| Some((part, path.below(&part.at)?)))
        .max_by_key(|(part, _)| part.at.parts().count())
}

impl Part {
    /// What is shown below `rest`, by the paths it shows at.
    fn walk(&self, rest: &RepoPath) -> Result<Option<Walk>, GitError> {
        let path = self.from.join(rest);
        let walk = match &self.ignore {
            None => self.snapshot.walk(&path)?,
            Some(_) if self.snapshot.tree_id(&path)?.is_none() => None,
            Some(rules) => {
                let listing = self.snapshot.files(&path, rules)?;
                let mut walk = Walk::default();
                walk.files = listing.files;
                walk.problems = listing.problems;
                walk.skipped = listing.skipped;
                Some(walk)
            }
        };
        let Some(mut walk) = walk else { return Ok(None) };
        let shown = |path: &str| -> String {
            let Ok(path) = RepoPath::parse(path) else {
                return path.to_owned();
            };
            match path.below(&self.from) {
                Some(below) => self.at.join(&below).as_str().to_owned(),
                None => path.as_str().to_owned(),
            }
        };
        for file in &mut walk.files {
            file.path = shown(&file.path);
            if let FileKind::Symlink { target } = &mut file.kind {
                *target = shown(target);
            }
        }
        for problem in &mut walk.problems {
            problem.path = shown(&problem.path);
        }
        for skipped in &mut walk.skipped {
            skipped.path = shown(&skipped.path);
        }
        // Rules of directories that are not shown hold for nothing here.
        walk.source_ignores
            .retain(|(directory, _)| RepoPath::parse(directory).is_ok_and(|path| path.is_in(&self.from)));
        for (directory, _) in &mut walk.source_ignores {
            *directory = shown(directory);
        }
        Ok(Some(walk))
    }
}

/// The id of a directory that is in no repository as such: of the directories it is made of.
struct Ids {
    hash: Sha256,
    some: bool,
}

impl Ids {
    fn new(base: Option<TreeId>) -> Self {
        let mut hash = Sha256::new();
        if let Some(base) = base {
            hash.update(base.0.as_slice());
        }
        Self {
            hash,
            some: base.is_some(),
        }
    }

    fn add(&mut self, at: &RepoPath, id: Option<TreeId>, rules: Option<&IgnoreRules>) {
        let Some(id) = id else { return };
        self.some = true;
        self.hash.update((at.as_str().len() as u64).to_be_bytes());
        self.hash.update(at.as_str());
        self.hash.update(id.0.as_slice());
        if let Some(rules) = rules {
            rules.hash(&mut self.hash);
        }
    }

    fn finish(self) -> Option<TreeId> {
        let hash = self.hash.finalize();
        // 32 bytes are a SHA-256 id.
        let id = ObjectId::try_from(hash.as_slice()).ok()?;
        self.some.then_some(TreeId(id))
    }
}
