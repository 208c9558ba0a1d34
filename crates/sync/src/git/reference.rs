//! Which commit of a repository is meant: the `ref` of a GitRepository, and the choice among what a server lists.

use semver::Version;

use super::{CommitId, Constraint, GitError, RemoteUrl, Revision, TagId};

/// Flux's default branch.
const DEFAULT_BRANCH: &str = "master";
/// So many existing references are named in an error.
const NAMED_IN_ERRORS: usize = 5;

/// The `ref` of a GitRepository as it is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReferenceSpec<'a> {
    /// Short name of a branch.
    pub branch: Option<&'a str>,
    /// Short name of a tag.
    pub tag: Option<&'a str>,
    /// Version range over the tags.
    pub semver: Option<&'a str>,
    /// Full name of a reference.
    pub name: Option<&'a str>,
    /// Full commit hash.
    pub commit: Option<&'a str>,
}

/// What to follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    /// The tip of a branch.
    Branch(String),
    /// A tag, annotated or not.
    Tag(String),
    /// The highest version among the tags.
    Semver(Constraint),
    /// Any reference by its full name.
    Name(String),
    /// One commit for ever; the branch is only shown.
    Commit {
        /// The commit.
        commit: CommitId,
        /// The branch it is said to be on.
        branch: Option<String>,
    },
}

impl Reference {
    /// Chooses by Flux's precedence: commit, name, semver, tag, branch, and `master` if there is nothing.
    pub fn from_spec(spec: ReferenceSpec<'_>) -> Result<Self, GitError> {
        let text = |field: Option<&str>| field.filter(|text| !text.is_empty()).map(str::to_owned);
        if let Some(commit) = text(spec.commit) {
            let branch = text(spec.branch).map(checked).transpose()?;
            return Ok(Self::Commit {
                commit: commit.parse()?,
                branch,
            });
        }
        if let Some(name) = text(spec.name) {
            if name != "HEAD" && !name.starts_with("refs/") {
                return Err(GitError::InvalidReference(format!(
                    "{name:?} is not a full name like refs/heads/main"
                )));
            }
            return checked(name).map(Self::Name);
        }
        if let Some(range) = text(spec.semver) {
            return range.parse().map(Self::Semver);
        }
        if let Some(tag) = text(spec.tag) {
            return checked(tag).map(Self::Tag);
        }
        checked(text(spec.branch).unwrap_or_else(|| DEFAULT_BRANCH.to_owned())).map(Self::Branch)
    }

    /// Whether it is a branch: something that is expected to go forward.
    pub fn is_branch(&self) -> bool {
        match self {
            Self::Branch(_) => true,
            Self::Name(name) => name.starts_with("refs/heads/"),
            Self::Tag(_) | Self::Semver(_) | Self::Commit { .. } => false,
        }
    }

    /// The prefix of the reference names that the server needs to list; `None` if it need not be asked.
    pub(super) fn prefix(&self) -> Option<String> {
        match self {
            Self::Branch(branch) => Some(format!("refs/heads/{branch}")),
            Self::Tag(tag) => Some(format!("refs/tags/{tag}")),
            Self::Semver(_) => Some("refs/tags/".to_owned()),
            Self::Name(name) => Some(name.clone()),
            Self::Commit { .. } => None,
        }
    }

    /// The part of the repository where something like it would be: for the error that names what exists.
    pub(super) const fn neighbourhood(&self) -> &'static str {
        match self {
            Self::Tag(_) | Self::Semver(_) => "refs/tags/",
            Self::Branch(_) | Self::Name(_) | Self::Commit { .. } => "refs/heads/",
        }
    }

    /// Chooses among the listed references.
    pub(super) fn select(&self, listed: &[ListedRef]) -> Option<Resolved> {
        let exact = |full: &str| listed.iter().find(|one| one.name == full);
        let resolved = |name: &str, one: &ListedRef| {
            Some(Resolved {
                tag: one.tag,
                ..Resolved::new(Some(name.to_owned()), one.commit)
            })
        };
        match self {
            Self::Branch(branch) => resolved(branch, exact(&format!("refs/heads/{branch}"))?),
            Self::Tag(tag) => resolved(tag, exact(&format!("refs/tags/{tag}"))?),
            Self::Name(name) => resolved(name, exact(name)?),
            Self::Commit { commit, branch } => Some(Resolved::new(branch.clone(), *commit)),
            Self::Semver(range) => {
                let (_, tag, one) = listed
                    .iter()
                    .filter_map(|one| {
                        let tag = one.name.strip_prefix("refs/tags/")?;
                        let version = Version::parse(tag.strip_prefix('v').unwrap_or(tag)).ok()?;
                        range.matches(&version).then_some((version, tag, one))
                    })
                    .max_by(|(a, tag_a, _), (b, tag_b, _)| a.cmp(b).then_with(|| tag_a.cmp(tag_b)))?;
                resolved(tag, one)
            }
        }
    }

    /// The error that it does not exist, naming a few that do.
    pub(super) fn not_found(&self, url: &RemoteUrl, existing: &[ListedRef]) -> GitError {
        let wanted = match self {
            Self::Branch(branch) => format!("branch '{branch}'"),
            Self::Tag(tag) => format!("tag '{tag}'"),
            Self::Semver(range) => format!("a tag in the version range '{range}'"),
            Self::Name(name) => format!("reference '{name}'"),
            Self::Commit { commit, .. } => format!("commit '{commit}'"),
        };
        let mut names: Vec<String> = existing
            .iter()
            .filter_map(|one| one.name.strip_prefix(self.neighbourhood()))
            .map(|name| name.escape_debug().to_string())
            .collect();
        if names.len() > NAMED_IN_ERRORS {
            let more = names.len() - NAMED_IN_ERRORS;
            names.truncate(NAMED_IN_ERRORS);
            names.push(format!("{more} more"));
        }
        GitError::ReferenceNotFound {
            wanted,
            url: url.to_string(),
            existing: names,
        }
    }
}

/// The rules of `git check-ref-format` that matter for something we send to a server and print.
fn checked(name: String) -> Result<String, GitError> {
    let bad = name.starts_with(['-', '/'])
        || name.ends_with(['/', '.'])
        || name.rsplit_once('.').is_some_and(|(_, last)| last == "lock")
        || name.contains("..")
        || name.contains("//")
        || name.contains("@{")
        || name.chars().any(|c| c.is_control() || " ~^:?*[\\".contains(c));
    if bad {
        Err(GitError::InvalidReference(format!(
            "{name:?} is not a name Git allows"
        )))
    } else {
        Ok(name)
    }
}

/// A reference of a server, peeled to the commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ListedRef {
    /// Full name.
    pub(super) name: String,
    /// What it points to in the end.
    pub(super) commit: CommitId,
    /// The tag object that it points to first.
    pub(super) tag: Option<TagId>,
}

/// What a reference stands for right now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// As a status prints it.
    pub revision: Revision,
    /// The commit in it.
    pub commit: CommitId,
    /// The tag object, if an annotated tag led to the commit.
    pub tag: Option<TagId>,
}

impl Resolved {
    pub(super) const fn new(reference: Option<String>, commit: CommitId) -> Self {
        Self {
            revision: Revision::new(reference, commit),
            commit,
            tag: None,
        }
    }
}

/// A commit that was found before, by the revision that a status prints.
impl From<Revision> for Resolved {
    fn from(revision: Revision) -> Self {
        Self {
            commit: revision.commit(),
            revision,
            tag: None,
        }
    }
}

#[cfg(test)]
#[path = "reference_tests.rs"]
mod tests;
