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

    /// Whether this is `above` or lies below it.
    pub fn is_in(&self, above: &Self) -> bool {
        self.below(above).is_some()
    }

    /// The rest of this path below `above`; `None` if it is somewhere else.
    pub fn below(&self, above: &Self) -> Option<Self> {
        if above.0.is_empty() {
            return Some(self.clone());
        }
        let rest = self.0.strip_prefix(&above.0)?;
        match rest.strip_prefix('/') {
            Some(rest) => Some(Self(rest.to_owned())),
            None => rest.is_empty().then(Self::default),
        }
    }

    /// This path with `below` after it.
    #[must_use]
    pub fn join(&self, below: &Self) -> Self {
        match (self.0.is_empty(), below.0.is_empty()) {
            (true, _) => below.clone(),
            (_, true) => self.clone(),
            _ => Self(format!("{}/{}", self.0, below.0)),
        }
    }

    /// The directory above and the last name; `None` for the root.
    pub fn split_last(&self) -> Option<(Self, &str)> {
        if self.0.is_empty() {
            return None;
        }
        let (directory, name) = self.0.rsplit_once('/').unwrap_or(("", &self.0));
        Some((Self(directory.to_owned()), name))
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
    fn paths_are_taken_apart_and_put_together_by_names() {
        let path = |text: &str| RepoPath::parse(text).unwrap();
        for (a, b, rest) in [
            ("a/b/c", "a", Some("b/c")),
            ("a/b", "a/b", Some("")),
            ("a/b", "", Some("a/b")),
            ("ab", "a", None),
            ("a", "a/b", None),
        ] {
            let below = path(a).below(&path(b));
            assert_eq!(below.as_ref().map(RepoPath::as_str), rest, "{a} below {b}");
            if let Some(below) = below {
                assert_eq!(path(b).join(&below), path(a));
            }
        }
        assert_eq!(path("a/b").split_last(), Some((path("a"), "b")));
        assert_eq!(path("").split_last(), None);
    }

    #[test]
    fn paths_out_of_the_repository_are_refused() {
        for path in ["..", "a/../..", "./../a", "/etc", "a\\b", "a\0b", "a\nb"] {
            assert!(RepoPath::parse(path).is_err(), "{path:?}");
        }
    }
}
