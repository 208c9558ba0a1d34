//! Semantic versions and constraints on them, with the syntax that sprig's users know.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use gotmpl::Value;

use super::{Entry, fails, string};

pub(super) const TABLE: &[Entry] = &[
    ("semver", 1, 1, |a| {
        let text = string(a, 0)?;
        let version = Version::parse(text).ok_or_else(|| fails("not a semantic version"))?;
        let number = |number: u64| Value::Int(i64::try_from(number).unwrap_or(i64::MAX));
        Ok(Value::from(BTreeMap::from([
            ("Major".to_owned(), number(version.numbers[0])),
            ("Minor".to_owned(), number(version.numbers[1])),
            ("Patch".to_owned(), number(version.numbers[2])),
            ("Prerelease".to_owned(), Value::from(version.pre)),
            ("Metadata".to_owned(), Value::from(version.metadata)),
            ("Original".to_owned(), Value::from(text)),
        ])))
    }),
    ("semverCompare", 2, 2, |a| {
        let constraint = string(a, 0)?;
        let version = Version::parse(string(a, 1)?).ok_or_else(|| fails("not a semantic version"))?;
        matches(constraint, &version)
            .map(Value::Bool)
            .ok_or_else(|| fails("not a constraint"))
    }),
];

/// `1`, `1.2` and `v1.2.3` are versions, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Version<'a> {
    numbers: [u64; 3],
    pre: &'a str,
    metadata: &'a str,
}

impl<'a> Version<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let partial = Partial::parse(text.strip_prefix('v').unwrap_or(text))?;
        let numbers = [
            partial.numbers[0]?,
            partial.numbers[1].unwrap_or(0),
            partial.numbers[2].unwrap_or(0),
        ];
        (!partial.wild).then_some(Self {
            numbers,
            pre: partial.pre,
            metadata: partial.metadata,
        })
    }
}

/// Precedence: metadata has none, a prerelease comes before its release.
fn compare(one: &Version<'_>, other: &Version<'_>) -> Ordering {
    let pre = match (one.pre.is_empty(), other.pre.is_empty()) {
        (true, true) => Ordering::Equal,
        (true, false) => Ordering::Greater,
        (false, true) => Ordering::Less,
        (false, false) => compare_pre(one.pre, other.pre),
    };
    one.numbers.cmp(&other.numbers).then(pre)
}

fn compare_pre(one: &str, other: &str) -> Ordering {
    let (mut one, mut other) = (one.split('.'), other.split('.'));
    loop {
        let order = match (one.next(), other.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => Ordering::Less,
            (Some(_), None) => Ordering::Greater,
            (Some(one), Some(other)) => match (one.parse::<u64>(), other.parse::<u64>()) {
                (Ok(one), Ok(other)) => one.cmp(&other),
                (Ok(_), Err(_)) => Ordering::Less,
                (Err(_), Ok(_)) => Ordering::Greater,
                (Err(_), Err(_)) => one.cmp(other),
            },
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

/// A version of which parts can be left open.
struct Partial<'a> {
    /// `None` where it is left out or `x`; what stands behind such a part does not count.
    numbers: [Option<u64>; 3],
    wild: bool,
    pre: &'a str,
    metadata: &'a str,
}

impl<'a> Partial<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (text, metadata) = match text.split_once('+') {
            Some((text, metadata)) => (text, Some(metadata)),
            None => (text, None),
        };
        let (core, pre) = match text.split_once('-') {
            Some((core, pre)) => (core, Some(pre)),
            None => (text, None),
        };
        let is_label = |label: &str| {
            label.split('.').all(|part| {
                !part.is_empty()
                    && part
                        .bytes()
                        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            })
        };
        if !pre.is_none_or(is_label) || !metadata.is_none_or(is_label) {
            return None;
        }
        let parts: Vec<&str> = core.split('.').collect();
        if parts.len() > 3 {
            return None;
        }
        let (mut numbers, mut wild) = ([None; 3], false);
        for (number, part) in numbers.iter_mut().zip(parts) {
            if matches!(part, "x" | "X" | "*") {
                wild = true;
            } else if part.bytes().all(|byte| byte.is_ascii_digit()) {
                *number = Some(part.parse().ok()?).filter(|_| !wild);
            } else {
                return None;
            }
        }
        Some(Self {
            numbers,
            wild,
            pre: pre.unwrap_or_default(),
            metadata: metadata.unwrap_or_default(),
        })
    }

    /// The least version that fits.
    fn floor(&self) -> Version<'a> {
        Version {
            numbers: self.numbers.map(Option::unwrap_or_default),
            pre: self.pre,
            metadata: self.metadata,
        }
    }

    /// The first release behind all versions that agree in the first `parts` numbers.
    fn behind(&self, parts: usize) -> Option<[u64; 3]> {
        let mut numbers = [0; 3];
        for (at, number) in numbers.iter_mut().enumerate().take(parts) {
            *number = self.numbers[at]? + u64::from(at + 1 == parts);
        }
        (parts > 0).then_some(numbers)
    }

    fn known(&self) -> usize {
        self.numbers.iter().take_while(|number| number.is_some()).count()
    }
}

