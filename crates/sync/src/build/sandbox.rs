//! What a child process may touch, as the kernel enforces it (Landlock, Linux 5.13; networks from 6.7). A kernel without it
//! leaves the other bounds: only checked inputs, an empty environment, limits on resources.

use std::{path::Path, process::Child, time::Duration};

/// Restricts the calling thread, and with it the processes that it starts, to run `program` and to read `directory`.
/// For good: call it on a thread of its own. Says whether the kernel does so.
#[cfg(target_os = "linux")]
pub(super) fn restrict(program: &Path, directory: &Path) -> bool {
    match enforce(program, directory) {
        Ok(status) => {
            tracing::debug!(?status, "kustomize is confined");
            status != landlock::RulesetStatus::NotEnforced
        }
        Err(error) => {
            tracing::debug!(%error, "kustomize is not confined by the kernel");
            false
        }
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
pub(super) fn restrict(_: &Path, _: &Path) -> bool {
    false
}

#[cfg(not(target_os = "linux"))]
pub(super) fn limit(_: &Child, _: u64, _: Duration) {}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::{fs, process::Command, thread};

    use super::*;

    #[test]
    fn a_confined_process_reads_its_directory_and_nothing_else() {
        let (own, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for directory in [&own, &other] {
            fs::write(directory.path().join("file"), "x").unwrap();
        }
        let program = Path::new("/bin/cat").canonicalize().unwrap();
        let (inside, outside) = (own.path().join("file"), other.path().join("file"));
        // Who is confined cannot remove it.
        let directory = own.path().to_owned();
        let confined = thread::spawn(move || {
            let enforced = restrict(&program, &directory);
            let read = |file: &Path| {
                Command::new(&program)
                    .arg(file)
                    .output()
                    .unwrap()
                    .status
                    .success()
            };
            let run = Command::new("/bin/sh").args(["-c", "true"]).output().is_ok();
            (enforced, read(&inside), read(&outside), run)
        });
        let (enforced, inside, outside, run) = confined.join().unwrap();
        assert!(inside);
        // Where the kernel cannot do it, the other bounds have to do.
        assert_eq!((outside, run), (!enforced, !enforced));
    }
}
