//! `kubeseal`: seals Secrets so that they can be committed. Flags, modes, messages and exit codes are the original's.
//!
//! Everything that does not need the cluster works without one: the kubeconfig is read only when something is asked of it.

mod args;
mod cluster;
mod edit;
mod error;
mod files;
mod keys;
mod lint;
mod manifest;
mod merge;
mod output;
mod raw;
mod recover;
mod remote;
mod reseal;
mod seal;
mod set;

use std::ffi::OsString;
use std::io::{IsTerminal as _, Read as _};
use std::path::Path;
use std::process::ExitCode;

use k8s_openapi::jiff::Timestamp;

pub use self::args::{
    Arguments, BackupArguments, ClusterArguments, Command, EditArguments, KeysArguments, KeysCommand,
    LintArguments, ListArguments, Mode, ResealArguments, RestoreArguments, SetArguments,
};
pub use self::error::Error;
use self::output::{Format, Target};
use crate::crypto::cert::Certificate;
use crate::goflags;

/// Runs kubeseal with `argv` (program name first) and the process's environment.
pub async fn main(argv: Vec<OsString>) -> ExitCode {
    let arguments = match goflags::parse::<Arguments>(&argv, &|name| std::env::var_os(name)) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help goes to standard output with 0, a wrong flag to standard error with 2.
            drop(error.print());
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match run(&arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell(&format!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Does what `arguments` say.
pub async fn run(arguments: &Arguments) -> Result<(), Error> {
    let mode = &arguments.mode;
    if mode.version {
        return Target::Stdout.write(&format!("kubeseal version: {}\n", env!("CARGO_PKG_VERSION")));
    }
    match &arguments.command {
        Some(Command::Lint(lint)) => return lint::run(lint),
        Some(Command::Reseal(reseal)) => {
            let certificate = Certificate::from_pem(&remote::open_certificate(&reseal.cert).await?)?;
            return reseal::run(reseal, certificate.usable_at(Timestamp::now())?);
        }
        Some(Command::Set(set)) => return set::run(set, arguments).await,
        Some(Command::Edit(edit)) => return edit::run(edit, arguments).await,
        Some(Command::Keys(keys)) => return keys::run(keys, arguments).await,
        None => {}
    }
    if !arguments.from_file.is_empty() && !mode.raw {
        return Err(Error::Usage("--from-file requires --raw"));
    }
    if !arguments.recovery_private_key.is_empty() && !mode.recovery_unseal {
        tell(
            "warning: ignoring --recovery-private-key because unseal command not chosen with --recovery-unseal",
        );
    }
    let format = Format::choose(
        arguments.format.as_deref(),
        arguments.sealed_secret_file.as_deref(),
    )?;
    let target = arguments
        .sealed_secret_file
        .clone()
        .map_or(Target::Stdout, Target::File);
    if mode.recovery_unseal {
        let input = read(
            arguments.secret_file.as_deref(),
            "expecting json/yaml k8s resource in stdin",
        )?;
        return target.write(&recover::unseal(&input, &arguments.recovery_private_key, format)?);
    }
    if mode.validate {
        let input = read(
            arguments.secret_file.as_deref(),
            "expecting json/yaml k8s resource in stdin",
        )?;
        return remote::validate(arguments, &input).await;
    }
    if mode.re_encrypt {
        let input = read(
            arguments.secret_file.as_deref(),
            "expecting json/yaml k8s resource in stdin",
        )?;
        let in_place = arguments
            .sealed_secret_file
            .is_none()
            .then(|| arguments.secret_file.clone())
            .flatten();
        let format = match &in_place {
            Some(path) => Format::choose(arguments.format.as_deref(), Some(path))?,
            None => format,
        };
        let target = in_place.map_or(target, Target::File);
        return target.write(&remote::re_encrypt(arguments, &input, format).await?);
    }
    if arguments.cert.len() > 1 {
        return for_each_certificate(arguments, format).await;
    }
    let certificate = certificate(arguments).await?;
    if mode.fetch_cert {
        return target.write(&certificate.pem);
    }
    certificate.usable_at(Timestamp::now())?;
    if let Some(path) = &mode.merge_into {
        let input = read(
            arguments.secret_file.as_deref(),
            "expecting a secret to encrypt in stdin",
        )?;
        return merge::into_file(arguments, &certificate, &input, path);
    }
    if mode.raw {
        return target.write(&raw::seal(arguments, &certificate)?);
    }
    let input = read(
        arguments.secret_file.as_deref(),
        "expecting a secret to encrypt in stdin",
    )?;
    target.write(&seal::seal(arguments, &certificate, &input, format)?)
}

/// Seals the same Secrets once for every `--cert`, each into a file of its own; writes nothing unless all can be sealed.
async fn for_each_certificate(arguments: &Arguments, format: Format) -> Result<(), Error> {
    let mode = &arguments.mode;
    let target = arguments.sealed_secret_file.as_deref().and_then(Path::to_str);
    let Some(target) = target.filter(|_| !mode.fetch_cert && !mode.raw && mode.merge_into.is_none()) else {
        return Err(Error::Usage(
            "several --cert seal one file each: give -w a name with {} in it, which becomes the certificate's name",
        ));
    };
    let input = read(
        arguments.secret_file.as_deref(),
        "expecting a secret to encrypt in stdin",
    )?;
    let mut sealed = std::collections::BTreeMap::new();
    for location in &arguments.cert {
        let certificate = Certificate::from_pem(&remote::open_certificate(location).await?)?;
        certificate.usable_at(Timestamp::now())?;
        let name = Path::new(location).file_stem().unwrap_or_default();
        let path = target.replace("{}", &name.to_string_lossy());
        let text = seal::seal(arguments, &certificate, &input, format)?;
        if sealed.insert(path.clone(), text).is_some() {
            return Err(Error::Input(format!(
                "two certificates would be sealed for in {path}: -w needs {{}} in the name, and certificates different names"
            )));
        }
    }
    for (path, text) in sealed {
        Target::File(path.into()).write(&text)?;
    }
    Ok(())
}

/// The certificate to seal with: from `--cert`, or the controller's.
async fn certificate(arguments: &Arguments) -> Result<Certificate, Error> {
    let pem = match arguments.cert.last().filter(|location| !location.is_empty()) {
        Some(location) => remote::open_certificate(location).await?,
        None => remote::fetch_certificate(arguments).await?,
    };
    Ok(Certificate::from_pem(&pem)?)
}

/// The certificate of a command: its own, or the one that everything else seals with; usable now.
async fn certificate_for(own: Option<&str>, arguments: &Arguments) -> Result<Certificate, Error> {
    let certificate = match own {
        Some(location) => Certificate::from_pem(&remote::open_certificate(location).await?)?,
        None => certificate(arguments).await?,
    };
    certificate.usable_at(Timestamp::now())?;
    Ok(certificate)
}

/// The bytes of `file`, or of standard input; says what it waits for when that is a terminal.
fn read(file: Option<&Path>, expecting: &str) -> Result<Vec<u8>, Error> {
    if let Some(path) = file {
        return std::fs::read(path)
            .map_err(|_| Error::Usage("Could not read file specified with --secret-file"));
    }
    let mut stdin = std::io::stdin().lock();
    if stdin.is_terminal() {
        tell(&format!("(tty detected: {expecting})"));
    }
    let mut bytes = Vec::new();
    let limit = u64::try_from(crate::documents::MAX_BYTES).unwrap_or(u64::MAX);
    stdin
        .by_ref()
        .take(limit.saturating_add(1))
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A line for people.
#[expect(clippy::print_stderr, reason = "a command line speaks on standard error")]
fn tell(line: &str) {
    eprintln!("{line}");
}
