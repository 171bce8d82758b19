//! Model files: safetensors, with the graph and the quantization parameters as JSON in the metadata.
//!
//! Everything that lowbit adds stands under the single metadata key `lowbit`; the tensors are plain and open with any
//! safetensors reader. docs/format.md has the layout.

mod bits;
mod document;
mod record;

pub use bits::{pack_bits, packed_len, unpack_bits};
pub use record::{SplitRecord, TrainingRecord};

use crate::graph::{Graph, GraphError};
use crate::quant::{QuantizedModel, QuantizedModelError};
use crate::{Weights, WeightsError};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The newest version of the files that this build writes and reads; it reads all before. A file states the first version
/// that can say what is in it.
pub const FORMAT_VERSION: u32 = 7;

/// What a model file holds.
#[derive(Clone, Debug, PartialEq)]
pub enum StoredModel {
    /// f32 weights.
    Float {
        /// What it computes.
        graph: Graph,
        /// With which numbers.
        weights: Weights,
    },
    /// Packed integers.
    Quantized(QuantizedModel),
}

/// A training run at the end of an epoch: enough to go on with the same bits.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// What is trained.
    pub graph: Graph,
    /// Its weights.
    pub weights: Weights,
    /// The optimizer's tensors.
    pub optimizer: Weights,
    /// Whatever else the run needs to know: epoch, step, configuration, curves.
    pub metadata: BTreeMap<String, String>,
    /// What it is trained on.
    pub record: Option<TrainingRecord>,
}

/// Why a model file cannot be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// The file cannot be written.
    #[error("{}: cannot write {bytes} bytes: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: usize,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The model that was to be written is none.
    #[error("{}: not written: {source}", path.display())]
    Model {
        /// The file.
        path: PathBuf,
        /// What is wrong with the model.
        source: QuantizedModelError,
    },
    /// The file cannot be read.
    #[error("{}: cannot read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The file is not a safetensors file, or a damaged one.
    #[error("{}: not a usable model file: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A safetensors file without lowbit's metadata.
    #[error("{}: a safetensors file, but not one of lowbit's (no `lowbit` entry in its metadata)", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The file has another version.
    #[error("{}: format version {found}, this lowbit reads versions up to {FORMAT_VERSION}: use the lowbit that wrote it", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// Another kind of file than was asked for.
    #[error("{}: holds a {found}, expected a {expected}", path.display())]
    Kind {
        /// The file.
        path: PathBuf,
        /// What it holds.
        found: String,
        /// What was expected.
        expected: &'static str,
    },
    /// The graph in the file is unusable.
    #[error("{}: {source}", path.display())]
    Graph {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: GraphError,
    },
    /// The weights in the file are unusable.
    #[error("{}: {source}", path.display())]
    Weights {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: WeightsError,
    },
}

/// Returns a file of f32 weights as bytes: those that [`save_float`] writes.
#[must_use]
pub fn encode_float(graph: &Graph, weights: &Weights, record: Option<&TrainingRecord>) -> Vec<u8> {
    document::float(graph, weights, record)
}

/// Returns a file of packed integers as bytes: those that [`save_quantized`] writes.
///
/// # Errors
/// [`QuantizedModelError`] when the model's parts do not fit together.
pub fn encode_quantized(
    model: &QuantizedModel,
    record: Option<&TrainingRecord>,
) -> Result<Vec<u8>, QuantizedModelError> {
    document::quantized(model, record)
}

/// Reads the bytes of a model file; errors call it `name`.
///
/// # Errors
/// [`FormatError`] saying what is wrong with them.
pub fn decode(
    name: &Path,
    bytes: &[u8],
) -> Result<(StoredModel, Option<TrainingRecord>), FormatError> {
    document::parse(name, bytes)
}

/// Writes `bytes` as a file that is whole or not there; returns their number.
///
/// # Errors
/// [`FormatError::Write`] with the path, the size and the system's reason; nothing is left behind, and an older file under
/// `path` is as it was.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<u64, FormatError> {
    lowbit_files::write_atomically(path, bytes).map_err(|source| FormatError::Write {
        path: path.to_owned(),
        bytes: bytes.len(),
        source,
    })?;
    Ok(bytes.len() as u64)
}

/// Writes f32 weights; returns the file's size in bytes. `record` says what they were trained on, where that is known.
///
/// # Errors
/// [`FormatError::Write`]; nothing is left under `path` then.
pub fn save_float(
    path: &Path,
    graph: &Graph,
    weights: &Weights,
    record: Option<&TrainingRecord>,
) -> Result<u64, FormatError> {
    write_atomically(path, &document::float(graph, weights, record))
}

/// Writes packed integers; returns the file's size in bytes. `record` says what the model was trained on, where that is
/// known.
///
/// # Errors
/// [`FormatError::Model`] when the model's parts do not fit together, [`FormatError::Write`]; nothing is left under `path` then.
pub fn save_quantized(
    path: &Path,
    model: &QuantizedModel,
    record: Option<&TrainingRecord>,
) -> Result<u64, FormatError> {
    let bytes = document::quantized(model, record).map_err(|source| FormatError::Model {
        path: path.to_owned(),
        source,
    })?;
    write_atomically(path, &bytes)
}

/// Writes a checkpoint; returns the file's size in bytes.
///
/// # Errors
/// [`FormatError::Write`]; an older file under `path` is left as it was then.
pub fn save_checkpoint(path: &Path, checkpoint: &Checkpoint) -> Result<u64, FormatError> {
    write_atomically(path, &document::checkpoint(checkpoint))
}

/// Reads a model file.
///
/// # Errors
/// [`FormatError`] saying what is wrong with the file.
pub fn load(path: &Path) -> Result<StoredModel, FormatError> {
    load_with_record(path).map(|(model, _)| model)
}

/// Reads a model file and what it says about its training; older files say nothing.
///
/// # Errors
/// [`FormatError`] saying what is wrong with the file.
pub fn load_with_record(path: &Path) -> Result<(StoredModel, Option<TrainingRecord>), FormatError> {
    document::parse(path, &read(path)?)
}

/// Reads a checkpoint.
///
/// # Errors
/// [`FormatError`] saying what is wrong with the file.
pub fn load_checkpoint(path: &Path) -> Result<Checkpoint, FormatError> {
    document::parse_checkpoint(path, &read(path)?)
}

fn read(path: &Path) -> Result<Vec<u8>, FormatError> {
    std::fs::read(path).map_err(|source| FormatError::Read {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_names_the_file_and_its_size() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("taken");
        std::fs::create_dir(&path).unwrap();
        let error = write_atomically(&path, b"new").unwrap_err().to_string();
        assert!(error.contains("taken: cannot write 3 bytes"), "{error}");
    }
}
