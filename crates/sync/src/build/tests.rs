use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{built, merge::Merged, *};

struct Repository(Files, BTreeMap<String, Vec<u8>>);

impl Repository {
    fn new(files: &[(&str, &str)]) -> Self {
        let mut repository = Self(Files::new(), BTreeMap::new());
        for (n, (path, content)) in files.iter().enumerate() {
            let id = format!("{n:040x}").parse().unwrap();
            repository.0.insert((*path).to_owned(), id);
            repository
                .1
                .insert((*path).to_owned(), content.as_bytes().to_vec());
        }
        repository
    }

    /// What is merged and read, and the directories that were listed for it.
    fn find(&self, root: &str, spec: &Value) -> Result<(Merged, Vec<String>, Vec<String>), String> {
        let mut whole =
            json!({"sourceRef": {"kind": "GitRepository", "name": "x"}, "interval": "1m", "prune": true});
        for (key, value) in spec.as_object().unwrap() {
            whole[key] = value.clone();
        }
        let spec: KustomizationSpec = serde_json::from_value(whole).unwrap();
        let root = RepoPath::parse(root).unwrap();
        let mut listed = Vec::new();
        let mut list = |directory: &RepoPath| {
            listed.push(directory.as_str().to_owned());
            let below = |path: &str| {
                RepoPath::parse(path).is_ok_and(|path| path.is_in(directory) && path != *directory)
            };
            let files: Files = self
                .0
                .iter()
                .filter(|(path, _)| below(path))
                .map(|(path, blob)| (path.clone(), *blob))
                .collect();
            Ok((!files.is_empty()).then_some(files))
        };
        let mut read = |path: &str, _: BlobId| Ok(self.1[path].clone());
        let mut tree = Tree::new(&mut list, &mut read);
        let merged = merge::root(&root, &Transformations::of(&spec).0, &mut tree).map_err(|error| error.0)?;
        let found = inputs::find(&root, merged.name, &merged.file, &mut tree).map_err(|error| error.0)?;
        Ok((merged, found.into_keys().collect(), listed))
    }

    fn inputs(&self, root: &str, spec: &Value) -> Result<Vec<String>, String> {
        self.find(root, spec).map(|(_, inputs, _)| inputs)
    }
}

#[test]
fn the_inputs_are_what_the_kustomization_files_name_and_no_more() {
    let repository = Repository::new(&[
        (
            "base/kustomization.yaml",
            "resources: [a.yaml]\nconfigMapGenerator: [{name: c, files: [x=conf/x, conf/y], envs: [e]}]",
        ),
        ("base/a.yaml", ""),
        ("base/conf/x", ""),
        ("base/conf/y", ""),
        ("base/conf/z", ""),
        ("base/e", ""),
        ("elsewhere/kustomization.yaml", ""),
        (
            "over/Kustomization",
            "resources: [../base]\npatches: [{path: p.yaml}]\ncomponents: [../part]\ntransformers: [t.yaml]\n\
             patchesStrategicMerge: ['{kind: X}']",
        ),
        ("over/p.yaml", ""),
        (
            "over/t.yaml",
            "kind: PrefixTransformer\nprefix: x\nfieldSpecs: [{path: metadata/name}]",
        ),
        ("over/unused.yaml", ""),
        ("part/kustomization.yml", ""),
    ]);
    let (merged, inputs, listed) = repository.find("over", &json!({})).unwrap();
    assert_eq!(merged.name, "Kustomization");
    let expected = [
        "base/a.yaml",
        "base/conf/x",
        "base/conf/y",
        "base/e",
        "base/kustomization.yaml",
        "over/p.yaml",
        "over/t.yaml",
        "part/kustomization.yml",
    ];
    assert_eq!(inputs, expected);
    assert_eq!(listed, ["over", "base", "part"], "nothing else is looked at");
}

