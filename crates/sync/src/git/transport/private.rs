//! A directory with what a program reads from files and nobody else may see: a private key. It goes with its value; what a
//! process that was killed left behind goes with the next one.

use std::{
    fs::{self, File, Metadata},
    io,
    os::unix::fs::MetadataExt as _,
    path::Path,
};

use tempfile::TempDir;

const PREFIX: &str = "plumbline-ssh-";
/// How often a new directory may be taken away by somebody who clears up.
const TRIES: usize = 5;

/// The directory, as long as it is needed. Its lock says that there is somebody who needs it: the kernel takes it back
/// however a process ends, and children do not inherit it.
pub(super) struct PrivateDirectory {
    // Dropped first: it is locked as long as it is there.
    directory: TempDir,
    _lock: File,
}

impl PrivateDirectory {
    /// An empty one, for us alone.
    pub(super) fn new() -> io::Result<Self> {
        // A program that was just being started when its parent was killed held the lock for a moment longer.
        sweep();
        for _ in 0..TRIES {
            let directory = tempfile::Builder::new().prefix(PREFIX).tempdir()?;
            // Until it is locked it looks like one that was left behind. Nothing is in it yet.
            let Ok(lock) = File::open(directory.path()) else {
                continue;
            };
            match lock.try_lock() {
                Err(fs::TryLockError::WouldBlock) => continue,
                // Where nothing can be locked, nothing is cleared up either.
                Ok(()) | Err(fs::TryLockError::Error(_)) => {}
            }
            if is_at(&lock, directory.path()) {
                return Ok(Self {
                    directory,
                    _lock: lock,
                });
            }
        }
        Err(io::Error::other("a new directory is taken away again and again"))
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        self.directory.path()
    }
}

/// Removes the directories of processes that were killed.
pub(in crate::git) fn sweep() {
    for entry in fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten() {
        let path = entry.path();
        let is_one = entry.file_name().to_string_lossy().starts_with(PREFIX)
            && fs::symlink_metadata(&path).is_ok_and(|it| it.is_dir() && is_ours(&it));
        if !is_one {
            continue;
        }
        let Ok(lock) = File::open(&path) else { continue };
        // A lock that cannot be taken has an owner that lives.
        if lock.try_lock().is_ok()
            && is_at(&lock, &path)
            && let Err(error) = fs::remove_dir_all(&path)
        {
            tracing::warn!(path = %path.display(), %error, "the private key that a killed process left cannot be removed");
        }
    }
}

/// Whether an open directory is still the one with this name.
fn is_at(open: &File, path: &Path) -> bool {
    let named = |it: &Metadata| (it.dev(), it.ino());
    match (open.metadata(), fs::symlink_metadata(path)) {
        (Ok(open), Ok(there)) => named(&open) == named(&there),
        _ => false,
    }
}

#[cfg(target_os = "linux")]
fn is_ours(directory: &Metadata) -> bool {
    directory.uid() == rustix::process::geteuid().as_raw()
}

#[cfg(not(target_os = "linux"))]
fn is_ours(_: &Metadata) -> bool {
    // Nobody else's can be opened.
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_holds_is_swept() {
        let alive = PrivateDirectory::new().unwrap();
        // As after kill -9: the lock is gone, the directory is not.
        let left = tempfile::Builder::new().prefix(PREFIX).tempdir().unwrap().keep();
        fs::write(left.join("identity"), "x").unwrap();
        sweep();
        assert!(alive.path().is_dir() && !left.exists());
    }
}
