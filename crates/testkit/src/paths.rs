//! Where things are in the checkout.

use std::path::{Path, PathBuf};

/// The root of the workspace: of the package that cargo runs now, if it does. Where this crate was compiled may be
/// another checkout, because cargo takes two with one target directory for the same.
pub fn workspace() -> PathBuf {
    let running = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let of_running = running.as_deref().and_then(|package| {
        package
            .ancestors()
            .find(|dir| dir.join("Cargo.lock").is_file())
            .map(Path::to_owned)
    });
    of_running.unwrap_or_else(|| {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        here.ancestors().nth(2).unwrap_or(here).to_owned()
    })
}

/// Cargo's target directory: `CARGO_TARGET_DIR`, else the one the running program was built into, else `target`.
pub fn target() -> PathBuf {
    if let Some(configured) = std::env::var_os("CARGO_TARGET_DIR").filter(|dir| !dir.is_empty()) {
        return workspace().join(configured);
    }
    let exe = std::env::current_exe().unwrap_or_default();
    exe.ancestors()
        .find(|dir| dir.join(".rustc_info.json").is_file())
        .map_or_else(|| workspace().join("target"), Path::to_owned)
}
