//! Where things are in the checkout.

use std::path::{Path, PathBuf};

/// The root of the workspace.
pub fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_owned()
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
