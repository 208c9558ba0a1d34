//! Which shared libraries a program needs, as the system's own loader finds them.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail};

/// The libraries of `program` and the loader itself; none for one that is linked statically.
/// Only for programs that one would run: some loaders run them to find out.
pub(super) fn of(program: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let output = Command::new("ldd")
        .env("LC_ALL", "C")
        .arg(program)
        .output()
        .context("cannot start ldd, which says which libraries a program needs: install libc-bin")?;
    let said = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    if is_static(&said) || is_static(&complaint) {
        return Ok(vec![]);
    }
    if !output.status.success() {
        bail!("ldd {} failed: {said}{complaint}", program.display());
    }
    parse(&said).with_context(|| format!("the libraries of {}", program.display()))
}

fn is_static(said: &str) -> bool {
    said.contains("statically linked") || said.contains("not a dynamic executable")
}

/// `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)`, `/lib64/ld-linux-x86-64.so.2 (0x…)`; the kernel's own
/// `linux-vdso.so.1 (0x…)` is no file.
fn parse(said: &str) -> anyhow::Result<Vec<PathBuf>> {
    let mut paths = vec![];
    for line in said.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let found = line.split_once("=>").map_or(line, |(_, found)| found).trim();
        if found.starts_with("not found") {
            bail!("not found: {line}");
        }
        let path = found.split(" (").next().unwrap_or_default();
        if path.starts_with('/') {
            paths.push(PathBuf::from(path));
        }
    }
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_from_what_ldd_says() {
        let said = "\tlinux-vdso.so.1 (0x00007ffe)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n\t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        let paths = parse(said).unwrap();
        assert_eq!(
            paths,
            [
                Path::new("/lib/x86_64-linux-gnu/libc.so.6"),
                Path::new("/lib64/ld-linux-x86-64.so.2")
            ]
        );
    }

    #[test]
    fn a_library_that_is_missing_is_an_error() {
        let error = parse("\tlibz.so.1 => not found\n").unwrap_err().to_string();
        assert!(error.contains("libz.so.1"), "{error}");
    }
}
