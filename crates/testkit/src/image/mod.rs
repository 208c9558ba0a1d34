//! Container images without a container engine: one layer, written as an archive that `ctr images import`, `docker load`,
//! `podman load` and `skopeo` read. The same contents are the same bytes.

mod archive;
mod libraries;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};

/// Whom the programs run as: nobody in particular, and not root.
const USER: u32 = 65532;

/// What is in an image, and how it is run.
#[derive(Clone, Debug)]
pub struct Image {
    reference: String,
    entries: BTreeMap<PathBuf, Entry>,
    entrypoint: Vec<String>,
    environment: BTreeMap<String, String>,
    labels: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    Directory { mode: u32 },
    File { contents: Vec<u8>, mode: u32 },
    Link { target: PathBuf },
}

/// How large an image is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Bytes that are pulled.
    pub compressed: u64,
    /// Bytes on a node's disk.
    pub unpacked: u64,
}

impl Image {
    /// An image with nothing but users, temporary directories and the home of the user that it runs as. `reference` is its
    /// whole name with its tag.
    pub fn new(reference: &str) -> Self {
        let mut image = Self {
            reference: reference.to_owned(),
            entries: BTreeMap::new(),
            entrypoint: vec![],
            environment: BTreeMap::new(),
            labels: BTreeMap::new(),
        };
        image.directory("/tmp", 0o1777);
        // `ssh` refuses to run for a user without a name.
        image.file(
            "/etc/passwd",
            format!("root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:{USER}:{USER}:nonroot:/home/nonroot:/sbin/nologin\n"),
            0o644,
        );
        image.file("/etc/group", format!("root:x:0:\nnonroot:x:{USER}:\n"), 0o644);
        image.directory("/home/nonroot", 0o755);
        image.environment("PATH", "/usr/local/bin:/usr/bin:/bin");
        image
    }

    /// Its name and tag.
    pub fn reference(&self) -> &str {
        &self.reference
    }

    /// Puts a directory at `path`, and those above it.
    pub fn directory(&mut self, path: &str, mode: u32) -> &mut Self {
        self.put(path, Entry::Directory { mode })
    }

    /// Puts a file at `path`.
    pub fn file(&mut self, path: &str, contents: impl Into<Vec<u8>>, mode: u32) -> &mut Self {
        let contents = contents.into();
        self.put(path, Entry::File { contents, mode })
    }

    /// Puts a symbolic link at `path`.
    pub fn link(&mut self, path: &str, target: &str) -> &mut Self {
        let target = PathBuf::from(target);
        self.put(path, Entry::Link { target })
    }

    /// Copies a file of this machine to `path`.
    pub fn copy(&mut self, path: &str, from: &Path) -> anyhow::Result<&mut Self> {
        let contents = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
        Ok(self.file(path, contents, 0o644))
    }

    /// Copies a program of this machine to `path`, with the shared libraries that it needs to where it looks for them.
    /// Since glibc 2.34 that is all that it takes: looking up hosts and users needs no further libraries.
    pub fn program(&mut self, path: &str, from: &Path) -> anyhow::Result<&mut Self> {
        for library in libraries::of(from)? {
            let at = library
                .to_str()
                .context("a library has a name that is not text")?
                .to_owned();
            let contents =
                fs::read(&library).with_context(|| format!("cannot read {}", library.display()))?;
            self.file(&at, contents, 0o755);
        }
        let contents = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
        Ok(self.file(path, contents, 0o755))
    }

    /// What is run, with the arguments that come before those of the pod.
    pub fn entrypoint(&mut self, words: &[&str]) -> &mut Self {
        self.entrypoint = words.iter().map(ToString::to_string).collect();
        self
    }

    /// Sets a variable for what is run.
    pub fn environment(&mut self, name: &str, value: &str) -> &mut Self {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Says something about the image.
    pub fn label(&mut self, name: &str, value: &str) -> &mut Self {
        self.labels.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Writes the archive.
    pub fn write(&self, path: &Path) -> anyhow::Result<Sizes> {
        ensure!(
            !self.entrypoint.is_empty(),
            "{} has no entry point",
            self.reference
        );
        archive::write(self, path).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Paths in an archive have no `/` in front. Directories above `path` come to be with it.
    fn put(&mut self, path: &str, entry: Entry) -> &mut Self {
        let path = Path::new(path.trim_start_matches('/'));
        for above in path
            .ancestors()
            .skip(1)
            .filter(|above| !above.as_os_str().is_empty())
        {
            self.entries
                .entry(above.to_owned())
                .or_insert(Entry::Directory { mode: 0o755 });
        }
        self.entries.insert(path.to_owned(), entry);
        self
    }
}

#[cfg(test)]
mod tests;