/// Whether `version` is what `constraint` wants: alternatives between `||`, conditions between commas or spaces.
/// `None` when it cannot be read.
fn matches(constraint: &str, version: &Version<'_>) -> Option<bool> {
    let groups: Vec<Vec<(&str, Partial<'_>)>> = constraint.split("||").map(group).collect::<Option<_>>()?;
    Some(groups.iter().any(|group| {
        // Prereleases are only meant where one is named.
        let with_pre = group.iter().any(|(_, wanted)| !wanted.pre.is_empty());
        (version.pre.is_empty() || with_pre)
            && group
                .iter()
                .all(|(operator, wanted)| holds(operator, wanted, version))
    }))
}

fn group(text: &str) -> Option<Vec<(&str, Partial<'_>)>> {
    let mut conditions = Vec::new();
    // `1.2 - 1.4` is a range.
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let operators = ["!=", ">=", "=>", "<=", "=<", "~>", "=", ">", "<", "~", "^"];
        let operator = operators
            .into_iter()
            .find(|operator| rest.starts_with(operator))
            .unwrap_or("");
        rest = rest.get(operator.len()..)?.trim_start();
        let end = rest
            .find(|c: char| c.is_whitespace() || c == ',')
            .unwrap_or(rest.len());
        let version = rest.get(..end)?;
        let wanted = Partial::parse(version.strip_prefix('v').unwrap_or(version))?;
        rest = rest.get(end..)?.trim_start();
        if operator.is_empty()
            && let Some(upper) = rest.strip_prefix("- ")
        {
            let upper = upper.trim_start();
            let end = upper
                .find(|c: char| c.is_whitespace() || c == ',')
                .unwrap_or(upper.len());
            let last = upper.get(..end)?;
            conditions.push((">=", wanted));
            conditions.push(("<=", Partial::parse(last.strip_prefix('v').unwrap_or(last))?));
            rest = upper.get(end..)?.trim_start();
        } else {
            conditions.push((operator, wanted));
        }
        if let Some(tail) = rest.strip_prefix(',') {
            rest = tail.trim_start();
            if rest.is_empty() {
                return None;
            }
        }
    }
    Some(conditions)
}

fn holds(operator: &str, wanted: &Partial<'_>, version: &Version<'_>) -> bool {
    let floor = wanted.floor();
    let order = compare(version, &floor);
    let known = wanted.known();
    let before = |end: Option<[u64; 3]>| end.is_none_or(|end| version.numbers < end);
    let within = |parts: usize| order != Ordering::Less && before(wanted.behind(parts));
    match operator {
        "" | "=" if known == 3 => order == Ordering::Equal,
        "" | "=" => within(known),
        "!=" if known == 3 => order != Ordering::Equal,
        "!=" => !(before(wanted.behind(known)) && version.numbers >= floor.numbers),
        ">" if known == 3 => order == Ordering::Greater,
        ">" => wanted.behind(known).is_some_and(|end| version.numbers >= end),
        "<" => order == Ordering::Less,
        ">=" | "=>" => order != Ordering::Less,
        "<=" | "=<" if known == 3 => order != Ordering::Greater,
        "<=" | "=<" => before(wanted.behind(known)),
        "~" | "~>" => within(known.min(2)),
        // The first number that is not zero stays.
        _ => {
            let significant = floor
                .numbers
                .iter()
                .position(|number| *number > 0)
                .map_or(3, |at| at + 1);
            within(significant.min(known))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn nothing_is_too_odd(constraint in "[<>=!~^|, v0-9x*.+-]{0,24}", version in "[v0-9.a-z+-]{0,16}") {
            if let Some(version) = Version::parse(&version) {
                let _ = matches(&constraint, &version);
            }
        }
    }
}
