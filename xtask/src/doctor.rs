//! `cargo xtask doctor`: what is missing on this machine, and how to get it.

use std::{path::Path, process::Command};

use anyhow::bail;
use xshell::Shell;

/// What happens without a program.
#[derive(Clone, Copy, PartialEq)]
enum Need {
    /// Something does not work without it.
    Always,
    /// Nice to have.
    Optional,
}

struct Tool {
    name: &'static str,
    /// Programs that serve alike, each with the arguments that make it print its version.
    candidates: &'static [(&'static str, &'static [&'static str])],
    need: Need,
    purpose: &'static str,
    remedy: &'static str,
}

const TOOLS: &[Tool] = &[
    Tool {
        name: "cargo",
        candidates: &[("cargo", &["--version"])],
        need: Need::Always,
        purpose: "everything",
        remedy: "https://rustup.rs",
    },
    Tool {
        name: "rustfmt",
        candidates: &[("rustfmt", &["--version"])],
        need: Need::Always,
        purpose: "cargo xtask test",
        remedy: "rustup component add rustfmt",
    },
    Tool {
        name: "clippy",
        candidates: &[("cargo-clippy", &["--version"])],
        need: Need::Always,
        purpose: "cargo xtask test",
        remedy: "rustup component add clippy",
    },
    Tool {
        name: "C compiler",
        candidates: &[
            ("cc", &["--version"]),
            ("gcc", &["--version"]),
            ("clang", &["--version"]),
        ],
        need: Need::Always,
        purpose: "building aws-lc (TLS and RSA)",
        remedy: "apt-get install build-essential, or xcode-select --install",
    },
    Tool {
        name: "cmake",
        candidates: &[("cmake", &["--version"])],
        need: Need::Optional,
        purpose: "building aws-lc on platforms without a ready-made build description",
        remedy: "apt-get install cmake",
    },
    Tool {
        name: "git",
        candidates: &[("git", &["--version"])],
        need: Need::Always,
        purpose: "the demo and the Git tests",
        remedy: "apt-get install git",
    },
    Tool {
        name: "ssh",
        candidates: &[("ssh", &["-V"])],
        need: Need::Always,
        purpose: "Git over ssh",
        remedy: "apt-get install openssh-client",
    },
    Tool {
        name: "sshd",
        candidates: &[("sshd", &["-V"]), ("/usr/sbin/sshd", &["-V"])],
        need: Need::Always,
        purpose: "the tests of Git over ssh",
        remedy: "apt-get install openssh-server",
    },
    Tool {
        name: "gpg",
        candidates: &[("gpg", &["--version"])],
        need: Need::Always,
        purpose: "the tests of signed commits",
        remedy: "apt-get install gnupg",
    },
    Tool {
        name: "ps",
        candidates: &[("ps", &["--version"]), ("ps", &["-p", "1"])],
        need: Need::Always,
        purpose: "the tests of the test cluster",
        remedy: "apt-get install procps",
    },
    Tool {
        name: "kubectl",
        candidates: &[("kubectl", &["version", "--client"])],
        need: Need::Optional,
        purpose: "looking around (each cluster has one of its own in its directory's bin)",
        remedy: "https://kubernetes.io/docs/tasks/tools",
    },
    Tool {
        name: "cargo-deny",
        candidates: &[("cargo-deny", &["--version"])],
        need: Need::Optional,
        purpose: "checking licences and advisories in cargo xtask test",
        remedy: "cargo install --locked cargo-deny",
    },
];

pub(crate) fn run(sh: &Shell) -> anyhow::Result<()> {
    let mut missing = 0;
    for tool in TOOLS {
        let version = tool
            .candidates
            .iter()
            .find_map(|(program, args)| version(Path::new(program), args));
        let needed = report(
            tool.name,
            version.as_deref(),
            tool.need,
            tool.purpose,
            tool.remedy,
        );
        missing += usize::from(needed);
    }
    let cluster = kubernetes(sh);
    let remedy = "install Go 1.26 or newer (https://go.dev/doc/install), or set KUBEBUILDER_ASSETS to a directory \
                  with etcd, kube-apiserver, kube-controller-manager and kubectl";
    let purpose = "test clusters and the demo";
    missing += usize::from(report(
        "Kubernetes",
        cluster.as_deref(),
        Need::Always,
        purpose,
        remedy,
    ));
    match plumbline_testkit::node_obstacle() {
        None => println!("ok        {:<11} containerd, runc, CNI plugins, root", "node"),
        Some(reason) => println!(
            "optional  {:<11} for cargo xtask e2e and cluster up --node: {reason}",
            "node"
        ),
    }
    if missing > 0 {
        bail!("{missing} thing(s) missing: see above");
    }
    println!("\nready for `cargo xtask demo` and `cargo xtask test`");
    Ok(())
}

/// Prints a line; says whether something needed is missing.
fn report(name: &str, version: Option<&str>, need: Need, purpose: &str, remedy: &str) -> bool {
    match (version, need) {
        (Some(version), _) => println!("ok        {name:<11} {version}"),
        (None, Need::Always) => println!("MISSING   {name:<11} needed for {purpose}: {remedy}"),
        (None, Need::Optional) => println!("optional  {name:<11} not found; for {purpose}: {remedy}"),
    }
    version.is_none() && need == Need::Always
}

/// Where the programs of a cluster come from, or would.
fn kubernetes(sh: &Shell) -> Option<String> {
    const PROGRAMS: [&str; 4] = ["etcd", "kube-apiserver", "kube-controller-manager", "kubectl"];
    let complete = |dir: &Path| PROGRAMS.iter().all(|name| dir.join(name).is_file());
    if let Ok(assets) = sh.var("KUBEBUILDER_ASSETS")
        && complete(Path::new(&assets))
    {
        return Some(format!("taken from KUBEBUILDER_ASSETS ({assets})"));
    }
    let go = plumbline_testkit::find_go().ok()?;
    let version = version(&go, &["version"])?;
    if !go_is_new_enough(&version) {
        return None;
    }
    let built = plumbline_testkit::target_dir().join("cluster").join("bin");
    let state = if complete(&built) {
        "built already"
    } else {
        "will be built at first use, 10 to 15 min"
    };
    Some(format!("from tests/cluster by {version}; {state}"))
}

/// `go version go1.26.8 linux/amd64`. Go fetches a newer toolchain by itself from 1.21 on, unless it is told not to.
fn go_is_new_enough(version: &str) -> bool {
    let number = version
        .split_whitespace()
        .find_map(|word| word.strip_prefix("go1."));
    let minor = number.and_then(|rest| {
        rest.split(|c: char| !c.is_ascii_digit())
            .next()?
            .parse::<u32>()
            .ok()
    });
    minor.is_some_and(|minor| minor >= 26)
}

/// The first line a program prints about itself; `None` if it cannot be run.
fn version(program: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    // sshd before OpenSSH 9.2 knows no -V, complains, and names its version all the same.
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let line = text
        .lines()
        .find(|line| line.contains(|c: char| c.is_ascii_digit()))?;
    Some(line.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_versions_are_compared_as_numbers() {
        assert!(go_is_new_enough("go version go1.26.8 linux/amd64"));
        assert!(go_is_new_enough("go version go1.100 linux/amd64"));
        assert!(!go_is_new_enough("go version go1.19.8 linux/amd64"));
        assert!(!go_is_new_enough("command not found"));
    }

    #[test]
    fn a_program_that_is_not_there_has_no_version() {
        assert_eq!(version(Path::new("plumbline-no-such-program"), &[]), None);
    }
}
