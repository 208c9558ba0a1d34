//! The programs of Kubernetes: taken from `KUBEBUILDER_ASSETS`, else built once from the Go module `tests/cluster`.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::{Digest as _, Sha256};

use crate::{
    leash::Leash,
    paths,
    progress::{Ticker, say},
};

/// Name and Go package of every program a cluster consists of.
const PROGRAMS: [(&str, &str); 4] = [
    ("etcd", "go.etcd.io/etcd/server/v3"),
    ("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"),
    ("kubectl", "k8s.io/kubernetes/cmd/kubectl"),
    (
        "kube-controller-manager",
        "k8s.io/kubernetes/cmd/kube-controller-manager",
    ),
];

/// Where the programs are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binaries {
    /// The store behind the API server.
    pub etcd: PathBuf,
    /// The API server.
    pub kube_apiserver: PathBuf,
    /// The command-line client.
    pub kubectl: PathBuf,
    /// Garbage collection, namespaces, service accounts, workloads.
    pub kube_controller_manager: PathBuf,
}

impl Binaries {
    /// Finds the programs, and builds those that are nowhere; the first time takes 10 to 15 minutes on two cores.
    pub fn find() -> anyhow::Result<Self> {
        let assets = std::env::var_os("KUBEBUILDER_ASSETS")
            .filter(|dir| !dir.is_empty())
            .map(PathBuf::from);
        if let Some(dir) = &assets
            && !dir.is_dir()
        {
            bail!(
                "KUBEBUILDER_ASSETS is {}, which is not a directory: set it to a directory with etcd, \
                 kube-apiserver and kubectl, or unset it",
                dir.display()
            );
        }
        let given = |name: &str| {
            let path = assets.as_ref()?.join(name);
            path.is_file().then_some(path)
        };
        let missing: Vec<_> = PROGRAMS
            .iter()
            .filter(|(name, _)| given(name).is_none())
            .collect();
        let built = paths::target().join("cluster").join("bin");
        build(&missing, &built)?;
        let path = |name: &str| given(name).unwrap_or_else(|| built.join(name));
        Ok(Self {
            etcd: path("etcd"),
            kube_apiserver: path("kube-apiserver"),
            kubectl: path("kubectl"),
            kube_controller_manager: path("kube-controller-manager"),
        })
    }

