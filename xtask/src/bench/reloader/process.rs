//! The reloader as the process that is measured.

use std::process::Command;

use plumbline_testkit::ControlPlane;

use crate::bench::process::{Process, program};

/// How its user agent begins, by which its requests are found in the audit log.
pub(super) const USER_AGENT: &str = "plumbline-reloader/";

/// Starts one.
pub(super) fn start(plane: &ControlPlane, arguments: &[&str]) -> anyhow::Result<Process> {
    let mut command = Command::new(program("plumbline-reloader"));
    command
        .env("KUBECONFIG", plane.kubeconfig())
        .env("POD_NAMESPACE", "default")
        .args(["--listen-address=0", "--log-level=warning", "--flap-limit=0"])
        .args(arguments);
    Process::start(plane, "plumbline-reloader", &mut command)
}
