//! Quantization: what a quantized model is made of, observers, weight quantizers, and the one integer definition of a layer
//! (`requant.rs`): unsigned asymmetric activations per tensor, signed symmetric weights per output channel, i32
//! accumulators. The passes that make a [`QuantizedModel`] stand in [`crate::quantize`].

mod check;
mod observers;
mod product;
pub mod quantizers;
mod requant;
mod types;

pub use check::QuantizedModelError;
pub(crate) use observers::{BINS, Seen};
pub use observers::{Observer, ObserverError};
pub(crate) use product::{Levels, Product, ProductConstants};
pub(crate) use requant::{
    InputParams, Requant, mean_ratio, move_to_grid, product_ratio, ratio, table,
};
// Where these stood before; the workspace moves over file by file.
pub use crate::graph::fold_batch_norm;
pub use crate::quantize::{PtqConfig, QuantError, quantize};
pub use ActivationQuant as Method;
/// The number that settings and files give for f32 activations.
pub const FLOAT_ACTIVATIONS: u8 = 32;
pub use types::{
    ActivationParams, ActivationQuant, ActivationQuantError, Granularity, QuantizedLayer,
    QuantizedModel,
};