    /// Every program under the name people know it by.
    pub fn named(&self) -> [(&'static str, &Path); 4] {
        [
            ("etcd", &self.etcd),
            ("kube-apiserver", &self.kube_apiserver),
            ("kube-controller-manager", &self.kube_controller_manager),
            ("kubectl", &self.kubectl),
        ]
    }
}

/// The Go module that names the versions.
pub fn module() -> PathBuf {
    paths::workspace().join("tests").join("cluster")
}

fn build(programs: &[&(&str, &str)], bin: &Path) -> anyhow::Result<()> {
    if programs.is_empty() {
        return Ok(());
    }
    let module = module();
    let go_mod = fs::read_to_string(module.join("go.mod")).context("cannot read tests/cluster/go.mod")?;
    let go_sum = fs::read(module.join("go.sum")).context("cannot read tests/cluster/go.sum")?;
    let flags = linker_flags(&go_mod)?;
    let stamp = stamp(&go_mod, &go_sum, &flags);
    let stale = || {
        let fresh = |name: &str| {
            bin.join(name).is_file()
                && fs::read_to_string(stamp_file(bin, name)).is_ok_and(|found| found == stamp)
        };
        let mut stale = programs.to_vec();
        stale.retain(|(name, _)| !fresh(name));
        stale
    };
    if stale().is_empty() {
        return Ok(());
    }
    fs::create_dir_all(bin).with_context(|| format!("cannot create {}", bin.display()))?;
    let lock = File::create(bin.join(".lock")).context("cannot create the build lock")?;
    if lock.try_lock().is_err() {
        say("another process builds the cluster's programs: waiting for it");
        lock.lock().context("cannot lock the build directory")?;
    }
    let leash = Leash::new()?;
    let todo = stale();
    let go = if todo.is_empty() {
        PathBuf::new()
    } else {
        find_go()?
    };
    for (n, (name, package)) in todo.iter().enumerate() {
        let line = format!("building {name} ({} of {}) from tests/cluster", n + 1, todo.len());
        say(format_args!("{line}; the first time takes minutes"));
        let begin = Instant::now();
        let ticker = Ticker::start(line, Duration::from_secs(15));
        let fresh = bin.join(format!(".{name}.new"));
        let status = leash.run(
            Command::new(&go)
                .current_dir(&module)
                .env("CGO_ENABLED", "0")
                .env("GOWORK", "off")
                .args(["build", "-trimpath", "-ldflags", &flags, "-o"])
                .arg(&fresh)
                .arg(package),
        )?;
        drop(ticker);
        if !status.success() {
            bail!("`go build {package}` in tests/cluster failed ({status}): see its output above");
        }
        fs::rename(&fresh, bin.join(name)).with_context(|| format!("cannot put {name} in its place"))?;
        fs::write(stamp_file(bin, name), &stamp).with_context(|| format!("cannot stamp {name}"))?;
        say(format_args!("built {name} in {} s", begin.elapsed().as_secs()));
    }
    Ok(())
}

fn stamp_file(bin: &Path, name: &str) -> PathBuf {
    bin.join(format!(".{name}.stamp"))
}

/// Changes whenever the programs would.
fn stamp(go_mod: &str, go_sum: &[u8], flags: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(go_mod);
    hash.update(go_sum);
    hash.update(flags);
    STANDARD.encode(hash.finalize())
}

/// Without a version kube-apiserver calls itself `v0.0.0-master`, over which clients stumble.
fn linker_flags(go_mod: &str) -> anyhow::Result<String> {
    let version = go_mod
        .lines()
        .find_map(|line| line.trim().strip_prefix("k8s.io/kubernetes v"))
        .and_then(|rest| rest.split_whitespace().next())
        .context("tests/cluster/go.mod does not require k8s.io/kubernetes")?;
    let mut numbers = version.split('.');
    let (major, minor) = (
        numbers.next().unwrap_or_default(),
        numbers.next().unwrap_or_default(),
    );
    let package = "k8s.io/component-base/version";
    Ok(format!(
        "-s -w -X {package}.gitVersion=v{version} -X {package}.gitMajor={major} -X {package}.gitMinor={minor}"
    ))
}

/// `go` from the path, else from where its own installer puts it.
pub fn find_go() -> anyhow::Result<PathBuf> {
    let candidates = [PathBuf::from("go"), PathBuf::from("/usr/local/go/bin/go")];
    candidates
        .into_iter()
        .find(|go| {
            let mut version = Command::new(go);
            version.arg("version").output().is_ok_and(|out| out.status.success())
        })
        .context(
            "a test cluster needs Go or ready-made programs: install Go 1.26 or newer (https://go.dev/doc/install), \
             or set KUBEBUILDER_ASSETS to a directory with etcd, kube-apiserver, kube-controller-manager and kubectl",
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linker_flags_carry_the_version_of_the_module() {
        let flags = linker_flags("require (\n\tk8s.io/kubernetes v1.37.2 // indirect\n)").unwrap();
        assert!(
            flags.ends_with("gitVersion=v1.37.2 -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=37"),
            "{flags}"
        );
        assert!(linker_flags("module x").is_err());
    }

    #[test]
    fn stamps_change_with_every_input() {
        let base = stamp("a", b"b", "c");
        assert_eq!(base.len(), 44);
        for other in [
            stamp("x", b"b", "c"),
            stamp("a", b"x", "c"),
            stamp("a", b"b", "x"),
        ] {
            assert_ne!(base, other);
        }
    }
}
