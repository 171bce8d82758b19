//! The `lowbit` command: what does quantization do to an image model's size, speed and accuracy?

mod args;
mod commands;
mod failure;
mod federate_args;
mod federate_progress;
mod inside;
mod jobs_args;
mod output;
mod progress;
mod settings;
mod sweep_progress;
mod table;
mod wrong_flag;

use clap::{CommandFactory, Parser};
use failure::Failure;
use std::process::ExitCode;

fn main() -> ExitCode {
    inside::begin();
    let done = match args::Cli::try_parse() {
        Ok(cli) => commands::run(cli),
        Err(error) => unparsed(&error).map(|()| ExitCode::SUCCESS),
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
fn unparsed(error: &clap::Error) -> Result<(), Failure> {
    let text = error.render().ansi().to_string();
    if !error.use_stderr() {
        return output::print(&text);
    }
    let arguments: Vec<String> = std::env::args_os()
        .skip(1)
        .map(|argument| argument.to_string_lossy().into_owned())
        .collect();
    let hint = wrong_flag::hint(error, &args::Cli::command(), &arguments);
    Err(hint.map_or(Failure::Usage(text), Failure::Input))
}
