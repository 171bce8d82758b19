//! What can go wrong, each on one line: what, where, what to do.

use std::path::{Path, PathBuf};

/// Why a job cannot be sent, run, seen or collected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JobError {
    /// A file cannot be read.
    #[error("{}: cannot read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file cannot be written.
    #[error("{}: cannot write: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file that is not what it should be.
    #[error("{}:{line}: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Its line, from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// A manifest that another version of lowbit wrote.
    #[error(
        "{}: written by lowbit {found} (format {found_format}), this is {} (format {}): finish it with that version, or submit anew into another --out",
        path.display(), env!("CARGO_PKG_VERSION"), crate::manifest::FORMAT
    )]
    Version {
        /// The manifest.
        path: PathBuf,
        /// Version of the program that wrote it.
        found: String,
        /// Format of the manifest.
        found_format: u32,
    },
    /// No such task.
    #[error("{}: no task {index}: it has {count}, numbered from 0", path.display())]
    NoTask {
        /// The manifest.
        path: PathBuf,
        /// What was asked for.
        index: u32,
        /// How many there are.
        count: usize,
    },
    /// The data cannot be seen, or are not those that were submitted.
    #[error("{}: {reason} (on {host}); put it where every node sees it, or submit again", path.display())]
    Data {
        /// The data path.
        path: PathBuf,
        /// The machine that looked.
        host: String,
        /// What is wrong.
        reason: String,
    },
    /// A value that cannot be.
    #[error("{what} {value}: {expected}")]
    Value {
        /// The flag or key.
        what: String,
        /// What was given.
        value: String,
        /// What it should be.
        expected: String,
    },
    /// The scheduler's tools are not there.
    #[error(
        "{tool} is not on the PATH: this machine submits to no Slurm; use --on local to run the tasks here"
    )]
    NoScheduler {
        /// The missing program.
        tool: String,
    },
    /// The scheduler refused, in its own words.
    #[error("{tool}: {words}")]
    Refused {
        /// The program.
        tool: String,
        /// What it said, on one line.
        words: String,
    },
    /// No job where one was looked for.
    #[error("{}: {reason}", path.display())]
    NoJob {
        /// The folder.
        path: PathBuf,
        /// What is missing.
        reason: String,
    },
}

impl JobError {
    /// Returns whether the user's input is at fault, not the machine.
    #[must_use]
    pub fn is_input(&self) -> bool {
        !matches!(self, Self::Write { .. })
    }

    pub(crate) fn read(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Read { path, source }
    }

    pub(crate) fn write(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Write { path, source }
    }

    pub(crate) fn value(what: &str, value: &str, expected: &str) -> Self {
        Self::Value {
            what: what.into(),
            value: value.into(),
            expected: expected.into(),
        }
    }
}
