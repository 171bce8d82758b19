//! The `lowbit` command: what does quantization do to an image model's size, speed and accuracy?

mod args;
mod commands;
mod failure;
mod output;
mod progress;
mod sweep_progress;
mod table;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    reset_broken_pipe();
    let cli = args::Cli::parse();
    match commands::run(cli) {
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
