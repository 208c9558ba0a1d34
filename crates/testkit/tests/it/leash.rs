//! Nothing on a leash outlives its owner.

use std::{
    os::unix::process::CommandExt as _,
    process::{Command, Stdio},
    time::Duration,
};

use plumbline_testkit::{Leash, wait_for};

/// Number of processes whose arguments contain `word`.
pub(crate) fn processes_with(word: &str) -> usize {
    let listed = Command::new("ps").args(["-eo", "stat=,args="]).output().unwrap();
    String::from_utf8(listed.stdout)
        .unwrap()
        .lines()
        .filter(|line| !line.starts_with('Z') && line.contains(word))
        .count()
}

async fn all_gone(word: &str) {
    let look = async || match processes_with(word) {
        0 => Ok(()),
        n => Err(format!("{n} processes")),
    };
    wait_for("the processes to end", Duration::from_secs(5), look)
        .await
        .unwrap();
}

#[tokio::test]
async fn dropping_a_leash_ends_children_and_grandchildren() {
    let word = "86401.25";
    let leash = Leash::new().unwrap();
    // The child ignores SIGTERM; the grandchild is not known to anybody.
    let script = format!("trap '' TERM; sleep {word} & sleep {word}");
    let mut child = leash.spawn(Command::new("sh").args(["-c", &script])).unwrap();
    let look = async || match processes_with(word) {
        3 => Ok(()),
        n => Err(n),
    };
    wait_for("the children", Duration::from_secs(5), look)
        .await
        .unwrap();
    drop(leash);
    child.wait().unwrap();
    all_gone(word).await;
}

#[tokio::test]
async fn what_was_released_lives_on() {
    let word = "86402.25";
    let leash = Leash::new().unwrap();
    let mut child = leash.spawn(Command::new("sleep").arg(word)).unwrap();
    leash.release().unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(processes_with(word), 1);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[tokio::test]
async fn a_directory_is_removed_with_the_group() {
    let dir = tempfile::tempdir().unwrap().keep();
    std::fs::write(dir.join("file"), "").unwrap();
    drop(Leash::removing(&dir).unwrap());
    assert!(!dir.exists());
}

/// The test that is run, in a process of its own, to be killed.
const OWNER: &str = "PLUMBLINE_TESTKIT_OWNER";

#[tokio::test]
async fn killing_the_owner_leaves_no_control_plane() {
    if let Some(dir) = std::env::var_os(OWNER) {
        let plane = plumbline_testkit::ControlPlane::start(dir.as_ref()).unwrap();
        std::fs::write(plane.dir().join("logs").join("ready"), "").unwrap();
        std::thread::sleep(Duration::from_mins(5));
        panic!("nobody killed the owner");
    }
    let dir = tempfile::tempdir().unwrap();
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "leash::killing_the_owner_leaves_no_control_plane"])
        .env(OWNER, dir.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .unwrap();
    let ready = dir.path().join("logs").join("ready");
    let look = async || if ready.exists() { Ok(()) } else { Err("starting") };
    wait_for("the owner's control plane", Duration::from_mins(3), look)
        .await
        .unwrap();
    let word = dir.path().to_str().unwrap();
    assert!(processes_with(word) >= 3, "etcd and both Kubernetes programs");
    owner.kill().unwrap();
    owner.wait().unwrap();
    all_gone(word).await;
}
