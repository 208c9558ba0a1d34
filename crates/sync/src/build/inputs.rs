//! Pure: the files that a build reads, found by walking its kustomization files; and what it may not do, refused.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{BuildError, Files, Tree, join};
use crate::{git::RepoPath, manifest::yaml};

/// Names of kustomization files, as kustomize knows them.
pub const KUSTOMIZATIONS: [&str; 3] = ["kustomization.yaml", "kustomization.yml", "Kustomization"];
/// Fields of a transformer's or generator's configuration that name files. Kustomize would read them from wherever they are.
const FILE_FIELDS: [&str; 7] = ["path", "paths", "files", "envs", "env", "chartHome", "valuesFile"];
/// Directories of one build; each costs a look at its files.
const DIRECTORIES: usize = 2_000;

/// The files that building `root` reads, beside its own kustomization file `name`, whose content is `file`.
pub(super) fn find(
    root: &RepoPath,
    name: &str,
    file: &Value,
    tree: &mut Tree<'_>,
) -> Result<Files, BuildError> {
    let mut walk = Walk {
        tree,
        found: Files::new(),
    };
    let mut visited = BTreeSet::from([root.clone()]);
    let mut todo = walk.kustomization(&At::new(root, name), file)?;
    while let Some(directory) = todo.pop() {
        if !visited.insert(directory.clone()) {
            continue;
        }
        if visited.len() > DIRECTORIES {
            return BuildError::new(format!(
                "{root}: more than {DIRECTORIES} directories are part of the build"
            ));
        }
        let Some(name) = walk.tree.kustomization(&directory)? else {
            return BuildError::new(format!(
                "{directory}: the directory is a resource of a kustomization, and has no {} itself",
                KUSTOMIZATIONS[0]
            ));
        };
        let (at, file) = own_file(&directory, name, walk.tree)?;
        walk.take(&at.file)?;
        todo.extend(walk.kustomization(&at, &file)?);
    }
    Ok(walk.found)
}

/// A kustomization file that exists.
pub(super) fn own_file(
    directory: &RepoPath,
    name: &str,
    tree: &mut Tree<'_>,
) -> Result<(At, Value), BuildError> {
    let at = At::new(directory, name);
    let content = match tree.file(&at.file)? {
        Some(blob) => tree.content(at.file.as_str(), blob)?,
        None => Vec::new(),
    };
    let file = parse(&at, &content)?;
    Ok((at, file))
}

fn parse(at: &At, content: &[u8]) -> Result<Value, BuildError> {
    let text = std::str::from_utf8(content).map_err(|_| at.error("it is not UTF-8"))?;
    let mut documents = yaml::documents(text).into_iter();
    let file = match documents.next().map(|document| document.content) {
        None => Value::Object(serde_json::Map::new()),
        Some(Ok(file)) => file,
        Some(Err(error)) => return Err(at.error(&format!("not valid YAML: {error}"))),
    };
    if !file.is_object() || documents.next().is_some() {
        return Err(at.error("a kustomization file is one mapping"));
    }
    Ok(file)
}

/// A kustomization file.
pub(super) struct At {
    directory: RepoPath,
    file: RepoPath,
}

impl At {
    fn new(directory: &RepoPath, name: &str) -> Self {
        // The name is one of three.
        let name = RepoPath::parse(name).unwrap_or_default();
        Self {
            directory: directory.clone(),
            file: directory.join(&name),
        }
    }

    fn error(&self, message: &str) -> BuildError {
        BuildError(format!("{}: {message}", self.file))
    }
}

struct Walk<'w, 't> {
    tree: &'w mut Tree<'t>,
    found: Files,
}

impl Walk<'_, '_> {
    /// Takes the files that a kustomization file names; returns the directories.
    fn kustomization(&mut self, at: &At, file: &Value) -> Result<Vec<RepoPath>, BuildError> {
        for field in ["helmCharts", "helmGlobals", "helmChartInflationGenerator"] {
            if !file[field].is_null() {
                return Err(at.error(&format!(
                    "{field} is not supported: commit what `helm template` prints"
                )));
            }
        }
        let mut directories = Vec::new();
        for field in ["resources", "bases", "components"] {
            for item in list(&file[field]) {
                directories.extend(self.entry(at, field, item)?);
            }
        }
        for field in ["crds", "configurations"] {
            for item in list(&file[field]) {
                self.file(at, field, item)?;
            }
        }
        // A patch that is written out, and not a file.
        let is_inline = |item: &str| item.contains(['\n', '{']);
        for item in list(&file["patchesStrategicMerge"]).filter(|item| !is_inline(item)) {
            self.file(at, "patchesStrategicMerge", item)?;
        }
        for field in ["patches", "patchesJson6902", "replacements"] {
            for item in file[field].as_array().into_iter().flatten() {
                if let Some(path) = item["path"].as_str().filter(|path| !path.is_empty()) {
                    self.file(at, field, path)?;
                }
            }
        }
        if let Some(path) = file["openapi"]["path"].as_str() {
            self.file(at, "openapi.path", path)?;
        }
        for field in ["configMapGenerator", "secretGenerator"] {
            for item in file[field].as_array().into_iter().flatten() {
                for named in list(&item["files"]) {
                    let path = named.split_once('=').map_or(named, |(_, path)| path);
                    self.file(at, field, path)?;
                }
                for path in list(&item["envs"]).chain(item["env"].as_str().filter(|path| !path.is_empty())) {
                    self.file(at, field, path)?;
                }
            }
        }
        for field in ["generators", "transformers", "validators"] {
            for item in list(&file[field]) {
                self.configuration(at, field, item)?;
            }
        }
        Ok(directories)
    }

