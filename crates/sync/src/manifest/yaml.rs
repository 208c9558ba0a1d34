//! Pure: YAML as Kubernetes reads it. The events come from `granit-parser` (already in kube's tree); what a plain
//! scalar means is YAML 1.1 as `sigs.k8s.io/yaml` has it (`0644` is octal, `yes` is true), because that is
//! what `kubectl` and the API server understand. See docs/adr/0002-yaml.md.

use std::{borrow::Cow, collections::HashMap};

use granit_parser::{Event, Parser, ScalarStyle, ScanError, Tag};
use serde_json::{Map, Number, Value};

/// The API server refuses requests over 3 MiB, so a larger document cannot be applied; the bound is on what a
/// document expands to, which makes alias bombs harmless.
const MAX_EXPANDED: usize = 4 << 20;
/// What a node costs beside its text.
const NODE: usize = 8;

/// One document of a YAML stream.
#[derive(Debug)]
pub struct Document {
    /// Which document of the stream it is, counted from 1.
    pub number: usize,
    /// Line of its first node, counted from 1.
    pub line: usize,
    /// Its content, or what is wrong with it.
    pub content: Result<Value, YamlError>,
}

/// What is wrong with a document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct YamlError {
    /// Line, counted from 1.
    pub line: usize,
    /// Column, counted from 1.
    pub column: usize,
    /// What the parser says.
    pub message: String,
}

/// Reads all documents. A broken document does not hide the ones after it; empty documents are left out.
pub fn documents(text: &str) -> Vec<Document> {
    let options = granit_parser::options! {
        emit_comments: false,
        block_scalar_eof_without_line_feed: true,
    };
    let mut parser = Parser::new_from_str_with_options(text, options);
    let mut documents = Vec::new();
    let mut number = 0;
    let mut is_open = false;
    let mut builder = Builder::default();
    while let Some(next) = parser.next_event() {
        let outcome = match next {
            Ok((Event::DocumentStart(..), _)) => {
                number += 1;
                is_open = true;
                builder = Builder::default();
                continue;
            }
            Ok((Event::DocumentEnd, _)) => {
                is_open = false;
                if let Some((line, content)) = std::mem::take(&mut builder).finish() {
                    documents.push(Document {
                        number,
                        line,
                        content: Ok(content),
                    });
                }
                continue;
            }
            Ok((Event::StreamEnd, _)) => break,
            Ok((event, span)) => builder.event(event, (span.start.line(), span.start.col() + 1)),
            Err(error) => Err(scan_error(&error)),
        };
        if let Err(error) = outcome {
            let line = builder.first_line.unwrap_or(error.line);
            // A syntax error before the document's start event belongs to a document of its own.
            number += usize::from(!std::mem::take(&mut is_open));
            documents.push(Document {
                number,
                line,
                content: Err(error),
            });
            builder = Builder::default();
            match parser.proceed_next_document() {
                Ok(true) => {}
                Ok(false) | Err(_) => break,
            }
        }
    }
    documents
}

fn scan_error(error: &ScanError) -> YamlError {
    let mark = error.marker();
    YamlError {
        line: mark.line(),
        column: mark.col() + 1,
        message: error.info(),
    }
}

type Position = (usize, usize);

fn fail<T>((line, column): Position, message: impl Into<String>) -> Result<T, YamlError> {
    Err(YamlError {
        line,
        column,
        message: message.into(),
    })
}

enum Frame {
    Sequence(Vec<Value>, usize),
    Mapping {
        entries: Map<String, Value>,
        key: Option<String>,
        merged: Vec<Value>,
        anchor: usize,
    },
}

#[derive(Default)]
struct Builder {
    stack: Vec<Frame>,
    anchors: HashMap<usize, (Value, usize)>,
    root: Option<Value>,
    first_line: Option<usize>,
    expanded: usize,
}

