//! Pure: pieces of text put in place of others.

use std::ops::Range;

use serde_json::json;

use super::Change;
use super::tree::{Content, Entry, Node, Style};

/// Bytes and what takes their place.
pub(super) type Piece = (Range<usize>, String);

/// `text` with all `pieces`, which must not overlap.
pub(super) fn all(text: &str, mut pieces: Vec<Piece>) -> Option<String> {
    pieces.sort_by_key(|(range, _)| range.start);
    let (mut result, mut at) = (String::with_capacity(text.len()), 0);
    for (range, new) in pieces {
        result.push_str(text.get(at..range.start)?);
        result.push_str(&new);
        at = range.end;
    }
    result.push_str(text.get(at..)?);
    Some(result)
}

/// `new` in place of the scalar of `entry`, within the quotes or under the header that are there.
pub(super) fn replacement(text: &str, entry: &Entry, new: &str) -> Option<Piece> {
    let node = &entry.value;
    if !matches!(node.content, Content::Scalar(_)) {
        return None;
    }
    let trimmed = text.get(node.span.clone())?.trim_end();
    let start = node.span.start;
    let end = start + trimmed.len();
    if trimmed.is_empty() {
        let colon = behind_colon(text, entry)?;
        return Some((colon..colon, format!(" {}", scalar(new))));
    }
    if is_simple(new) {
        if trimmed.starts_with(['"', '\'']) && trimmed.len() >= 2 {
            return Some((start + 1..end - 1, new.to_owned()));
        }
        if trimmed.starts_with(['|', '>'])
            && let Some(header) = trimmed.find('\n')
        {
            let content = trimmed.get(header..)?;
            let indent = content.len() - content.trim_start().len();
            return Some((start + header + indent..end, new.to_owned()));
        }
    }
    Some((start..end, scalar(new)))
}

fn behind_colon(text: &str, entry: &Entry) -> Option<usize> {
    Some(entry.key_span.end + text.get(entry.key_span.end..)?.find(':')? + 1)
}

/// What base64 is made of: the same text in every style of JSON and YAML.
fn is_simple(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte))
        && text.len() > 8
}

/// `text` as a scalar of any style.
fn scalar(text: &str) -> String {
    if is_simple(text) {
        text.to_owned()
    } else {
        json!(text).to_string()
    }
}

/// The text after a change that [`replacement`] has not done already; `None` when there is nothing left to do.
pub(super) fn apply(text: &str, object: &Node, path: &[String], change: &Change) -> Option<String> {
    let piece = match change {
        Change::Set(new) => set(text, object, path, new),
        Change::Remove => {
            let (last, parents) = path.split_last()?;
            remove(text, object.at(parents)?, last)
        }
    }?;
    all(text, vec![piece])
}

/// The deepest map of `path` that is there, with what has to be put into it.
fn set(text: &str, object: &Node, path: &[String], new: &str) -> Option<Piece> {
    let (mut node, mut parent, mut in_braces) = (object, None, false);
    for (depth, step) in path.iter().enumerate() {
        let Some(entry) = node.entry(step) else {
            return insert(text, node, parent, in_braces, (path.get(depth..)?, new));
        };
        if depth + 1 == path.len() {
            return None;
        }
        in_braces |= matches!(node.content, Content::Map(_, Style::Flow));
        parent = Some(entry);
        node = &entry.value;
    }
    None
}

/// What is to be put somewhere: keys below one another, and the text behind the last.
type New<'a> = (&'a [String], &'a str);

fn insert(text: &str, map: &Node, parent: Option<&Entry>, in_braces: bool, new: New<'_>) -> Option<Piece> {
    match &map.content {
        Content::Map(entries, Style::Flow) if !entries.is_empty() => {
            let (first, last) = (entries.first()?, entries.last()?);
            let space = text.get(map.span.start + 1..first.key_span.start)?;
            let space = if space.is_empty() || !space.trim().is_empty() {
                " "
            } else {
                space
            };
            let end = last.value.end(text).max(last.key_span.end);
            Some((end..end, format!(",{space}{}", flow_entry(new)?)))
        }
        Content::Map(entries, Style::Block) => {
            let end = end_of_line(text, map.end(text));
            let column = column(text, entries.first()?.key_span.start);
            Some((end..end, lines(text, new, column)))
        }
        // `encryptedData: {}`, or nothing behind the colon.
        Content::Map(..) | Content::Scalar(Some(_)) => {
            let slice = text.get(map.span.clone())?.trim_end();
            let range = map.span.start..map.span.start + slice.len();
            if !matches!(slice, "{}" | "" | "null" | "~") {
                return None;
            }
            if in_braces {
                return Some((range, format!("{{{}}}", flow_entry(new)?)));
            }
            let parent = parent?;
            let lines = lines(text, new, column(text, parent.key_span.start) + 2);
            if range.is_empty() {
                let end = end_of_line(text, parent.key_span.end);
                return Some((end..end, lines));
            }
            Some((behind_colon(text, parent)?..range.end, lines))
        }
        _ => None,
    }
}

fn flow_entry((path, new): New<'_>) -> Option<String> {
    let (first, rest) = path.split_first()?;
    let value = if rest.is_empty() {
        json!(new).to_string()
    } else {
        format!("{{{}}}", flow_entry((rest, new))?)
    };
    Some(format!("{}: {value}", json!(first)))
}

/// Lines of their own, the first one's break included.
fn lines(text: &str, (path, new): New<'_>, column: usize) -> String {
    let value = path
        .iter()
        .rev()
        .fold(json!(new), |value, step| json!({ step: value }));
    let newline = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let pad = " ".repeat(column);
    crate::emit::yaml(&value)
        .trim_end()
        .lines()
        .flat_map(|line| [newline, &pad, line])
        .collect()
}

fn remove(text: &str, map: &Node, key: &str) -> Option<Piece> {
    let Content::Map(entries, style) = &map.content else {
        return None;
    };
    let at = entries.iter().position(|entry| entry.key == key)?;
    let entry = entries.get(at)?;
    let end = entry.value.end(text).max(entry.key_span.end);
    if entries.len() == 1 {
        return match style {
            Style::Flow => Some((entry.key_span.start..end, String::new())),
            Style::Block => Some((entry.key_span.start..end, "{}".to_owned())),
        };
    }
    let next = entries.get(at + 1).map(|next| next.key_span.start);
    let previous = at.checked_sub(1).and_then(|at| entries.get(at));
    let start = entry.key_span.start;
    let line = start - column(text, start);
    if *style == Style::Block && text.get(line..start)?.trim().is_empty() {
        let end = end_of_line(text, end);
        let rest = text.get(end..)?;
        let line_break = if rest.starts_with("\r\n") {
            2
        } else {
            usize::from(rest.starts_with('\n'))
        };
        return Some((line..end + line_break, String::new()));
    }
    Some(match (previous, next) {
        (_, Some(next)) => (start..next, String::new()),
        (Some(previous), None) => (
            previous.value.end(text).max(previous.key_span.end)..end,
            String::new(),
        ),
        (None, None) => return None,
    })
}

/// Bytes between the start of the line and `at`.
fn column(text: &str, at: usize) -> usize {
    let before = text.get(..at).unwrap_or_default();
    before.len() - before.rfind('\n').map_or(0, |line| line + 1)
}

fn end_of_line(text: &str, at: usize) -> usize {
    let rest = text.get(at..).unwrap_or_default();
    let line = rest.split('\n').next().unwrap_or_default();
    at + line.strip_suffix('\r').unwrap_or(line).len()
}
