//! The shape of a text and where each part of it stands.

use std::ops::Range;

/// A value of the text.
#[derive(Debug)]
pub(super) struct Node {
    /// Its bytes; of a block collection only the start counts.
    pub(super) span: Range<usize>,
    /// What it is.
    pub(super) content: Content,
}

#[derive(Debug)]
pub(super) enum Content {
    /// Text, as parsed; an alias has none.
    Scalar(Option<String>),
    /// Entries in their order.
    Map(Vec<Entry>, Style),
    /// Elements in their order.
    List(Vec<Node>),
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    /// The key's bytes, quotes included.
    pub(super) key_span: Range<usize>,
    pub(super) value: Node,
}

/// How a map is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// One line an entry.
    Block,
    /// Braces and commas.
    Flow,
}

impl Node {
    /// The value under `path`.
    pub(super) fn at(&self, path: &[String]) -> Option<&Self> {
        path.iter()
            .try_fold(self, |node, step| Some(&node.entry(step)?.value))
    }

    /// The entry at the end of `path`.
    pub(super) fn entry_at(&self, path: &[String]) -> Option<&Entry> {
        let (last, parents) = path.split_last()?;
        self.at(parents)?.entry(last)
    }

    /// The entry called `key`; of several the last, which is the one that readers take.
    pub(super) fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.content {
            Content::Map(entries, _) => entries.iter().rev().find(|entry| entry.key == key),
            _ => None,
        }
    }

    fn is_kind(&self, wanted: impl Fn(&str) -> bool) -> bool {
        self.entry("kind")
            .is_some_and(|kind| matches!(&kind.value.content, Content::Scalar(Some(text)) if wanted(text)))
    }

    /// Where the node really ends: block collections end with what is in them.
    pub(super) fn end(&self, text: &str) -> usize {
        let own = self.span.start + text.get(self.span.clone()).unwrap_or_default().trim_end().len();
        match &self.content {
            Content::Map(entries, Style::Block) => entries
                .last()
                .map_or(own, |last| last.value.end(text).max(last.key_span.end)),
            Content::List(nodes) if !text.get(self.span.start..).unwrap_or_default().starts_with('[') => {
                nodes.last().map_or(own, |last| last.end(text))
            }
            _ => own,
        }
    }
}

/// The values of `text`, one a document; `None` when the text cannot be taken apart.
pub(super) fn parse(text: &str) -> Option<Vec<Node>> {
    let start = text.len() - text.trim_start_matches('\u{feff}').len();
    let body = text.get(start..)?;
    // As in `documents`: the first character decides, and flow-style YAML also starts with a brace.
    if body.trim_start().starts_with('{')
        && let Some(nodes) = super::json::parse(text, start)
    {
        return Some(nodes);
    }
    super::yaml::parse(body, start)
}

/// The SealedSecrets of `roots`, as [`super::sealed_secrets`] finds them in the parsed documents.
pub(super) fn objects(roots: &[Node]) -> impl Iterator<Item = &Node> {
    roots
        .iter()
        .flat_map(
            |root| match root.entry("items").map(|entry| &entry.value.content) {
                Some(Content::List(items)) if root.is_kind(|kind| kind.ends_with("List")) => {
                    items.iter().collect()
                }
                _ => vec![root],
            },
        )
        .filter(|node| node.is_kind(|kind| kind == "SealedSecret"))
}
