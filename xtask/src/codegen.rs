//! `cargo xtask codegen [--check]`: files that are generated from the code and committed.

use anyhow::bail;
use xshell::{Shell, cmd};

/// How to treat differences.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Write nothing; fail when a file is not what would be written
    #[arg(long)]
    check: bool,
}

/// A committed file that is the output of one of our programs.
struct Generated {
    file: &'static str,
    package: &'static str,
    binary: &'static str,
    arguments: &'static [&'static str],
}

/// The one list of generated files.
const GENERATED: &[Generated] = &[
    Generated {
        file: "docs/reference/crds/sync.yaml",
        package: "plumbline-sync",
        binary: "plumbline-sync",
        arguments: &["crd"],
    },
    Generated {
        file: "docs/reference/sync-flags.txt",
        package: "plumbline-sync",
        binary: "plumbline-sync",
        arguments: &["--help"],
    },
    Generated {
        file: "docs/reference/crds/sealed-secrets.yaml",
        package: "plumbline-sealed-secrets",
        binary: "plumbline-unsealer",
        arguments: &["crd"],
    },
    Generated {
        file: "docs/reference/sealed-secrets-flags.txt",
        package: "plumbline-sealed-secrets",
        binary: "plumbline-unsealer",
        arguments: &["--help"],
    },
    Generated {
        file: "docs/reference/sealed-secrets-kubeseal.txt",
        package: "plumbline-sealed-secrets",
        binary: "kubeseal",
        arguments: &["--help"],
    },
    Generated {
        file: "docs/reference/reloader-flags.txt",
        package: "plumbline-reloader",
        binary: "plumbline-reloader",
        arguments: &["--help"],
    },
];

pub(crate) fn run(sh: &Shell, args: &Args) -> anyhow::Result<()> {
    let mut stale = vec![];
    for one in GENERATED {
        let (package, binary, arguments) = (one.package, one.binary, one.arguments);
        let wanted = cmd!(
            sh,
            "cargo run --quiet --package {package} --bin {binary} -- {arguments...}"
        )
        .quiet()
        .output()?;
        let wanted = String::from_utf8(wanted.stdout)?;
        if wanted.trim().is_empty() {
            bail!(
                "`{binary} {}` printed nothing for {}",
                arguments.join(" "),
                one.file
            );
        }
        // A file that is not there differs from any.
        let found = sh.read_file(one.file).unwrap_or_default();
        if found == wanted {
            continue;
        }
        if args.check {
            stale.push(one.file);
        } else {
            // `write_file` creates the directories too.
            sh.write_file(one.file, &wanted)?;
            println!("wrote {}", one.file);
        }
    }
    if !stale.is_empty() {
        bail!(
            "not up to date with the code: {}; run `cargo xtask codegen` and commit the result",
            stale.join(", ")
        );
    }
    println!("{} generated file(s) up to date", GENERATED.len());
    Ok(())
}