#[test]
fn a_kustomization_file_is_made_up_as_flux_does() {
    let repository = Repository::new(&[
        ("app/README.md", ""),
        ("app/a.yaml", "kind: A"),
        ("app/sub/b.yml", "kind: B"),
        ("app/own/kustomization.yaml", "resources: [c.yaml]"),
        ("app/own/c.yaml", "kind: C"),
        ("app/own/deeper/kustomization.yaml", ""),
        ("app/own/deeper/d.yaml", "kind: D"),
    ]);
    let (merged, inputs, _) = repository.find("app", &json!({ "namePrefix": "x-" })).unwrap();
    assert_eq!(merged.file["resources"], json!(["a.yaml", "sub/b.yml", "own"]));
    assert_eq!(merged.file["namePrefix"], "x-");
    assert_eq!(
        inputs,
        [
            "app/a.yaml",
            "app/own/c.yaml",
            "app/own/kustomization.yaml",
            "app/sub/b.yml"
        ]
    );
    let paths = [
        "a.yaml",
        "k/kustomization.yaml",
        "k2/c.yaml",
        "k/d/Kustomization",
        "x.json",
    ];
    let split = split(&RepoPath::default(), paths.into_iter());
    assert_eq!(split.manifests, ["a.yaml", "k2/c.yaml"]);
    assert_eq!(split.directories, [RepoPath::parse("k").unwrap()]);
}

#[test]
fn the_spec_is_put_into_the_file() {
    let repository = Repository::new(&[(
        "kustomization.yaml",
        "namespace: old\nimages: [{name: a, newTag: '1'}, {name: b, newTag: '1'}]\npatches: [{patch: one}]\n\
         buildMetadata: [managedByLabel]",
    )]);
    let spec = json!({
        "targetNamespace": "new", "nameSuffix": "-s", "images": [{ "name": "a", "newTag": "2", "newName": "c" }],
        "patches": [{ "patch": "two", "target": { "kind": "X", "labelSelector": "a=b" } }],
    });
    let (merged, ..) = repository.find("", &spec).unwrap();
    assert!(!merged.keep_origins);
    assert_eq!(
        merged.file,
        json!({
            "namespace": "new", "nameSuffix": "-s", "buildMetadata": ["managedByLabel", "originAnnotations"],
            "images": [{ "name": "b", "newTag": "1" }, { "name": "a", "newTag": "2", "newName": "c" }],
            "patches": [{ "patch": "one" }, { "patch": "two", "target": { "kind": "X", "labelSelector": "a=b" } }],
        })
    );
    let (merged, ..) = repository
        .find("", &json!({ "buildMetadata": ["originAnnotations"] }))
        .unwrap();
    assert!(merged.keep_origins);
}

#[test]
fn what_leads_elsewhere_or_runs_programs_is_refused() {
    for (file, expected) in [
        ("resources: [/etc/passwd]", "is absolute"),
        ("resources: [../../x]", "leads out"),
        ("components: [../../../x]", "leads out"),
        ("resources: ['https://example.com/x.yaml']", "is somewhere else"),
        ("resources: ['github.com/a/b?ref=v1']", "is somewhere else"),
        ("resources: ['git@github.com:a/b']", "is somewhere else"),
        ("resources: ['github.com/a/b']", "does not exist"),
        ("resources: [empty]", "has no kustomization.yaml itself"),
        (
            "secretGenerator: [{name: s, files: [token=/var/run/secrets/token]}]",
            "is absolute",
        ),
        ("configMapGenerator: [{name: s, envs: [../../../x]}]", "leads out"),
        ("patches: [{path: ../../x}]", "leads out"),
        (
            "patchesStrategicMerge: ['https://example.com/p']",
            "is somewhere else",
        ),
        ("openapi: {path: /x}", "is absolute"),
        ("helmCharts: [{name: x}]", "helmCharts is not supported"),
        (
            "generators: [\"apiVersion: builtin\\nkind: ConfigMapGenerator\\nfiles: [/etc/passwd]\"]",
            "files of a ConfigMapGenerator names a file",
        ),
        (
            "transformers: [t.yaml]",
            "path of a PatchTransformer names a file",
        ),
        ("transformers: [f.yaml]", "runs a program"),
        ("transformers: [empty]", "is a directory"),
        ("resources: [", "not valid YAML"),
        ("[]", "one mapping"),
    ] {
        let repository = Repository::new(&[
            ("app/kustomization.yaml", file),
            ("app/t.yaml", "kind: PatchTransformer\npath: /etc/passwd"),
            (
                "app/f.yaml",
                "kind: X\nmetadata: {annotations: {config.kubernetes.io/function: 'exec: {path: sh}'}}",
            ),
            ("app/empty/x", ""),
        ]);
        let error = repository.inputs("app", &json!({})).unwrap_err();
        assert!(
            error.contains(expected) && error.starts_with("app/"),
            "{file}: {error}"
        );
    }
}

