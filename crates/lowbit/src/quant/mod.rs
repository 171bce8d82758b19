//! Quantization: what a quantized model is made of, observers, weight quantizers, and the one integer definition of a layer
//! (`requant.rs`): unsigned asymmetric activations per tensor, signed symmetric weights per output channel, i32
//! accumulators. The passes that make a [`QuantizedModel`] stand in [`crate::quantize`].

mod arithmetic;
mod check;
mod constants;
mod observers;
mod product;
pub mod quantizers;
mod requant;
mod saturation;
mod types;

pub use arithmetic::Arithmetic;
pub use check::QuantizedModelError;
pub(crate) use observers::{BINS, Seen};
pub use observers::{Observer, ObserverError};
pub(crate) use product::{Levels, Product, ProductConstants};
pub(crate) use requant::{InputParams, Requant, ratio};
pub use types::{
    ActivationParams, ActivationQuant, ActivationQuantError, FloatLayer, FloatParts, Granularity,
    QuantizedLayer, QuantizedModel,
};