    /// A file or a directory.
    fn entry(&mut self, at: &At, field: &str, item: &str) -> Result<Option<RepoPath>, BuildError> {
        let path = resolve(at, field, item)?;
        if self.tree.is_directory(&path)? {
            return Ok(Some(path));
        }
        self.file(at, field, item).map(|_| None)
    }

    fn file(&mut self, at: &At, field: &str, item: &str) -> Result<Vec<u8>, BuildError> {
        let path = resolve(at, field, item)?;
        if self.tree.file(&path)?.is_none() {
            return Err(at.error(&format!(
                "{field}: {item:?} does not exist at this revision (nothing is loaded from elsewhere)"
            )));
        }
        self.take(&path)
    }

    /// A generator, transformer or validator: inline or a file.
    fn configuration(&mut self, at: &At, field: &str, item: &str) -> Result<(), BuildError> {
        let (place, text) = if item.contains('\n') || item.contains("apiVersion:") {
            (format!("{}: {field}", at.file), item.to_owned())
        } else {
            let path = resolve(at, field, item)?;
            if self.tree.is_directory(&path)? {
                return Err(at.error(&format!(
                    "{field}: {item:?} is a directory, which is not supported here: name its files"
                )));
            }
            let content = self.file(at, field, item)?;
            (path.to_string(), String::from_utf8_lossy(&content).into_owned())
        };
        let refuse = |message: String| BuildError::new(format!("{place}: {message}"));
        for document in yaml::documents(&text) {
            let Ok(content) = document.content else {
                return refuse("not valid YAML".into());
            };
            let annotations = content["metadata"]["annotations"].as_object();
            let is_function = annotations.into_iter().flatten().any(|(key, _)| {
                key.starts_with("config.kubernetes.io/function") || key.starts_with("config.k8s.io/function")
            });
            let kind = content["kind"].as_str().unwrap_or_default();
            if is_function || kind.starts_with("HelmChart") {
                return refuse(format!("a {kind} runs a program, which is not allowed"));
            }
            if let Some(key) = names_file(&content) {
                return refuse(format!(
                    "{key} of a {kind} names a file, which is not supported: write its content there, or use the field of the \
                     kustomization file"
                ));
            }
        }
        Ok(())
    }

    fn take(&mut self, path: &RepoPath) -> Result<Vec<u8>, BuildError> {
        let Some(blob) = self.tree.file(path)? else {
            return BuildError::new(format!("{path} does not exist"));
        };
        self.found.insert(path.as_str().to_owned(), blob);
        self.tree.content(path.as_str(), blob)
    }
}

/// The first field anywhere in a configuration that names a file. Field specs name fields by `path`, too: those are paths of
/// fields and not of files.
fn names_file(value: &Value) -> Option<&str> {
    match value {
        Value::Object(entries) => entries.iter().find_map(|(key, value)| {
            if matches!(key.as_str(), "fieldSpecs" | "fieldPaths" | "metadata") {
                return None;
            }
            let names = FILE_FIELDS.contains(&key.as_str()) && (value.is_string() || value.is_array());
            names.then_some(key.as_str()).or_else(|| names_file(value))
        }),
        Value::Array(items) => items.iter().find_map(names_file),
        _ => None,
    }
}

fn list(value: &Value) -> impl Iterator<Item = &str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// From the root of the repository.
fn resolve(at: &At, field: &str, item: &str) -> Result<RepoPath, BuildError> {
    let refuse = |why: &str| Err(at.error(&format!("{field}: {item:?} {why}")));
    if item.starts_with('/') {
        return refuse("is absolute: write it relative to the directory");
    }
    if item.contains("://") || item.contains("?ref=") || item.starts_with("git@") {
        return refuse(
            "is somewhere else, which is not allowed: make it a GitRepository, and put it into this one by spec.include",
        );
    }
    match RepoPath::parse(&join(at.directory.as_str(), item)) {
        Ok(path) => Ok(path),
        Err(error) => refuse(&format!("is refused: {error}")),
    }
}
