//! Graphs, training, quantization and integer inference of image models.
//!
//! Build or load a graph, quantize its weights, run the packed integers:
//!
//! ```
//! use lowbit::exec::{IntegerModel, Model};
//! use lowbit::{Quantizer, Shape, WeightBits, Weights, graph::zoo};
//!
//! // A model of the zoo for 32×32 RGB images of three classes, with fresh weights: train them with `train::Trainer`, or
//! // read a file with `format::load`.
//! let classes = ["water", "forest", "town"].map(String::from);
//! let graph = zoo::build("resnet8", Shape::new(32, 32, 3), &classes)?;
//! let weights = Weights::init(&graph, 1);
//!
//! // Four-bit weights; the ranges of the activations come from images.
//! let images: Vec<u8> = (0..8 * graph.input().len()).map(|i| (i * 37 % 251) as u8).collect();
//! let quantized = Quantizer::new(&graph, &weights)
//!     .weight_bits(WeightBits::B4)
//!     .calibrate(&images)?;
//!
//! let model = IntegerModel::new(&quantized)?;
//! let mut logits = vec![0.0; 8 * graph.classes()];
//! model.run(&images, &mut logits)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Data flows one way: [`graph::Graph`] and [`Weights`] come out of `train::Trainer`, [`mod@quantize`] makes a
//! [`quant::QuantizedModel`] of them, and [`exec`] compiles either for execution: [`exec::FloatModel`] is the best f32 path,
//! [`exec::IntegerModel`] runs the packed integers. `format` stores both as safetensors files. The instruction set is chosen
//! when a model is compiled, and results do not depend on it.
//!
//! Activations are channels-last (`[n, h, w, c]`), weights `[out, kernel_h, kernel_w, in]` (OHWI).
//!
//! # Features
//!
//! | feature | what it adds |
//! |---|---|
//! | `train` | training and quantization-aware training; implies `rayon` |
//! | `format` | model files |
//! | `rayon` | several threads: those of rayon's current pool |
//!
//! All are on by default; without them, `default-features = false` leaves graphs, quantization and inference on one thread.

mod bits;
pub mod exec;
#[cfg(feature = "format")]
pub mod format;
pub mod graph;
mod lower;
mod ops;
mod pool;
pub mod quant;
pub mod quantize;
mod shape;
#[cfg(feature = "train")]
pub mod train;
mod weights;

pub use bits::{ActivationBits, BitsError, ModelBits, WeightBits, WeightGrid};
pub use graph::{Graph, GraphError};
pub use lowbit_kernels::{Isa, IsaError};
pub use lower::Numbers;
pub use quantize::Quantizer;
pub use shape::{RankError, Shape};
pub use weights::{Tensor, Weights, WeightsError};
