//! What a chart's `values.yaml` says about itself: the one source of its schema and of its README.
//!
//! A comment `# -- text` above a key describes it; `# @schema {…}` adds to the schema that its default suggests. A key with a
//! description is a value, whatever it holds; one without is a section, in which every key has to be described.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail};
use serde_json::{Map, Value, json};

/// One key of `values.yaml`.
#[derive(Debug, PartialEq)]
pub(super) struct Node {
    /// Its name.
    pub(super) name: String,
    /// Its default.
    pub(super) default: Value,
    /// What it is, unless it is a section.
    pub(super) description: Option<String>,
    /// What its schema has beyond what the default says.
    pub(super) schema: Map<String, Value>,
    /// The keys of a section.
    pub(super) children: Vec<Node>,
}

impl Node {
    /// Whether keys may be in it that are not described.
    fn is_open(&self) -> bool {
        self.schema.get("additionalProperties") == Some(&Value::Bool(true))
    }
}

/// What comments say about a key.
#[derive(Default)]
struct Comment {
    description: Option<String>,
    schema: Map<String, Value>,
}

/// Reads a `values.yaml`, in its own order.
pub(super) fn read(text: &str) -> anyhow::Result<Vec<Node>> {
    let values: serde_yaml::Value = serde_yaml::from_str(text)?;
    let comments = comments(text)?;
    nodes(&values, "", &comments, false)
}

fn nodes(
    values: &serde_yaml::Value,
    prefix: &str,
    comments: &BTreeMap<String, Comment>,
    is_open: bool,
) -> anyhow::Result<Vec<Node>> {
    let mapping = values.as_mapping().context("is no mapping")?;
    let mut nodes = vec![];
    for (key, value) in mapping {
        let name = key.as_str().context("a key is no text")?.to_owned();
        let path = format!("{prefix}{name}");
        let comment = comments.get(&path);
        let description = comment.and_then(|comment| comment.description.clone());
        let is_section = description.is_none() && value.is_mapping();
        if description.is_none() && !is_section {
            if is_open {
                continue;
            }
            bail!("{path} has no description: write `# -- …` above it");
        }
        let mut node = Node {
            name,
            default: serde_json::to_value(value).with_context(|| path.clone())?,
            description,
            schema: comment.map(|comment| comment.schema.clone()).unwrap_or_default(),
            children: vec![],
        };
        if is_section {
            if is_open && comment.is_none() {
                continue;
            }
            node.children = nodes_of_section(value, &path, comments, node.is_open())?;
        }
        nodes.push(node);
    }
    Ok(nodes)
}

fn nodes_of_section(
    value: &serde_yaml::Value,
    path: &str,
    comments: &BTreeMap<String, Comment>,
    is_open: bool,
) -> anyhow::Result<Vec<Node>> {
    nodes(value, &format!("{path}."), comments, is_open)
}

/// The comments above each key, by the key's path.
fn comments(text: &str) -> anyhow::Result<BTreeMap<String, Comment>> {
    let mut found = BTreeMap::new();
    let mut open: Vec<(usize, String)> = vec![];
    let mut pending = Comment::default();
    let mut list: Option<usize> = None;
    for (number, line) in text.lines().enumerate() {
        let trimmed = line.trim_start();
        let indent = line.len() - trimmed.len();
        if let Some(comment) = trimmed.strip_prefix('#') {
            let comment = comment.strip_prefix(' ').unwrap_or(comment);
            if let Some(description) = comment.strip_prefix("-- ") {
                pending.description = Some(description.to_owned());
            } else if let Some(schema) = comment.strip_prefix("@schema ") {
                pending.schema = serde_json::from_str(schema)
                    .with_context(|| format!("line {}: @schema is no JSON object", number + 1))?;
            }
            continue;
        }
        if trimmed.is_empty() {
            pending = Comment::default();
            continue;
        }
        // What is inside of a list is a default, not a value of its own.
        if list.is_some_and(|list| indent > list) {
            continue;
        }
        if trimmed.starts_with("- ") {
            list = Some(indent);
            continue;
        }
        list = None;
        let Some((name, _)) = trimmed.split_once(':') else {
            bail!("line {}: neither comment nor key nor list", number + 1);
        };
        open.retain(|(outer, _)| *outer < indent);
        open.push((indent, name.to_owned()));
        let names: Vec<&str> = open.iter().map(|(_, name)| name.as_str()).collect();
        let comment = std::mem::take(&mut pending);
        if comment.description.is_some() || !comment.schema.is_empty() {
            found.insert(names.join("."), comment);
        }
    }
    Ok(found)
}

