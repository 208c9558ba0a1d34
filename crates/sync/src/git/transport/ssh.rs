//! Git over ssh, through the `ssh` program: no shell, no configuration of the user, the server always verified.

use std::{fs, io::Write, os::unix::fs::OpenOptionsExt, path::Path, process::Command, sync::Arc};

use super::super::{Credentials, GitError, Remote};
use super::{Guard, private::PrivateDirectory, process::Spawned};

/// Starts `ssh` for the length of one operation. Key and known hosts are written to a private directory that goes
/// with it.
pub(super) fn connect(remote: &Remote, guard: Arc<Guard>) -> Result<Spawned, GitError> {
    let Credentials::Ssh {
        identity,
        known_hosts,
        password,
    } = &remote.credentials
    else {
        return Err(GitError::InvalidCredentials(
            "an ssh:// URL needs a Secret with 'identity' and 'known_hosts' in spec.secretRef".to_owned(),
        ));
    };
    let files = PrivateDirectory::new().map_err(GitError::storage("create", std::env::temp_dir()))?;
    let directory = files.path();
    // ssh wants a line end at the end of a key.
    write(
        &directory.join("identity"),
        &format!("{}\n", identity.expose().trim_end()),
        0o600,
    )?;
    write(&directory.join("known_hosts"), known_hosts, 0o600)?;
    if let Some(password) = password {
        write(&directory.join("passphrase"), password.expose(), 0o600)?;
        write(
            &directory.join("askpass"),
            "#!/bin/sh\nexec cat \"${0%/*}/passphrase\"\n",
            0o700,
        )?;
    }
    let mut command = Command::new("ssh");
    command.args(["-F", "/dev/null", "-T"]);
    let option = |name: &str, value: &str| format!("-o{name}={value}");
    let inside = |name: &str| directory.join(name).display().to_string();
    command.args([
        option("StrictHostKeyChecking", "yes"),
        option("UserKnownHostsFile", &inside("known_hosts")),
        option("GlobalKnownHostsFile", "/dev/null"),
        option("UpdateHostKeys", "no"),
        option("IdentityFile", &inside("identity")),
        option("IdentitiesOnly", "yes"),
        option("IdentityAgent", "none"),
        option("PreferredAuthentications", "publickey"),
        // In batch mode ssh would not ask for the passphrase.
        option("BatchMode", if password.is_some() { "no" } else { "yes" }),
        option("NumberOfPasswordPrompts", "1"),
        option("ForwardAgent", "no"),
        option("ClearAllForwardings", "yes"),
        option("ControlPath", "none"),
        option("LogLevel", "ERROR"),
        option("SendEnv", "GIT_PROTOCOL"),
    ]);
    if let Some(port) = remote.url.port {
        command.arg("-p").arg(port.to_string());
    }
    command.arg("-l").arg(remote.url.user.as_deref().unwrap_or("git"));
    // The remote side runs this through its login shell.
    let path = remote
        .url
        .path
        .strip_prefix("/~")
        .map_or(remote.url.path.clone(), |rest| format!("~{rest}"));
    let quoted = format!("git-upload-pack '{}'", path.replace('\'', "'\\''"));
    command
        .arg("--")
        .arg(remote.url.host.trim_matches(['[', ']']))
        .arg(quoted);
    Spawned::start("ssh", command, guard, Some(files), classify)
}

fn write(path: &Path, text: &str, mode: u32) -> Result<(), GitError> {
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .map_err(GitError::storage("create", path))?;
    file.write_all(text.as_bytes())
        .map_err(GitError::storage("write", path))
}

/// The words of OpenSSH and of Git servers.
fn classify(url: String, words: &str) -> GitError {
    let has = |some: &[&str]| some.iter().any(|text| words.contains(text));
    // Several lines become one; the paths of our private files say nothing to a user.
    let reason = words
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect::<Vec<_>>()
        .join("; ");
    if has(&[
        "Host key verification failed",
        "HOST IDENTIFICATION HAS CHANGED",
        "host key is known",
        "REVOKED",
    ]) {
        let reason = "its host key is not (or no longer) the one in 'known_hosts' of the Secret".to_owned();
        return GitError::HostIdentity { url, reason };
    }
    if has(&[
        "incorrect passphrase",
        "error in libcrypto",
        "invalid format",
        "Load key",
    ]) {
        return GitError::InvalidCredentials(
            "'identity' cannot be read as a private key, or 'password' is not its passphrase".to_owned(),
        );
    }
    if has(&["Permission denied", "Too many authentication failures"]) {
        return GitError::Authentication {
            url,
            reason: "the server does not accept the key in 'identity'".to_owned(),
        };
    }
    if has(&[
        "does not appear to be a git repository",
        "not found",
        "does not exist",
        "access rights",
    ]) {
        return GitError::NotFound { url, reason };
    }
    GitError::Unreachable { url, reason }
}
