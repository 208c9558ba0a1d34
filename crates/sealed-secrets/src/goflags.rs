//! Command lines as Go's pflag reads them, so that existing scripts and manifests need no change: `--b`, `--b=false`,
//! `--k v`, `--k=v`, the last one wins; logging flags of klog are taken and ignored; every flag also comes from
//! `SEALED_SECRETS_<FLAG>`, the command line wins, values that do not parse are ignored.

use std::ffi::OsString;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, Command, Parser};

const ENV_PREFIX: &str = "SEALED_SECRETS_";

/// klog's switches, and its flags with a value.
const KLOG_SWITCHES: [&str; 8] = [
    "add_dir_header",
    "alsologtostderr",
    "logtostderr",
    "one_output",
    "skip_headers",
    "skip_log_headers",
    "legacy_stderr_threshold_behavior",
    "log_link",
];
const KLOG_VALUES: [&str; 6] = [
    "log_backtrace_at",
    "log_dir",
    "log_file",
    "log_file_max_size",
    "stderrthreshold",
    "vmodule",
];

/// Go's `strconv.ParseBool`.
pub fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err("must be true or false".to_owned()),
    }
}

/// Parses `argv` (program name first), with flags that it does not set taken from `env`.
pub fn parse<T: Parser>(argv: &[OsString], env: &dyn Fn(&str) -> Option<OsString>) -> Result<T, clap::Error> {
    let matches = command::<T>().try_get_matches_from(argv)?;
    let known: Vec<(String, String)> = command::<T>()
        .get_arguments()
        .filter_map(|arg| Some((arg.get_id().to_string(), arg.get_long()?.to_owned())))
        .filter(|(_, long)| !matches!(long.as_str(), "help" | "version"))
        .collect();
    let mut full: Vec<OsString> = argv.iter().take(1).cloned().collect();
    for (id, long) in known {
        let given = matches.try_contains_id(&id).unwrap_or(false)
            && matches.value_source(&id) == Some(ValueSource::CommandLine);
        let name = format!("{ENV_PREFIX}{}", long.to_uppercase().replace('-', "_"));
        let Some(value) = env(&name).filter(|value| !given && !value.is_empty()) else {
            continue;
        };
        let mut flag = OsString::from(format!("--{long}="));
        flag.push(value);
        let alone = [OsString::from("-"), flag.clone()];
        if command::<T>().try_get_matches_from(alone).is_ok() {
            full.push(flag);
        }
    }
    full.extend(argv.iter().skip(1).cloned());
    T::from_arg_matches(&command::<T>().try_get_matches_from(full)?)
}

fn command<T: Parser>() -> Command {
    let switch = |name: &'static str| {
        Arg::new(name)
            .long(name)
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .value_parser(boolean)
            .action(ArgAction::Set)
            .hide(true)
    };
    let value = |name: &'static str| Arg::new(name).long(name).action(ArgAction::Set).hide(true);
    T::command()
        .args_override_self(true)
        .args(KLOG_SWITCHES.map(switch))
        .args(KLOG_VALUES.map(value))
        .arg(value("v").short('v'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Parser, Debug, PartialEq)]
    struct Flags {
        #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "true",
              value_parser = boolean, action = ArgAction::Set)]
        update_status: bool,
        #[arg(long, default_value_t = 5)]
        max_retries: u32,
        #[arg(long)]
        file: Vec<String>,
    }

    fn read(flags: &[&str], env: &[(&str, &str)]) -> Flags {
        let argv: Vec<OsString> = std::iter::once("x")
            .chain(flags.iter().copied())
            .map(Into::into)
            .collect();
        let find = |name: &str| {
            env.iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| value.into())
        };
        parse(&argv, &find).unwrap()
    }

    #[test]
    fn pflag_spellings() {
        let flags = read(
            &[
                "--update-status=false",
                "--max-retries",
                "1",
                "--max-retries=2",
                "-v",
                "4",
                "--logtostderr",
            ],
            &[],
        );
        assert_eq!(
            flags,
            Flags {
                update_status: false,
                max_retries: 2,
                file: vec![]
            }
        );
        assert!(read(&["--update-status"], &[]).update_status);
    }

    #[test]
    fn the_environment_fills_what_the_command_line_leaves_open() {
        let env = [
            ("SEALED_SECRETS_UPDATE_STATUS", "false"),
            ("SEALED_SECRETS_MAX_RETRIES", "many"),
            ("SEALED_SECRETS_FILE", "a"),
        ];
        assert_eq!(
            read(&[], &env),
            Flags {
                update_status: false,
                max_retries: 5,
                file: vec!["a".into()]
            }
        );
        assert_eq!(read(&["--update-status", "--file=b"], &env).file, ["b"]);
        assert!(read(&["--update-status"], &env).update_status);
    }
}
