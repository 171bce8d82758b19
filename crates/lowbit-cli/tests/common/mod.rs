//! The binary, run as a whole.

#![allow(dead_code, reason = "each test file uses some of it")]

#[path = "../../../../tests/slurm/cluster.rs"]
mod cluster;
pub mod place;

use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Small enough to train in a moment.
pub const QUICK: [&str; 10] = [
    "--model",
    "mlp",
    "--limit",
    "60",
    "--epochs",
    "3",
    "--batch-size",
    "16",
    "--threads",
    "2",
];

pub fn lowbit(folder: &Path, arguments: &[&str]) -> Output {
    command(folder, arguments)
        .output()
        .expect("the binary starts")
}

pub fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lowbit"));
    command
        .args(arguments)
        .current_dir(folder)
        .env("XDG_CACHE_HOME", folder.join("cache"))
        .env_remove("LOWBIT_ISA")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs to an error of one line and returns the line.
pub fn refused(folder: &Path, arguments: &[&str], code: i32) -> String {
    let output = lowbit(folder, arguments);
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
    assert!(!text.contains("panicked"), "{text}");
    let last = text.lines().last().unwrap_or_default().to_owned();
    assert!(last.starts_with("error: "), "{arguments:?}: {text}");
    last
}

pub fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}
