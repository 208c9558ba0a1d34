//! `cargo xtask codegen [--check]`: files that are generated from the code and committed.

mod charts;
mod values;

use anyhow::bail;
use xshell::{Shell, cmd};

/// How to treat differences.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Write nothing; fail when a file is not what would be written
    #[arg(long)]
    check: bool,
}

/// Committed files that are the output of one of our programs.
struct Generated {
    files: &'static [&'static str],
    package: &'static str,
    binary: &'static str,
    arguments: &'static [&'static str],
}

/// The one list of generated files.
const GENERATED: &[Generated] = &[
    Generated {
        files: &["docs/reference/crds/sync.yaml", "charts/sync/files/crds.yaml"],
        package: "plumbline-sync",
        binary: "plumbline-sync",
        arguments: &["crd"],
    },
    Generated {
        files: &["docs/reference/sync-flags.txt"],
        package: "plumbline-sync",
        binary: "plumbline-sync",
        arguments: &["--help"],
    },
    Generated {
        files: &["docs/reference/sync-commands.txt"],
        package: "plumbline-sync",
        binary: "plumbline-sync",
        arguments: &["reference"],
    },
    Generated {
        files: &[
            "docs/reference/crds/sealed-secrets.yaml",
            "charts/sealed-secrets/files/crds.yaml",
        ],
        package: "plumbline-sealed-secrets",
        binary: "plumbline-unsealer",
        arguments: &["crd"],
    },
    Generated {
        files: &["docs/reference/sealed-secrets-flags.txt"],
        package: "plumbline-sealed-secrets",
        binary: "plumbline-unsealer",
        arguments: &["--help"],
    },
    Generated {
        files: &["docs/reference/sealed-secrets-kubeseal.txt"],
        package: "plumbline-sealed-secrets",
        binary: "kubeseal",
        arguments: &["--help"],
    },
    Generated {
        files: &["docs/reference/reloader-flags.txt"],
        package: "plumbline-reloader",
        binary: "plumbline-reloader",
        arguments: &["--help"],
    },
];

pub(crate) fn run(sh: &Shell, args: &Args) -> anyhow::Result<()> {
    let mut stale = vec![];
    let mut count = 0;
    let mut settle = |file: &str, text: &str| -> anyhow::Result<()> {
        count += 1;
        // A file that is not there differs from any.
        if sh.read_file(file).unwrap_or_default() == text {
            return Ok(());
        }
        if args.check {
            stale.push(file.to_owned());
            return Ok(());
        }
        // `write_file` creates the directories too.
        sh.write_file(file, text)?;
        println!("wrote {file}");
        Ok(())
    };
    // The charts first: they need no program to be built.
    for (file, text) in charts::files(sh)? {
        settle(&file, &text)?;
    }
    for one in GENERATED {
        let text = output(sh, one)?;
        for file in one.files {
            settle(file, &text)?;
        }
    }
    if !stale.is_empty() {
        bail!(
            "not up to date with the code: {}; run `cargo xtask codegen` and commit the result",
            stale.join(", ")
        );
    }
    println!("{count} generated file(s) up to date");
    Ok(())
}

/// What a program of ours prints.
fn output(sh: &Shell, one: &Generated) -> anyhow::Result<String> {
    let (package, binary, arguments) = (one.package, one.binary, one.arguments);
    let output = cmd!(
        sh,
        "cargo run --quiet --package {package} --bin {binary} -- {arguments...}"
    )
    .quiet()
    .output()?;
    let text = String::from_utf8(output.stdout)?;
    if text.trim().is_empty() {
        bail!(
            "`{binary} {}` printed nothing for {}",
            arguments.join(" "),
            one.files.join(" and ")
        );
    }
    Ok(text)
}
