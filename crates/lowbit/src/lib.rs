//! Graphs, training, quantization and integer inference of small image models.
//!
//! Data flows one way: [`graph::Graph`] and [`Weights`] come out of [`train::Trainer`], [`mod@quantize`] makes a
//! [`quant::QuantizedModel`] of them, and [`runtime`] compiles either for execution: [`runtime::FloatModel`] is the best
//! f32 path, [`runtime::IntegerModel`] runs the packed integers. [`mod@format`] stores both as safetensors files.
//!
//! Activations are channels-last (`[n, h, w, c]`), weights `[out, kernel_h, kernel_w, in]` (OHWI).

mod bits;
pub mod format;
pub mod graph;
mod pool;
pub mod quant;
pub mod quantize;
pub mod runtime;
pub mod train;
mod weights;

pub use bits::{ActivationBits, BitsError, WeightBits};
pub use graph::{Graph, GraphError, Shape};
pub use weights::{Tensor, Weights, WeightsError};
