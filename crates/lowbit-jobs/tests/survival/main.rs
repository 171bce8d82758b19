//! Tasks that are killed, requeued, late, failing and cancelled, in the local queue and in a real Slurm of one node.
//!
//! The test's program is also the program that its tasks run: `work` stands for an experiment whose result depends on every
//! step, so that a step which is lost or done twice shows in the result.

#[path = "../../../../tests/slurm/cluster.rs"]
mod cluster;
mod fakes;
mod job;
mod local;
mod program;
mod slurm;

use cluster::Cluster;
use std::path::Path;
use std::process::{Command, ExitCode};

type Law = (&'static str, fn());

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(code) = program::run(&arguments) {
        return code;
    }
    match arguments.first().map(String::as_str) {
        Some("laws-of-the-local-queue") => return laws(local::LAWS, &arguments[1..]),
        Some("laws-of-slurm") => return laws(slurm::LAWS, &arguments[1..]),
        Some("laws-of-the-fakes") => return laws(fakes::LAWS, &arguments[1..]),
        Some("--list") => return ExitCode::SUCCESS,
        _ => {}
    }
    let folder = tempfile::tempdir().expect("a folder for the tests");
    let words: Vec<String> = arguments
        .into_iter()
        .filter(|word| !word.starts_with('-'))
        .collect();
    let mut good = own(&["laws-of-the-local-queue"], &words, folder.path(), &[]);
    good &= own(&["laws-of-the-fakes"], &words, folder.path(), &[]);
    match Cluster::start(&folder.path().join("slurm")) {
        Ok(cluster) => {
            let conf = cluster.conf.display().to_string();
            good &= own(
                &["laws-of-slurm"],
                &words,
                folder.path(),
                &[("SLURM_CONF", &conf)],
            );
        }
        Err(why) => println!("skipped: the laws of Slurm ({why})"),
    }
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Runs this program with an environment of its own.
fn own(arguments: &[&str], words: &[String], folder: &Path, variables: &[(&str, &str)]) -> bool {
    let program = std::env::current_exe().expect("the program knows itself");
    let mut command = Command::new(program);
    command
        .args(arguments)
        .args(words)
        .env("LOWBIT_QUEUE", folder.join("queue"))
        .env("XDG_CACHE_HOME", folder.join("cache"))
        .env_remove("SLURM_CONF")
        .env_remove("LOWBIT_SITE");
    for (name, value) in variables {
        command.env(name, value);
    }
    command.status().is_ok_and(|status| status.success())
}

/// Runs the laws whose names contain one of `words`, or all, side by side.
fn laws(laws: &[Law], words: &[String]) -> ExitCode {
    let wanted =
        |name: &str| words.is_empty() || words.iter().any(|word| name.contains(word.as_str()));
    let good = std::thread::scope(|scope| {
        let all: Vec<_> = laws
            .iter()
            .filter(|(name, _)| wanted(name))
            .map(|&(name, law)| {
                scope.spawn(move || {
                    let begun = std::time::Instant::now();
                    let held = std::panic::catch_unwind(law).is_ok();
                    let word = if held { "ok" } else { "FAILED" };
                    println!(
                        "law {name} ... {word} ({:.1} s)",
                        begun.elapsed().as_secs_f64()
                    );
                    held
                })
            })
            .collect();
        // All are waited for, the ones behind a failure too.
        let held: Vec<bool> = all
            .into_iter()
            .map(|law| law.join().unwrap_or(false))
            .collect();
        held.into_iter().all(|held| held)
    });
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
