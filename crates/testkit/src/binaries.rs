//! The programs of Kubernetes: taken from `KUBEBUILDER_ASSETS`, else built once from the Go module `tests/cluster`.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};

use crate::{
    flux,
    go::{self, Module},
    paths,
};

/// Directory of their Go module.
const MODULE: &str = "cluster";

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

/// What a node needs beside them.
const NODE_PROGRAMS: [(&str, &str); 3] = [
    ("kubelet", "k8s.io/kubernetes/cmd/kubelet"),
    ("kube-proxy", "k8s.io/kubernetes/cmd/kube-proxy"),
    ("kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler"),
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
    /// Name and path of what only a node needs, when one is wanted.
    node: Vec<(&'static str, PathBuf)>,
}

impl Binaries {
    /// Finds the programs, and builds those that are nowhere; the first time takes 10 to 15 minutes on two cores.
    pub fn find() -> anyhow::Result<Self> {
        Self::find_all(&[])
    }

    /// As [`Binaries::find`], with those of a node.
    pub(crate) fn find_with_node() -> anyhow::Result<Self> {
        Self::find_all(&NODE_PROGRAMS)
    }

    fn find_all(also: &[(&'static str, &'static str)]) -> anyhow::Result<Self> {
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
            .chain(also)
            .filter(|(name, _)| given(name).is_none())
            .collect();
        let built = directory();
        if !missing.is_empty() {
            let go_mod = Module::directory(MODULE).join("go.mod");
            let go_mod = fs::read_to_string(go_mod).context("cannot read tests/cluster/go.mod")?;
            let module = Module {
                flags: linker_flags(&go_mod)?,
                ..Module::new(MODULE)
            };
            module.build(&missing, &built)?;
        }
        let path = |name: &str| given(name).unwrap_or_else(|| built.join(name));
        Ok(Self {
            etcd: path("etcd"),
            kube_apiserver: path("kube-apiserver"),
            kubectl: path("kubectl"),
            kube_controller_manager: path("kube-controller-manager"),
            node: also.iter().map(|(name, _)| (*name, path(name))).collect(),
        })
    }

    /// One of those that only a node needs.
    pub(crate) fn node_program(&self, name: &str) -> anyhow::Result<&Path> {
        let found = self.node.iter().find(|(known, _)| *known == name);
        found
            .map(|(_, path)| path.as_path())
            .with_context(|| format!("{name} was not asked for"))
    }

    /// Links them into `bin`.
    pub(crate) fn link_node_programs(&self, bin: &Path) -> anyhow::Result<()> {
        for (name, program) in &self.node {
            let link = bin.join(name);
            symlink(program, &link).with_context(|| format!("cannot link {}", link.display()))?;
        }
        Ok(())
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

/// A program of Kubernetes' users, built from a Go module of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// Fake nodes whose pods do as they are told.
    Kwok,
    /// Puts manifests together.
    Kustomize,
    /// Installs charts.
    Helm,
    /// Flux's command line.
    Flux,
}

impl Tool {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::Kwok, Self::Kustomize, Self::Helm, Self::Flux];

    /// Its name, which is also that of its module below `tests/`, and its package.
    const fn source(self) -> (&'static str, &'static str) {
        match self {
            Self::Kwok => ("kwok", "sigs.k8s.io/kwok/cmd/kwok"),
            Self::Kustomize => ("kustomize", "sigs.k8s.io/kustomize/kustomize/v5"),
            Self::Helm => ("helm", "helm.sh/helm/v4/cmd/helm"),
            Self::Flux => ("flux", "./cmd/flux"),
        }
    }

    /// Where the program is; builds it first when it is not there or its module has changed.
    pub fn path(self) -> anyhow::Result<PathBuf> {
        let (name, package) = self.source();
        let module = match self {
            Self::Flux => flux::module()?,
            Self::Kwok | Self::Kustomize | Self::Helm => Module::new(name),
        };
        let bin = directory();
        module.build(&[&(name, package)], &bin)?;
        Ok(bin.join(name))
    }
}

/// A program for pods, from the Go module `tests/node`: `pause`, `gitserver` or `show`. Linked statically.
pub fn node_program(name: &'static str) -> anyhow::Result<PathBuf> {
    let module = Module::new("node");
    let bin = directory();
    module.build(&[&(name, &format!("./{name}"))], &bin)?;
    Ok(bin.join(name))
}

/// The cluster DNS.
pub(crate) fn coredns() -> anyhow::Result<PathBuf> {
    let module = Module::new("coredns");
    let bin = directory();
    module.build(&[&("coredns", ".")], &bin)?;
    Ok(bin.join("coredns"))
}

/// What these nodes and pods do.
pub(crate) fn kwok_stages() -> PathBuf {
    Module::directory("kwok").join("stages.yaml")
}

fn directory() -> PathBuf {
    paths::target().join("cluster").join("bin")
}

/// The Go module that names the versions.
pub fn module() -> PathBuf {
    Module::directory(MODULE)
}

/// Without a version kube-apiserver calls itself `v0.0.0-master`, over which clients stumble.
fn linker_flags(go_mod: &str) -> anyhow::Result<String> {
    let version = go::required(go_mod, "k8s.io/kubernetes")
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
}