/// The JSON schema that values are checked against.
pub(super) fn schema(nodes: &[Node]) -> Value {
    let mut schema = section(nodes, &Map::new());
    if let Some(schema) = schema.as_object_mut() {
        schema.insert("$schema".into(), json!("http://json-schema.org/draft-07/schema#"));
        // Set by Helm where the chart is part of another one.
        if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
            properties.entry("global").or_insert(json!({ "type": "object" }));
        }
    }
    schema
}

fn section(nodes: &[Node], extra: &Map<String, Value>) -> Value {
    let properties: Map<String, Value> = nodes
        .iter()
        .map(|node| (node.name.clone(), of_node(node)))
        .collect();
    let mut schema = Map::new();
    schema.insert("type".into(), json!("object"));
    schema.insert("properties".into(), Value::Object(properties));
    schema.insert("additionalProperties".into(), json!(false));
    schema.extend(extra.clone());
    Value::Object(schema)
}

fn of_node(node: &Node) -> Value {
    let Some(description) = &node.description else {
        return section(&node.children, &node.schema);
    };
    let mut schema = Map::new();
    let kind = match &node.default {
        Value::Bool(_) => Some("boolean"),
        Value::Number(_) => Some("integer"),
        Value::String(_) => Some("string"),
        Value::Array(_) => Some("array"),
        Value::Object(_) => Some("object"),
        Value::Null => None,
    };
    if let Some(kind) = kind {
        schema.insert("type".into(), json!(kind));
    }
    schema.insert("description".into(), json!(description));
    schema.extend(node.schema.clone());
    Value::Object(schema)
}

/// A Markdown table: value, default, what it is.
pub(super) fn table(nodes: &[Node]) -> String {
    let mut lines = vec![
        "| value | default | what |".to_owned(),
        "|---|---|---|".to_owned(),
    ];
    lines.extend(rows(nodes, ""));
    lines.join("\n") + "\n"
}

fn rows(nodes: &[Node], prefix: &str) -> Vec<String> {
    nodes.iter().flat_map(|node| rows_of(node, prefix)).collect()
}

fn rows_of(node: &Node, prefix: &str) -> Vec<String> {
    let path = format!("{prefix}{}", node.name);
    let Some(description) = &node.description else {
        return rows(&node.children, &format!("{path}."));
    };
    let cell = |text: &str| text.replace('|', "\\|");
    let default = cell(&shown(&node.default));
    vec![format!("| `{path}` | {default} | {} |", cell(description))]
}

/// A default in a table: a long one is told apart, not shown.
fn shown(default: &Value) -> String {
    const LONG: usize = 100;
    match default {
        Value::Null => String::new(),
        Value::String(text) if text.is_empty() => String::new(),
        Value::String(text) => format!("`{text}`"),
        other => {
            let text = other.to_string();
            if text.len() > LONG {
                "see `values.yaml`".to_owned()
            } else {
                format!("`{text}`")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# A comment about the file.

# -- How many
# @schema {\"minimum\": 0}
replicas: 1
image:
  # -- Its tag
  tag: \"\"
# @schema {\"additionalProperties\": true}
probe:
  # -- Ask
  enabled: true
  periodSeconds: 3
# -- Who
subjects:
  - kind: Group
    name: everybody
# -- Free
labels: {}
";

    #[test]
    fn comments_and_defaults_make_the_schema_and_the_table() {
        let nodes = read(TEXT).unwrap();
        let schema = schema(&nodes);
        let of = |path: &str| schema.pointer(path).cloned().unwrap_or_default();
        assert_eq!(
            of("/properties/replicas"),
            json!({"type": "integer", "minimum": 0, "description": "How many"})
        );
        assert_eq!(of("/properties/image/additionalProperties"), json!(false));
        assert_eq!(of("/properties/image/properties/tag/type"), json!("string"));
        assert_eq!(of("/properties/probe/additionalProperties"), json!(true));
        assert_eq!(of("/properties/probe/properties/periodSeconds"), json!(null));
        assert_eq!(of("/properties/subjects/type"), json!("array"));
        assert_eq!(
            of("/properties/labels"),
            json!({"type": "object", "description": "Free"})
        );
        assert_eq!(of("/additionalProperties"), json!(false));
        let table = table(&nodes);
        assert!(table.contains("| `image.tag` |  | Its tag |"), "{table}");
        assert!(table.contains("| `probe.enabled` | `true` | Ask |"), "{table}");
        assert!(!table.contains("periodSeconds"), "{table}");
    }

    #[test]
    fn a_value_without_a_description_is_refused() {
        let error = read("image:\n  tag: x\n").unwrap_err().to_string();
        assert!(error.contains("image.tag has no description"), "{error}");
    }
}
