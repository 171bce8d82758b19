//! Training: a static plan over the graph's blocks, one forward and one backward function per kind of block, no tape.
//!
//! A step is the same to the bit whatever the number of threads: the batch is cut into slices of [`SLICE`] images, each
//! slice sums its own gradients of the weights, and slices are added in their order.

mod augment;
mod loss;
mod network;
mod ops;
mod optimizer;
mod parameter;
mod pass;
mod qat;
#[cfg(test)]
mod recipe;
mod reconstruct;
mod regularization;
mod schedule;
mod trainer;

pub use augment::Augment;
pub use loss::{Targets, Teacher};
pub use optimizer::Optimizer;
pub use qat::{ActivationQuantizer, QatConfig, QuantizerError, WeightQuantizer};
pub(crate) use reconstruct::{can_reconstruct, reconstruct};
pub use regularization::Regularization;
pub use schedule::Schedule;
pub use trainer::{StepMetrics, Trainer, TrainerState, epoch_order};

use crate::WeightsError;
use crate::exec::RuntimeError;
use crate::graph::GraphError;

/// Images whose gradients are summed in order by one thread.
pub const SLICE: usize = 8;

/// Why a model cannot be trained, or a step not be taken.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// The graph itself is unusable.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// The weights do not fit the graph.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The graph cannot be laid out.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// A layer that cannot be trained.
    #[error("layer {layer}: {reason}")]
    Unsupported {
        /// The block's name.
        layer: String,
        /// What is missing.
        reason: String,
    },
    /// A label that is not a class.
    #[error("image {index} of the batch has label {label}, the model has {classes} classes")]
    Label {
        /// Position in the batch.
        index: usize,
        /// The label.
        label: u32,
        /// Number of classes.
        classes: usize,
    },
    /// Targets of another size than the labels.
    #[error("{labels} labels with {what} for {found} images")]
    Targets {
        /// Number of labels.
        labels: usize,
        /// What does not fit.
        what: &'static str,
        /// For how many images it is.
        found: usize,
    },
    /// A batch of another shape.
    #[error("a batch of {labels} labels with {bytes} bytes of images, expected {expected} bytes")]
    Images {
        /// Number of labels.
        labels: usize,
        /// Bytes given.
        bytes: usize,
        /// Bytes that so many images have.
        expected: usize,
    },
    /// The loss is no longer a number.
    #[error("training diverged at step {step}: the loss is {loss}; use a lower learning rate")]
    Diverged {
        /// Steps taken before this one.
        step: u64,
        /// The loss.
        loss: f64,
    },
}
