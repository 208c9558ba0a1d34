//! `--raw`: one bare value in, one bare item out.

use rand::rngs::SysRng;

use super::{Arguments, Error, cluster, read};
use crate::crypto::cert::Certificate;
use crate::crypto::seal as seal_item;
use crate::scope::Scope;

/// Seals the value of `--from-file` or standard input; no newline at the end, scripts paste it.
pub(super) fn seal(arguments: &Arguments, certificate: &Certificate) -> Result<String, Error> {
    let scope = arguments.scope.unwrap_or_default();
    let namespace = if scope == Scope::ClusterWide {
        String::new()
    } else {
        cluster::explicit_namespace(&arguments.cluster)?.ok_or_else(|| {
            Error::Input(format!(
                "must provide the --namespace flag with --raw and --scope {scope}"
            ))
        })?
    };
    let name = arguments.name.clone().unwrap_or_default();
    if scope == Scope::Strict && name.is_empty() {
        return Err(Error::Usage(
            "must provide the --name flag with --raw and --scope strict",
        ));
    }
    let value = match arguments.from_file.as_slice() {
        [] => read(None, "expecting a secret to encrypt in stdin")?,
        [file] => {
            // kubectl's syntax: the key before the equals sign has no meaning here.
            let path = std::path::Path::new(file.split_once('=').map_or(file.as_str(), |(_, path)| path));
            std::fs::read(path).map_err(Error::open(path))?
        }
        _ => {
            return Err(Error::Usage(
                "must provide only one --from-file when encrypting a single item with --raw",
            ));
        }
    };
    let value = zeroize::Zeroizing::new(value);
    Ok(seal_item(
        &mut SysRng,
        &certificate.public_key,
        &scope.label(&namespace, &name),
        &value,
    )?)
}
