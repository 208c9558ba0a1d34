//! The files of a directory of one commit as a checkout would have them, without one.

use std::collections::HashSet;

use gix_object::bstr::{BStr, BString, ByteSlice};
use gix_validate::path::component::{self, Options};

use super::{
    BlobId, CommitId, GitError, IgnoreRules, RepoPath, TreeId, commit::Reader, ignore::SOURCE_IGNORE,
};

/// Entries of one listing; a tree that refers to itself over and over would have no end.
const ENTRIES: usize = 500_000;
/// Directories inside one another.
const DEPTH: usize = 100;
/// Symbolic links one after another, as Linux counts them.
const LINKS: usize = 40;
/// Bytes of a `.sourceignore`.
const SOURCE_IGNORE_SIZE: u64 = 256 << 10;
/// Bytes of the target of a symbolic link.
const TARGET_SIZE: u64 = 4096;

/// What a directory holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// Sorted by path.
    pub files: Vec<FileEntry>,
    /// What should be a file but cannot be read. The listing is not complete then: nothing may be pruned for it.
    pub problems: Vec<Problem>,
    /// What is left out on purpose and worth a note.
    pub skipped: Vec<Skipped>,
}

/// A file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileEntry {
    /// From the root of the repository.
    pub path: String,
    /// Its content.
    pub blob: BlobId,
    /// How it came here.
    pub kind: FileKind,
}

/// How a file came to be in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileKind {
    /// It is a file.
    Regular,
    /// It is a symbolic link to a file of the repository.
    Symlink {
        /// Path of that file from the root.
        target: String,
    },
}

/// A file that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// From the root of the repository; characters that are not text are replaced.
    pub path: String,
    /// Why not, and what to do.
    pub reason: String,
}

/// Something that is not a file of the listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// From the root of the repository.
    pub path: String,
    /// Why it is left out.
    pub reason: &'static str,
}

/// An entry of a tree object.
pub(super) enum Entry {
    Directory { name: BString, tree: TreeId },
    File { name: BString, blob: BlobId },
    Link { name: BString, target: BlobId },
    Submodule { name: BString, commit: CommitId },
}

impl Entry {
    fn name(&self) -> &BStr {
        match self {
            Self::Directory { name, .. }
            | Self::File { name, .. }
            | Self::Link { name, .. }
            | Self::Submodule { name, .. } => name.as_bstr(),
        }
    }
}

/// The tree of a directory; `None` if there is none at that path.
pub(super) fn find_tree(reader: &Reader<'_>, path: &RepoPath) -> Result<Option<TreeId>, GitError> {
    let mut tree = reader.root;
    let mut at = String::new();
    for part in path.parts() {
        let entries = checked_entries(reader, tree, &at)?;
        at = join(&at, part);
        let not_a_directory = |found| {
            Err(GitError::NotADirectory {
                path: at.clone(),
                found,
            })
        };
        match entries.into_iter().find(|entry| entry.name() == part) {
            None => return Ok(None),
            Some(Entry::Directory { tree: below, .. }) => tree = below,
            Some(Entry::File { .. }) => return not_a_directory("a file"),
            Some(Entry::Link { .. }) => return not_a_directory("a symbolic link"),
            Some(Entry::Submodule { .. }) => return not_a_directory("a submodule"),
        }
    }
    Ok(Some(tree))
}

/// The entry at `path`; `None` if there is none.
pub(super) fn find_entry(reader: &Reader<'_>, path: &RepoPath) -> Result<Option<Entry>, GitError> {
    let Some((directory, name)) = path.split_last() else {
        return Ok(None);
    };
    let Some(tree) = find_tree(reader, &directory)? else {
        return Ok(None);
    };
    let entries = checked_entries(reader, tree, directory.as_str())?;
    Ok(entries.into_iter().find(|entry| entry.name() == name))
}

/// Everything below `path`; `None` if there is no such directory.
pub(super) fn walk(reader: &Reader<'_>, path: &RepoPath) -> Result<Option<Walk>, GitError> {
    let Some(tree) = find_tree(reader, path)? else {
        return Ok(None);
    };
    let mut walk = Walk::default();
    walk.rules_above(reader, path)?;
    let links = walk.collect(reader, path.as_str(), tree)?;
    for (path, target) in links {
        match follow(reader, &path, target)? {
            Followed::File { blob, target } => walk.files.push(FileEntry {
                path,
                blob,
                kind: FileKind::Symlink { target },
            }),
            Followed::Directory => walk.skipped.push(Skipped {
                path,
                reason: "a symbolic link to a directory is not followed",
            }),
            Followed::Nowhere(reason) => walk.problems.push(Problem { path, reason }),
        }
    }
    Ok(Some(walk))
}

