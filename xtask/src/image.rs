//! `cargo xtask image`: the container images of the controllers, without a container engine.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, ensure};
use plumbline_testkit::{BUILT_VARIABLE, Image, Leash, Sizes, Tool, target_dir};
use xshell::{Shell, cmd};

/// Where distributions keep the certificate authorities that everybody trusts.
const AUTHORITIES: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];
/// Where rustls looks for them first.
const AUTHORITIES_IN_IMAGE: &str = "/etc/ssl/certs/ca-certificates.crt";
const MIB: u64 = 1 << 20;

/// What to build, and where to put it.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Directory of the archives; below target/images if not given
    #[arg(long)]
    out: Option<PathBuf>,
    /// How the programs are compiled
    #[arg(long, value_enum, default_value_t)]
    profile: Profile,
}

/// How the programs in the images are compiled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Profile {
    /// As for users
    #[default]
    Release,
    /// As for tests: there already after `cargo xtask test`; larger and slower
    Dev,
}

impl Profile {
    /// Cargo's directory for it.
    fn directory(self) -> PathBuf {
        target_dir().join(match self {
            Self::Release => "release",
            Self::Dev => "debug",
        })
    }
}

/// An image of ours.
struct Contents {
    name: &'static str,
    description: &'static str,
    /// The first one is run.
    programs: &'static [&'static str],
    /// Compressed, at most.
    goal: u64,
}

const IMAGES: [Contents; 3] = [
    Contents {
        name: "sync",
        description: "Applies a Git repository to a Kubernetes cluster and keeps it so",
        programs: &["plumbline-sync"],
        goal: 60 * MIB,
    },
    Contents {
        name: "reloader",
        description: "Rolls workloads when their ConfigMaps or Secrets change",
        programs: &["plumbline-reloader"],
        goal: 15 * MIB,
    },
    Contents {
        name: "unsealer",
        description: "Turns SealedSecrets that are safe to commit into Secrets",
        programs: &["plumbline-unsealer", "kubeseal"],
        goal: 15 * MIB,
    },
];

/// An archive that was written.
pub(crate) struct Built {
    pub(crate) archive: PathBuf,
    pub(crate) reference: String,
    pub(crate) sizes: Sizes,
    goal: u64,
}

impl Built {
    /// One line for people.
    pub(crate) fn line(&self) -> String {
        #[expect(clippy::cast_precision_loss, reason = "sizes of images are far below 2^52")]
        let mib = |bytes: u64| bytes as f64 / MIB as f64;
        format!(
            "{:<34} {:>5.1} MiB compressed (goal {}), {:>5.1} MiB unpacked",
            self.reference,
            mib(self.sizes.compressed),
            self.goal / MIB,
            mib(self.sizes.unpacked),
        )
    }
}

pub(crate) fn run(sh: &Shell, args: &Args) -> anyhow::Result<()> {
    let out = args.out.clone().unwrap_or_else(|| target_dir().join("images"));
    compile(sh, args.profile)?;
    let built = build(sh, args.profile, &out)?;
    for image in &built {
        println!("{}\n    {}", image.line(), image.archive.display());
    }
    println!("load one with `docker load -i`, `podman load -i`, or `ctr -n k8s.io images import`");
    goals(args.profile, &built)
}

/// Fails when a release image is larger than it may be.
pub(crate) fn goals(profile: Profile, built: &[Built]) -> anyhow::Result<()> {
    let large = built.iter().find(|image| image.sizes.compressed > image.goal);
    match large.filter(|_| profile == Profile::Release) {
        Some(image) => anyhow::bail!("{} is larger than its goal", image.reference),
        None => Ok(()),
    }
}

/// The packages whose programs are in the images.
const PACKAGES: [&str; 3] = [
    "--package=plumbline-sync",
    "--package=plumbline-reloader",
    "--package=plumbline-sealed-secrets",
];

/// Compiles all programs at once, unless that has just been done.
pub(crate) fn compile(sh: &Shell, profile: Profile) -> anyhow::Result<()> {
    if profile == Profile::Dev && std::env::var_os(BUILT_VARIABLE).is_some() {
        return Ok(());
    }
    // With the features that the tests are built with: then there is nothing to be compiled again.
    match profile {
        Profile::Release => build_programs(sh, &[&["--release"], &PACKAGES[..]].concat()),
        Profile::Dev => build_programs(sh, &["--workspace"]),
    }
}

