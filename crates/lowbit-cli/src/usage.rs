//! What to say of a flag that does not belong to the command that it was given to, or whose value cannot be.

use clap::error::{ContextKind, ContextValue, ErrorKind};
use std::error::Error;

/// One line: the commands which take the flag, or what it takes; none where clap says it best.
pub(crate) fn hint(
    error: &clap::Error,
    lowbit: &clap::Command,
    arguments: &[String],
) -> Option<String> {
    match error.kind() {
        ErrorKind::UnknownArgument => owners(error, lowbit, arguments),
        ErrorKind::ValueValidation | ErrorKind::InvalidValue => value(error),
        _ => None,
    }
}

/// `--widths 7: 7-bit weights: use 32, 16, 8, 4, 2 or 1`.
fn value(error: &clap::Error) -> Option<String> {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    let (flag, found) = (
        text(ContextKind::InvalidArg)?,
        text(ContextKind::InvalidValue)?,
    );
    let flag = flag.split(' ').next().unwrap_or(flag);
    if found.is_empty() {
        return Some(format!("{flag}: needs a value"));
    }
    let reason = match error.get(ContextKind::ValidValue) {
        Some(ContextValue::Strings(valid)) => {
            let valid: Vec<&str> = valid.iter().map(String::as_str).collect();
            format!("use {}", either(&valid))
        }
        _ => error.source()?.to_string(),
    };
    // What has no flag is known by its place.
    Some(match flag.starts_with('-') {
        true => format!("{flag} {found}: {reason}"),
        false => format!("{found}: {reason}"),
    })
}

fn owners(error: &clap::Error, lowbit: &clap::Command, arguments: &[String]) -> Option<String> {
    let Some(ContextValue::String(flag)) = error.get(ContextKind::InvalidArg) else {
        return None;
    };
    let flag = flag.split('=').next().unwrap_or(flag);
    let takes = |command: &&clap::Command| {
        command.get_arguments().any(|arg| {
            arg.get_long().map(|long| format!("--{long}")).as_deref() == Some(flag)
                || arg.get_short().map(|short| format!("-{short}")).as_deref() == Some(flag)
        })
    };
    let owners: Vec<&str> = lowbit
        .get_subcommands()
        .filter(takes)
        .map(clap::Command::get_name)
        .collect();
    let [first, ..] = owners[..] else {
        return None;
    };
    let command = arguments
        .iter()
        .find_map(|word| lowbit.find_subcommand(word).map(clap::Command::get_name));
    match command {
        // Before any command the error is about the flag's place.
        None => Some(format!(
            "{flag} stands behind the command, as in `lowbit {first} {flag} …`"
        )),
        Some(name) if owners.contains(&name) => Some(format!(
            "{flag} stands behind the command: `lowbit {name} {flag} …`"
        )),
        Some(name) => {
            let longer = longer(lowbit, name, flag);
            let hint = longer.map_or_else(String::new, |long| format!(" (did you mean {long}?)"));
            Some(format!(
                "`lowbit {name}` takes no {flag}{hint}; {} {} one (see `lowbit {name} --help`)",
                listed(&owners),
                if owners.len() == 1 { "takes" } else { "take" }
            ))
        }
    }
}

/// A flag of a command that begins as this one, which other commands have.
fn longer(lowbit: &clap::Command, command: &str, flag: &str) -> Option<String> {
    let arguments = lowbit.find_subcommand(command)?.get_arguments();
    let mut longs = arguments.filter_map(|arg| Some(format!("--{}", arg.get_long()?)));
    longs.find(|long| long.starts_with(flag))
}

/// `a`, `a and b`, `a, b and c`.
pub(crate) fn listed(names: &[&str]) -> String {
    joined(names, "and")
}

/// `a`, `a or b`, `a, b or c`.
fn either(names: &[&str]) -> String {
    joined(names, "or")
}

fn joined(names: &[&str], word: &str) -> String {
    match names {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [most @ .., last] => format!("{} {word} {last}", most.join(", ")),
    }
}
