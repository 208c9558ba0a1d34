//! Paths inside a repository: normalised, and never outside of it.

use std::{fmt, str::FromStr};

use super::GitError;

/// A directory or file of a repository, relative to its root. The root itself is the empty path.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RepoPath(String);

impl RepoPath {
    /// Takes a path as people write it: `./deploy/`, `deploy`, `deploy/../apps`, or nothing for the root.
    pub fn parse(path: &str) -> Result<Self, GitError> {
        let refused = |reason| {
            Err(GitError::InvalidPath {
                path: path.escape_debug().to_string(),
                reason,
            })
        };
        if path.starts_with('/') && path != "/" {
            return refused("it is absolute: write it relative to the root of the repository");
        }
        if path.contains('\\') {
            return refused("it holds a backslash: directories are separated by '/'");
        }
        if path.chars().any(char::is_control) {
            return refused("it holds a control character");
        }
        let mut parts: Vec<&str> = Vec::new();
        for part in path.split('/') {
            match part {
                ".." if parts.pop().is_none() => return refused("it leads out of the repository"),
                "" | "." | ".." => {}
                part => parts.push(part),
            }
        }
        Ok(Self(parts.join("/")))
    }

    /// With `/` between the parts; empty for the root.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The names from the root downwards.
    pub fn parts(&self) -> impl Iterator<Item = &str> {
        self.0.split('/').filter(|part| !part.is_empty())
    }
}

impl fmt::Display for RepoPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "." } else { &self.0 })
    }
}

impl FromStr for RepoPath {
    type Err = GitError;

    fn from_str(path: &str) -> Result<Self, GitError> {
        Self::parse(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_normalised() {
        for (path, normal) in [
            ("", ""),
            (".", ""),
            ("./", ""),
            ("/", ""),
            ("./a//b/", "a/b"),
            ("a/./b/../c", "a/c"),
            ("...", "..."),
        ] {
            assert_eq!(RepoPath::parse(path).unwrap().as_str(), normal, "{path}");
        }
    }

    #[test]
    fn paths_out_of_the_repository_are_refused() {
        for path in ["..", "a/../..", "./../a", "/etc", "a\\b", "a\0b", "a\nb"] {
            assert!(RepoPath::parse(path).is_err(), "{path:?}");
        }
    }
}
