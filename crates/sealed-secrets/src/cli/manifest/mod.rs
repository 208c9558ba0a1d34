//! SealedSecrets in the text of a file, edited in place: a ciphertext is replaced, added or removed, and not one other byte.

mod json;
mod splice;
mod tree;
mod yaml;

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use self::tree::Node;
use super::Error;
use super::output::Target;
use crate::api::SealedSecret;
use crate::documents;
use crate::scope::Scope;

/// A file and the SealedSecrets in it.
pub(super) struct Manifest {
    path: PathBuf,
    text: String,
    documents: Vec<Value>,
    roots: Vec<Node>,
    /// In order of appearance; members of Lists included.
    pub(super) objects: Vec<Object>,
}

/// One SealedSecret of a file.
pub(super) struct Object {
    /// Which one of the file, from 0.
    number: usize,
    /// As parsed.
    pub(super) value: Value,
}

/// What happens to one field.
#[derive(Clone, Debug)]
pub(super) enum Change {
    /// It gets this text, whether it is there or not.
    Set(String),
    /// It goes.
    Remove,
}

/// A change and where.
#[derive(Clone, Debug)]
pub(super) struct Edit {
    object: usize,
    path: Vec<String>,
    change: Change,
}

impl Object {
    /// Namespace and name, for people.
    pub(super) fn title(&self) -> String {
        let field = |name: &str| self.value.pointer(name).and_then(Value::as_str).unwrap_or("?");
        format!("{}/{}", field("/metadata/namespace"), field("/metadata/name"))
    }

    /// A field of the metadata; empty when it is not there.
    pub(super) fn metadata(&self, field: &str) -> &str {
        let metadata = self
            .value
            .get("metadata")
            .and_then(|metadata| metadata.get(field));
        metadata.and_then(Value::as_str).unwrap_or_default()
    }

    /// The scope that its annotations state.
    pub(super) fn scope(&self) -> Scope {
        super::merge::scope(self.value.get("metadata").unwrap_or(&Value::Null))
    }

    /// What its items are bound to. Refused when the name or the namespace that the scope needs is missing.
    pub(super) fn label(&self) -> Result<Vec<u8>, Error> {
        let (scope, namespace, name) = (self.scope(), self.metadata("namespace"), self.metadata("name"));
        if scope != Scope::ClusterWide && namespace.is_empty() {
            return Err(Error::Input(format!(
                "{}: metadata.namespace is missing: with scope {scope} an item opens only in the namespace it was sealed for",
                self.title()
            )));
        }
        if scope == Scope::Strict && name.is_empty() {
            return Err(Error::Input(format!(
                "{}: metadata.name is missing",
                self.title()
            )));
        }
        Ok(scope.label(namespace, name))
    }

    /// As the controller reads it.
    pub(super) fn read(&self) -> Result<SealedSecret, Error> {
        serde_json::from_value(self.value.clone())
            .map_err(|error| Error::Input(format!("{}: malformed: {error}", self.title())))
    }

    /// An annotation of the SealedSecret.
    pub(super) fn annotation(&self, key: &str) -> Option<&str> {
        self.value.get("metadata")?.get("annotations")?.get(key)?.as_str()
    }

    /// A change of one item.
    pub(super) fn item(&self, key: &str, change: Change) -> Edit {
        self.edit(&["spec", "encryptedData", key], change)
    }

    /// A change of any text field.
    pub(super) fn edit(&self, path: &[&str], change: Change) -> Edit {
        Edit {
            object: self.number,
            path: path.iter().map(|step| (*step).to_owned()).collect(),
            change,
        }
    }
}

