//! Child processes that cannot outlive their owner, however it ends.
//!
//! A small `sh` reads from a pipe whose other end only the owner holds. When the owner exits, panics or is
//! killed, the kernel closes that end, the shell reads end-of-file and ends the whole process group, which
//! every child was put into before its program started. No signal handler, no `unsafe`, no Linux-only call.

use std::{
    io::Write,
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
};

use anyhow::Context as _;

/// Waits for a word. `release` leaves the group alone; anything else, end-of-file included, ends it.
/// `$1`, if any, is a directory to remove then. The group contains this shell, so killing comes last.
const SCRIPT: &str = r#"
trap '' TERM INT HUP
read -r word
if [ "$word" = release ]; then exit 0; fi
kill -TERM 0
sleep 0.5
if [ -n "$1" ]; then rm -rf -- "$1"; fi
kill -KILL 0
"#;

/// Holds a process group that ends when this value is dropped or its process dies.
#[derive(Debug)]
pub struct Leash {
    shell: Child,
    pipe: Option<ChildStdin>,
    group: i32,
}

impl Leash {
    /// A leash without anything on it.
    pub fn new() -> anyhow::Result<Self> {
        Self::start(None)
    }

    /// As [`Leash::new`]; `directory` is removed with all its contents once the group has ended.
    /// Only for directories that the caller has just created.
    pub fn removing(directory: &Path) -> anyhow::Result<Self> {
        Self::start(Some(directory))
    }

    fn start(directory: Option<&Path>) -> anyhow::Result<Self> {
        let mut command = Command::new("sh");
        command.args(["-c", SCRIPT, "plumbline-leash"]);
        command.args(directory);
        let mut shell = command
            .process_group(0)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start sh, which watches over child processes")?;
        let pipe = shell.stdin.take();
        let group = i32::try_from(shell.id()).context("process ids fit 31 bits")?;
        Ok(Self { shell, pipe, group })
    }

    /// Starts `command` on the leash. Its standard input is empty.
    pub fn spawn(&self, command: &mut Command) -> anyhow::Result<Child> {
        let name = command.get_program().to_string_lossy().into_owned();
        command
            .process_group(self.group)
            .stdin(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {name}"))
    }

    /// Runs `command` on the leash to its end. Its output goes where the owner's goes.
    pub fn run(&self, command: &mut Command) -> anyhow::Result<ExitStatus> {
        let name = command.get_program().to_string_lossy().into_owned();
        self.spawn(command)?
            .wait()
            .with_context(|| format!("lost sight of {name}"))
    }

    /// Lets everything on the leash live on without an owner.
    pub fn release(mut self) -> anyhow::Result<()> {
        if let Some(mut pipe) = self.pipe.take() {
            pipe.write_all(b"release\n")
                .context("the watching shell is gone")?;
        }
        self.shell.wait().context("lost sight of the watching shell")?;
        Ok(())
    }
}

impl Drop for Leash {
    fn drop(&mut self) {
        drop(self.pipe.take());
        // An error means that it is gone already, which is what is wanted.
        drop(self.shell.wait());
    }
}
