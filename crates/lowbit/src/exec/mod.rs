//! Compiled executors: [`FloatModel`], the best f32 path, and [`IntegerModel`], the packed integers.
//!
//! Both run on rayon's current pool: call inside `ThreadPool::install` to choose the number of threads. Results do not
//! depend on it.
//!
//! `engine.rs` runs a plan; `f32/` and `u8/` have a file for each operator, of the same names, and a table each; `convert.rs`
//! has the steps between the two kinds of numbers.

mod convert;
mod divide;
mod engine;
mod f32;
mod float_model;
mod found;
mod gathered;
mod integer_model;
mod kernel;
mod layerwise;
mod load;
mod moves;
mod picked;
mod pointwise;
mod scratch;
mod together;
mod u8;
mod winograd;
mod workspace;

#[cfg(feature = "train")]
pub(crate) use f32::{AttentionGroup, RowFunction, per_element, softmax, unary};
pub use float_model::FloatModel;
pub use integer_model::IntegerModel;
pub(crate) use layerwise::{Layerwise, Patches};
#[cfg(feature = "train")]
pub(crate) use moves::{Move, Moves};
#[cfg(feature = "train")]
pub(crate) use winograd::Winograd;

use crate::WeightsError;
use crate::graph::{Graph, GraphError};
use crate::lower::Numbers;
use crate::quant::QuantizedModelError;

/// Something that maps images to logits.
pub trait Model: Send + Sync {
    /// Returns what it computes.
    fn graph(&self) -> &Graph;

    /// Runs a batch: `images` is `[n, h, w, c]`, `logits` is `[n, classes]`.
    ///
    /// # Errors
    /// [`RuntimeError::Lengths`] when the slices do not hold the same number of images.
    fn run(&self, images: &[u8], logits: &mut [f32]) -> Result<(), RuntimeError>;

    /// Runs a batch on the calling thread alone (a dynamically quantized model may use others) and times every layer.
    ///
    /// # Errors
    /// [`RuntimeError::Lengths`] when `images` are not whole images.
    fn profile(&self, images: &[u8]) -> Result<Vec<LayerProfile>, RuntimeError>;

    /// Returns the number of whole images in `images`.
    fn count(&self, images: &[u8]) -> usize {
        images.len() / self.graph().input().len()
    }

    /// Returns the bytes that the values between the layers take on one thread that runs `images` images at a time.
    fn value_bytes(&self, images: usize) -> usize;
}

/// Returns the class that an image's logits speak for, the first of equals; none where they are no numbers.
#[must_use]
pub fn predicted(logits: &[f32]) -> Option<usize> {
    let best = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let is_number = best.is_finite() && logits.iter().all(|logit| !logit.is_nan());
    let first = logits.iter().position(|&logit| logit == best);
    first.filter(|_| is_number)
}

/// Where the time of one layer went.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct LayerProfile {
    /// The layer's name.
    pub name: String,
    /// Multiply-accumulates per image.
    pub macs: u64,
    /// The numbers that it computed with: f32 in an integer model where the operator has no integer form.
    pub numbers: Numbers,
    /// Seconds for the whole batch, conversions included.
    pub seconds: f64,
}

/// Why a model cannot be compiled or run.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RuntimeError {
    /// The graph itself is unusable.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// The weights do not fit the graph.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// Integers or quantization parameters that do not fit the graph.
    #[error(transparent)]
    Quantized(#[from] QuantizedModelError),
    /// `LOWBIT_ISA` names no instruction set of this machine.
    #[error(transparent)]
    Isa(#[from] lowbit_kernels::IsaError),
    /// Slices that do not hold the same number of whole images and rows of logits.
    #[error(
        "{images} bytes of images and {logits} logits: an image has {image_len} bytes, and {classes} logits"
    )]
    Lengths {
        /// Bytes of images given.
        images: usize,
        /// Logits given.
        logits: usize,
        /// Bytes of one image.
        image_len: usize,
        /// Logits of one image.
        classes: usize,
    },
}

/// The number of images, where the slices hold the same number of them.
fn count(graph: &Graph, images: &[u8], logits: usize) -> Result<usize, RuntimeError> {
    let (image_len, classes) = (graph.input().len(), graph.classes());
    let count = images.len() / image_len;
    match images.len() == count * image_len && logits == count * classes {
        true => Ok(count),
        false => Err(RuntimeError::Lengths {
            images: images.len(),
            logits,
            image_len,
            classes,
        }),
    }
}
