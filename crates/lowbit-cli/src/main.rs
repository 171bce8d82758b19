//! The `lowbit` command: what does quantization do to an image model's size, speed and accuracy?

mod args;
mod commands;
mod failure;
mod output;
mod progress;
mod settings;
mod sweep_progress;
mod table;
mod wrong_flag;

use clap::{CommandFactory, Parser};
use std::process::ExitCode;

fn main() -> ExitCode {
    reset_broken_pipe();
    let done = match args::Cli::try_parse() {
        Ok(cli) => commands::run(cli),
        Err(error) => {
            let arguments: Vec<String> = std::env::args_os()
                .skip(1)
                .map(|argument| argument.to_string_lossy().into_owned())
                .collect();
            match wrong_flag::hint(&error, &args::Cli::command(), &arguments) {
                Some(hint) => Err(failure::Failure::Input(hint)),
                None => error.exit(),
            }
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.print();
            failure.exit_code()
        }
    }
}

/// Lets `lowbit … | head` end quietly: a closed pipe ends the process instead of panicking in `println!`.
fn reset_broken_pipe() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let text = info
            .payload()
            .downcast_ref::<String>()
            .map_or("", String::as_str);
        if text.contains("Broken pipe") {
            std::process::exit(0);
        }
        default(info);
    }));
}
