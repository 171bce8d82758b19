//! The `lowbit` command: what does quantization do to an image model's size, speed and accuracy?
//!
//! [`run`] is all of it, so that a program in another language can be the same command.

mod args;
mod commands;
mod defaults;
mod doctor_args;
mod failure;
mod federate_args;
mod federate_progress;
mod inside;
mod jobs_args;
mod output;
mod progress;
mod recommend_args;
mod settings;
mod sweep_progress;
mod table;
mod usage;
mod which_images;

use clap::{CommandFactory, Parser};
use failure::Failure;
use std::ffi::OsString;

/// Runs the command line `arguments`, the first of which is the program's name, and returns the exit code: 0 done, 1 the run
/// failed, 2 wrong flag or bad input.
#[must_use]
pub fn run(arguments: &[OsString]) -> u8 {
    inside::begin();
    let done = match args::Cli::try_parse_from(arguments) {
        Ok(cli) => commands::run(cli),
        Err(error) => unparsed(&error, arguments).map(|()| 0),
    };
    match done {
        Ok(code) => code,
        Err(failure) => {
            inside::end(&failure);
            failure.exit_code()
        }
    }
}

/// Help and version, which clap calls errors, and real ones.
fn unparsed(error: &clap::Error, arguments: &[OsString]) -> Result<(), Failure> {
    let text = error.render().ansi().to_string();
    if !error.use_stderr() {
        return output::print(&text);
    }
    let arguments: Vec<String> = arguments
        .iter()
        .skip(1)
        .map(|argument| argument.to_string_lossy().into_owned())
        .collect();
    let hint = usage::hint(error, &args::Cli::command(), &arguments);
    Err(hint.map_or(Failure::Usage(text), Failure::Input))
}
