//! The user's editor on a file that nobody else can read, and that is gone afterwards.

use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tokio::signal::unix::{Signal, SignalKind, signal};
use zeroize::Zeroizing;

use crate::cli::Error;

/// A directory of its own for every run: what editors leave beside a file (backups, swap files) goes with it.
pub(super) struct Editor {
    directory: TempDir,
    command: String,
    interrupt: Signal,
    quit: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Editor {
    /// From here on signals end in the removal of the directory instead of the process alone.
    pub(super) fn new() -> Result<Self, Error> {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
        let command = variable("KUBE_EDITOR")
            .or_else(|| variable("EDITOR"))
            .unwrap_or_else(|| "vi".to_owned());
        let (interrupt, quit) = (signal(SignalKind::interrupt())?, signal(SignalKind::quit())?);
        let (terminate, hang_up) = (signal(SignalKind::terminate())?, signal(SignalKind::hangup())?);
        let directory = tempfile::Builder::new()
            .prefix("kubeseal-")
            .permissions(std::fs::Permissions::from_mode(0o700))
            .tempdir_in(memory())?;
        Ok(Self {
            directory,
            command,
            interrupt,
            quit,
            terminate,
            hang_up,
        })
    }

    /// Shows `text`; what it has become.
    pub(super) async fn edit(&mut self, text: &str) -> Result<Zeroizing<String>, Error> {
        let path = self.directory.path().join("items.yaml");
        write(&path, text)?;
        // Through the shell, as kubectl and Git do: EDITOR can carry flags.
        let mut child = tokio::process::Command::new("sh")
            .arg("-c")
            .arg(format!("{} \"$1\"", self.command))
            .arg("sh")
            .arg(&path)
            .kill_on_drop(true)
            .spawn()?;
        let status = loop {
            tokio::select! {
                status = child.wait() => break status?,
                // The terminal sends these to the editor as well, which knows what to do with them.
                _ = self.interrupt.recv() => {}
                _ = self.quit.recv() => {}
                _ = self.terminate.recv() => return Err(Error::Usage("terminated: nothing was written")),
                _ = self.hang_up.recv() => return Err(Error::Usage("hung up: nothing was written")),
            }
        };
        if !status.success() {
            return Err(Error::Input(format!(
                "the editor {:?} ended with {status}: nothing was written (KUBE_EDITOR or EDITOR says which one)",
                self.command
            )));
        }
        // Editors replace files; what is there now counts.
        Ok(Zeroizing::new(
            std::fs::read_to_string(&path).map_err(Error::open(&path))?,
        ))
    }
}

/// A place that is not a disk, where there is one.
fn memory() -> PathBuf {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let candidates = [runtime, Some(PathBuf::from("/dev/shm"))];
    candidates
        .into_iter()
        .flatten()
        .find(|path| tempfile::tempfile_in(path).is_ok())
        .unwrap_or_else(std::env::temp_dir)
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .map_err(Error::open(path))?;
    Ok(file.write_all(text.as_bytes())?)
}
