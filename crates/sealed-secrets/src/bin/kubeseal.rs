//! `kubeseal`: seals Secrets so that they can be committed.

use std::process::ExitCode;

fn main() -> ExitCode {
    plumbline_common::client::install_crypto_provider();
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(plumbline_sealed_secrets::cli::main(std::env::args_os().collect())),
        Err(_) => ExitCode::FAILURE,
    }
}
