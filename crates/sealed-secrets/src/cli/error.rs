//! kubeseal's messages. Many are quoted by scripts and tests of its users: they keep their wording.

use crate::crypto::SealError;
use crate::crypto::cert::CertError;
use crate::documents::Malformed;
use crate::unseal::UnsealError;

/// Why kubeseal ends with exit code 1.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A fixed message.
    #[error("{0}")]
    Usage(&'static str),
    /// A fixed message with a value in it.
    #[error("{0}")]
    Input(String),
    /// A file that cannot be opened, in Go's words.
    #[error("open {path}: {}", go_io(.source))]
    Open {
        /// As given.
        path: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// Standard input or output.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// Unreadable text.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// An unusable certificate.
    #[error(transparent)]
    Certificate(#[from] CertError),
    /// Sealing failed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// Opening with a recovery key failed.
    #[error(transparent)]
    Unseal(#[from] UnsealError),
    /// Neither JSON nor YAML.
    #[error("unsupported output format: {0}")]
    Format(String),
    /// The kubeconfig cannot be used.
    #[error("invalid configuration: {0}")]
    Kubeconfig(String),
    /// The Service of the controller.
    #[error(
        "cannot get sealed secret service: {0}.\nPlease, use the flag --controller-name and --controller-namespace to set up the name and namespace of the sealed secrets controller"
    )]
    Service(String),
    /// The certificate behind it.
    #[error("cannot fetch certificate: {0}")]
    Fetch(String),
    /// `--validate`: the answer was no.
    #[error("unable to decrypt sealed secret: {0}")]
    Undecryptable(String),
    /// `--validate`: no answer.
    #[error("cannot validate sealed secret: {0}")]
    Validate(String),
    /// `--re-encrypt`: no answer.
    #[error("cannot re-encrypt secret: {0}")]
    Reencrypt(String),
    /// Several documents failed.
    #[error("{}", join(.0))]
    Several(Vec<Error>),
}

fn join(errors: &[Error]) -> String {
    errors
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("\n")
}

/// Go prints the system's errors in lower case; scripts match on it.
fn go_io(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "no such file or directory".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        std::io::ErrorKind::IsADirectory => "is a directory".to_owned(),
        _ => error.to_string(),
    }
}

impl Error {
    /// Wraps a failure to read or write `path`.
    pub(super) fn open(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.display().to_string();
        move |source| Self::Open { path, source }
    }
}
