//! Files that hold SealedSecrets, found below what the command line names.

use std::path::{Path, PathBuf};

use super::Error;

/// No repository of ours nests deeper.
const MAX_DEPTH: usize = 64;

/// The YAML and JSON files of `paths`, directories included with everything below them, sorted.
pub(super) fn find(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Error> {
    let mut files = Vec::new();
    for path in paths {
        if std::fs::metadata(path).map_err(Error::open(path))?.is_dir() {
            walk(path, MAX_DEPTH, &mut files)?;
        } else {
            files.push(path.clone());
        }
    }
    files.sort();
    files.dedup();
    Ok(files)
}

/// Hidden directories and symbolic links are not followed: they lead out of what was named, or to Git's own files.
fn walk(directory: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<(), Error> {
    for entry in std::fs::read_dir(directory).map_err(Error::open(directory))? {
        let entry = entry?;
        let path = entry.path();
        let kind = entry.file_type()?;
        if kind.is_dir() && depth > 0 && !entry.file_name().to_string_lossy().starts_with('.') {
            walk(&path, depth - 1, files)?;
        } else if kind.is_file()
            && path
                .extension()
                .and_then(std::ffi::OsStr::to_str)
                .is_some_and(|end| matches!(end, "yaml" | "yml" | "json"))
        {
            files.push(path);
        }
    }
    Ok(())
}

/// Whether `text` can hold a SealedSecret at all.
pub(super) fn mentions_sealed_secret(text: &[u8]) -> bool {
    text.windows(12).any(|window| window == b"SealedSecret")
}
