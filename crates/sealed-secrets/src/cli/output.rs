//! Where results go: standard output, or a file that is replaced in one step or not at all.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use super::Error;
use crate::documents;

/// The text form of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// Indented by two spaces.
    Json,
    /// Each document after `---`.
    Yaml,
}

impl Format {
    /// The format that `flag` names in any case, or the one the name of `file` tells, or JSON.
    pub(super) fn choose(flag: Option<&str>, file: Option<&Path>) -> Result<Self, Error> {
        let extension = file.and_then(Path::extension).and_then(std::ffi::OsStr::to_str);
        if matches!(extension, Some("yaml" | "yml")) {
            return Ok(Self::Yaml);
        }
        match flag.map(str::to_ascii_lowercase).as_deref() {
            None | Some("" | "json") => Ok(Self::Json),
            Some("yaml") => Ok(Self::Yaml),
            Some(_) => Err(Error::Format(flag.unwrap_or_default().to_owned())),
        }
    }

    /// `value` in this format, ready to be written.
    pub(super) fn render(self, value: &impl Serialize) -> Result<String, Error> {
        match self {
            Self::Json => serde_json::to_string_pretty(value)
                .map(|text| text + "\n")
                .map_err(|error| Error::Input(error.to_string())),
            Self::Yaml => Ok(format!("---\n{}", documents::to_yaml(value)?)),
        }
    }
}

/// A place to write to.
#[derive(Clone, Debug)]
pub(super) enum Target {
    /// Standard output.
    Stdout,
    /// A file.
    File(PathBuf),
}

impl Target {
    /// Writes `text`, wholly or not at all.
    pub(super) fn write(&self, text: &str) -> Result<(), Error> {
        match self {
            Self::Stdout => {
                let mut stdout = std::io::stdout().lock();
                stdout.write_all(text.as_bytes())?;
                Ok(stdout.flush()?)
            }
            Self::File(path) => replace(path, text.as_bytes(), Access::Everybody),
        }
    }

    /// Writes bytes that are nobody else's business.
    pub(super) fn write_private(&self, bytes: &[u8]) -> Result<(), Error> {
        match self {
            Self::Stdout => {
                let mut stdout = std::io::stdout().lock();
                stdout.write_all(bytes)?;
                Ok(stdout.flush()?)
            }
            Self::File(path) => replace(path, bytes, Access::Owner),
        }
    }
}

/// Who may read a file that is new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    Everybody,
    Owner,
}

/// Writes beside `path` and renames; a symbolic link keeps pointing where it does, modes are kept.
fn replace(path: &Path, bytes: &[u8], access: Access) -> Result<(), Error> {
    let real = match std::fs::canonicalize(path) {
        Ok(real) => real,
        // A link that leads nowhere is not to become a file: somebody means another place.
        Err(error) if path.is_symlink() => return Err(Error::open(path)(error)),
        Err(_) => path.to_owned(),
    };
    let parent = real
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new()
        .prefix(".kubeseal-")
        .tempfile_in(parent)
        .map_err(Error::open(path))?;
    file.write_all(bytes)?;
    match std::fs::metadata(&real) {
        _ if access == Access::Owner => {}
        Ok(existing) => std::fs::set_permissions(file.path(), existing.permissions())?,
        Err(_) => make_readable(file.path())?,
    }
    file.as_file().sync_all()?;
    file.persist(&real)
        .map_err(|error| Error::open(path)(error.error))?;
    Ok(())
}

/// A temporary file is private; what is sealed need not be.
#[cfg(unix)]
fn make_readable(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644))
}

#[cfg(not(unix))]
fn make_readable(_: &Path) -> std::io::Result<()> {
    Ok(())
}

/// The object in Go's order of fields, which is what people diff against.
#[derive(Serialize)]
pub(super) struct Object<'a> {
    /// Kind.
    pub(super) kind: &'a str,
    /// Group and version.
    #[serde(rename = "apiVersion")]
    pub(super) api_version: &'a str,
    /// Metadata.
    pub(super) metadata: &'a Value,
    /// All other fields, in order.
    #[serde(flatten)]
    pub(super) rest: Rest<'a>,
}

/// What follows the metadata.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Rest<'a> {
    /// Of a SealedSecret.
    Sealed {
        /// The spec.
        spec: &'a Value,
    },
    /// Of a Secret.
    Secret {
        /// Base64 items.
        data: &'a Value,
        /// Type, if any.
        #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
        type_: Option<&'a str>,
        /// Immutable, if said.
        #[serde(skip_serializing_if = "Option::is_none")]
        immutable: Option<bool>,
    },
}
