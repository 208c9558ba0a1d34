//! Pure: the kustomization file of the root, with the transformations of the spec; made up where there is none.

use serde_json::{Map, Value, json};

use super::{
    BuildError, Tree,
    inputs::{self, KUSTOMIZATIONS},
    join, name,
};
use crate::{api::KustomizationSpec, git::RepoPath};

/// By this kustomize notes which file an object comes from.
const ORIGINS: &str = "originAnnotations";

/// The kustomization file to build a directory with.
#[derive(Debug)]
pub(super) struct Merged {
    /// Its name in the directory.
    pub(super) name: &'static str,
    /// Its content.
    pub(super) file: Value,
    /// Whether the notes on origins were asked for, and not only added to name files in messages.
    pub(super) keep_origins: bool,
}

/// The file to build `root` with.
pub(super) fn root(
    root: &RepoPath,
    spec: &KustomizationSpec,
    tree: &mut Tree<'_>,
) -> Result<Merged, BuildError> {
    let (name, mut file) = match tree.kustomization(root)? {
        Some(name) => (name, inputs::own_file(root, name, tree)?.1),
        None => (KUSTOMIZATIONS[0], generated(root, tree)?),
    };
    let mut components = Vec::new();
    for component in &spec.components {
        let leave_out = spec.ignore_missing_components == Some(true);
        if !leave_out || exists(root, component, tree)? {
            components.push(json!(component));
        }
    }
    let mut keep_origins = false;
    if let Some(entries) = file.as_object_mut() {
        merge(entries, spec, components);
        keep_origins = with_origins(entries);
    }
    Ok(Merged {
        name,
        file,
        keep_origins,
    })
}

/// All manifests below, and the directories that have a kustomization file of their own: Flux's rule.
fn generated(root: &RepoPath, tree: &mut Tree<'_>) -> Result<Value, BuildError> {
    let paths: Vec<String> = tree.below(root)?.map(|(path, _)| path.to_owned()).collect();
    let split = split(root, paths.iter().map(String::as_str));
    let below = |path: &str| {
        let path = RepoPath::parse(path).ok()?;
        Some(path.below(root)?.as_str().to_owned())
    };
    let directories = split.directories.iter().map(RepoPath::as_str);
    let resources: Vec<String> = split
        .manifests
        .iter()
        .copied()
        .chain(directories)
        .filter_map(below)
        .collect();
    Ok(
        json!({ "apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "resources": resources }),
    )
}

/// What stands below a directory that has no kustomization file itself.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Split<'p> {
    /// Manifests in no directory that is built.
    pub manifests: Vec<&'p str>,
    /// The topmost directories with a kustomization file of their own: it says what becomes of those below.
    pub directories: Vec<RepoPath>,
}

/// Splits the files below `root`, which are sorted.
pub fn split<'p>(root: &RepoPath, paths: impl Iterator<Item = &'p str> + Clone) -> Split<'p> {
    let mut split = Split::default();
    let directory = |path: &str| Some(RepoPath::parse(path).ok()?.split_last()?.0);
    let mut built: Vec<RepoPath> = paths
        .clone()
        .filter(|path| KUSTOMIZATIONS.contains(&name(path)))
        .filter_map(directory)
        .filter(|directory| directory != root)
        .collect();
    built.sort();
    for directory in built {
        if !split.directories.iter().any(|above| directory.is_in(above)) {
            split.directories.push(directory);
        }
    }
    for path in paths {
        let is_built = || {
            RepoPath::parse(path).is_ok_and(|path| split.directories.iter().any(|above| path.is_in(above)))
        };
        if is_manifest(path) && !is_built() {
            split.manifests.push(path);
        }
    }
    split
}

/// Flux takes these two endings, in lower case.
fn is_manifest(path: &str) -> bool {
    path.rsplit_once('.')
        .is_some_and(|(_, ending)| matches!(ending, "yaml" | "yml"))
        && !KUSTOMIZATIONS.contains(&name(path))
}

fn exists(root: &RepoPath, component: &str, tree: &mut Tree<'_>) -> Result<bool, BuildError> {
    match RepoPath::parse(&join(root.as_str(), component)) {
        Ok(path) => tree.is_directory(&path),
        // It is refused where the inputs are found.
        Err(_) => Ok(true),
    }
}

fn merge(file: &mut Map<String, Value>, spec: &KustomizationSpec, components: Vec<Value>) {
    for (field, value) in [
        ("namespace", &spec.target_namespace),
        ("namePrefix", &spec.name_prefix),
        ("nameSuffix", &spec.name_suffix),
    ] {
        if let Some(value) = value {
            file.insert(field.into(), json!(value));
        }
    }
    if !spec.build_metadata.is_empty() {
        file.insert("buildMetadata".into(), json!(spec.build_metadata));
    }
    let mut extend = |field: &str, more: Vec<Value>| {
        if more.is_empty() {
            return;
        }
        let list = file.entry(field).or_insert_with(|| json!([]));
        if list.is_null() {
            *list = json!([]);
        }
        if let Some(list) = list.as_array_mut() {
            // An image of the spec takes the place of one of the file.
            if field == "images" {
                list.retain(|old| !more.iter().any(|new| new["name"] == old["name"]));
            }
            list.extend(more);
        }
    };
    extend("patches", spec.patches.iter().map(|patch| json!(patch)).collect());
    extend("images", spec.images.iter().map(|image| json!(image)).collect());
    extend("components", components);
}

/// Asks for notes on origins; says whether they had been asked for.
fn with_origins(file: &mut Map<String, Value>) -> bool {
    let list = file.entry("buildMetadata").or_insert_with(|| json!([]));
    if list.is_null() {
        *list = json!([]);
    }
    // What is no list kustomize refuses in its own words.
    let Some(list) = list.as_array_mut() else {
        return true;
    };
    if list.iter().any(|item| item == ORIGINS) {
        return true;
    }
    list.push(json!(ORIGINS));
    false
}
