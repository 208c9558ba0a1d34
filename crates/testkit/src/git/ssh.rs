//! `sshd` on a port of its own, for the user who runs the tests.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};

use super::Repository;
use crate::Leash;

/// An ssh server with keys of its own, until it is dropped.
pub struct SshServer {
    directory: PathBuf,
    address: SocketAddr,
    user: String,
    repository: PathBuf,
    leash: Option<Leash>,
    sshd: Child,
}

impl Drop for SshServer {
    fn drop(&mut self) {
        // Ends sshd and what it started.
        drop(self.leash.take());
        drop(self.sshd.wait());
    }
}

impl SshServer {
    /// Serves the repository (and with it whatever the user can reach: it is an ordinary ssh server on loopback that
    /// lets in only the key made here). `directory` takes its files.
    pub fn start(repository: &Repository, directory: &Path) -> anyhow::Result<Self> {
        Self::start_at(repository, directory, Ipv4Addr::LOCALHOST.into())
    }

    /// The same at another address of this machine, such as the one by which a node knows it.
    pub fn start_at(repository: &Repository, directory: &Path, address: IpAddr) -> anyhow::Result<Self> {
        let sshd = ["/usr/sbin/sshd", "/usr/local/sbin/sshd", "/usr/bin/sshd"]
            .into_iter()
            .find(|path| Path::new(path).exists())
            .context("sshd is not installed: install the package openssh-server")?;
        let directory = directory.join("sshd");
        fs::create_dir_all(&directory)?;
        for name in ["host_key", "other_key", "client_key"] {
            keygen(&directory.join(name), "")?;
        }
        keygen(&directory.join("locked_key"), "open sesame")?;
        let authorized: String = ["client_key.pub", "locked_key.pub"]
            .into_iter()
            .map(|name| fs::read_to_string(directory.join(name)))
            .collect::<Result<_, _>>()?;
        fs::write(directory.join("authorized_keys"), authorized)?;
        let user = output(Command::new("id").arg("-un"))?;
        if user == "root" {
            // sshd refuses to start as root without it; its service unit makes it too.
            drop(fs::create_dir_all("/run/sshd"));
        }
        let address = TcpListener::bind((address, 0))?.local_addr()?;
        let file = |name: &str| directory.join(name).display().to_string();
        let config = format!(
            "ListenAddress {address}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nStrictModes no\n\
             UsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nAcceptEnv GIT_PROTOCOL\n\
             PermitRootLogin prohibit-password\n",
            file("host_key"),
            file("authorized_keys"),
        );
        fs::write(directory.join("config"), config)?;
        let log = fs::File::create(directory.join("log"))?;
        let leash = Leash::new()?;
        let mut command = Command::new(sshd);
        command
            .args(["-D", "-e", "-f"])
            .arg(directory.join("config"))
            .stdout(Stdio::null())
            .stderr(log);
        let mut child = leash.spawn(&mut command)?;
        let until = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(address).is_err() {
            if child.try_wait()?.is_some() || Instant::now() > until {
                bail!(
                    "sshd does not listen: {}",
                    fs::read_to_string(directory.join("log")).unwrap_or_default()
                );
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(Self {
            directory,
            address,
            user,
            repository: repository.path().to_owned(),
            leash: Some(leash),
            sshd: child,
        })
    }

    /// The URL of the repository.
    pub fn url(&self) -> String {
        format!(
            "ssh://{}@{}{}",
            self.user,
            self.address,
            self.repository.display()
        )
    }

    /// The URL of something that does not exist.
    pub fn url_of_nothing(&self) -> String {
        format!("ssh://{}@{}/nonexistent.git", self.user, self.address)
    }

    /// A private key the server lets in.
    pub fn identity(&self) -> anyhow::Result<String> {
        self.read("client_key")
    }

    /// Another one that it lets in, locked with the passphrase `open sesame`.
    pub fn locked_identity(&self) -> anyhow::Result<String> {
        self.read("locked_key")
    }

    /// A private key the server does not know.
    pub fn unknown_identity(&self) -> anyhow::Result<String> {
        self.read("other_key")
    }

    /// The `known_hosts` line of the server.
    pub fn known_hosts(&self) -> anyhow::Result<String> {
        self.line_of("host_key.pub")
    }

    /// A `known_hosts` line with another key for the server.
    pub fn wrong_known_hosts(&self) -> anyhow::Result<String> {
        self.line_of("other_key.pub")
    }

    fn line_of(&self, key: &str) -> anyhow::Result<String> {
        let (host, port) = (self.address.ip(), self.address.port());
        Ok(format!("[{host}]:{port} {}", self.read(key)?))
    }

    fn read(&self, name: &str) -> anyhow::Result<String> {
        fs::read_to_string(self.directory.join(name)).with_context(|| format!("cannot read {name}"))
    }
}

fn keygen(path: &Path, passphrase: &str) -> anyhow::Result<()> {
    let mut keygen = Command::new("ssh-keygen");
    keygen
        .args(["-q", "-t", "ed25519", "-C", "test", "-N", passphrase, "-f"])
        .arg(path);
    output(&mut keygen).map(drop)
}

fn output(command: &mut Command) -> anyhow::Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?} failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
