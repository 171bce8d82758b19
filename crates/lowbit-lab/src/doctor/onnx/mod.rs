//! Rules that look at an ONNX file as it was written, and what they share.

pub(super) mod batch_norm;
pub(super) mod bias;
pub(super) mod channel_axis;
pub(super) mod dynamic;
pub(super) mod float_nodes;
pub(super) mod float_weights;
mod grids;
mod onnx_runtime;
pub(super) mod openvino;
mod products;
pub(super) mod quantized_at_load;
pub(super) mod relu;
pub(super) mod rust_runtimes;
pub(super) mod scales;
pub(super) mod softmax;

pub use onnx_runtime::{Placement, placements};
pub use openvino::float_in_openvino;
pub(super) use products::products;
pub use rust_runtimes::RustRuntime;