/// The `.sourceignore` files of the directories above `path`, which need not exist.
pub(super) fn rules_above(reader: &Reader<'_>, path: &RepoPath) -> Result<Vec<(String, Vec<u8>)>, GitError> {
    let mut walk = Walk::default();
    walk.rules_above(reader, path)?;
    Ok(walk.source_ignores)
}

/// What a walk finds, before any rule is applied: the rules are found on the way.
#[derive(Default)]
pub(super) struct Walk {
    pub(super) files: Vec<FileEntry>,
    pub(super) problems: Vec<Problem>,
    pub(super) skipped: Vec<Skipped>,
    /// Directory and content of the `.sourceignore` files.
    pub(super) source_ignores: Vec<(String, Vec<u8>)>,
    entries: usize,
}

impl Walk {
    /// What `ignore` and the `.sourceignore` files leave, sorted.
    pub(super) fn listing(mut self, ignore: &IgnoreRules) -> Result<Listing, GitError> {
        self.source_ignores
            .sort_by(|(a, _), (b, _)| a.split('/').count().cmp(&b.split('/').count()).then(a.cmp(b)));
        let matcher = ignore.matcher(&self.source_ignores)?;
        self.keep(|path| !matcher.excludes(path));
        self.files.sort_by(|a, b| a.path.cmp(&b.path));
        self.problems.sort_by(|a, b| a.path.cmp(&b.path));
        self.skipped.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Listing {
            files: self.files,
            problems: self.problems,
            skipped: self.skipped,
        })
    }

    /// Leaves out all whose path `keep` does not want; rules stay.
    pub(super) fn keep(&mut self, keep: impl Fn(&str) -> bool) {
        self.files.retain(|file| keep(&file.path));
        self.problems.retain(|problem| keep(&problem.path));
        self.skipped.retain(|skipped| keep(&skipped.path));
    }

    /// Adds what another walk found.
    pub(super) fn append(&mut self, other: Self) {
        self.files.extend(other.files);
        self.problems.extend(other.problems);
        self.skipped.extend(other.skipped);
        self.source_ignores.extend(other.source_ignores);
    }

    /// The `.sourceignore` files of the directories above `path`.
    fn rules_above(&mut self, reader: &Reader<'_>, path: &RepoPath) -> Result<(), GitError> {
        let mut tree = reader.root;
        let mut at = String::new();
        for part in path.parts() {
            let entries = checked_entries(reader, tree, &at)?;
            for entry in &entries {
                if let Entry::File { name, blob } = entry
                    && name == SOURCE_IGNORE
                {
                    self.add_rules(reader, &at, *blob)?;
                }
            }
            let below = entries.into_iter().find(|entry| entry.name() == part);
            let Some(Entry::Directory { tree: below, .. }) = below else {
                return Ok(());
            };
            tree = below;
            at = join(&at, part);
        }
        Ok(())
    }

    fn add_rules(&mut self, reader: &Reader<'_>, directory: &str, blob: BlobId) -> Result<(), GitError> {
        let content = reader
            .read(blob, SOURCE_IGNORE_SIZE)
            .map_err(|error| match error {
                GitError::FileTooLarge { .. } | GitError::FileNotFetched { .. } => GitError::InvalidIgnore {
                    source_name: join(directory, SOURCE_IGNORE),
                    reason: error.to_string(),
                },
                other => other,
            })?;
        self.source_ignores.push((directory.to_owned(), content));
        Ok(())
    }

    /// Adds what is below `tree`; returns the symbolic links and where they lead.
    fn collect(
        &mut self,
        reader: &Reader<'_>,
        path: &str,
        tree: TreeId,
    ) -> Result<Vec<(String, BlobId)>, GitError> {
        let mut links = Vec::new();
        let mut todo = vec![(path.to_owned(), tree, 0)];
        while let Some((directory, tree, depth)) = todo.pop() {
            for entry in checked_entries(reader, tree, &directory)? {
                self.entries += 1;
                if self.entries > ENTRIES || depth > DEPTH {
                    return Err(GitError::HostileTree {
                        path: directory,
                        reason: "is too large or too deep to be listed",
                    });
                }
                let Ok(name) = entry.name().to_str() else {
                    let path = join(&directory, &entry.name().to_str_lossy());
                    self.problems.push(Problem {
                        path,
                        reason: "its name is not UTF-8: rename it".to_owned(),
                    });
                    continue;
                };
                let path = join(&directory, name);
                match entry {
                    Entry::Directory { tree, .. } => todo.push((path, tree, depth + 1)),
                    Entry::File { blob, .. } => {
                        if name == SOURCE_IGNORE {
                            self.add_rules(reader, &directory, blob)?;
                        }
                        self.files.push(FileEntry {
                            path,
                            blob,
                            kind: FileKind::Regular,
                        });
                    }
                    Entry::Link { target, .. } => links.push((path, target)),
                    Entry::Submodule { .. } => self.skipped.push(Skipped {
                        path,
                        reason: "a submodule is not fetched (spec.recurseSubmodules)",
                    }),
                }
            }
        }
        Ok(links)
    }
}

