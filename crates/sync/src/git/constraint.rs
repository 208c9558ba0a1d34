//! Version ranges as Flux reads them in `ref.semver` (the dialect of Masterminds/semver).
//!
//! The `semver` crate's own `VersionReq` is Cargo's dialect: no `||`, no hyphen ranges, a bare version means
//! `^`, and pre-releases match under another rule. So ranges are parsed here, on that crate's `Version`.

use std::{fmt, str::FromStr};

use semver::{Prerelease, Version};

use super::GitError;

/// A parsed version range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Constraint {
    text: String,
    /// Any of these must match.
    alternatives: Vec<Conjunction>,
}

/// All of these must match.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Conjunction {
    comparators: Vec<Comparator>,
    /// Whether a bound names a pre-release: only then do pre-releases match.
    prereleases: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Comparator {
    /// `from <= v`, `v < below`; either may be open.
    Within {
        from: Option<Version>,
        below: Option<Version>,
    },
    /// `v < from` or `below <= v`.
    Outside { from: Version, below: Version },
}

impl Constraint {
    /// Whether `version` is in the range.
    pub fn matches(&self, version: &Version) -> bool {
        self.alternatives.iter().any(|all| {
            (version.pre.is_empty() || all.prereleases)
                && all.comparators.iter().all(|one| one.matches(version))
        })
    }
}

impl fmt::Display for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Comparator {
    fn matches(&self, version: &Version) -> bool {
        let at_least = |bound: &Version| version.cmp_precedence(bound).is_ge();
        match self {
            Self::Within { from, below } => {
                from.as_ref().is_none_or(at_least) && !below.as_ref().is_some_and(at_least)
            }
            Self::Outside { from, below } => !at_least(from) || at_least(below),
        }
    }
}

impl FromStr for Constraint {
    type Err = GitError;

    fn from_str(text: &str) -> Result<Self, GitError> {
        let alternatives = text
            .split("||")
            .map(conjunction)
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| {
                GitError::InvalidReference(format!("{text:?} is not a version range like '>=1.0.0 <2.0.0'"))
            })?;
        Ok(Self {
            text: text.to_owned(),
            alternatives,
        })
    }
}

fn conjunction(text: &str) -> Option<Conjunction> {
    let mut comparators = Vec::new();
    let mut prereleases = false;
    let spaced = text.replace(',', " ");
    let mut words = spaced.split_whitespace().peekable();
    while let Some(word) = words.next() {
        let digits_at = word
            .find(|c: char| c.is_ascii_alphanumeric() || c == '*')
            .unwrap_or(word.len());
        let (operator, mut version) = word.split_at(digits_at);
        if version.is_empty() {
            // `>= 1.0`: the version is the next word.
            version = words.next()?;
        }
        let lower = Partial::parse(version)?;
        prereleases |= !lower.pre.is_empty();
        if operator.is_empty() && words.peek() == Some(&"-") {
            words.next();
            let upper = Partial::parse(words.next()?)?;
            prereleases |= !upper.pre.is_empty();
            comparators.push(Comparator::Within {
                from: Some(lower.floor()),
                below: upper.after(),
            });
        } else {
            comparators.push(comparator(operator, &lower)?);
        }
    }
    Some(Conjunction {
        comparators,
        prereleases,
    })
}

fn comparator(operator: &str, version: &Partial) -> Option<Comparator> {
    let within = |from, below| Comparator::Within { from, below };
    Some(match operator {
        "" | "=" | "==" => within(Some(version.floor()), version.after()),
        "!=" => match version.after() {
            Some(below) => Comparator::Outside {
                from: version.floor(),
                below,
            },
            // `!=*` excludes everything.
            None => within(Some(Version::new(u64::MAX, 0, 0)), Some(Version::new(0, 0, 0))),
        },
        ">" => match version.after() {
            Some(after) => within(Some(after), None),
            None => within(Some(Version::new(u64::MAX, 0, 0)), Some(Version::new(0, 0, 0))),
        },
        ">=" | "=>" => within(Some(version.floor()), None),
        "<" => within(None, Some(version.floor())),
        "<=" | "=<" => within(None, version.after()),
        "~" | "~>" => within(Some(version.floor()), version.tilde()),
        "^" => within(Some(version.floor()), version.caret()),
        _ => return None,
    })
}

/// A version of which the last parts may be missing or wildcards.
struct Partial {
    major: Option<u64>,
    minor: Option<u64>,
    patch: Option<u64>,
    pre: Prerelease,
}

