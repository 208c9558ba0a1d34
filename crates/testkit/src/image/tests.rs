use std::{collections::BTreeMap, io::Read as _};

use flate2::read::GzDecoder;
use serde_json::Value;
use tar::Archive;

use super::*;

fn small() -> Image {
    let mut image = Image::new("example.org/small:1");
    image
        .file("/opt/app/run", "#!", 0o755)
        .link("/bin", "opt/app")
        .entrypoint(&["/opt/app/run"])
        .label("org.opencontainers.image.title", "small");
    image
}

fn members(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in Archive::new(archive).entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut contents = vec![];
        entry.read_to_end(&mut contents).unwrap();
        let path = entry.path().unwrap().to_str().unwrap().to_owned();
        let header = entry.header();
        assert_eq!((header.uid().unwrap(), header.mtime().unwrap()), (0, 0), "{path}");
        assert!(found.insert(path, contents).is_none(), "a path is there twice");
    }
    found
}

fn json(contents: &[u8]) -> Value {
    serde_json::from_slice(contents).unwrap()
}

#[test]
fn every_digest_leads_to_its_contents_down_to_the_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("small.tar");
    let sizes = small().write(&path).unwrap();
    let archive = members(&fs::read(&path).unwrap());
    let blob = |descriptor: &Value| {
        let digest = descriptor["digest"].as_str().unwrap().replace(':', "/");
        let contents = &archive[&format!("blobs/{digest}")];
        assert_eq!(descriptor["size"], contents.len());
        contents
    };
    let index = json(&archive["index.json"]);
    let manifest = json(blob(&index["manifests"][0]));
    let config = json(blob(&manifest["config"]));
    assert_eq!(config["config"]["User"], "65532:65532");
    assert_eq!(config["config"]["Entrypoint"][0], "/opt/app/run");
    let compressed = blob(&manifest["layers"][0]);
    let mut layer = vec![];
    GzDecoder::new(&compressed[..]).read_to_end(&mut layer).unwrap();
    assert_eq!(
        sizes,
        Sizes {
            compressed: compressed.len() as u64,
            unpacked: layer.len() as u64
        }
    );
    let files = members(&layer);
    assert_eq!(files["opt/app/run"], b"#!");
    // A directory comes before what is in it.
    assert!(files.contains_key("opt/app/") && files.contains_key("tmp/"));
}

#[test]
fn the_same_contents_are_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let [first, second] = ["a.tar", "b.tar"].map(|name| {
        let path = dir.path().join(name);
        small().write(&path).unwrap();
        fs::read(path).unwrap()
    });
    assert!(first == second);
}

#[cfg(target_os = "linux")]
#[test]
fn a_program_comes_with_its_libraries() {
    let mut image = Image::new("example.org/sh:1");
    image.program("/bin/sh", Path::new("/bin/sh")).unwrap();
    let has = |part: &str| {
        image
            .entries
            .keys()
            .any(|path| path.to_string_lossy().contains(part))
    };
    assert!(has("libc.so") && has("ld-linux"), "{:?}", image.entries.keys());
}

#[test]
fn an_image_that_runs_nothing_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("empty.tar");
    let error = Image::new("example.org/empty:1").write(&path).unwrap_err();
    assert!(error.to_string().contains("no entry point"), "{error}");
    assert!(!path.exists());
}