/// The entries of a tree, if each has a name that Git would check out and none is there twice.
fn checked_entries(reader: &Reader<'_>, tree: TreeId, directory: &str) -> Result<Vec<Entry>, GitError> {
    let entries = reader.entries(tree)?;
    let mut seen = HashSet::with_capacity(entries.len());
    for entry in &entries {
        let name = entry.name();
        let mode = matches!(entry, Entry::Link { .. }).then_some(component::Mode::Symlink);
        let reason = match gix_validate::path::component(name, mode, NAMES) {
            _ if name.contains(&b'\\') => Some("has a backslash in its name"),
            Ok(_) if !seen.insert(name) => Some("is there twice"),
            Ok(_) => None,
            Err(component::Error::DotGitDir) => Some("has a name that stands for '.git'"),
            Err(component::Error::SymlinkedGitModules) => Some("is a symbolic link named '.gitmodules'"),
            Err(_) => Some("has a name that is empty, relative or holds a '/'"),
        };
        if let Some(reason) = reason {
            return Err(GitError::HostileTree {
                path: join(directory, &name.to_str_lossy()),
                reason,
            });
        }
    }
    Ok(entries)
}

/// Names that only Windows forbids (`aux`, `a:b`) are fine in a cluster's repository.
const NAMES: Options = Options {
    protect_windows: false,
    protect_hfs: true,
    protect_ntfs: true,
};

enum Followed {
    File { blob: BlobId, target: String },
    Directory,
    Nowhere(String),
}

/// Follows a symbolic link inside the repository, links on the way included.
fn follow(reader: &Reader<'_>, path: &str, target: BlobId) -> Result<Followed, GitError> {
    let nowhere = |reason: &str| Ok(Followed::Nowhere(reason.to_owned()));
    let mut reached: Vec<String> = path.split('/').map(str::to_owned).collect();
    reached.pop();
    let Some(mut todo) = target_parts(reader, target)? else {
        return nowhere("the symbolic link leads out of the repository");
    };
    let mut links = 1;
    while let Some(part) = todo.pop() {
        match part.as_str() {
            ".." if reached.pop().is_none() => {
                return nowhere("the symbolic link leads out of the repository");
            }
            "" | "." | ".." => continue,
            _ => {}
        }
        let Ok(directory) = RepoPath::parse(&reached.join("/")) else {
            return nowhere("the symbolic link leads through a name with control characters");
        };
        let tree = find_tree(reader, &directory)?;
        let entries = match tree {
            Some(tree) => checked_entries(reader, tree, &reached.join("/"))?,
            None => return nowhere("the symbolic link leads to nothing"),
        };
        let found = entries.into_iter().find(|entry| entry.name() == part.as_str());
        reached.push(part);
        let last = todo.iter().all(|part| part.is_empty() || part == ".");
        match found {
            Some(Entry::Directory { .. }) => {}
            Some(Entry::File { blob, .. }) if last => {
                return Ok(Followed::File {
                    blob,
                    target: reached.join("/"),
                });
            }
            Some(Entry::Link { target, .. }) => {
                links += 1;
                if links > LINKS {
                    return nowhere("the symbolic links lead in a circle");
                }
                reached.pop();
                let Some(parts) = target_parts(reader, target)? else {
                    return nowhere("the symbolic link leads out of the repository");
                };
                todo.extend(parts);
            }
            Some(Entry::Submodule { .. }) => {
                return nowhere("the symbolic link leads into a submodule, where it is not followed");
            }
            Some(Entry::File { .. }) | None => return nowhere("the symbolic link leads to nothing"),
        }
    }
    Ok(Followed::Directory)
}

/// The parts of the target of a link, last first; `None` if it is absolute.
fn target_parts(reader: &Reader<'_>, target: BlobId) -> Result<Option<Vec<String>>, GitError> {
    let target = match reader.read(target, TARGET_SIZE) {
        Ok(target) => target,
        Err(GitError::FileTooLarge { .. }) => return Ok(Some(vec!["\u{0}".to_owned()])),
        Err(error) => return Err(error),
    };
    let target = String::from_utf8_lossy(&target);
    Ok((!target.starts_with('/')).then(|| target.split('/').rev().map(str::to_owned).collect()))
}

pub(super) fn join(directory: &str, name: &str) -> String {
    if directory.is_empty() {
        name.to_owned()
    } else {
        format!("{directory}/{name}")
    }
}
