//! `lowbit logs`: what a task printed.

use super::jobs::{find, open};
use crate::failure::Failure;
use crate::jobs_args::Which;
use crate::output::print_bytes;
use lowbit_jobs::view::{Row, view};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::time::Duration;

pub(super) fn run(which: &Which, task: &str, follow: bool) -> Result<(), Failure> {
    let job = find(which)?;
    let look = || -> Result<Row, Failure> {
        let view = view(&job, &open);
        let index = super::cancel::index(&job, task)?;
        Ok(view.tasks[index as usize].clone())
    };
    let row = look()?;
    let mut shown: Option<(PathBuf, u64)> = None;
    loop {
        let row = if shown.is_none() {
            row.clone()
        } else {
            look()?
        };
        let ended = row.state.is_terminal();
        match row.log.as_ref().filter(|log| log.is_file()) {
            Some(log) => {
                let from = shown
                    .as_ref()
                    .filter(|(path, _)| path == log)
                    .map_or(0, |(_, at)| *at);
                shown = Some((log.clone(), from + copy(log, from)?));
            }
            None if !follow => {
                let text = format!(
                    "task {} ({}) is {}: it has no log yet",
                    row.task,
                    row.name,
                    row.state.name()
                );
                return Err(Failure::Run(text));
            }
            None => {}
        }
        if !follow || ended {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// Copies what stands behind `from` to standard output and returns how much it was.
fn copy(log: &PathBuf, from: u64) -> Result<u64, Failure> {
    let wrong = |error: std::io::Error| Failure::Run(format!("{}: {error}", log.display()));
    let mut file = File::open(log).map_err(wrong)?;
    file.seek(SeekFrom::Start(from)).map_err(wrong)?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(wrong)?;
    print_bytes(&bytes)?;
    Ok(bytes.len() as u64)
}
