//! Experiments: what quantization does to a model, measured.
//!
//! Nothing here prints: progress goes to an [`Events`] listener, results are values that serialize to documented JSON
//! (docs/results-format.md). One experiment is one file in [`experiments`].

pub mod analysis;
pub mod augment;
pub mod config;
pub mod evaluate;
mod events;
pub mod experiments;
pub mod machine;
pub mod plural;
pub mod report;
pub mod roofline;
pub mod statistics;
pub mod timing;
pub mod training;

pub use config::Config;
pub use events::{Events, Silent};

use std::path::PathBuf;

/// Why an experiment cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// The data cannot be used.
    #[error(transparent)]
    Data(#[from] lowbit_data::DataError),
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] config::ConfigError),
    /// A model file cannot be written or read.
    #[error(transparent)]
    Format(#[from] lowbit::format::FormatError),
    /// The model does not fit the data.
    #[error(transparent)]
    Graph(#[from] lowbit::GraphError),
    /// Training failed.
    #[error(transparent)]
    Train(#[from] lowbit::train::TrainError),
    /// Quantization failed.
    #[error(transparent)]
    Quant(#[from] lowbit::quant::QuantError),
    /// A model cannot be compiled.
    #[error(transparent)]
    Runtime(#[from] lowbit::runtime::RuntimeError),
    /// `LOWBIT_ISA` cannot be had.
    #[error(transparent)]
    Isa(#[from] lowbit_kernels::IsaError),
    /// Training went wrong in the middle of a run.
    #[error(
        "epoch {epoch}, step {step}: the loss is {loss}: training diverged; the checkpoint of epoch {kept} is kept; use a lower --lr"
    )]
    Diverged {
        /// Epoch, from 1.
        epoch: usize,
        /// Step in the epoch, from 1.
        step: usize,
        /// The loss.
        loss: f64,
        /// Last whole epoch.
        kept: usize,
    },
    /// A checkpoint of another run.
    #[error("{}: made with {key} = {found}, this run has {expected}: drop --resume, or use the same settings", path.display())]
    OtherRun {
        /// The checkpoint.
        path: PathBuf,
        /// The setting that differs.
        key: String,
        /// Its value in the checkpoint.
        found: String,
        /// Its value now.
        expected: String,
    },
    /// The file system said no.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A federation cannot go on.
    #[error(transparent)]
    Federation(lowbit_fed::FedError),
    /// Model and data do not belong together.
    #[error("{0}")]
    Mismatch(String),
}
