//! What a child process may touch, as the kernel enforces it (Landlock, Linux 5.13; networks from 6.7). A kernel without it
//! leaves the other bounds: only checked inputs, an empty environment, limits on resources.

use std::{path::Path, process::Child, time::Duration};

/// Restricts the calling thread, and with it the processes that it starts, to run `program` and to read `directory`.
/// For good: call it on a thread of its own.
#[cfg(target_os = "linux")]
pub(super) fn restrict(program: &Path, directory: &Path) {
    match enforce(program, directory) {
        Ok(status) => tracing::debug!(?status, "kustomize is confined"),
        Err(error) => tracing::debug!(%error, "kustomize is not confined by the kernel"),
    }
}

#[cfg(target_os = "linux")]
fn enforce(program: &Path, directory: &Path) -> Result<landlock::RulesetStatus, landlock::RulesetError> {
    use landlock::{
        ABI, Access as _, AccessFs, AccessNet, Ruleset, RulesetAttr as _, RulesetCreatedAttr as _, Scope,
        path_beneath_rules,
    };
    // What a program that is linked dynamically loads; those that do not exist are left out.
    const LIBRARIES: [&str; 4] = ["/lib", "/lib64", "/usr/lib", "/usr/lib64"];
    let abi = ABI::V6;
    let run = AccessFs::Execute | AccessFs::ReadFile;
    let status = Ruleset::default()
        .handle_access(AccessFs::from_all(abi))?
        .handle_access(AccessNet::from_all(abi))?
        .scope(Scope::from_all(abi))?
        .create()?
        .add_rules(path_beneath_rules([program], run))?
        .add_rules(path_beneath_rules(LIBRARIES, run))?
        .add_rules(path_beneath_rules(
            [directory],
            AccessFs::ReadFile | AccessFs::ReadDir,
        ))?
        .add_rules(path_beneath_rules(
            ["/dev/null"],
            AccessFs::ReadFile | AccessFs::WriteFile,
        ))?
        .restrict_self()?;
    Ok(status.ruleset)
}

/// Limits a child's address space, processor time and files.
#[cfg(target_os = "linux")]
pub(super) fn limit(child: &Child, memory: u64, time: Duration) {
    use rustix::process::{Pid, Resource, Rlimit, prlimit};
    let pid = Some(Pid::from_child(child));
    for (resource, most) in [
        (Resource::As, memory),
        // Also ends it when we are killed: two threads may run at a time.
        (Resource::Cpu, time.as_secs() * 2 + 1),
        (Resource::Fsize, 0),
        (Resource::Core, 0),
    ] {
        let limit = Rlimit {
            current: Some(most),
            maximum: Some(most),
        };
        // `Err`: it has ended already.
        let _ = prlimit(pid, resource, limit);
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn restrict(_: &Path, _: &Path) {}

#[cfg(not(target_os = "linux"))]
pub(super) fn limit(_: &Child, _: u64, _: Duration) {}
