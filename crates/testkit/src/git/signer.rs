//! Somebody who signs commits and tags, with the real `gpg` or `ssh-keygen`.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, ensure};

use super::Repository;

/// A key, and the way in which `git` signs with it. Dropping it ends gpg's agent.
#[derive(Debug)]
pub struct Signer {
    home: PathBuf,
    key: Kind,
}

#[derive(Debug)]
enum Kind {
    Pgp { fingerprint: String },
    Ssh { file: PathBuf },
}

impl Drop for Signer {
    fn drop(&mut self) {
        if matches!(self.key, Kind::Pgp { .. }) {
            let mut end = Command::new("gpgconf");
            end.arg("--homedir")
                .arg(&self.home)
                .args(["--kill", "all"])
                .stderr(Stdio::null());
            drop(end.status());
        }
    }
}

impl Signer {
    /// An OpenSSH key of `kind`: `ed25519`, `rsa` or `ecdsa`.
    pub fn ssh(directory: &Path, kind: &str) -> anyhow::Result<Self> {
        fs::create_dir_all(directory).context("cannot make the directory of a key")?;
        let file = directory.join("key");
        let mut generate = Command::new("ssh-keygen");
        generate
            .args(["-q", "-N", "", "-C", "ada@example.com", "-t", kind, "-f"])
            .arg(&file);
        run(&mut generate)?;
        Ok(Self {
            home: directory.to_owned(),
            key: Kind::Ssh { file },
        })
    }

    /// An OpenPGP key: `algorithm` as `gpg --quick-gen-key` names it, `expires` after its making (`1d`, `never`), which was
    /// at `made` (`20200101T000000`), or now. The directory's path has to be short: gpg's agent listens in it.
    pub fn pgp(directory: &Path, algorithm: &str, expires: &str, made: Option<&str>) -> anyhow::Result<Self> {
        fs::create_dir_all(directory).context("cannot make the directory of a key")?;
        fs::set_permissions(directory, fs::Permissions::from_mode(0o700))?;
        let faked = made.map(|made| format!("--faked-system-time={made}!"));
        // `git` calls this program; what it makes, it makes at the time of the key.
        let script = format!(
            "#!/bin/sh\nexec gpg --homedir '{}' --batch --no-tty {} \"$@\"\n",
            directory.display(),
            faked.unwrap_or_default()
        );
        let program = directory.join("gpg.sh");
        fs::write(&program, script)?;
        fs::set_permissions(&program, fs::Permissions::from_mode(0o700))?;
        let mut signer = Self {
            home: directory.to_owned(),
            key: Kind::Pgp {
                fingerprint: String::new(),
            },
        };
        let user = "Ada Tester <ada@example.com>";
        signer.gpg(&[
            "--passphrase",
            "",
            "--quick-gen-key",
            user,
            algorithm,
            "sign,cert",
            expires,
        ])?;
        let listed = signer.gpg(&["--with-colons", "--list-keys"])?;
        let fingerprint = listed
            .lines()
            .find_map(|line| line.strip_prefix("fpr:::::::::"))
            .context("gpg lists no key")?;
        signer.key = Kind::Pgp {
            fingerprint: fingerprint.trim_end_matches(':').to_owned(),
        };
        Ok(signer)
    }

    /// Runs `gpg` with the key's home.
    pub fn gpg(&self, arguments: &[&str]) -> anyhow::Result<String> {
        run(Command::new(self.home.join("gpg.sh")).args(arguments))
    }

    /// From now on git signs with a subkey.
    pub fn add_subkey(&mut self, algorithm: &str, expires: &str) -> anyhow::Result<()> {
        let primary = self.fingerprint().to_owned();
        self.gpg(&[
            "--passphrase",
            "",
            "--quick-add-key",
            &primary,
            algorithm,
            "sign",
            expires,
        ])?;
        Ok(())
    }

    /// Takes the key back.
    pub fn revoke(&self) -> anyhow::Result<()> {
        let file = self
            .home
            .join(format!("openpgp-revocs.d/{}.rev", self.fingerprint()));
        // The file is made so that it cannot be imported by accident.
        let text = fs::read_to_string(&file)?.replace(":-----BEGIN", "-----BEGIN");
        fs::write(&file, text)?;
        let file = file.to_string_lossy();
        self.gpg(&["--import", &file]).map(drop)
    }

    /// The fingerprint of an OpenPGP key.
    pub fn fingerprint(&self) -> &str {
        match &self.key {
            Kind::Pgp { fingerprint } => fingerprint,
            Kind::Ssh { .. } => "",
        }
    }

    /// The public key, as it goes into a Secret.
    pub fn public_key(&self) -> anyhow::Result<String> {
        match &self.key {
            Kind::Pgp { fingerprint } => self.gpg(&["--armor", "--export", fingerprint]),
            Kind::Ssh { file } => {
                fs::read_to_string(file.with_extension("pub")).context("ssh-keygen made no public key")
            }
        }
    }

    /// Makes `git commit` and `git tag` sign with the key.
    pub fn use_for(&self, repository: &Repository) -> anyhow::Result<()> {
        match &self.key {
            Kind::Pgp { fingerprint } => {
                repository.config("gpg.format", "openpgp")?;
                repository.config("user.signingkey", fingerprint)?;
                repository.config("gpg.program", &self.home.join("gpg.sh").to_string_lossy())?;
            }
            Kind::Ssh { file } => {
                repository.config("gpg.format", "ssh")?;
                repository.config("user.signingkey", &file.to_string_lossy())?;
            }
        }
        repository.config("commit.gpgsign", "true")?;
        repository.config("tag.gpgsign", "true")
    }
}

fn run(command: &mut Command) -> anyhow::Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| {
        format!("cannot start {command:?}: gnupg and openssh-client have to be installed")
    })?;
    ensure!(
        output.status.success(),
        "{command:?} failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