impl Manifest {
    /// Reads `path`.
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let bytes = std::fs::read(path).map_err(Error::open(path))?;
        let text = String::from_utf8(bytes).map_err(|_| documents::Malformed::Encoding)?;
        Self::parse(path, text)
    }

    fn parse(path: &Path, text: String) -> Result<Self, Error> {
        let documents = documents::parse(text.as_bytes())
            .map_err(|error| Error::Input(format!("{}: {error}", path.display())))?;
        let objects: Vec<Object> = sealed_secrets(&documents)
            .enumerate()
            .map(|(number, value)| Object {
                number,
                value: value.clone(),
            })
            .collect();
        // The tree of positions is only needed, and only asked for, where there is something to edit.
        let roots = if objects.is_empty() {
            Vec::new()
        } else {
            tree::parse(&text)
                .ok_or_else(|| Error::Input(format!("{}: cannot be edited in place", path.display())))?
        };
        Ok(Self {
            path: path.to_owned(),
            text,
            documents,
            roots,
            objects,
        })
    }

    /// The one SealedSecret of the file, or the one called `name`.
    pub(super) fn only(&self, name: Option<&str>) -> Result<&Object, Error> {
        let mut found = self
            .objects
            .iter()
            .filter(|object| name.is_none_or(|name| object.metadata("name") == name));
        match (found.next(), found.next()) {
            (Some(object), None) => Ok(object),
            (None, _) => Err(Error::Input(match name {
                Some(name) => format!("{}: holds no SealedSecret called {name}", self.path.display()),
                None => format!("{}: holds no SealedSecret", self.path.display()),
            })),
            (Some(_), Some(_)) => Err(Error::Input(format!(
                "{}: holds {} SealedSecrets: say which with --name",
                self.path.display(),
                self.objects.len()
            ))),
        }
    }

    /// The text with `edits` in it. Everything else stays byte for byte; anything that would not is refused.
    pub(super) fn edited(&self, edits: &[Edit]) -> Result<String, Error> {
        let refused = || {
            Error::Input(format!(
                "{}: cannot be edited in place without changing more than the item; nothing was written",
                self.path.display()
            ))
        };
        let mut expected = self.documents.clone();
        for edit in edits {
            let object = sealed_secrets_mut(&mut expected)
                .nth(edit.object)
                .ok_or_else(refused)?;
            change(object, &edit.path, &edit.change).ok_or_else(refused)?;
        }
        let (present, rest) = self.split(edits).ok_or_else(refused)?;
        let mut text = splice::all(&self.text, present).ok_or_else(refused)?;
        // What is added or removed moves what follows, so one after another.
        for edit in rest {
            let roots = tree::parse(&text).ok_or_else(refused)?;
            let node = tree::objects(&roots).nth(edit.object).ok_or_else(refused)?;
            text = splice::apply(&text, node, &edit.path, &edit.change).ok_or_else(refused)?;
        }
        let mut found = documents::parse(text.as_bytes()).map_err(|_| refused())?;
        for edit in edits {
            // A block scalar ends with a line break that base64 does not mind.
            let object = sealed_secrets_mut(&mut found)
                .nth(edit.object)
                .ok_or_else(refused)?;
            if let Some(Value::String(text)) = at_mut(object, &edit.path) {
                text.truncate(text.trim_end_matches('\n').len());
            }
        }
        if found == expected {
            Ok(text)
        } else {
            Err(refused())
        }
    }

    /// The replacements of fields that are there, and the edits that are none.
    fn split<'a>(&self, edits: &'a [Edit]) -> Option<(Vec<splice::Piece>, Vec<&'a Edit>)> {
        let (mut present, mut rest) = (Vec::new(), Vec::new());
        for edit in edits {
            let node = tree::objects(&self.roots).nth(edit.object)?;
            match (&edit.change, node.entry_at(&edit.path)) {
                (Change::Set(new), Some(found)) => present.push(splice::replacement(&self.text, found, new)?),
                _ => rest.push(edit),
            }
        }
        Some((present, rest))
    }

    /// Writes the file with `edits` in it, unless there is nothing to change.
    pub(super) fn write(&self, edits: &[Edit]) -> Result<(), Error> {
        let text = self.edited(edits)?;
        if text == self.text {
            return Ok(());
        }
        Target::File(self.path.clone()).write(&text)
    }
}

/// The SealedSecrets among `documents`, those inside Lists included.
pub(super) fn sealed_secrets(documents: &[Value]) -> impl Iterator<Item = &Value> {
    documents
        .iter()
        .flat_map(|document| match document.get("items") {
            Some(Value::Array(items)) if kind(document).ends_with("List") => items.iter().collect(),
            _ => vec![document],
        })
        .filter(|object| kind(object) == "SealedSecret")
}

fn sealed_secrets_mut(documents: &mut [Value]) -> impl Iterator<Item = &mut Value> {
    documents
        .iter_mut()
        .flat_map(|document| {
            let is_list =
                kind(document).ends_with("List") && document.get("items").is_some_and(Value::is_array);
            if is_list {
                let items = document.get_mut("items").and_then(Value::as_array_mut);
                items.into_iter().flatten().collect()
            } else {
                vec![document]
            }
        })
        .filter(|object| kind(object) == "SealedSecret")
}

fn kind(object: &Value) -> &str {
    object.get("kind").and_then(Value::as_str).unwrap_or_default()
}

fn at_mut<'a>(object: &'a mut Value, path: &[String]) -> Option<&'a mut Value> {
    path.iter().try_fold(object, |at, step| at.get_mut(step))
}

/// The same change in the parsed object, to compare with.
fn change(object: &mut Value, path: &[String], change: &Change) -> Option<()> {
    let (last, parents) = path.split_last()?;
    let mut at = object;
    for step in parents {
        if at.is_null() {
            *at = json!({});
        }
        at = at.as_object_mut()?.entry(step.clone()).or_insert(Value::Null);
    }
    if at.is_null() {
        *at = Value::Object(Map::new());
    }
    let map = at.as_object_mut()?;
    match change {
        Change::Set(text) => drop(map.insert(last.clone(), json!(text))),
        Change::Remove => drop(map.remove(last)),
    }
    Some(())
}

#[cfg(test)]
pub(super) fn tests_support(text: &str) -> Manifest {
    Manifest::parse(Path::new("x.yaml"), text.to_owned()).expect("a test's manifest")
}

#[cfg(test)]
mod tests;
