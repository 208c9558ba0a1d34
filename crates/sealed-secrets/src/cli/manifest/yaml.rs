//! Positions in YAML, from the parser's events.

use granit_parser::{Event, Parser, ScalarStyle, Span};

use super::tree::{Content, Entry, Node, Style};

/// A collection that is not complete.
enum Frame {
    Map {
        start: usize,
        style: Style,
        entries: Vec<Entry>,
        key: Option<(String, std::ops::Range<usize>)>,
    },
    List {
        start: usize,
        nodes: Vec<Node>,
    },
}

/// The documents of `text`; positions are `offset` further on. Empty ones are left out, as everywhere.
pub(super) fn parse(text: &str, offset: usize) -> Option<Vec<Node>> {
    let options = granit_parser::options! {
        emit_comments: false,
        block_scalar_eof_without_line_feed: true,
    };
    let mut roots = Vec::new();
    let mut stack: Vec<Frame> = Vec::new();
    for next in Parser::new_from_str_with_options(text, options) {
        let (event, span) = next.ok()?;
        let at = |span: &Span| Some(offset + span.start.byte_offset()?..offset + span.end.byte_offset()?);
        let node = match event {
            Event::Scalar(content, style, ..) => Node {
                content: Content::Scalar(Some(match style {
                    ScalarStyle::Plain if content.is_empty() || content == "~" => "null".to_owned(),
                    _ => content.into_owned(),
                })),
                span: at(&span)?,
            },
            Event::Alias(_) => Node {
                content: Content::Scalar(None),
                span: at(&span)?,
            },
            Event::MappingStart(..) => {
                let span = at(&span)?;
                let is_flow = text.get(span.start - offset..)?.starts_with('{');
                stack.push(Frame::Map {
                    start: span.start,
                    style: if is_flow { Style::Flow } else { Style::Block },
                    entries: Vec::new(),
                    key: None,
                });
                continue;
            }
            Event::SequenceStart(..) => {
                stack.push(Frame::List {
                    start: at(&span)?.start,
                    nodes: Vec::new(),
                });
                continue;
            }
            Event::MappingEnd | Event::SequenceEnd => {
                let end = at(&span)?.end;
                match stack.pop()? {
                    Frame::Map {
                        start,
                        style,
                        entries,
                        ..
                    } => Node {
                        span: start..end.max(start),
                        content: Content::Map(entries, style),
                    },
                    Frame::List { start, nodes } => Node {
                        span: start..end.max(start),
                        content: Content::List(nodes),
                    },
                }
            }
            _ => continue,
        };
        match stack.last_mut() {
            None => roots.push(node),
            Some(Frame::List { nodes, .. }) => nodes.push(node),
            Some(Frame::Map { entries, key, .. }) => {
                if let Some((key, key_span)) = key.take() {
                    entries.push(Entry {
                        key,
                        key_span,
                        value: node,
                    });
                    continue;
                }
                // Keys that are no text are never ours; they only have to be stepped over.
                let name = match node.content {
                    Content::Scalar(Some(text)) => text,
                    _ => String::new(),
                };
                *key = Some((name, node.span));
            }
        }
    }
    Some(roots)
}
