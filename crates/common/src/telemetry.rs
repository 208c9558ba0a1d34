//! Logging to standard error. Levels: info = the world changed, debug = a decision to do nothing,
//! warn = will be retried, error = a human must act. An idle controller is silent at info.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Text on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// One JSON object a line.
    Json,
    /// Human-readable text.
    Text,
}

/// Installs the process-wide subscriber. `level` is `trace`, `debug`, `info`, `warn` or `error`
/// (case-insensitive) and applies to Plumbline's own crates; libraries log from warn. The environment
/// variable `RUST_LOG` overrides it. A second call in one process has no effect.
pub fn init(level: &str, format: Format) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| {
        let level = level.to_ascii_lowercase();
        EnvFilter::new(format!(
            "warn,plumbline_common={level},plumbline_sync={level},plumbline_reloader={level},\
             plumbline_sealed_secrets={level},plumbline_unsealer={level}"
        ))
    });
    let json = match format {
        Format::Auto => !std::io::stderr().is_terminal(),
        Format::Json => true,
        Format::Text => false,
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    // `Err` means a subscriber is already there (tests that run a controller in-process): keep it.
    let installed = if json {
        builder.json().flatten_event(true).with_target(false).try_init()
    } else {
        builder
            .with_target(false)
            .with_ansi(std::io::stderr().is_terminal())
            .try_init()
    };
    if let Err(error) = installed {
        tracing::debug!(%error, "logging was already set up");
    }
}