/// Compiles the release build of this program, and with it all others: one alone would have their common dependencies
/// compiled twice where its features differ. Returns where it is.
pub(crate) fn compile_with_self(sh: &Shell) -> anyhow::Result<PathBuf> {
    build_programs(sh, &[&["--release", "--package=xtask"], &PACKAGES[..]].concat())?;
    Ok(program(Profile::Release, "xtask"))
}

fn build_programs(sh: &Shell, which: &[&str]) -> anyhow::Result<()> {
    let build = cmd!(sh, "cargo build {which...} --bins");
    println!("== {build}");
    let status = Leash::new()?.run(&mut Command::from(build))?;
    ensure!(status.success(), "the controllers do not compile: see above");
    Ok(())
}

/// Where a program of ours is.
pub(crate) fn program(profile: Profile, name: &str) -> PathBuf {
    profile.directory().join(name)
}

/// Writes the archives into `out`.
pub(crate) fn build(sh: &Shell, profile: Profile, out: &Path) -> anyhow::Result<Vec<Built>> {
    fs::create_dir_all(out).with_context(|| format!("cannot create {}", out.display()))?;
    let revision = cmd!(sh, "git rev-parse HEAD").quiet().ignore_stderr().read().ok();
    let mut built = vec![];
    for contents in &IMAGES {
        let reference = format!(
            "ghcr.io/plumbline/{}:{}",
            contents.name,
            env!("CARGO_PKG_VERSION")
        );
        let mut image = Image::new(&reference);
        for (label, value) in [
            ("title", contents.name),
            ("description", contents.description),
            ("version", env!("CARGO_PKG_VERSION")),
            ("licenses", "Apache-2.0"),
            ("vendor", "Plumbline"),
        ] {
            image.label(&format!("org.opencontainers.image.{label}"), value);
        }
        if let Some(revision) = &revision {
            image.label("org.opencontainers.image.revision", revision);
        }
        for name in contents.programs {
            let path = format!("/usr/local/bin/{name}");
            image.program(&path, &stripped(sh, profile, name, out)?)?;
        }
        let first = contents.programs.first().context("an image runs something")?;
        image.entrypoint(&[&format!("/usr/local/bin/{first}")]);
        let authorities = AUTHORITIES
            .map(PathBuf::from)
            .into_iter()
            .find(|path| path.is_file());
        let authorities =
            authorities.context("this machine trusts nobody: apt-get install ca-certificates")?;
        image.copy(AUTHORITIES_IN_IMAGE, &authorities)?;
        match contents.name {
            "sync" => add_children(sh, &mut image)?,
            // What manifests of the sealed-secrets project name as the command.
            "unsealer" => drop(image.link("/usr/local/bin/controller", "plumbline-unsealer")),
            _ => {}
        }
        let archive = out.join(format!("{}.tar", contents.name));
        let sizes = image.write(&archive)?;
        built.push(Built {
            archive,
            reference,
            sizes,
            goal: contents.goal,
        });
    }
    Ok(built)
}

/// What the syncer runs: `ssh`, with a shell and `cat` for the passphrases of keys, and `kustomize`.
fn add_children(sh: &Shell, image: &mut Image) -> anyhow::Result<()> {
    for (path, name) in [("/usr/bin/ssh", "ssh"), ("/bin/sh", "sh"), ("/bin/cat", "cat")] {
        let found = cmd!(sh, "sh -c 'command -v \"$0\"' {name}").quiet().read();
        let found = found
            .with_context(|| format!("{name} is not on this machine: apt-get install openssh-client"))?;
        image.program(path, Path::new(&found))?;
    }
    image.program("/usr/local/bin/kustomize", &Tool::Kustomize.path()?)?;
    Ok(())
}

/// The program without symbols, which test builds have.
fn stripped(sh: &Shell, profile: Profile, name: &str, out: &Path) -> anyhow::Result<PathBuf> {
    let built = program(profile, name);
    ensure!(built.is_file(), "{} is not there", built.display());
    if profile == Profile::Release {
        return Ok(built);
    }
    let lean = out.join(name);
    cmd!(sh, "strip -o {lean} {built}").quiet().run()?;
    Ok(lean)
}
