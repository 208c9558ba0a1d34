//! The files of a repository, listed directory by directory as a build asks for them: a monorepo is not walked for a base.

use std::collections::{BTreeMap, BTreeSet};

use super::{BuildError, inputs::KUSTOMIZATIONS, join};
use crate::git::{BlobId, GitError, IgnoreRules, RepoPath, Snapshot};

/// Files of a repository by path.
pub type Files = BTreeMap<String, BlobId>;
/// All files below a directory; `None` when there is no such directory.
pub(super) type List<'a> = &'a mut dyn FnMut(&RepoPath) -> Result<Option<Files>, BuildError>;
/// Brings a file's content.
pub(super) type Read<'a> = &'a mut dyn FnMut(&str, BlobId) -> Result<Vec<u8>, BuildError>;

/// What has been listed so far.
pub struct Tree<'a> {
    list: List<'a>,
    read: Read<'a>,
    files: Files,
    listed: BTreeSet<String>,
}

impl<'a> Tree<'a> {
    /// Nothing is listed yet.
    pub(super) fn new(list: List<'a>, read: Read<'a>) -> Self {
        Self {
            list,
            read,
            files: Files::new(),
            listed: BTreeSet::new(),
        }
    }

    /// All files below a directory; none when it does not exist.
    pub fn below(
        &mut self,
        directory: &RepoPath,
    ) -> Result<impl Iterator<Item = (&str, BlobId)>, BuildError> {
        self.ensure(directory)?;
        let prefix = prefix(directory.as_str());
        let range = self.files.range(prefix.clone()..);
        Ok(range
            .take_while(move |(path, _)| path.starts_with(&prefix))
            .map(|(path, blob)| (path.as_str(), *blob)))
    }

    /// Whether there is a directory.
    pub fn is_directory(&mut self, path: &RepoPath) -> Result<bool, BuildError> {
        Ok(path.as_str().is_empty() || self.below(path)?.next().is_some())
    }

    /// A file.
    pub fn file(&mut self, path: &RepoPath) -> Result<Option<BlobId>, BuildError> {
        let Some((directory, _)) = path.split_last() else {
            return Ok(None);
        };
        self.ensure(&directory)?;
        Ok(self.files.get(path.as_str()).copied())
    }

    /// The name of the kustomization file of a directory.
    pub fn kustomization(&mut self, directory: &RepoPath) -> Result<Option<&'static str>, BuildError> {
        self.ensure(directory)?;
        let mut names = KUSTOMIZATIONS.into_iter();
        Ok(names.find(|name| self.files.contains_key(&join(directory.as_str(), name))))
    }

    /// Its content.
    pub fn content(&mut self, path: &str, blob: BlobId) -> Result<Vec<u8>, BuildError> {
        (self.read)(path, blob)
    }

    fn ensure(&mut self, directory: &RepoPath) -> Result<(), BuildError> {
        let mut above = Some(directory.clone());
        while let Some(path) = above {
            if self.listed.contains(path.as_str()) {
                return Ok(());
            }
            above = path.split_last().map(|(above, _)| above);
        }
        if let Some(files) = (self.list)(directory)? {
            self.files.extend(files);
        }
        self.listed.insert(directory.as_str().to_owned());
        Ok(())
    }
}

fn prefix(directory: &str) -> String {
    if directory.is_empty() {
        String::new()
    } else {
        format!("{directory}/")
    }
}

/// Lists a directory of a snapshot.
pub(super) fn list(
    snapshot: &Snapshot,
    ignore: &IgnoreRules,
    directory: &RepoPath,
) -> Result<Option<Files>, BuildError> {
    let failed = |error: GitError| BuildError(format!("{directory}: {error}"));
    match snapshot.tree_id(directory) {
        Ok(Some(_)) => {}
        Ok(None) | Err(GitError::NotADirectory { .. }) => return Ok(None),
        Err(error) => return Err(failed(error)),
    }
    let listing = snapshot.files(directory, ignore).map_err(failed)?;
    let files = listing.files.into_iter();
    Ok(Some(files.map(|file| (file.path, file.blob)).collect()))
}