#[test]
fn a_loop_of_bases_ends_and_missing_components_can_be_left_out() {
    let repository = Repository::new(&[
        ("a/kustomization.yaml", "resources: [../b]"),
        ("b/kustomization.yaml", "resources: [../a]"),
    ]);
    let both = ["a/kustomization.yaml", "b/kustomization.yaml"];
    assert_eq!(repository.inputs("a", &json!({})).unwrap(), both[1..]);
    let component = json!({"components": ["../gone"]});
    assert!(repository.inputs("b", &component).is_err());
    let component = json!({"components": ["../gone"], "ignoreMissingComponents": true});
    assert!(repository.inputs("b", &component).is_ok());
    let outside = json!({"components": ["../../gone"], "ignoreMissingComponents": true});
    assert!(
        repository
            .inputs("b", &outside)
            .unwrap_err()
            .contains("leads out")
    );
}

#[test]
fn objects_keep_their_file_and_lose_the_note_on_it() {
    let output = "apiVersion: v1\ndata:\n  a: \"\\u0085\\u2028\u{1f600}\\x7f\"\nkind: ConfigMap\nmetadata:\n  annotations:\n    \
                  config.kubernetes.io/origin: |\n      path: ../base/a.yaml\n  name: a\n---\nkind: B\nmetadata:\n  annotations:\n    \
                  config.kubernetes.io/origin: |\n      configuredIn: ../base/kustomization.yaml\n      configuredBy: {kind: X}\n    \
                  mine: \"1\"\n  name: b\n";
    let root = RepoPath::parse("over").unwrap();
    let objects = built::objects(output.as_bytes(), &root, false).unwrap();
    assert_eq!(objects[0].at, "base/a.yaml");
    assert!(objects[0].content["metadata"]["annotations"].is_null());
    assert_eq!(objects[1].at, "base/kustomization.yaml");
    assert_eq!(
        objects[1].content["metadata"]["annotations"],
        json!({ "mine": "1" })
    );

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x");
    let stored = Built::store(&path, &objects).unwrap();
    let loaded = Built::load(&path).unwrap();
    for built in [&stored, &loaded] {
        assert_eq!(built.files().len(), 2);
        assert_eq!(&*built.files()[0].path, "base/a.yaml");
        for (file, object) in built.files().iter().zip(&objects) {
            let content = built.read(file.blob).unwrap().unwrap();
            assert_eq!(built.size(file.blob), Some(content.len() as u64));
            let text = std::str::from_utf8(&content).unwrap();
            let read = manifest::yaml::documents(text).remove(0).content.unwrap();
            assert_eq!(read, object.content, "{text}");
        }
    }
    // What is cut off is not taken for the whole.
    let whole = std::fs::read(&path).unwrap();
    for cut in [0, 10, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&path, &whole[..cut]).unwrap();
        assert!(Built::load(&path).is_none(), "{cut}");
    }
}
