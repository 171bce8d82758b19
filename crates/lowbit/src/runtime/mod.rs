//! Compiled executors: [`FloatModel`], the best f32 path, and [`IntegerModel`], the packed integers.
//!
//! Both run on rayon's current pool: call inside `ThreadPool::install` to choose the number of threads. Results do not
//! depend on it.

mod dynamic;
mod engine;
mod float;
mod integer;
pub(crate) mod plan;

pub use float::FloatModel;
pub use integer::IntegerModel;

use crate::WeightsError;
use crate::graph::{Graph, GraphError};
use crate::quant::QuantizedModelError;

/// Something that maps images to logits.
pub trait Model: Sync {
    /// What it computes.
    fn graph(&self) -> &Graph;

    /// Runs a batch: `images` is `[n, h, w, c]`, `logits` is `[n, classes]`.
    ///
    /// # Panics
    /// If the slices do not hold the same number of images.
    fn run(&self, images: &[u8], logits: &mut [f32]);

    /// Runs a batch on the calling thread alone and times every block.
    ///
    /// # Panics
    /// As [`Model::run`].
    fn profile(&self, images: &[u8]) -> Vec<LayerProfile>;

    /// Number of images in `images`.
    ///
    /// # Panics
    /// If they are not whole images.
    fn count(&self, images: &[u8]) -> usize {
        let image_len = self.graph().input().len();
        assert!(
            images.len().is_multiple_of(image_len),
            "images must be whole"
        );
        images.len() / image_len
    }
}

/// Where the time of one block went.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerProfile {
    /// The block's name.
    pub name: String,
    /// Multiply-accumulates per image.
    pub macs: u64,
    /// Seconds for the whole batch.
    pub seconds: f64,
}

/// Why a model cannot be compiled.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RuntimeError {
    /// The graph itself is unusable.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// The weights do not fit the graph.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// A combination of layers that no executor has.
    #[error("layer {layer}: {reason}")]
    Unsupported {
        /// The block's name.
        layer: String,
        /// What is missing.
        reason: String,
    },
    /// Integers or quantization parameters that do not fit the graph.
    #[error(transparent)]
    Quantized(#[from] QuantizedModelError),
}
