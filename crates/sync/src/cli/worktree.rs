//! A directory that is not pushed yet, as a repository that can be fetched. Git itself decides what belongs to it
//! (`.gitignore`, line endings), and what it has hashed already is not hashed again.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail};
use tempfile::TempDir;

/// The branch that the repository has.
pub(super) const BRANCH: &str = "worktree";

/// A throw-away repository with the files of a working tree.
pub(super) struct WorkTree {
    directory: TempDir,
    /// The path that was named: from the top of its working tree, `.` where it is in none, `None` for the top itself.
    pub(super) path: Option<String>,
}

impl WorkTree {
    /// Takes the files of the working tree that `path` is in; of a directory that is in none, its own.
    pub(super) fn take(path: &Path) -> anyhow::Result<Self> {
        let path = path
            .canonicalize()
            .with_context(|| format!("the directory {} cannot be read", path.display()))?;
        if !path.is_dir() {
            bail!("{} is not a directory", path.display());
        }
        let directory = tempfile::tempdir().context("cannot create a temporary directory")?;
        let repository = directory.path().join("worktree.git");
        let found = |what: &[&str]| {
            let mut git = Command::new("git");
            git.arg("-C").arg(&path).arg("rev-parse").args(what);
            run(&mut git).ok().map(|out| PathBuf::from(out.trim_end()))
        };
        let format = found(&["--show-object-format"]).unwrap_or_else(|| PathBuf::from("sha1"));
        let mut init = Command::new("git");
        init.args(["init", "--quiet", "--bare"])
            .arg(format!("--object-format={}", format.display()))
            .arg(&repository);
        run(&mut init)?;
        let working_tree = found(&["--show-toplevel"]);
        let top = working_tree.clone().unwrap_or_else(|| path.clone());
        if let Some(objects) = found(&["--path-format=absolute", "--git-path", "objects"]) {
            let alternates = repository.join("objects/info/alternates");
            fs::write(&alternates, format!("{}\n", objects.display()))
                .with_context(|| format!("cannot write {}", alternates.display()))?;
        }
        if let Some(index) = found(&["--path-format=absolute", "--git-path", "index"])
            && index.is_file()
        {
            fs::copy(&index, repository.join("index"))
                .context("the index of the repository cannot be read")?;
        }
        let git = |arguments: &[&str]| {
            let mut git = Command::new("git");
            git.arg("--git-dir").arg(&repository).arg("--work-tree").arg(&top);
            git.args([
                "-c",
                "core.bare=false",
                "-c",
                "user.name=worktree",
                "-c",
                "user.email=none@invalid",
            ]);
            git.args(["-c", "commit.gpgSign=false"]).args(arguments);
            git.current_dir(&top);
            run(&mut git)
        };
        git(&["add", "--all"])?;
        let tree = git(&["write-tree"])?;
        let commit = git(&[
            "commit-tree",
            "-m",
            "files that are not pushed yet",
            tree.trim_end(),
        ])?;
        git(&["update-ref", &format!("refs/heads/{BRANCH}"), commit.trim_end()])?;
        let inside = path
            .strip_prefix(top.canonicalize().unwrap_or(top))
            .unwrap_or(Path::new(""));
        let inside = inside.to_str().context("the path is not UTF-8")?.to_owned();
        let path = match (working_tree, inside.as_str()) {
            (None, _) => Some(".".to_owned()),
            (Some(_), "") => None,
            (Some(_), _) => Some(inside),
        };
        Ok(Self { directory, path })
    }

    /// Where it can be fetched from.
    pub(super) fn url(&self) -> String {
        format!("file://{}", self.directory.path().join("worktree.git").display())
    }
}

fn run(git: &mut Command) -> anyhow::Result<String> {
    // What an enclosing git (a hook) says of its own repository is not ours.
    for name in [
        "GIT_DIR",
        "GIT_WORK_TREE",
        "GIT_INDEX_FILE",
        "GIT_OBJECT_DIRECTORY",
    ] {
        git.env_remove(name);
    }
    let output = git
        .output()
        .context("cannot start the program git, which reads the directory: install it")?;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        bail!("git cannot read the directory: {}", complaint.trim());
    }
    String::from_utf8(output.stdout).context("git printed something that is not text")
}
