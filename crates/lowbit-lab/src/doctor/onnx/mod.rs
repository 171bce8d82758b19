//! Rules that look at an ONNX file as it was written, and what they share.

pub(super) mod batch_norm;
pub(super) mod bias;
pub(super) mod channel_axis;
pub(super) mod dynamic;
pub(super) mod float_nodes;
pub(super) mod float_weights;
mod grids;
mod onnx_runtime;
mod products;
pub(super) mod quantized_at_load;
pub(super) mod relu;
pub(super) mod scales;
pub(super) mod softmax;

pub(super) use products::products;
pub use onnx_runtime::{Placement, placements};
