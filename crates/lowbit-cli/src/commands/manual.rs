//! `lowbit completions` and `lowbit man`: what a shell and `man` want to know of the command line.

use crate::args::Cli;
use crate::failure::Failure;
use crate::output::{print, print_bytes};
use clap::{Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};
use lowbit::format::write_atomically;
use lowbit_lab::LabError;
use std::path::Path;

/// Prints the completions for a shell.
pub(super) fn completions(shell: Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut shown(), "lowbit", &mut script);
    print_bytes(&script)
}

/// The command line without what lowbit calls by itself.
fn shown() -> Command {
    let all = Cli::command();
    let commands = all.get_subcommands().filter(|one| !one.is_hide_set());
    Command::new("lowbit")
        .version(env!("CARGO_PKG_VERSION"))
        .args(all.get_arguments())
        .subcommands(commands.cloned())
}

/// Prints the manual page of `command` or of lowbit itself; or writes all of them into a folder.
pub(super) fn manual(command: Option<&str>, into: Option<&Path>) -> Result<(), Failure> {
    let mut lowbit = Cli::command().disable_help_subcommand(true);
    lowbit.build();
    if let Some(folder) = into {
        return write_all(&lowbit, folder);
    }
    match command {
        None => print_bytes(&page(&lowbit)),
        Some(name) => match lowbit.find_subcommand(name) {
            Some(command) => print_bytes(&page(command)),
            None => Err(Failure::Input(format!(
                "no command {name}: see `lowbit --help`"
            ))),
        },
    }
}

fn write_all(lowbit: &clap::Command, folder: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(folder).map_err(|source| LabError::Io {
        path: folder.to_owned(),
        source,
    })?;
    for command in std::iter::once(lowbit).chain(lowbit.get_subcommands()) {
        let file = folder.join(Man::new(command.clone()).get_filename());
        write_atomically(&file, &page(command))?;
    }
    print(&format!("manual pages in {}\n", folder.display()))
}

/// One page, in roff.
fn page(command: &clap::Command) -> Vec<u8> {
    const IN_MEMORY: &str = "memory takes all that is written";
    let version = format!("lowbit {}", env!("CARGO_PKG_VERSION"));
    let man = Man::new(command.clone()).source(version);
    let mut text = Vec::new();
    man.render_title(&mut text).expect(IN_MEMORY);
    man.render_name_section(&mut text).expect(IN_MEMORY);
    man.render_synopsis_section(&mut text).expect(IN_MEMORY);
    man.render_description_section(&mut text).expect(IN_MEMORY);
    man.render_options_section(&mut text).expect(IN_MEMORY);
    if command.has_subcommands() {
        man.render_subcommands_section(&mut text).expect(IN_MEMORY);
    }
    if let Some(examples) = command.get_after_help() {
        examples_section(&examples.to_string())
            .to_writer(&mut text)
            .expect(IN_MEMORY);
    }
    text
}

/// Examples and notes with the lines that they have in the help: clap_mangen would fill them into one paragraph.
fn examples_section(text: &str) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["EXAMPLES AND NOTES"]);
    roff.control("nf", []);
    for line in text.lines() {
        roff.text([roman(line)]);
    }
    roff.control("fi", []);
    roff
}
