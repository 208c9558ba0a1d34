//! Removing what a pattern matches.

use super::{Extent, Side, SubstituteError, SubstituteError::Syntax};

/// Values longer than this are not matched against patterns: matching takes the square of it.
const MATCHED: usize = 16 << 10;

/// Removes what a pattern (`*`, `?`, `[a-z]`, `\x`) matches at one end; an invalid pattern removes nothing, as in the original.
pub(super) fn remove(
    value: &str,
    pattern: &str,
    side: Side,
    extent: Extent,
) -> Result<String, SubstituteError> {
    let reversed = |text: &str| text.chars().rev().collect::<String>();
    if value.len() > MATCHED || pattern.len() > MATCHED / 16 {
        return Err(Syntax("the value or pattern is too long to be matched".into()));
    }
    // The original turns both around for the end.
    let (text, pattern) = match side {
        Side::Start => (value.to_owned(), pattern.to_owned()),
        Side::End => (reversed(value), reversed(pattern)),
    };
    let Some(pattern) = parse_pattern(&pattern) else {
        return Ok(value.to_owned());
    };
    let chars: Vec<char> = text.chars().collect();
    let found = match extent {
        Extent::Longest => matched(&pattern, &chars).last().copied(),
        Extent::Shortest => matched(&pattern, &chars).first().copied(),
    };
    let rest: String = chars[found.unwrap_or(0)..].iter().collect();
    Ok(if side == Side::Start {
        rest
    } else {
        reversed(&rest)
    })
}

enum Part {
    Star,
    Any,
    One(char),
    Class(bool, Vec<(char, char)>),
}

/// Go's `path.Match`, in which `*` matches slashes too; `None` when it is malformed.
fn parse_pattern(pattern: &str) -> Option<Vec<Part>> {
    let mut parts = Vec::new();
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        parts.push(match c {
            '*' => Part::Star,
            '?' => Part::Any,
            '\\' => Part::One(chars.next()?),
            '[' => {
                let negated = chars.next_if_eq(&'^').is_some();
                let mut ranges = Vec::new();
                while ranges.is_empty() || chars.next_if_eq(&']').is_none() {
                    let mut literal = || match chars.next()? {
                        '-' | ']' => None,
                        '\\' => chars.next(),
                        c => Some(c),
                    };
                    let low = literal()?;
                    let high = if chars.next_if_eq(&'-').is_some() {
                        match chars.next()? {
                            '-' | ']' => return None,
                            '\\' => chars.next()?,
                            c => c,
                        }
                    } else {
                        low
                    };
                    ranges.push((low, high));
                }
                Part::Class(negated, ranges)
            }
            c => Part::One(c),
        });
    }
    Some(parts)
}

/// The lengths, shortest first, of the beginnings that a pattern matches in full; never 0.
fn matched(pattern: &[Part], text: &[char]) -> Vec<usize> {
    // Which parts may come next: as many steps as there are characters and parts, whatever the pattern.
    let mut states = vec![false; pattern.len() + 1];
    states[0] = true;
    let mut found = Vec::new();
    let skip_stars = |states: &mut Vec<bool>| {
        for (index, part) in pattern.iter().enumerate() {
            if states[index] && matches!(part, Part::Star) {
                states[index + 1] = true;
            }
        }
    };
    skip_stars(&mut states);
    for (index, c) in text.iter().enumerate() {
        let mut next = vec![false; pattern.len() + 1];
        for (at, part) in pattern.iter().enumerate().filter(|(at, _)| states[*at]) {
            match part {
                Part::Star => next[at] = true,
                Part::Any => next[at + 1] = true,
                Part::One(one) => next[at + 1] |= one == c,
                Part::Class(negated, ranges) => {
                    let within = ranges.iter().any(|(low, high)| (low..=high).contains(&c));
                    next[at + 1] |= within != *negated;
                }
            }
        }
        states = next;
        skip_stars(&mut states);
        if states[pattern.len()] {
            found.push(index + 1);
        }
    }
    found
}
