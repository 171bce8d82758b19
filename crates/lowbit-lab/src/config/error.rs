//! Why settings cannot be used.

use std::path::PathBuf;

/// Why settings cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: cannot read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{}:{line}:{column}: {reason}", path.display())]
    Toml {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
        /// What the parser says, on one line.
        reason: String,
    },
    /// A key that does not exist.
    #[error("{origin}: unknown setting {key}{}", hint(.suggestion))]
    Unknown {
        /// Where it stands.
        origin: String,
        /// The key.
        key: String,
        /// The closest known key.
        suggestion: Option<String>,
    },
    /// A value that cannot be.
    #[error("{origin}: {reason}")]
    Value {
        /// Where it stands.
        origin: String,
        /// What is wrong.
        reason: String,
    },
}

fn hint(suggestion: &Option<String>) -> String {
    suggestion
        .as_ref()
        .map_or_else(String::new, |known| format!(" (did you mean {known}?)"))
}
