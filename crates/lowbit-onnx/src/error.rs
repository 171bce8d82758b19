//! Why a file is no model that lowbit runs.

use lowbit::GraphError;
use std::path::PathBuf;

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
#[error("{}: {fault}", path.display())]
pub struct OnnxError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What is wrong with a model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The file cannot be read.
    #[error("cannot read: {0}")]
    Read(std::io::Error),
    /// The bytes are no ONNX model, or a damaged one.
    #[error("not a usable ONNX file: {0}")]
    Damaged(String),
    /// A tensor whose values cannot be had.
    #[error("tensor {tensor}: {reason}")]
    Tensor {
        /// Its name.
        tensor: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A node that is wrong, or that lowbit cannot compute as ONNX defines it.
    #[error("node {node} ({op}): {reason}")]
    Node {
        /// Its name.
        node: String,
        /// Its operator.
        op: String,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// The model as a whole is nothing that lowbit runs.
    #[error("{0}")]
    Model(String),
    /// The graph that came out is unusable.
    #[error(transparent)]
    Graph(#[from] GraphError),
}
