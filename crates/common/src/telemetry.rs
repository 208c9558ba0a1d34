//! Logging to standard error. Levels: info = the world changed, debug = a decision to do nothing,
//! warn = will be retried, error = a human must act. An idle controller is silent at info.

mod line;

use std::io::IsTerminal;

use tracing_subscriber::{EnvFilter, fmt::format::JsonFields};

use self::line::Line;

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Text on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// One JSON object a line, with controller-runtime's names.
    Json,
    /// Human-readable text.
    Text,
}

/// Installs the process-wide subscriber. `level` is `trace`, `debug`, `info`, `warn` or `error`
/// (case-insensitive) and applies to Plumbline's own crates; libraries log from warn. The environment
/// variable `RUST_LOG` overrides it. A second call in one process has no effect.
pub fn init(level: &str, format: Format) {
    let json = match format {
        Format::Auto => !std::io::stderr().is_terminal(),
        Format::Json => true,
        Format::Text => false,
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| {
        let level = level.to_ascii_lowercase();
        // In JSON the spans say which object a line is about; this module logs nothing else.
        let spans = if json {
            "kube_runtime::controller=info,"
        } else {
            ""
        };
        EnvFilter::new(format!(
            "warn,{spans}plumbline_common={level},plumbline_sync={level},plumbline_reloader={level},\
             plumbline_sealed_secrets={level},plumbline_unsealer={level}"
        ))
    });
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    // `Err` means a subscriber is already there (tests that run a controller in-process): keep it.
    let installed = if json {
        builder
            .fmt_fields(JsonFields::new())
            .event_format(Line)
            .try_init()
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