impl Builder {
    fn event(&mut self, event: Event<'_>, at: Position) -> Result<(), YamlError> {
        if event.is_node() {
            self.first_line.get_or_insert(at.0);
            self.charge(NODE, at)?;
        }
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.charge(text.len(), at)?;
                let value = scalar(text, style, tag.as_deref(), at)?;
                self.anchor(anchor, &value, at)?;
                self.node(value, at)
            }
            Event::Alias(anchor) => {
                let Some((value, cost)) = self.anchors.get(&anchor) else {
                    return fail(at, "the alias refers to a node that contains it");
                };
                let (value, cost) = (value.clone(), *cost);
                self.charge(cost, at)?;
                self.node(value, at)
            }
            Event::SequenceStart(_, anchor, _) => {
                self.key_must_be_scalar(at)?;
                self.stack.push(Frame::Sequence(Vec::new(), anchor));
                Ok(())
            }
            Event::MappingStart(_, anchor, _) => {
                self.key_must_be_scalar(at)?;
                self.stack.push(Frame::Mapping {
                    entries: Map::new(),
                    key: None,
                    merged: Vec::new(),
                    anchor,
                });
                Ok(())
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let (value, anchor) = match self.stack.pop() {
                    Some(Frame::Sequence(items, anchor)) => (Value::Array(items), anchor),
                    Some(Frame::Mapping {
                        mut entries,
                        merged,
                        anchor,
                        ..
                    }) => {
                        merge(&mut entries, merged, at)?;
                        (Value::Object(entries), anchor)
                    }
                    None => return fail(at, "a collection ends that never began"),
                };
                self.anchor(anchor, &value, at)?;
                self.node(value, at)
            }
            _ => Ok(()),
        }
    }

    fn charge(&mut self, cost: usize, at: Position) -> Result<(), YamlError> {
        self.expanded = self.expanded.saturating_add(cost);
        if self.expanded > MAX_EXPANDED {
            return fail(
                at,
                format!(
                    "the document expands to more than {} MiB, which no API server takes",
                    MAX_EXPANDED >> 20
                ),
            );
        }
        Ok(())
    }

    fn anchor(&mut self, anchor: usize, value: &Value, at: Position) -> Result<(), YamlError> {
        if anchor != 0 {
            let cost = cost(value);
            self.charge(cost, at)?;
            self.anchors.insert(anchor, (value.clone(), cost));
        }
        Ok(())
    }

    fn key_must_be_scalar(&self, at: Position) -> Result<(), YamlError> {
        match self.stack.last() {
            Some(Frame::Mapping { key: None, .. }) => {
                fail(at, "a mapping key must be a string, a number or a boolean")
            }
            _ => Ok(()),
        }
    }

    fn node(&mut self, value: Value, at: Position) -> Result<(), YamlError> {
        match self.stack.last_mut() {
            None => self.root = Some(value),
            Some(Frame::Sequence(items, _)) => items.push(value),
            Some(Frame::Mapping {
                entries, key, merged, ..
            }) => match key.take() {
                None => *key = Some(key_text(value, at)?),
                Some(name) if name == MERGE => merged.push(value),
                Some(name) => {
                    if entries.contains_key(&name) {
                        return fail(at, format!("the key {name:?} is set twice in one mapping"));
                    }
                    entries.insert(name, value);
                }
            },
        }
        Ok(())
    }

    fn finish(self) -> Option<(usize, Value)> {
        match self.root {
            None | Some(Value::Null) => None,
            Some(value) => Some((self.first_line.unwrap_or(1), value)),
        }
    }
}

/// YAML 1.1's merge key.
const MERGE: &str = "<<";

fn merge(entries: &mut Map<String, Value>, merged: Vec<Value>, at: Position) -> Result<(), YamlError> {
    for value in merged {
        let sources = match value {
            Value::Array(items) => items,
            single => vec![single],
        };
        for source in sources {
            let Value::Object(source) = source else {
                return fail(at, "the merge key << takes a mapping or a list of mappings");
            };
            for (key, value) in source {
                entries.entry(key).or_insert(value);
            }
        }
    }
    Ok(())
}