impl Partial {
    fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix(['v', 'V']).unwrap_or(text);
        let text = text.split_once('+').map_or(text, |(version, _build)| version);
        let (numbers, pre) = text.split_once('-').unwrap_or((text, ""));
        let mut parts = [None; 3];
        let mut open = false;
        let mut count = 0;
        for (slot, word) in numbers.split('.').enumerate() {
            let part = parts.get_mut(slot)?;
            count += 1;
            if matches!(word, "x" | "X" | "*") {
                open = true;
            } else if !open {
                *part = Some(word.parse().ok()?);
            }
        }
        (count > 0).then_some(())?;
        let [major, minor, patch] = parts;
        Some(Self {
            major,
            minor,
            patch,
            pre: Prerelease::new(pre).ok()?,
        })
    }

    /// The lowest version meant.
    fn floor(&self) -> Version {
        Version {
            pre: self.pre.clone(),
            ..Version::new(
                self.major.unwrap_or(0),
                self.minor.unwrap_or(0),
                self.patch.unwrap_or(0),
            )
        }
    }

    /// The lowest version above all that are meant; `None` if all are.
    fn after(&self) -> Option<Version> {
        let (Some(_), Some(_), Some(patch)) = (self.major, self.minor, self.patch) else {
            return self.tilde();
        };
        let mut after = self.floor();
        if after.pre.is_empty() {
            // The lowest of all pre-releases of the next patch.
            after.patch = patch.saturating_add(1);
            after.pre = Prerelease::new("0").unwrap_or(Prerelease::EMPTY);
        } else {
            // `1.0.0-rc.1` is followed by `1.0.0-rc.1.0`.
            after.pre = Prerelease::new(&format!("{}.0", after.pre)).unwrap_or(Prerelease::EMPTY);
        }
        Some(after)
    }

    fn tilde(&self) -> Option<Version> {
        let major = self.major?;
        Some(match self.minor {
            Some(minor) => before_release(major, minor.saturating_add(1), 0),
            None => before_release(major.saturating_add(1), 0, 0),
        })
    }

    fn caret(&self) -> Option<Version> {
        let major = self.major?;
        Some(match (major, self.minor, self.patch) {
            (0, Some(0), Some(patch)) => before_release(0, 0, patch.saturating_add(1)),
            (0, Some(minor), _) => before_release(0, minor.saturating_add(1), 0),
            _ => before_release(major.saturating_add(1), 0, 0),
        })
    }
}

/// The lowest pre-release of a version: `<2` must not let `2.0.0-rc.1` in when pre-releases are asked for.
fn before_release(major: u64, minor: u64, patch: u64) -> Version {
    Version {
        pre: Prerelease::new("0").unwrap_or(Prerelease::EMPTY),
        ..Version::new(major, minor, patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_match_as_in_flux() {
        for (range, yes, no) in [
            (
                ">=1.0.0 <2.0.0",
                vec!["1.0.0", "1.9.9"],
                vec!["0.9.9", "2.0.0", "1.5.0-rc.1"],
            ),
            (">=1.0.0, <2", vec!["1.0.0"], vec!["2.0.0"]),
            (">= 1.0.0 < 2", vec!["1.0.0"], vec!["2.0.0"]),
            ("1.x", vec!["1.0.0", "1.99.0"], vec!["2.0.0", "0.1.0"]),
            ("1.2.x", vec!["1.2.0", "1.2.9"], vec!["1.3.0"]),
            ("1.2", vec!["1.2.0", "1.2.9"], vec!["1.3.0"]),
            ("1.2.3", vec!["1.2.3"], vec!["1.2.4", "1.2.2"]),
            ("=1.2.3", vec!["1.2.3"], vec!["1.2.4"]),
            ("~1.2", vec!["1.2.0", "1.2.9"], vec!["1.3.0", "1.1.9"]),
            ("~1.2.3", vec!["1.2.3", "1.2.9"], vec!["1.2.2", "1.3.0"]),
            ("~1", vec!["1.0.0", "1.9.0"], vec!["2.0.0"]),
            ("^1.2.3", vec!["1.2.3", "1.9.0"], vec!["2.0.0", "1.2.2"]),
            ("^0.2.3", vec!["0.2.3", "0.2.9"], vec!["0.3.0"]),
            ("^0.0.3", vec!["0.0.3"], vec!["0.0.4"]),
            ("^0", vec!["0.9.0"], vec!["1.0.0"]),
            ("*", vec!["0.0.1", "9.0.0"], vec!["1.0.0-alpha"]),
            (">=0.0.0-0", vec!["1.0.0-alpha", "1.0.0"], vec![]),
            (">1", vec!["2.0.0"], vec!["1.0.0", "1.9.0"]),
            (">1.1", vec!["1.2.0"], vec!["1.1.5"]),
            ("<=1.2", vec!["1.2.9", "1.0.0"], vec!["1.3.0"]),
            ("<1.2", vec!["1.1.9"], vec!["1.2.0"]),
            ("!=1.2.3", vec!["1.2.4", "1.2.2"], vec!["1.2.3"]),
            ("!=1.2", vec!["1.3.0"], vec!["1.2.9"]),
            ("1.0 - 2.0", vec!["1.0.0", "2.0.5"], vec!["2.1.0", "0.9.0"]),
            ("1.0.0 - 2.0.0", vec!["2.0.0"], vec!["2.0.1"]),
            ("<1 || >=3", vec!["0.5.0", "3.0.0"], vec!["1.0.0", "2.9.9"]),
            (
                ">=1.0.0-0 <2.0.0-0",
                vec!["1.5.0-rc.1", "1.5.0"],
                vec!["2.0.0-rc.1", "2.0.0"],
            ),
            ("v1.2.3", vec!["1.2.3"], vec!["1.2.4"]),
        ] {
            let constraint: Constraint = range.parse().unwrap();
            for version in yes {
                assert!(
                    constraint.matches(&version.parse().unwrap()),
                    "{range} must hold {version}"
                );
            }
            for version in no {
                assert!(
                    !constraint.matches(&version.parse().unwrap()),
                    "{range} must not hold {version}"
                );
            }
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for range in ["main", ">=", "1.2.3.4", "%1", "1 -", ">=a.b", "1.0.0-!"] {
            assert!(range.parse::<Constraint>().is_err(), "{range}");
        }
    }
}
