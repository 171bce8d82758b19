//! Why a file is no model that lowbit runs.

use crate::names::one_line;
use lowbit::GraphError;
use std::fmt::{Display, Formatter, Result};
use std::path::PathBuf;

/// A file with what is wrong with it.
#[derive(Debug, thiserror::Error)]
#[error("{}: {fault}", path.display())]
pub struct OnnxError {
    /// The path of the file.
    pub path: PathBuf,
    /// The fault that was found first.
    pub fault: Fault,
}

/// What is wrong with a model. Its text is one line, whatever names the file has.
#[derive(Debug)]
#[non_exhaustive]
pub enum Fault {
    /// The file cannot be read.
    Read(std::io::Error),
    /// The bytes are no ONNX model, or a damaged one.
    Damaged(String),
    /// A tensor whose values cannot be had.
    Tensor {
        /// The name of the tensor.
        tensor: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A node that is wrong, or that lowbit cannot compute as ONNX defines it.
    Node {
        /// The name of the node.
        node: String,
        /// The node's operator.
        op: String,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// The model as a whole is nothing that lowbit runs.
    Model(String),
    /// The graph that came out is unusable.
    Graph(GraphError),
}

impl Display for Fault {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let text = match self {
            Self::Read(error) => format!("cannot read: {error}"),
            Self::Damaged(reason) => format!("not a usable ONNX file: {reason}"),
            Self::Tensor { tensor, reason } => format!("tensor {tensor}: {reason}"),
            Self::Node { node, op, reason } => format!("node {node} ({op}): {reason}"),
            Self::Model(reason) => reason.clone(),
            Self::Graph(error) => error.to_string(),
        };
        f.write_str(&one_line(&text))
    }
}

impl std::error::Error for Fault {}

impl From<GraphError> for Fault {
    fn from(error: GraphError) -> Self {
        Self::Graph(error)
    }
}
