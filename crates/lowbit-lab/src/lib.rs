//! Experiments: what quantization does to a model, measured.
//!
//! Nothing here prints: progress goes to an [`Events`] listener, results are values that serialize to documented JSON
//! (docs/results-format.md). One experiment is one file in [`experiments`].

pub mod analysis;
pub mod config;
pub mod decisive;
mod digest;
pub mod doctor;
pub mod evaluate;
mod events;
pub mod experiments;
pub mod machine;
mod memory;
pub mod models;
pub mod plural;
pub mod records;
pub mod report;
pub mod roofline;
pub mod statistics;
pub mod tensorboard;
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
    Quant(#[from] lowbit::quantize::QuantError),
    /// A model cannot be compiled.
    #[error(transparent)]
    Runtime(#[from] lowbit::exec::RuntimeError),
    /// `LOWBIT_ISA` cannot be had.
    #[error(transparent)]
    Isa(#[from] lowbit_kernels::IsaError),
    /// Training went wrong in the middle of a run.
    #[error("epoch {epoch}, step {step}: the loss is {loss}: training diverged; {}; use a lower --lr", what_is_kept(*kept))]
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
    /// Training ended in numbers that no model can be made of.
    #[error("epoch {epoch}: {what}: training diverged; {}; use a lower --lr", what_is_kept(*kept))]
    Overflowed {
        /// Epoch, from 1.
        epoch: usize,
        /// What grew too large.
        what: String,
        /// Last whole epoch.
        kept: usize,
    },
    /// A listener did not want it to go on.
    #[error("stopped in epoch {}; {}", kept + 1, what_is_kept(*kept))]
    Stopped {
        /// Last whole epoch.
        kept: usize,
    },
    /// A trained model that has no integer form.
    #[error("the trained model cannot be quantized: {reason}: training diverged; use a lower --lr")]
    Unquantizable {
        /// What does not fit.
        reason: String,
    },
    /// A checkpoint of another run.
    #[error("{}: made with {key} = {}, this run has {expected}: drop --resume, or use the same settings and data", path.display(), .found.as_deref().unwrap_or("(not written down by the lowbit that made it)"))]
    OtherRun {
        /// The checkpoint.
        path: PathBuf,
        /// The setting that differs.
        key: String,
        /// Its value in the checkpoint; none where it does not say.
        found: Option<String>,
        /// Its value now.
        expected: String,
    },
    /// A checkpoint that cannot be gone on from.
    #[error("{}: it is damaged ({reason}): remove {} to train this from the beginning", path.display(), checkpoint.display())]
    DamagedCheckpoint {
        /// The checkpoint, or what is kept beside it.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
        /// The checkpoint, without which training begins anew.
        checkpoint: PathBuf,
    },
    /// Another process writes into the same folder.
    #[error("{}: {taken}: wait for it, or use another --out", path.display())]
    Busy {
        /// The folder.
        path: PathBuf,
        /// What is known of that process.
        taken: lowbit_files::FolderTaken,
    },
    /// A file would be written over what it is made from.
    #[error("{}: is what it would be made from ({}): choose another name", output.display(), input.display())]
    OwnInput {
        /// What was to be written.
        output: PathBuf,
        /// What is read.
        input: PathBuf,
    },
    /// A file that cannot be written where it was to be.
    #[error("{}: {reason}", path.display())]
    Output {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: &'static str,
    },
    /// A training that does not fit into memory.
    #[error(
        "{model} on {input}: training its {parameters} parameters takes some {needed_gb:.1} GB, {available_gb:.1} GB are free: use a smaller --image-size or another model"
    )]
    Memory {
        /// The model.
        model: String,
        /// Its input.
        input: String,
        /// Trained numbers.
        parameters: u64,
        /// Memory that the training would take, in 10⁹ bytes.
        needed_gb: f64,
        /// Memory that there is.
        available_gb: f64,
    },
    /// An ONNX file that is no model which lowbit runs.
    #[error(transparent)]
    Onnx(#[from] lowbit_onnx::OnnxError),
    /// A model that was not written as ONNX.
    #[error(transparent)]
    Export(#[from] lowbit_onnx::ExportError),
    /// Images that the model has learned from.
    #[error("{0}")]
    Seen(String),
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

impl LabError {
    /// Whether a training came to no model by its own numbers: others are not hindered by that.
    #[must_use]
    pub fn is_divergence(&self) -> bool {
        matches!(
            self,
            Self::Diverged { .. } | Self::Overflowed { .. } | Self::Unquantizable { .. }
        )
    }
}

/// Which checkpoint a run that stopped has left.
fn what_is_kept(epochs: usize) -> String {
    match epochs {
        0 => "no checkpoint was written".into(),
        epochs => format!("the checkpoint of epoch {epochs} is kept"),
    }
}
