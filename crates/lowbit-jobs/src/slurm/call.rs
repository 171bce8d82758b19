//! Calls of Slurm's commands.

use std::io::Write;
use std::process::{Command, Output, Stdio};

/// Calls a command and returns what it printed.
///
/// # Errors
/// What it said, on one line and once, without its own name in front.
pub(super) fn call(tool: &str, arguments: &[&str], input: Option<&str>) -> Result<String, String> {
    let mut command = Command::new(tool);
    command
        .args(arguments)
        // Slurm shortens lists of array tasks to 64 letters unless told otherwise.
        .env("SLURM_BITSTR_LEN", "0")
        .env_remove("SQUEUE_FORMAT")
        .env_remove("SQUEUE_STATES");
    finish(tool, command, input)
}

/// Runs a shell line with variables.
pub(super) fn shell(line: &str, variables: &[(&str, String)]) -> Result<String, String> {
    let mut command = Command::new("sh");
    command.args(["-c", line]);
    for (name, value) in variables {
        command.env(name, value);
    }
    finish("sh", command, None)
}

fn finish(tool: &str, mut command: Command, input: Option<&str>) -> Result<String, String> {
    let stdin = if input.is_some() {
        Stdio::piped()
    } else {
        Stdio::null()
    };
    let run = || -> std::io::Result<Output> {
        let mut child = command
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        if let (Some(text), Some(mut pipe)) = (input, child.stdin.take()) {
            // A tool that refuses before it has read all says why on its standard error.
            let _ = pipe.write_all(text.as_bytes());
        }
        child.wait_with_output()
    };
    let output = { run }().map_err(|error| format!("cannot run {tool}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = words(tool, &String::from_utf8_lossy(&output.stderr));
    if said.is_empty() {
        return Err(output.status.to_string());
    }
    Err(said)
}

/// A tool's message on one line, each sentence once.
fn words(tool: &str, said: &str) -> String {
    let mut lines: Vec<&str> = Vec::new();
    for line in said.lines() {
        let line = line.trim();
        let line = line.strip_prefix(&format!("{tool}: ")).unwrap_or(line);
        let line = line.strip_prefix("error: ").unwrap_or(line);
        if !line.is_empty() && !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_one_line_in_the_tool_s_own_words_said_once() {
        let said = "sbatch: error: invalid partition specified: nope\nsbatch: error: Batch job submission failed: Invalid partition name specified\n\
            sbatch: error: invalid partition specified: nope\n";
        assert_eq!(
            words("sbatch", said),
            "invalid partition specified: nope; Batch job submission failed: Invalid partition name specified"
        );
        assert_eq!(shell("echo no >&2; exit 3", &[]).unwrap_err(), "no");
        assert_eq!(shell("exit 3", &[]).unwrap_err(), "exit status: 3");
        assert!(
            call("no-such-tool-here", &[], None)
                .unwrap_err()
                .contains("cannot run")
        );
    }
}
