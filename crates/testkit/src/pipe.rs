//! Programs that read from a pipe and answer into one.

use std::{
    io::Write as _,
    process::{Command, Output, Stdio},
};

use anyhow::{Context as _, anyhow, bail};

/// Runs a program with `input` as its standard input, and collects what it says.
///
/// # Errors
/// When it cannot be started. How it ended is in the output.
pub fn piped(command: &mut Command, input: &[u8]) -> anyhow::Result<Output> {
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {name}"))?;
    let mut stdin = child.stdin.take().context("it has no standard input")?;
    // Beside reading what it says: either pipe may be full.
    std::thread::scope(|scope| {
        let writer = scope.spawn(move || {
            // It may end without reading it all; what it says then is the better error.
            drop(stdin.write_all(input));
        });
        let output = child
            .wait_with_output()
            .with_context(|| format!("lost sight of {name}"))?;
        writer.join().map_err(|_| anyhow!("writing to {name} panicked"))?;
        Ok(output)
    })
}

/// As [`piped`]: what it wrote to its standard output.
///
/// # Errors
/// Also when it fails: with what it wrote to its standard error.
pub fn answer(command: &mut Command, input: &[u8]) -> anyhow::Result<String> {
    let output = piped(command, input)?;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        let arguments: Vec<_> = command.get_args().map(|one| one.to_string_lossy()).collect();
        bail!(
            "{} {} failed: {}",
            command.get_program().to_string_lossy(),
            arguments.join(" "),
            complaint.trim()
        );
    }
    String::from_utf8(output.stdout).context("it wrote something that is not text")
}
