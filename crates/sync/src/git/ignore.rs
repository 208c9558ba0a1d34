//! Which files are left out: Flux's default exclusions, `.sourceignore` files and `spec.ignore`.
//!
//! As in Flux, the last pattern that matches a file *or one of its parent directories* decides, so a later `!` pattern
//! brings a file of an excluded directory back (Git itself would not). The exclusions of version control files always
//! hold (unless overruled by a `!`); the other defaults only where neither `spec.ignore` nor a `.sourceignore` is
//! given. One difference: a `.sourceignore` counts for that only if it is below the listed directory or above it.

use std::{cell::RefCell, collections::HashMap, sync::Arc};

use gix_ignore::glob::{Pattern, pattern::Case, wildmatch::Mode};

use super::GitError;

const VERSION_CONTROL: &str = ".git/\n.gitignore\n.gitmodules\n.gitattributes\n";
const DEFAULTS: &str = "*.jpg\n*.jpeg\n*.gif\n*.png\n*.wmv\n*.flv\n*.tar.gz\n*.zip\n\
    .github/\n.circleci/\n.travis.yml\n.gitlab-ci.yml\nappveyor.yml\n.drone.yml\ncloudbuild.yaml\n\
    codeship-services.yml\ncodeship-steps.yml\n**/.goreleaser.yml\n**/.sops.yaml\n**/.flux.yaml\n";
/// Name of the files that add rules for their directory.
pub(super) const SOURCE_IGNORE: &str = ".sourceignore";
/// More rules than anybody writes; matching costs rules × files.
const RULES: usize = 5_000;
/// Bytes of one pattern: longer ones would be a way to make matching slow.
const PATTERN: usize = 1_024;

/// The rules of one GitRepository: `spec.ignore`, or none. `.sourceignore` files come from the repository itself.
#[derive(Debug, Clone, Default)]
pub struct IgnoreRules {
    spec: Option<Arc<[Rule]>>,
}

#[derive(Debug, Clone)]
struct Rule {
    pattern: Pattern,
    /// Directory it holds for; empty for the root.
    base: Arc<str>,
}

impl IgnoreRules {
    /// Parses `spec.ignore`.
    pub fn new(spec_ignore: Option<&str>) -> Result<Self, GitError> {
        let spec = spec_ignore
            .map(|text| parse(text.as_bytes(), "", "spec.ignore"))
            .transpose()?;
        Ok(Self {
            spec: spec.map(Into::into),
        })
    }

    /// Which of `paths` are left out, with these `.sourceignore` files.
    pub fn excluded(
        &self,
        source_ignores: &[(String, Vec<u8>)],
        paths: &[&str],
    ) -> Result<Vec<bool>, GitError> {
        let matcher = self.matcher(source_ignores)?;
        Ok(paths.iter().map(|path| matcher.excludes(path)).collect())
    }

    /// Adds what they say to a digest.
    pub(super) fn hash(&self, hash: &mut sha2::Sha256) {
        use sha2::Digest as _;
        for rule in self.spec.iter().flat_map(|spec| spec.iter()) {
            hash.update(format!("{:?} {}\n", rule.pattern, rule.base));
        }
    }

    /// Adds the `.sourceignore` files, each as (its directory, its content), parents before children.
    pub(super) fn matcher(&self, source_ignores: &[(String, Vec<u8>)]) -> Result<Matcher, GitError> {
        let mut rules = parse(VERSION_CONTROL.as_bytes(), "", "the defaults")?;
        if self.spec.is_none() && source_ignores.is_empty() {
            rules.extend(parse(DEFAULTS.as_bytes(), "", "the defaults")?);
        }
        for (directory, content) in source_ignores {
            let name = if directory.is_empty() {
                SOURCE_IGNORE.to_owned()
            } else {
                format!("{directory}/{SOURCE_IGNORE}")
            };
            rules.extend(parse(content, directory, &name)?);
            if rules.len() > RULES {
                return Err(GitError::InvalidIgnore {
                    source_name: name,
                    reason: format!("there are more than {RULES} rules"),
                });
            }
        }
        rules.extend(self.spec.iter().flat_map(|spec| spec.iter().cloned()));
        Ok(Matcher {
            rules,
            directories: RefCell::default(),
        })
    }
}

fn parse(content: &[u8], base: &str, source_name: &str) -> Result<Vec<Rule>, GitError> {
    let base: Arc<str> = base.into();
    let invalid = |reason: String| GitError::InvalidIgnore {
        source_name: source_name.to_owned(),
        reason,
    };
    let mut rules = Vec::new();
    for (pattern, line, _kind) in gix_ignore::parse(content, false) {
        if pattern.text.len() > PATTERN {
            return Err(invalid(format!("line {line} is longer than {PATTERN} bytes")));
        }
        if rules.len() == RULES {
            return Err(invalid(format!("there are more than {RULES} rules")));
        }
        rules.push(Rule {
            pattern,
            base: Arc::clone(&base),
        });
    }
    Ok(rules)
}

/// All rules that hold for a listing.
pub(super) struct Matcher {
    rules: Vec<Rule>,
    /// The last rule that matched each directory or one above it.
    directories: RefCell<HashMap<String, Option<usize>>>,
}

impl Matcher {
    /// Whether the file at `path` (from the root) is left out.
    pub(super) fn excludes(&self, path: &str) -> bool {
        let last = self.last_match(path, false).max(self.parent_match(path));
        last.and_then(|index| self.rules.get(index))
            .is_some_and(|rule| !rule.pattern.is_negative())
    }

    fn parent_match(&self, path: &str) -> Option<usize> {
        let (parent, _) = path.rsplit_once('/')?;
        if let Some(known) = self.directories.borrow().get(parent) {
            return *known;
        }
        let found = self.last_match(parent, true).max(self.parent_match(parent));
        self.directories.borrow_mut().insert(parent.to_owned(), found);
        found
    }

    fn last_match(&self, path: &str, is_directory: bool) -> Option<usize> {
        self.rules.iter().rposition(|rule| {
            let below = if rule.base.is_empty() {
                Some(path)
            } else {
                path.strip_prefix(&*rule.base)
                    .and_then(|rest| rest.strip_prefix('/'))
            };
            below.is_some_and(|path| {
                let name_at = path.rfind('/').map(|at| at + 1);
                rule.pattern.matches_repo_relative_path(
                    path.into(),
                    name_at,
                    Some(is_directory),
                    Case::Sensitive,
                    Mode::NO_MATCH_SLASH_LITERAL,
                )
            })
        })
    }
}

#[cfg(test)]
#[path = "ignore_tests.rs"]
mod tests;
