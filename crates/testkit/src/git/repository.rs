//! A bare repository with a work tree beside it, driven by the `git` program.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context as _;

use crate::pipe::answer;

/// A repository to commit to. Servers serve its bare half.
#[derive(Debug, Clone)]
pub struct Repository {
    bare: PathBuf,
    work: PathBuf,
}

impl Repository {
    /// Makes an empty repository `directory/repository.git` whose branch is `main`, and its work tree beside it.
    pub fn init(directory: &Path) -> anyhow::Result<Self> {
        Self::init_with(directory, "sha1")
    }

    /// As [`Repository::init`], with another object format (`sha256`).
    pub fn init_with(directory: &Path, object_format: &str) -> anyhow::Result<Self> {
        let (bare, work) = (directory.join("repository.git"), directory.join("work"));
        fs::create_dir_all(&work).context("cannot make the work tree")?;
        let format = format!("--object-format={object_format}");
        let mut init = clean_git();
        init.args(["init", "--quiet", "--bare", "--initial-branch=main", &format])
            .arg(&bare);
        run(&mut init, None)?;
        Ok(Self { bare, work })
    }

    /// The bare repository.
    pub fn path(&self) -> &Path {
        &self.bare
    }

    /// The work tree.
    pub fn work_tree(&self) -> &Path {
        &self.work
    }

    /// Writes a file of the work tree, with the directories above it.
    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) -> anyhow::Result<()> {
        let path = self.prepared(path)?;
        fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Makes a symbolic link in the work tree.
    pub fn link(&self, path: &str, target: &str) -> anyhow::Result<()> {
        let path = self.prepared(path)?;
        symlink(target, &path).with_context(|| format!("cannot link {}", path.display()))
    }

    /// Removes a file or directory of the work tree.
    pub fn remove(&self, path: &str) -> anyhow::Result<()> {
        let path = self.work.join(path);
        let removed = if path.is_dir() {
            fs::remove_dir_all(&path)
        } else {
            fs::remove_file(&path)
        };
        removed.with_context(|| format!("cannot remove {}", path.display()))
    }

    fn prepared(&self, path: &str) -> anyhow::Result<PathBuf> {
        let path = self.work.join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
        }
        Ok(path)
    }

    /// Commits the whole work tree, changed or not. Returns the commit.
    pub fn commit(&self, message: &str) -> anyhow::Result<String> {
        self.git(&["add", "--all", "--force"])?;
        self.git(&["commit", "--quiet", "--allow-empty", "--message", message])?;
        self.head()
    }

    /// Replaces the last commit by another: what people then push with force.
    pub fn amend(&self, message: &str) -> anyhow::Result<String> {
        self.git(&["add", "--all", "--force"])?;
        self.git(&[
            "commit",
            "--quiet",
            "--allow-empty",
            "--amend",
            "--message",
            message,
        ])?;
        self.head()
    }

    /// The commit of the current branch.
    pub fn head(&self) -> anyhow::Result<String> {
        self.git(&["rev-parse", "HEAD"])
    }

    /// Makes a branch at the current commit and goes there.
    pub fn branch(&self, name: &str) -> anyhow::Result<()> {
        self.git(&["checkout", "--quiet", "-b", name]).map(drop)
    }

    /// Goes to a branch.
    pub fn checkout(&self, name: &str) -> anyhow::Result<()> {
        self.git(&["checkout", "--quiet", name]).map(drop)
    }

    /// Makes a tag that is only a name.
    pub fn tag(&self, name: &str) -> anyhow::Result<()> {
        self.git(&["tag", "--force", name]).map(drop)
    }

    /// Makes a tag that is an object.
    pub fn annotated_tag(&self, name: &str) -> anyhow::Result<()> {
        self.git(&["tag", "--force", "--annotate", "--message", name, name])
            .map(drop)
    }

    /// Points the current branch to another commit, wherever it is: a push with force.
    pub fn force(&self, commit: &str) -> anyhow::Result<()> {
        self.git(&["reset", "--quiet", "--hard", commit]).map(drop)
    }

    /// Commits a tree object of any content, as an attacker would. `entries` are (mode, name, object).
    pub fn commit_raw_tree(&self, entries: &[(&str, &[u8], &str)]) -> anyhow::Result<String> {
        let tree = self.raw_tree(entries)?;
        let commit = self.git(&["commit-tree", "-m", "raw", &tree])?;
        self.git(&["update-ref", "refs/heads/main", &commit])?;
        Ok(commit)
    }

    /// Writes a tree object of any content.
    pub fn raw_tree(&self, entries: &[(&str, &[u8], &str)]) -> anyhow::Result<String> {
        let mut tree = Vec::new();
        for (mode, name, object) in entries {
            write!(tree, "{mode} ")?;
            tree.extend_from_slice(name);
            tree.push(0);
            tree.extend(hex(object)?);
        }
        self.git_with_input(
            &["hash-object", "-t", "tree", "-w", "--literally", "--stdin"],
            Some(&tree),
        )
    }

    /// Writes a file object without a file.
    pub fn blob(&self, content: &[u8]) -> anyhow::Result<String> {
        self.git_with_input(&["hash-object", "-w", "--stdin"], Some(content))
    }

    /// Sets a configuration value of the served repository.
    pub fn config(&self, key: &str, value: &str) -> anyhow::Result<()> {
        self.git(&["config", key, value]).map(drop)
    }

    /// Runs any Git command on it. Returns what it printed, without the line end.
    pub fn git(&self, arguments: &[&str]) -> anyhow::Result<String> {
        self.git_with_input(arguments, None)
    }

    /// Runs any Git command on it, with this on its standard input.
    pub fn git_with(&self, arguments: &[&str], input: &[u8]) -> anyhow::Result<String> {
        self.git_with_input(arguments, Some(input))
    }

    fn git_with_input(&self, arguments: &[&str], input: Option<&[u8]>) -> anyhow::Result<String> {
        let mut git = clean_git();
        git.env("GIT_DIR", &self.bare)
            .env("GIT_WORK_TREE", &self.work)
            .current_dir(&self.work)
            .args(arguments);
        run(&mut git, input)
    }
}

fn hex(object: &str) -> anyhow::Result<Vec<u8>> {
    object
        .as_bytes()
        .chunks(2)
        .map(|pair| Ok(u8::from_str_radix(std::str::from_utf8(pair)?, 16)?))
        .collect::<anyhow::Result<_>>()
        .with_context(|| format!("{object} is not an object id"))
}

/// `git` that knows nothing of this machine and its user.
pub(super) fn clean_git() -> Command {
    let mut git = Command::new("git");
    git.env_clear()
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
        .env("HOME", "/nonexistent")
        .env("LC_ALL", "C")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_COUNT", "1")
        .env("GIT_CONFIG_KEY_0", "safe.directory")
        .env("GIT_CONFIG_VALUE_0", "*")
        .env("GIT_AUTHOR_NAME", "Ada Tester")
        .env("GIT_AUTHOR_EMAIL", "ada@example.com")
        .env("GIT_COMMITTER_NAME", "Ada Tester")
        .env("GIT_COMMITTER_EMAIL", "ada@example.com");
    git
}

fn run(command: &mut Command, input: Option<&[u8]>) -> anyhow::Result<String> {
    let said = answer(command, input.unwrap_or_default())?;
    Ok(said.trim_end().to_owned())
}
