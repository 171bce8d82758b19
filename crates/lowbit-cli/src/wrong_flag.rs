//! What to say when a flag does not belong to the command that it was given to.

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// One line that names the commands which take the flag; none if the error is another one, or no command takes it.
pub(crate) fn hint(
    error: &clap::Error,
    lowbit: &clap::Command,
    arguments: &[String],
) -> Option<String> {
    if error.kind() != ErrorKind::UnknownArgument {
        return None;
    }
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
        Some(name) => Some(format!(
            "`lowbit {name}` takes no {flag}; {} {} one (see `lowbit {name} --help`)",
            listed(&owners),
            if owners.len() == 1 { "takes" } else { "take" }
        )),
    }
}

/// `a`, `a and b`, `a, b and c`.
pub(crate) fn listed(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}
