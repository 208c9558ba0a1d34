//! Results of builds, kept on disk by the digest of their inputs: they are there after a restart, and take no memory.

use std::{
    collections::HashMap,
    fmt::Write as _,
    fs::{self, File},
    io::{self, BufWriter, Read as _, Write as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{BuildError, join};
use crate::{
    git::{BlobId, RepoPath},
    manifest::{Made, SourceFile, yaml},
};

/// First line of a file; the number of objects follows.
const HEADER: &str = "plumbline-build 1 ";
/// Where kustomize says what an object was made of.
const ORIGIN: &str = "config.kubernetes.io/origin";
/// Results that nobody has asked for since are removed at the next start.
const KEPT: Duration = Duration::from_hours(24 * 14);

/// An object that was built.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Object {
    /// The file it comes from.
    pub(super) at: String,
    /// Itself.
    pub(super) content: Value,
}

/// The result of a build. The objects stay on disk.
#[derive(Debug)]
pub struct Built {
    path: PathBuf,
    files: Vec<SourceFile>,
    /// Offset and length.
    places: HashMap<BlobId, (u64, usize)>,
}

impl Built {
    /// One file an object, named after the file of the repository that it comes from.
    pub fn files(&self) -> &[SourceFile] {
        &self.files
    }

    /// Size of an object in bytes.
    pub fn size(&self, blob: BlobId) -> Option<u64> {
        self.places.get(&blob).map(|(_, length)| *length as u64)
    }

    /// An object, as JSON that is also YAML.
    pub fn read(&self, blob: BlobId) -> Option<io::Result<Vec<u8>>> {
        let (offset, length) = *self.places.get(&blob)?;
        let read = || {
            let mut content = vec![0; length];
            File::open(&self.path)?.read_exact_at(&mut content, offset)?;
            Ok(content)
        };
        Some(read())
    }

    /// Keeps objects. They are there in whole or not at all.
    pub(super) fn store(path: &Path, objects: &[Object]) -> io::Result<Self> {
        let directory = path.parent().unwrap_or(Path::new("."));
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
        let mut built = Self {
            path: path.to_owned(),
            files: Vec::new(),
            places: HashMap::new(),
        };
        let mut out = BufWriter::new(&mut file);
        let header = format!("{HEADER}{}\n", objects.len());
        out.write_all(header.as_bytes())?;
        let mut offset = header.len() as u64;
        for object in objects {
            let at = escaped(&Value::from(object.at.as_str()));
            let content = escaped(&object.content);
            out.write_all(format!("{at}\t{content}\n").as_bytes())?;
            built.add(&object.at, content.as_bytes(), offset + at.len() as u64 + 1);
            offset += (at.len() + content.len() + 2) as u64;
        }
        out.flush()?;
        drop(out);
        file.persist(path).map_err(|error| error.error)?;
        Ok(built)
    }

    /// What was kept; `None` when it was not, or is broken.
    pub(super) fn load(path: &Path) -> Option<Self> {
        let mut text = String::new();
        let mut file = File::open(path).ok()?;
        file.read_to_string(&mut text).ok()?;
        // `Err`: it counts as older then, and may be built once more.
        drop(file.set_modified(SystemTime::now()));
        let mut built = Self {
            path: path.to_owned(),
            files: Vec::new(),
            places: HashMap::new(),
        };
        let (header, mut rest) = text.split_once('\n')?;
        let count: usize = header.strip_prefix(HEADER)?.parse().ok()?;
        let mut offset = header.len() as u64 + 1;
        while let Some((line, more)) = rest.split_once('\n') {
            let (at, content) = line.split_once('\t')?;
            let name: String = serde_json::from_str(at).ok()?;
            built.add(&name, content.as_bytes(), offset + at.len() as u64 + 1);
            offset += line.len() as u64 + 1;
            rest = more;
        }
        (built.files.len() == count && rest.is_empty()).then_some(built)
    }

    fn add(&mut self, at: &str, content: &[u8], offset: u64) {
        // 32 bytes in hex are an id.
        let Ok(blob) = hex(&Sha256::digest(content).into()).parse() else {
            return;
        };
        self.files.push(SourceFile {
            path: Arc::from(at),
            blob,
            made: Made::Built,
        });
        self.places.insert(blob, (offset, content.len()));
    }
}

/// Removes results that nobody has asked for in a long time, and what an interrupted process left.
pub(super) fn sweep(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let is_result = entry.file_name().len() == 64;
        let modified = entry.metadata().and_then(|metadata| metadata.modified());
        let is_old = modified.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > KEPT));
        // `Err`: it stays until the next start.
        if entry.path().is_dir() {
            drop(fs::remove_dir_all(entry.path()));
        } else if is_old || !is_result {
            drop(fs::remove_file(entry.path()));
        }
    }
}

/// What kustomize printed for the directory `root`. Its notes on origins are read, and taken off unless they were asked for.
pub(super) fn objects(output: &[u8], root: &RepoPath, keep_origins: bool) -> Result<Vec<Object>, BuildError> {
    let text = std::str::from_utf8(output)
        .map_err(|_| BuildError("kustomize printed something that is not UTF-8".into()))?;
    let mut objects = Vec::new();
    for document in yaml::documents(text) {
        let mut content = document
            .content
            .map_err(|error| BuildError(format!("what kustomize printed cannot be read: {error}")))?;
        let at = origin(&content, root).unwrap_or_else(|| root.to_string());
        if !keep_origins {
            remove_origin(&mut content);
        }
        objects.push(Object { at, content });
    }
    Ok(objects)
}

fn origin(object: &Value, root: &RepoPath) -> Option<String> {
    let note = object["metadata"]["annotations"][ORIGIN].as_str()?;
    let note = yaml::documents(note).pop()?.content.ok()?;
    let path = note["path"].as_str().or_else(|| note["configuredIn"].as_str())?;
    let path = RepoPath::parse(&join(root.as_str(), path)).ok()?;
    Some(path.as_str().to_owned())
}

fn remove_origin(object: &mut Value) {
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else {
        return;
    };
    if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
        annotations.remove(ORIGIN);
        if annotations.is_empty() {
            metadata.remove("annotations");
        }
    }
}

/// JSON in one line that every YAML parser reads alike: what YAML might take for a line break or a wrong character is escaped.
fn escaped(value: &Value) -> String {
    let json = value.to_string();
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match u32::from(c) {
            0x20..0x7f => out.push(c),
            // Writing to a String cannot fail.
            code @ ..=0xffff => drop(write!(out, "\\u{code:04x}")),
            _ => out.push(c),
        }
    }
    out
}

pub(super) fn hex(digest: &[u8; 32]) -> String {
    digest.iter().fold(String::with_capacity(64), |mut hex, byte| {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}