fn cost(value: &Value) -> usize {
    NODE + match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(cost).sum(),
        Value::Object(entries) => entries
            .iter()
            .map(|(key, value)| key.len() + NODE + cost(value))
            .sum(),
        _ => 0,
    }
}

fn key_text(key: Value, at: Position) -> Result<String, YamlError> {
    match key {
        Value::String(text) => Ok(text),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(value) => Ok(value.to_string()),
        _ => fail(at, "a mapping key must be a string, a number or a boolean"),
    }
}

fn scalar(
    text: Cow<'_, str>,
    style: ScalarStyle,
    tag: Option<&Tag>,
    at: Position,
) -> Result<Value, YamlError> {
    match tag
        .map(|tag| tag.core_suffix().map_or_else(|| tag.original(), str::to_owned))
        .as_deref()
    {
        None if style == ScalarStyle::Plain => plain(text, at),
        // `!` and `!!str` say: take it literally. Binary is base64 text already.
        None | Some("str" | "binary" | "timestamp" | "!" | "") => Ok(Value::String(text.into_owned())),
        Some(kind @ ("int" | "float" | "bool" | "null")) => {
            let value = plain(text, at)?;
            let fits = match kind {
                "int" => value.is_i64() || value.is_u64(),
                "float" => value.is_number(),
                "bool" => value.is_boolean(),
                _ => value.is_null(),
            };
            if fits {
                Ok(value)
            } else {
                fail(at, format!("the value is tagged !!{kind} but is not one"))
            }
        }
        Some(other) => fail(at, format!("the tag {other} means nothing to Kubernetes")),
    }
}

/// What a plain scalar means; `None` when it means nothing that JSON can express.
pub(crate) fn plain_value(text: &str) -> Option<Value> {
    plain(Cow::Borrowed(text), (0, 0)).ok()
}

/// What a plain scalar means.
fn plain(text: Cow<'_, str>, at: Position) -> Result<Value, YamlError> {
    match text.as_ref() {
        "" | "~" | "null" | "Null" | "NULL" => return Ok(Value::Null),
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            return Ok(Value::Bool(true));
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Ok(Value::Bool(false));
        }
        ".nan" | ".NaN" | ".NAN" | ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" | "-.inf"
        | "-.Inf" | "-.INF" => {
            return fail(at, format!("{text} cannot be written as JSON"));
        }
        _ => {}
    }
    Ok(number(&text).map_or_else(|| Value::String(text.into_owned()), Value::Number))
}

fn number(text: &str) -> Option<Number> {
    if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')) {
        return None;
    }
    let digits: Cow<'_, str> = if text.contains('_') {
        text.replace('_', "").into()
    } else {
        text.into()
    };
    integer(&digits).or_else(|| float(&digits))
}

/// Go's `strconv.ParseInt(s, 0, 64)`, then `ParseUint`.
fn integer(text: &str) -> Option<Number> {
    let (negative, unsigned) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let lower = unsigned.to_ascii_lowercase();
    let (radix, digits) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', _, ..] => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    if digits.starts_with(['+', '-']) {
        return None;
    }
    let magnitude = u64::from_str_radix(digits, radix).ok()?;
    if negative {
        0_i64.checked_sub_unsigned(magnitude).map(Number::from)
    } else {
        Some(Number::from(magnitude))
    }
}

fn float(text: &str) -> Option<Number> {
    let unsigned = text.trim_start_matches(['+', '-']);
    let has_digit = unsigned
        .split(['e', 'E'])
        .next()
        .is_some_and(|mantissa| mantissa.contains(|c: char| c.is_ascii_digit()));
    let only = unsigned
        .chars()
        .all(|c| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '+' | '-'));
    if !has_digit || !only || text.len() - unsigned.len() > 1 {
        return None;
    }
    Number::from_f64(text.parse().ok()?)
}
